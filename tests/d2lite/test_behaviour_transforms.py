"""Sizes, draws and pixels of transforms and augmentations."""

import random
import sys

import detectron2.data.transforms as T
import numpy as np
import PIL
import pytest
from detectron2.data import detection_utils as utils
from detectron2.projects.point_rend import ColorAugSSDTransform
from PIL import Image

TENTHS_OF_512 = [int(x * 0.1 * 512) for x in range(5, 21)]


@pytest.fixture
def facts(behaviour):
    return behaviour["data"]


def test_shortest_edge_sizes(arrays):
    no_limit = 2147483647
    for config, sizes in zip(arrays["rse/config_short_max"], arrays["rse/output_hw"], strict=True):
        short, limit = map(int, config)
        limit = sys.maxsize if limit == no_limit else limit
        for (height, width), expected in zip(arrays["rse/input_hw"], sizes, strict=True):
            actual = T.ResizeShortestEdge.get_output_shape(int(height), int(width), short, limit)
            assert actual == tuple(expected)


@pytest.mark.parametrize(
    "name, args",
    [
        ("choice_256_1024_2048", (TENTHS_OF_512, 2048, "choice")),
        ("range_256_768_1333", ((256, 768), 1333, "range")),
        ("choice_384_384_nomax", ([384, 384], sys.maxsize, "choice")),
    ],
)
def test_shortest_edge_draws(facts, arrays, name, args):
    expected = facts["ResizeShortestEdge"]["under_seed_0"][name]
    augmentation = T.ResizeShortestEdge(*args)
    np.random.seed(0)
    sizes = []
    for height, width in arrays["rse/input_hw"]:
        transform = augmentation.get_transform(np.broadcast_to(np.uint8(0), (height, width)))
        sizes.append([transform.new_h, transform.new_w])
    assert sizes == expected


def test_shortest_edge_arguments(facts, raised):
    facts = facts["ResizeShortestEdge"]
    transform = T.ResizeShortestEdge(0).get_transform(np.zeros((3, 4)))
    assert type(transform).__name__ in facts["size_zero"]
    assert raised(T.ResizeShortestEdge, 3, 9, "other") == facts["bad_style"]
    assert raised(T.ResizeShortestEdge, [1, 2, 3], 9, "range") == facts["range_needs_two"]


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="facts are of Pillow 13")
@pytest.mark.parametrize("size", ["9x23", "26x34", "5x5", "13x17", "40x11"])
def test_resize(arrays, size):
    height, width = map(int, size.split("x"))
    image, gray = arrays["in/resize_rgb"], arrays["in/resize_gray"]
    label, real = arrays["in/resize_label"], arrays["in/resize_float"]
    transform = T.ResizeTransform(13, 17, height, width)
    for actual, name in (
        (transform.apply_image(image), "rgb_bilinear"),
        (transform.apply_image(image, interp=Image.BICUBIC), "rgb_bicubic"),
        (transform.apply_image(gray), "gray2d_bilinear"),
        (transform.apply_image(gray[:, :, None]), "gray1c_bilinear"),
        (transform.apply_segmentation(label), "label_uint8"),
        (transform.apply_segmentation(label.astype("float32")).astype("uint8"), "label_float32"),
    ):
        np.testing.assert_array_equal(actual, arrays[f"resize/{size}/{name}"], err_msg=name)
    np.testing.assert_allclose(
        transform.apply_image(real), arrays[f"resize/{size}/float_bilinear"], atol=1e-5
    )


def test_resize_rest(facts, raised):
    facts = facts["ResizeTransform"]
    transform = T.ResizeTransform(13, 17, 9, 23)
    for kind, expected in facts["int_label_errors"].items():
        label = np.zeros((13, 17), kind)
        assert raised(transform.apply_segmentation, label) == expected, kind
    assert raised(transform.apply_image, np.zeros((3, 4))) == facts["wrong_input_size"]
    assert transform.interp == facts["default_interp"]
    inverse = transform.inverse()
    assert [type(inverse).__name__, inverse.new_h, inverse.new_w] == facts["inverse"]
    coords = np.array([[1.0, 2.0]])
    assert transform.apply_coords(coords) is coords


