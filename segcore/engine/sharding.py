"""Shard the items of an evaluation over the processes."""

import hashlib
import heapq
import json
from collections.abc import Hashable, Iterator, Mapping, Sequence

from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch.utils.data import Sampler

# The keys that identify a dataset dict of an image or a video.
NAMES = ("file_name", "image_id", "video_id", "first_frame", "file_names")


class Shard(Sampler):
    """This process's shard of a data set; every item is in exactly one shard.

    Images of known sizes are assigned so that all shards have about the same number of pixels,
    other images in contiguous parts. Videos are assigned whole, since metrics compare consecutive
    frames, and so that all shards have about the same number of frames.

    Attributes:
        indices: of the items, ascending.
        done: number of leading items to skip, because they have been evaluated before.
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
    """Assign videos, the longest first, each to the shard with the fewest frames so far.

    Args:
        items: dicts with ``video_id`` and ``length``; parts of one video have the same id.
        number: of shards.

    Returns:
        the indices in each shard, ascending.
    """
    frames: dict[int | str, int] = {}
    for item in items:
        frames[item["video_id"]] = frames.get(item["video_id"], 0) + item["length"]
    ranks = _assign(frames, number)
    return [
        [index for index, item in enumerate(items) if ranks[item["video_id"]] == rank]
        for rank in range(number)
    ]


def assign_images(items: Sequence[dict], number: int) -> list[list[int]]:
    """Assign images, the largest first, each to the shard with the fewest pixels so far.

    Args:
        items: dicts with ``height`` and ``width``.
        number: of shards.

    Returns:
        the indices in each shard, ascending.
    """
    pixels = {index: item["height"] * item["width"] for index, item in enumerate(items)}
    shards: list[list[int]] = [[] for _ in range(number)]
    for index, rank in sorted(_assign(pixels, number).items()):
        shards[rank].append(index)
    return shards


def _assign(costs: Mapping[Hashable, int], number: int) -> dict[Hashable, int]:
    """Return {item: rank}; ties keep the order of the items, so that all processes agree."""
    loads = [(0, rank) for rank in range(number)]
    ranks = {}
    for item in sorted(costs, key=costs.__getitem__, reverse=True):
        load, ranks[item] = heapq.heappop(loads)
        heapq.heappush(loads, (load + costs[item], ranks[item]))
    return ranks


def _digest(items: Sequence[dict]) -> str:
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps([item.get(name) for name in NAMES], default=str).encode())
    return digest.hexdigest()
