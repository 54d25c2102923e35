"""What each process evaluates."""

import hashlib
import json
from collections.abc import Iterator, Sequence

from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch.utils.data import Sampler

# What a dataset dict is called by, of pictures and of videos.
NAMES = ("file_name", "image_id", "video_id", "first_frame", "file_names")


class Share(Sampler):
    """The share of this process in a data set, each item once over all processes.

    Pictures are dealt out in contiguous parts. Videos are dealt out whole, since scores look at
    frames that follow each other, and so that all processes have about as many frames.

    Attributes:
        indices: of the items, ascending.
        done: how many of these are passed over, because they have been evaluated before.
        digest: a hash of the names of all items.
    """

    def __init__(self, items: Sequence[dict]) -> None:
        rank, number = comm.get_rank(), comm.get_world_size()
        if "video_id" in items[0]:
            self.indices = deal_videos(items, number)[rank]
        else:
            self.indices = list(InferenceSampler(len(items)))
        self.done = 0
        self.digest = _digest(items)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices[self.done :])

    def __len__(self) -> int:
        return len(self.indices) - self.done


def deal_videos(items: Sequence[dict], number: int) -> list[list[int]]:
    """Deal out videos, the longest first, each to the one who has the fewest frames so far.

    Args:
        items: dicts with ``video_id`` and ``length``; pieces of one video share the former.
        number: of shares.

    Returns:
        the indices in each share, ascending.
    """
    frames: dict[int | str, int] = {}
    for item in items:
        frames[item["video_id"]] = frames.get(item["video_id"], 0) + item["length"]
    loads, owner = [0] * number, {}
    for video in sorted(frames, key=frames.get, reverse=True):
        owner[video] = loads.index(min(loads))
        loads[owner[video]] += frames[video]
    return [
        [index for index, item in enumerate(items) if owner[item["video_id"]] == rank]
        for rank in range(number)
    ]


def _digest(items: Sequence[dict]) -> str:
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps([item.get(name) for name in NAMES], default=str).encode())
    return digest.hexdigest()