def test_fixed_size_crop(facts, arrays):
    for number, case in facts["FixedSizeCrop"]["cases"].items():
        np.random.seed(case["seed"])
        augmentation = T.FixedSizeCrop(
            tuple(case["crop_size"]), case["pad"], case["pad_value"], case["seg_pad_value"]
        )
        inputs = T.AugInput(arrays["in/crop_rgb"], sem_seg=arrays["in/crop_label"])
        parts = []
        for part in augmentation(inputs).transforms:
            fields = "x0 y0 w h" if isinstance(part, T.CropTransform) else "x0 y0 x1 y1"
            parts.append([type(part).__name__, *(getattr(part, f) for f in fields.split())])
        assert parts == case["transforms"], number
        np.testing.assert_array_equal(inputs.image, arrays[f"fixedcrop/{number}/image"])
        np.testing.assert_array_equal(inputs.sem_seg, arrays[f"fixedcrop/{number}/label"])


def test_flip(facts, raised):
    facts, image = facts["RandomFlip"], np.zeros((4, 5, 3), np.uint8)
    np.random.seed(facts["seed"])
    augmentation = T.RandomFlip()
    types = [type(augmentation.get_transform(image)).__name__ for _ in facts["types"]]
    assert types == facts["types"]
    vertical = T.RandomFlip(1.0, horizontal=False, vertical=True).get_transform(image)
    assert type(vertical).__name__ == facts["vertical"]
    assert raised(T.RandomFlip, horizontal=True, vertical=True) == facts["both"]
    assert raised(T.RandomFlip, horizontal=False) == facts["none"]


def window(transform):
    return [transform.x0, transform.y0, transform.w, transform.h]


def test_crop(facts, raised):
    facts = facts["RandomCrop"]
    image = np.zeros((*facts["input_hw"], 3), np.uint8)
    for name, expected in facts["cases"].items():
        kind, *sizes = name.rsplit("_", 2)
        convert = float if "relative" in kind else int
        augmentation = T.RandomCrop(kind, tuple(map(convert, sizes)))
        np.random.seed(facts["seed"])
        assert [window(augmentation.get_transform(image)) for _ in expected] == expected, name
    assert raised(T.RandomCrop, "other", (1, 1)) == facts["bad_type"]


def test_category_area_crop(facts, arrays):
    facts, label = facts["RandomCrop_CategoryAreaConstraint"], arrays["in/area_label"]
    image = np.zeros((*label.shape, 3), np.uint8)
    for name, expected in facts["cases"].items():
        area, ignored = name.removeprefix("max").split("_ignore")
        augmentation = T.RandomCrop_CategoryAreaConstraint(
            *facts["crop"], float(area), None if ignored == "None" else int(ignored)
        )
        np.random.seed(facts["seed"])
        rows = [window(augmentation.get_transform(image, label)) for _ in expected]
        assert rows == [row[:4] for row in expected], name


class RecordedRandom(random.Random):
    """Notes the draws at the level of the caller."""

    def __init__(self, seed):
        super().__init__(seed)
        self.draws = []

    def uniform(self, a, b):
        value = super().uniform(a, b)
        self.draws.append(["uniform", [a, b], round(value, 6)])
        return value

    def randint(self, a, b):
        value = super().randrange(a, b + 1)
        self.draws.append(["randint", [a, b], value])
        return value

    def randrange(self, *args):
        value = super().randrange(*args)
        self.draws.append(["randrange", value])
        return value


@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_colours(facts, arrays, monkeypatch, image_format):
    for seed, draws in facts["ColorAugSSDTransform"]["draws"].items():
        generator = RecordedRandom(int(seed))
        for name in ("uniform", "randint", "randrange"):
            monkeypatch.setattr(random, name, getattr(generator, name))
        actual = ColorAugSSDTransform(img_format=image_format).apply_image(arrays["in/color"])
        assert generator.draws == draws, seed
        assert actual.dtype == np.uint8
        expected = arrays[f"color/{image_format}/{seed}"]
        difference = np.abs(actual.astype(int) - expected.astype(int))
        # Another 8-bit HSV than OpenCV's may round otherwise.
        assert difference.max() <= 3, seed
        assert difference.mean() < 0.5, seed


