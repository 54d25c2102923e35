"""Calls of augmentations, and their results for unusual input."""

import detectron2.data.transforms as T
import numpy as np
import pytest

IMAGE = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)


class Always(T.Augmentation):
    def get_transform(self):
        return T.HFlipTransform(4)


class Anything(T.Augmentation):
    def get_transform(self, *args):
        assert [arg.shape for arg in args] == [(4, 4, 3)]
        return T.HFlipTransform(4)


class Ambiguous(T.Augmentation):
    def get_transform(self, image, *args):
        return T.NoOpTransform()


@pytest.mark.parametrize("augmentation", [Always(), Anything()])
def test_parameters_are_found(augmentation):
    """No parameter, or one of any name, which is the image."""
    augmentation(T.AugInput(np.zeros((4, 4, 3), np.uint8)))
    assert augmentation.input_args == (() if isinstance(augmentation, Always) else ("image",))


def test_parameters_without_names():
    with pytest.raises(TypeError):
        Ambiguous()(T.AugInput(IMAGE.copy()))


def test_inputs_of_four_dimensions_are_refused():
    with pytest.raises(AssertionError):
        T.AugInput(np.zeros((1, 2, 3, 4)))


def test_text():
    augmentations = T.AugmentationList(
        [T.RandomFlip(prob=0.25), T.Resize((2, 3)), T.NoOpTransform()]
    )
    expected = "AugmentationList[RandomFlip(prob=0.25), Resize(shape=(2, 3)), NoOpTransform()]"
    assert str(augmentations) == repr(augmentations) == expected
    assert str(Always()).startswith("<")  # takes no arguments that could be shown


def test_integers_are_cut_off():
    resize = T.ResizeTransform(10, 10, 15, 25)
    assert resize.apply_box(np.array([[1, 1, 3, 3]])).tolist() == [[2, 1, 7, 4]]
    assert resize.apply_coords(np.array([[1, 1], [3, 3]])).tolist() == [[2, 1], [7, 4]]
    floats = resize.apply_coords(np.array([[1.0, 1.0]]))
    assert floats.tolist() == [[2.5, 1.5]]


def test_polygons():
    resize = T.ResizeTransform(10, 10, 15, 25)
    (polygon,) = resize.apply_polygons([np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 2.0]])])
    assert polygon.tolist() == [[0, 0], [10, 0], [10, 3]]


def test_relative_crops_round_like_python():
    """In double precision; sizes sampled from a range are single precision."""
    for fraction in (0.1, 0.3, 0.6, 0.7, 0.9):
        crop = T.RandomCrop("relative", (fraction, fraction))
        for side in range(1, 400):
            assert crop.get_crop_size((side, side)) == (int(side * fraction + 0.5),) * 2


@pytest.mark.parametrize("kind, size", [("absolute_range", (5, 3)), ("relative", (2.0, 1.0))])
def test_impossible_crops(kind, size):
    with pytest.raises(AssertionError):
        T.RandomCrop(kind, size).get_transform(IMAGE)
