"""What each process evaluates: every item once, and as much as the others."""

import numpy as np
import pytest

from segcore.engine.sharding import Shard, assign_images


@pytest.mark.parametrize("number", [1, 2, 7])
def test_images_are_assigned_by_pixels(number):
    rng = np.random.default_rng(0)
    sizes = rng.integers(100, 1000, (300, 2)).tolist()
    # Sorted by size, as folders of several cameras are: contiguous parts would be unequal.
    items = [{"height": height, "width": width} for height, width in sorted(sizes)]
    shards = assign_images(items, number)
    assert sorted(index for shard in shards for index in shard) == list(range(300))
    assert all(shard == sorted(shard) for shard in shards)
    loads = [sum(items[i]["height"] * items[i]["width"] for i in shard) for shard in shards]
    assert max(loads) - min(loads) <= max(h * w for h, w in sizes)
    assert assign_images(items, number) == shards


def test_a_huge_image_keeps_one_process_busy():
    items = [{"height": 10, "width": 10}] * 5 + [{"height": 100, "width": 100}]
    assert assign_images(items, 2) == [[5], [0, 1, 2, 3, 4]]
    assert assign_images(items[:1], 3) == [[0], [], []]


def test_one_process_has_all_in_order():
    items = [{"file_name": f"{i}.jpg", "height": i + 1, "width": 5} for i in range(6)]
    assert list(Shard(items)) == list(range(6))
