"""How augmentations are called, and those that draw colours and scales."""

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
    """None at all, or whatever comes: then it is the image."""
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
    """In double precision; sizes drawn from a range are single."""
    for share in (0.1, 0.3, 0.6, 0.7, 0.9):
        crop = T.RandomCrop("relative", (share, share))
        for side in range(1, 400):
            assert crop.get_crop_size((side, side)) == (int(side * share + 0.5),) * 2


@pytest.mark.parametrize("kind, size", [("absolute_range", (5, 3)), ("relative", (2.0, 1.0))])
def test_impossible_crops(kind, size):
    with pytest.raises(AssertionError):
        T.RandomCrop(kind, size).get_transform(IMAGE)


def test_rotated_boxes():
    """Centre x, centre y, width, height, degrees."""
    box = np.array([[4.0, 3.0, 2.0, 1.0, 30.0]])
    flipped = T.HFlipTransform(10).apply_rotated_box(box.copy())
    assert flipped.tolist() == [[6.0, 3.0, 2.0, 1.0, -30.0]]
    (resized,) = T.ResizeTransform(10, 10, 10, 20).apply_rotated_box(box.copy())
    assert resized == pytest.approx([8.0, 3.0, 3.60555, 1.32288, 49.10661], abs=1e-4)


@pytest.mark.parametrize(
    "augmentation, draws",
    [
        (T.RandomContrast(0.5, 1.5), lambda: (IMAGE.mean(), np.random.uniform(0.5, 1.5))),
        (T.RandomBrightness(0.5, 1.5), lambda: (0, np.random.uniform(0.5, 1.5))),
        (
            T.RandomSaturation(0.5, 1.5),
            lambda: (
                IMAGE.dot([0.299, 0.587, 0.114])[:, :, None],
                np.random.uniform(0.5, 1.5),
            ),
        ),
    ],
)
def test_blends(augmentation, draws):
    np.random.seed(3)
    other, weight = draws()
    expected = np.clip((1 - weight) * other + weight * IMAGE.astype(np.float32), 0, 255)
    np.random.seed(3)
    result = augmentation.get_transform(IMAGE).apply_image(IMAGE)
    np.testing.assert_allclose(result, expected.astype(np.uint8), atol=1)


def test_lighting():
    np.random.seed(3)
    weights = np.random.normal(scale=10, size=3) * [0.2175, 0.0188, 0.0045]
    shift = np.array(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    )
    np.random.seed(3)
    transform = T.RandomLighting(10).get_transform(IMAGE)
    np.testing.assert_allclose(transform.src_image, shift @ weights)


def test_saturation_and_lighting_are_for_rgb():
    for augmentation in (T.RandomSaturation(0.5, 1.5), T.RandomLighting(1)):
        with pytest.raises(AssertionError):
            augmentation.get_transform(np.zeros((4, 4, 4), np.uint8))


def test_resize_scale():
    """The image fits into the target times the drawn scale."""
    np.random.seed(0)
    scale = np.random.uniform(0.5, 2.0)
    np.random.seed(0)
    transform = T.ResizeScale(0.5, 2.0, 30, 20).get_transform(IMAGE)
    factor = min(30 * scale / 6, 20 * scale / 8)
    assert (transform.new_h, transform.new_w) == (round(6 * factor), round(8 * factor))


def test_random_resize():
    np.random.seed(0)
    index = np.random.randint(3)
    np.random.seed(0)
    shapes = [(2, 3), (4, 5), (6, 7)]
    transform = T.RandomResize(shapes).get_transform(IMAGE)
    assert (transform.new_h, transform.new_w) == shapes[index]


def test_random_apply():
    np.random.seed(0)
    expected = [np.random.uniform() < 0.5 for _ in range(8)]
    np.random.seed(0)
    apply = T.RandomApply(T.HFlipTransform(8))
    done = [isinstance(apply(T.AugInput(IMAGE.copy())), T.HFlipTransform) for _ in range(8)]
    assert done == expected
    with pytest.raises(AssertionError):
        T.RandomApply(T.NoOpTransform(), prob=2)


def test_extent():
    """The rectangle is cut out and stretched; what lies outside of the image is black."""
    image = np.full((4, 4, 3), 200, np.uint8)
    transform = T.ExtentTransform((-4, 0, 4, 4), (4, 8))
    result = transform.apply_image(image)
    assert (result[:, :4] == 0).all() and (result[:, 5:] == 200).all()
    assert transform.apply_coords(np.array([[0.0, 2.0]])).tolist() == [[4.0, 2.0]]
    labels = transform.apply_segmentation(np.full((4, 4), 3, np.uint8))
    assert set(np.unique(labels)) == {0, 3}


def test_random_extent():
    np.random.seed(1)
    scale = np.random.uniform(0.5, 1.0)
    x, y = (0.2 * 8 * (np.random.rand() - 0.5), 0.4 * 6 * (np.random.rand() - 0.5))
    np.random.seed(1)
    transform = T.RandomExtent((0.5, 1.0), (0.2, 0.4)).get_transform(IMAGE)
    expected = (4 - 4 * scale + x, 3 - 3 * scale + y, 4 + 4 * scale + x, 3 + 3 * scale + y)
    assert transform.src_rect == pytest.approx(expected)
    assert transform.output_size == (int(6 * scale), int(8 * scale))


def test_functions_on_colours():
    invert = T.ColorTransform(lambda image: 255 - image)
    assert (invert.apply_image(IMAGE) == 255 - IMAGE).all()
    assert (invert.apply_segmentation(IMAGE) == IMAGE).all()
    mirror = T.PILColorTransform(lambda image: image.convert("L").convert("RGB"))
    assert mirror.apply_image(IMAGE).shape == IMAGE.shape
    with pytest.raises(ValueError):
        T.ColorTransform(3)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_output_size_in_a_script():
    import torch

    def size(image):
        return T.ResizeShortestEdge.get_output_shape(image.shape[-2], image.shape[-1], 80, 133)

    script = torch.jit.script(size)
    for shape in ((3, 50, 100), (3, 77, 41), (3, 10, 10)):
        assert script(torch.ones(shape)) == size(torch.ones(shape))
