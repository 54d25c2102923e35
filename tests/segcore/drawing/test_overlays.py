"""Overlays, legends and sheets show what the label map says."""

import numpy as np
import pytest

from segcore.drawing import overlays

RED, BLUE, YELLOW = (200, 0, 0), (0, 0, 200), (250, 230, 60)


@pytest.fixture
def halves() -> np.ndarray:
    """Left class 0, right class 1, the lowest row without a class."""
    labels = np.zeros((40, 60), dtype=np.uint16)
    labels[:, 30:] = 1
    labels[-1] = 255
    return labels


def grey(labels: np.ndarray) -> np.ndarray:
    return np.full((*labels.shape, 3), 100, dtype=np.uint8)


def contrast(a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
    def luminance(color):
        value = np.asarray(color) / 255
        linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_text_is_readable_on_every_color():
    for color in np.random.default_rng(0).integers(0, 256, (300, 3)):
        chosen = overlays.text_color(tuple(color))
        assert contrast(chosen, color) >= 4.5
        assert contrast(chosen, color) == max(
            contrast((0, 0, 0), color), contrast((255, 255, 255), color)
        )


def test_present_classes_are_ordered_by_area_and_sum_to_one(halves):
    halves[0, 0] = 1
    fractions = overlays.present_classes(halves, 255)
    assert [class_id for class_id, _ in fractions] == [1, 0]
    assert sum(fraction for _, fraction in fractions) == pytest.approx(1)
    assert overlays.present_classes(np.full((3, 3), 255), 255) == []


def test_overlay_blends_and_leaves_ignored_pixels(halves):
    drawn = overlays.overlay(grey(halves), halves, [RED, BLUE], alpha=0.5, ignore_label=255)
    assert drawn.dtype == np.uint8 and drawn.shape == (40, 60, 3)
    assert tuple(drawn[10, 10]) == pytest.approx((150, 50, 50), abs=1)
    assert tuple(drawn[10, 50]) == pytest.approx((50, 50, 150), abs=1)
    assert drawn[10, 30].min() > 200  # the border between the two
    bare = overlays.overlay(grey(halves), np.full_like(halves, 255), [RED], ignore_label=255)
    assert (bare == 100).all()


def test_overlay_refuses_what_does_not_fit(halves):
    with pytest.raises(ValueError, match="differ in size"):
        overlays.overlay(grey(halves)[1:], halves, [RED, BLUE])
    with pytest.raises(ValueError, match="do not fit 1 colors"):
        overlays.overlay(grey(halves), halves, [RED], ignore_label=255)


def test_signed_labels_and_large_ignore_labels():
    labels = np.full((4, 4), 65535, dtype=np.int32)
    labels[0] = 999
    painted = overlays.color_map(labels, [RED] * 1000, ignore_label=65535)
    assert (painted[0] == RED).all() and (painted[1:] == 0).all()
    with pytest.raises(ValueError):
        overlays.color_map(np.full((2, 2), -1), [RED])


def test_label_255_is_a_class_where_no_label_is_ignored():
    labels = np.full((4, 4), 255)
    assert (overlays.color_map(labels, [RED] * 255 + [BLUE]) == BLUE).all()
    assert overlays.present_classes(labels) == [(255, 1.0)]


def test_borders_are_as_thick_as_asked(halves):
    assert overlays.region_borders(halves[:-1], thickness=1).sum() == 39
    assert overlays.region_borders(halves[:-1], thickness=3).sum() == 3 * 39


@pytest.mark.parametrize("shape", [(50, 50), (500, 300), (1, 1), (1, 900)])
def test_interior_point_lies_inside(shape):
    mask = np.zeros(shape, dtype=bool)
    mask[shape[0] // 3 : shape[0] // 3 + max(1, shape[0] // 2), : max(1, shape[1] // 2)] = True
    assert mask[overlays.interior_point(mask)]


def test_interior_point_of_a_square_is_its_middle():
    mask = np.zeros((60, 60), dtype=bool)
    mask[10:41, 20:51] = True
    assert overlays.interior_point(mask) == (25, 35)


def test_names_are_written_on_plates_of_their_color(halves):
    image = np.full((300, 400, 3), 100, dtype=np.uint8)
    labels = np.zeros((300, 400), dtype=np.uint8)
    labels[:, 200:] = 1
    drawn = overlays.name_regions(image, labels, ["sky", "x" * 500], [YELLOW, BLUE])
    assert (drawn[:, :200] == YELLOW).all(-1).sum() > 200
    assert (drawn == BLUE).all(-1).sum() > 200
    labels[:] = 0
    labels[0, :3] = 1  # too small for a name
    drawn = overlays.name_regions(image, labels, ["sky", "sea"], [YELLOW, BLUE])
    assert not (drawn == BLUE).all(-1).any()
    tiny = overlays.name_regions(image[:2, :3], labels[:2, :3], ["sky", "sea"], [YELLOW, BLUE])
    assert tiny.shape == (2, 3, 3)


def test_legend_shows_the_given_classes_in_columns():
    names = [f"class number {i} with a name that is far too long" for i in range(100)]
    colors = [(i, 255 - i, 3) for i in range(100)]
    fractions = [(i, 0.01) for i in range(60)]
    drawn = overlays.legend(names, colors, fractions, rows=24, column_width=200)
    assert drawn.shape[1] == 3 * 200
    for class_id in (0, 59):
        assert (drawn == colors[class_id]).all(-1).sum() > 100
    assert not (drawn == colors[60]).all(-1).any()
    assert overlays.legend(names, colors, []).size > 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 4000), (2000, 1500), (7, 5)])
def test_fit_keeps_the_shape_and_the_ids(shape):
    labels = np.random.default_rng(0).integers(0, 9, shape).astype(np.uint16)
    small = overlays.fit(labels, 100)
    assert max(small.shape) == 100 and small.dtype == labels.dtype
    assert set(np.unique(small)) <= set(np.unique(labels))
    image = np.zeros((*shape, 3), dtype=np.uint8)
    assert overlays.fit(image, 100).shape[:2] == small.shape


def test_contact_sheet_places_every_image():
    red = np.full((10, 30, 3), RED, dtype=np.uint8)
    blue = np.full((30, 10, 3), BLUE, dtype=np.uint8)
    sheet = overlays.contact_sheet([[red, blue], [blue, red]], ["one", "two"], cell=60, gap=4)
    assert sheet.shape == (28 + 2 * 64 + 4, 2 * 64 + 4, 3)
    assert (sheet == RED).all(-1).sum() == pytest.approx(2 * 60 * 20, rel=0.05)
    assert (sheet == BLUE).all(-1).sum() == pytest.approx(2 * 60 * 20, rel=0.05)
