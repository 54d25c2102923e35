"""Polygons and RLE: pycocotools' numbers, and what it would not refuse."""

import numpy as np
import pytest
from pycocotools import mask as rle

from segcore.errors import UserError
from segcore.outlines import (
    check_outline,
    check_polygons,
    decode_mask,
    draw_outline,
    outline_area,
    outline_box,
    rasterise,
)


@pytest.mark.parametrize("share", [0, 0.02, 0.5, 1])
def test_rle_are_those_of_pycocotools(share: float) -> None:
    rng = np.random.default_rng(0)
    for size in ((1, 1), (7, 300), (40, 3)):
        mask = rng.random(size) < share
        encoded = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
        text = {"size": list(size), "counts": encoded["counts"].decode()}
        np.testing.assert_array_equal(decode_mask(encoded, size, "it"), mask)
        np.testing.assert_array_equal(decode_mask(text, size, "it"), mask)


def test_rle_as_numbers() -> None:
    mask = decode_mask({"size": [2, 3], "counts": [1, 2, 3]}, (2, 3), "it")
    assert mask.tolist() == [[False, True, False], [True, False, False]]


@pytest.mark.parametrize(
    "counts",
    [
        b"",
        b"1000000",
        "\u00ff",
        "ab",
        "_" * 1000,
        5,
        None,
        [[6]],
        ["a"],
        [-1, 7],
        [10**30],
        [2**62] * 4,
    ],
)
def test_damaged_rle(counts: object) -> None:
    with pytest.raises(UserError, match="it: the RLE is damaged"):
        decode_mask({"size": [2, 3], "counts": counts}, (2, 3), "it")


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (None, "it is neither a list of polygons nor an RLE"),
        ({"size": [2, 3]}, "it is neither"),
        ({"size": 3, "counts": [6]}, "it: the RLE has the size 3, but"),
        ({"size": [float("inf"), 3], "counts": [6]}, r"has the size \[inf, 3\], but"),
        (
            {"size": [3, 2], "counts": [6]},
            r"\[3, 2\], but the image has \(height, width\) \(2, 3\)",
        ),
    ],
)
def test_what_are_no_rle(runs: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        decode_mask(runs, (2, 3), "it")


def test_polygons_of_an_object_are_one_mask() -> None:
    squares = [[1, 1, 3, 1, 3, 3, 1, 3], [5, 0, 6, 0, 6, 1, 5, 1], [0, 0, 1, 1]]
    mask = rasterise(check_polygons(squares, (4, 8), "it"), (4, 8))
    expected = np.zeros((4, 8), dtype=bool)
    expected[1:3, 1:3] = expected[0, 5] = True
    np.testing.assert_array_equal(mask, expected)
    assert not rasterise([], (4, 8)).any()


@pytest.mark.parametrize(
    "polygon",
    [[1, 2, 3], "abcdef", [None] * 6, [[1, 2], [3]], [[1, 2]] * 3, ["1"] * 6, [True] * 6, None],
)
def test_what_is_no_polygon(polygon: object) -> None:
    with pytest.raises(UserError, match="it: a polygon is no list of pairs of numbers"):
        check_polygons([polygon], (4, 8), "it")


@pytest.mark.parametrize("number", [1e9, -1e9, float("nan"), float("inf")])
def test_polygons_far_away_are_not_drawn(number: float) -> None:
    with pytest.raises(UserError, match="it: a polygon lies outside of its image of 8 x 4"):
        check_polygons([[0, 0, 1, 0, number, 1]], (4, 8), "it")


@pytest.mark.parametrize("outline", [None, [], [[]], [[0, 0, 1, 1]]])
def test_no_outline(outline: object) -> None:
    assert check_outline(outline, (4, 8), "it") is None


@pytest.mark.parametrize(
    "outline",
    [
        [[1, 1, 4, 1, 4, 3, 1, 3], [0, 0]],
        {"size": [4, 8], "counts": [5, 2, 2, 2, 2, 2, 17]},
        {
            "size": (4, 8),
            "counts": rle.encode(np.asfortranarray(np.eye(4, 8, dtype="u1")))["counts"],
        },
    ],
)
def test_a_sound_outline_is_the_same_mask_for_pycocotools(outline: object) -> None:
    sound = check_outline(outline, (4, 8), "it")
    theirs = rle.frPyObjects(sound, 4, 8) if isinstance(sound, list) else [sound]
    mask = rle.decode(rle.merge(theirs)).astype(bool)
    np.testing.assert_array_equal(draw_outline(outline, (4, 8), "it"), mask)
    np.testing.assert_array_equal(draw_outline(sound, (4, 8), "it"), mask)
    assert outline_area(sound, (4, 8)) == mask.sum()
    rows, columns = np.nonzero(mask)
    x, y, width, height = outline_box(sound)
    assert (x, y) == (columns.min(), rows.min())
    assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
