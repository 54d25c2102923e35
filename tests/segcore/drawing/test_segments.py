"""Segments keep their colour and name whatever else is in the image."""

import numpy as np

from segcore.drawing.overlays import overlay
from segcore.drawing.segments import (
    Segment,
    class_regions,
    draw_regions,
    paint_masks,
    regions_legend,
    segment_regions,
)
from segcore.vocabulary import Vocabulary

WORDS = Vocabulary.from_class_names(["sky", "cat"])
SKY, CAT, OTHER_CAT = Segment(1, 0, is_object=False), Segment(2, 1), Segment(5, 1)


def stripes(*numbers: int) -> np.ndarray:
    """(8, 4 n): a stripe of each number."""
    return np.repeat(np.array(numbers), 4)[None].repeat(8, axis=0)


def color_of(regions, column: int) -> tuple:
    return regions.colors[regions.labels[0, column]]


def test_objects_of_a_class_have_different_colours():
    regions = segment_regions(stripes(1, 2, 5, 0), [SKY, CAT, OTHER_CAT], WORDS)
    assert [regions.names[i] for i in regions.labels[0, ::4]] == [
        "sky",
        "cat 2",
        "cat 5",
        "nothing",
    ]
    assert color_of(regions, 0) == WORDS.colors[0]
    drawn = {color_of(regions, column) for column in (0, 4, 8)} | set(WORDS.colors)
    assert len(drawn) == 4  # sky, a colour for each cat, and that of the class, which none has
    assert regions.labels[0, -1] == regions.ignore_label


def test_a_number_keeps_its_colour_from_frame_to_frame():
    early = segment_regions(stripes(2, 1), [CAT, SKY], WORDS)
    late = segment_regions(stripes(5, 2), [OTHER_CAT, CAT], WORDS)
    assert color_of(early, 0) == color_of(late, 4) != color_of(late, 0)


def test_numbers_that_do_not_last_are_not_shown():
    regions = segment_regions(stripes(2, 5), [CAT, OTHER_CAT], WORDS, tell_apart=False)
    assert [regions.names[i] for i in regions.labels[0, ::4]] == ["cat", "cat"]
    assert color_of(regions, 0) == color_of(regions, 4) == WORDS.colors[1]
    assert regions.labels[0, 0] != regions.labels[0, 4]  # so that a border is drawn


def test_the_highest_score_covers_the_others():
    masks = np.zeros((2, 4, 6), dtype=bool)
    masks[0, :, :4], masks[1, :, 2:5] = True, True
    assert paint_masks(masks, [7, 3])[0].tolist() == [7, 7, 7, 7, 3, 0]
    assert not paint_masks(masks[:0], []).any()


def test_pixels_without_a_segment_stay():
    image = np.random.default_rng(0).integers(0, 256, (80, 300, 3), dtype=np.uint8)
    numbers = np.kron(stripes(0, 0, 2), np.ones((10, 25), dtype=np.int64))
    drawn = draw_regions(image, segment_regions(numbers, [CAT], WORDS))
    assert (drawn[:, :100] == image[:, :100]).all()
    assert (drawn[:, 200:] != image[:, 200:]).any(axis=-1).mean() > 0.9
    nothing = segment_regions(0 * numbers, [], WORDS)
    assert (draw_regions(image, nothing) == image).all()


def test_classes_are_drawn_as_before():
    image, labels = np.zeros((8, 8, 3), dtype=np.uint8), stripes(0, 1)
    regions = class_regions(labels, WORDS)
    bare = overlay(image, labels, WORDS.colors)
    assert (draw_regions(image, regions).shape == bare.shape) and regions.ignore_label is None
    assert regions_legend(regions).shape[2] == 3
