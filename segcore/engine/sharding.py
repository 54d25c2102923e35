"""What each process evaluates."""

import hashlib
import heapq
import json
from collections.abc import Hashable, Iterator, Mapping, Sequence

from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch.utils.data import Sampler

# What a dataset dict is called by, of images and of videos.
NAMES = ("file_name", "image_id", "video_id", "first_frame", "file_names")


class Shard(Sampler):
    """The share of this process in a data set, each item once over all processes.

    Images of known sizes are dealt out so that all processes have about as many pixels, others in
    contiguous parts. Videos are dealt out whole, since scores look at frames that follow each
    other, and so that all processes have about as many frames.

    Attributes:
        indices: of the items, ascending.
        done: how many of these are passed over, because they have been evaluated before.
        digest: a hash of the names of all items.
    """

    def __init__(self, items: Sequence[dict]) -> None:
        rank, number = comm.get_rank(), comm.get_world_size()
        if "video_id" in items[0]:
            self.indices = assign_videos(items, number)[rank]
        elif all("height" in item and "width" in item for item in items):
            self.indices = assign_images(items, number)[rank]
        else:
            self.indices = list(InferenceSampler(len(items)))
        self.done = 0
        self.digest = _digest(items)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices[self.done :])

    def __len__(self) -> int:
        return len(self.indices) - self.done


def assign_videos(items: Sequence[dict], number: int) -> list[list[int]]:
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
    owner = _owners(frames, number)
    return [
        [index for index, item in enumerate(items) if owner[item["video_id"]] == rank]
        for rank in range(number)
    ]


def assign_images(items: Sequence[dict], number: int) -> list[list[int]]:
    """Deal out images, the largest first, each to the one who has the fewest pixels so far.

    Args:
        items: dicts with ``height`` and ``width``.
        number: of shares.

    Returns:
        the indices in each share, ascending.
    """
    pixels = {index: item["height"] * item["width"] for index, item in enumerate(items)}
    shares: list[list[int]] = [[] for _ in range(number)]
    for index, rank in sorted(_owners(pixels, number).items()):
        shares[rank].append(index)
    return shares


def _owners(efforts: Mapping[Hashable, int], number: int) -> dict[Hashable, int]:
    """Who gets what; of equal efforts the first comes first, so that all processes agree."""
    loads = [(0, rank) for rank in range(number)]
    owner = {}
    for each in sorted(efforts, key=efforts.__getitem__, reverse=True):
        load, owner[each] = heapq.heappop(loads)
        heapq.heappush(loads, (load + efforts[each], owner[each]))
    return owner


def _digest(items: Sequence[dict]) -> str:
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps([item.get(name) for name in NAMES], default=str).encode())
    return digest.hexdigest()
