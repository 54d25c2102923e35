"""Outlines enclose exactly the pixels of a mask, for every program that fills polygons."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from catrank.exports.polygons import (
    inclusive,
    mask_polygons,
    polygons_without_holes,
    signed_area,
)


def masks() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    sizes = random.integers(1, 13, (150, 2))
    found = [random.random(tuple(size)) < random.random() for size in sizes]
    found += [np.ones((1, 1), dtype=bool), np.eye(5, dtype=bool), ~np.eye(5, dtype=bool)]
    return found


def test_a_rectangle_has_four_corners():
    mask = np.zeros((6, 8), dtype=bool)
    mask[1:4, 2:7] = True
    (polygon,) = mask_polygons(mask)
    assert sorted(polygon.exterior) == [(2, 1), (2, 4), (7, 1), (7, 4)] and not polygon.holes
    mask[2, 3] = False
    (polygon,) = mask_polygons(mask)
    assert sorted(polygon.holes[0]) == [(3, 2), (3, 3), (4, 2), (4, 3)]
    assert signed_area(polygon.exterior) == 15 and signed_area(polygon.holes[0]) == -1


def test_an_empty_mask_has_none():
    assert not mask_polygons(np.zeros((4, 5), dtype=bool))
    assert not polygons_without_holes(np.zeros((1, 1), dtype=bool))


def test_polygons_are_valid_and_disjoint():
    shapely = pytest.importorskip("shapely", reason="shapely checks polygons: pip install shapely")
    for mask in masks():
        polygons = mask_polygons(mask)
        shapes = [shapely.Polygon(each.exterior, each.holes) for each in polygons]
        assert all(shape.is_valid for shape in shapes), mask.astype(int)
        assert sum(shape.area for shape in shapes) == mask.sum()
        together = shapely.union_all(shapes)
        rows, columns = np.indices(mask.shape)
        inside = shapely.contains_xy(together, columns + 0.5, rows + 0.5)
        assert (inside == mask).all()


def test_rings_without_holes_are_the_mask_for_pycocotools():
    for mask in masks():
        rings = polygons_without_holes(mask)
        assert sum(map(signed_area, rings)) == mask.sum()
        if not mask.any():
            continue
        flat = [[float(value) for point in ring for value in point] for ring in rings]
        rle = coco_mask.merge(coco_mask.frPyObjects(flat, *mask.shape))
        assert (coco_mask.decode(rle) == mask).all(), mask.astype(int)


def test_inclusive_rings_are_the_mask_for_pil():
    for mask in masks():
        drawn = Image.new("1", mask.shape[::-1])
        for ring in polygons_without_holes(mask):
            ImageDraw.Draw(drawn).polygon(inclusive(ring), outline=1, fill=1)
        assert (np.asarray(drawn) == mask).all(), mask.astype(int)