def test_colours_leave_the_rest(facts, raised):
    transform, label = ColorAugSSDTransform("RGB"), np.zeros((2, 2))
    assert transform.apply_segmentation(label) is label
    assert raised(ColorAugSSDTransform, "LAB") == facts["ColorAugSSDTransform"]["bad_format"]


def test_points_and_boxes(facts):
    facts = facts["transforms"]
    transforms = {
        "hflip30": T.HFlipTransform(30),
        "vflip20": T.VFlipTransform(20),
        "pad_1_2_3_4_value7_seg9": T.PadTransform(1, 2, 3, 4, 30, 20, 7, 9),
        "resize20x30_to_10x45": T.ResizeTransform(20, 30, 10, 45),
    }
    for name, transform in transforms.items():
        case = facts["cases"][name]
        coords = transform.apply_coords(np.array(facts["points"]))
        np.testing.assert_allclose(coords, case["coords"], err_msg=name)
        boxes = transform.apply_box(np.array(facts["boxes"]))
        np.testing.assert_allclose(boxes, case["box"], err_msg=name)
        assert type(transform.inverse()).__name__ == case["inverse"]


def test_aug_input(facts):
    facts = facts["AugInput"]
    inputs = T.AugInput(
        np.zeros((20, 30, 3), np.uint8),
        boxes=np.array([[2.0, 3.0, 9.5, 11.0], [0.0, 0.0, 30.0, 20.0]]),
        sem_seg=np.zeros((20, 30), np.uint8),
    )
    drawn = T.AugmentationList(
        [T.Resize((10, 15)), T.RandomFlip(1.0), T.CropTransform(6, 1, 8, 8)]
    )(inputs)
    assert type(drawn).__name__ == facts["list_returns"]
    assert [type(t).__name__ for t in drawn.transforms] == facts["parts"]
    assert [*inputs.image.shape] == facts["image_shape"]
    assert [*inputs.sem_seg.shape] == facts["sem_seg_shape"]
    result = T.apply_augmentations([T.RandomFlip()], np.zeros((4, 4, 3), np.uint8))
    assert [type(r).__name__ for r in result] == facts["apply_augmentations_on_array_returns"]
    result = T.apply_augmentations([T.RandomFlip()], inputs)
    assert type(result[0]).__name__ == facts["on_AugInput_returns"]
    assert T.StandardAugInput is T.AugInput or issubclass(T.StandardAugInput, T.AugInput)
    assert [
        repr(T.RandomFlip(prob=0.3)),
        repr(T.ResizeShortestEdge([1, 2], 9, "choice")),
        repr(T.FixedSizeCrop((4, 5))),
    ] == facts["repr"]


def test_augmentation_asks_by_name():
    seen = []

    class Look(T.Augmentation):
        def get_transform(self, sem_seg, image):
            seen.append((sem_seg.shape, image.shape))
            return T.NoOpTransform()

    Look()(T.AugInput(np.zeros((4, 5, 3), np.uint8), sem_seg=np.zeros((4, 5))))
    assert seen == [((4, 5), (4, 5, 3))]

    class Ask(T.Augmentation):
        def get_transform(self, image, depth):
            raise NotImplementedError

    class AnyName(T.Augmentation):
        def get_transform(self, img):
            seen.append(img.shape)
            return T.NoOpTransform()

    AnyName()(T.AugInput(np.zeros((6, 7, 3), np.uint8)))
    assert seen[1:] == [(6, 7, 3)]

    with pytest.raises(AttributeError):
        Ask()(T.AugInput(np.zeros((4, 5, 3), np.uint8)))


def test_build_augmentation(facts):
    from detectron2.config import get_cfg

    facts, cfg = facts["build_augmentation"], get_cfg()
    for is_train, name in ((True, "train"), (False, "test")):
        built = utils.build_augmentation(cfg, is_train)
        assert [type(augmentation).__name__ for augmentation in built] == facts[name]
    cfg.INPUT.RANDOM_FLIP = "none"
    assert len(utils.build_augmentation(cfg, True)) == 1
