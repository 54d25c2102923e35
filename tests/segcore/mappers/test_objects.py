"""Mappers that make objects: of label maps, of segments, of annotations; and their errors."""

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.projects.point_rend import ColorAugSSDTransform
from PIL import Image

from segcore.annotations.panoptic_png import decode_ids, encode_ids
from segcore.config import default_config
from segcore.datasets import (
    register_instance_dataset,
    register_panoptic_dataset,
    register_semantic_dataset,
)
from segcore.errors import UserError
from segcore.mappers import build_mapper
from segcore.mappers.augmentations import (
    EitherOf,
    RandomScale,
    large_scale_jitter,
    resize_or_crop,
    resized_crop,
)
from segcore.mappers.segmentation import masks_of_values
from segcore.scenes.coco import encode_mask
from segcore.vocabulary import Vocabulary

HEIGHT, WIDTH, IGNORE = 40, 60, 255
CAT, DOG, GRASS, SKY = range(4)
IDS = {CAT: 1, DOG: 7, GRASS: 11, SKY: 30}  # category ids of the files
# Segments of the image: id, class, box (top, left, bottom, right), whether it is a crowd.
SEGMENTS = (
    (70000, CAT, (5, 5, 30, 20), False),
    (3, CAT, (5, 30, 30, 50), False),
    (4, DOG, (35, 40, 40, 60), True),
    (9, GRASS, (30, 0, 35, 60), False),
)
NAMES = [f"test_{kind}" for kind in ("semantic", "panoptic", "instance")]


@pytest.fixture(scope="module", autouse=True)
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    classes = [
        {"name": name, "isthing": id in (CAT, DOG), "dataset_id": IDS[id]}
        for id, name in enumerate(("cat", "dog", "grass", "sky"))
    ]
    path = tmp_path_factory.mktemp("vocabulary") / "pets.json"
    path.write_text(json.dumps({"name": "pets", "ignore_label": IGNORE, "classes": classes}))
    yield path
    for name in NAMES:
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def ids_of(segments: tuple = SEGMENTS) -> np.ndarray:
    ids = np.zeros((HEIGHT, WIDTH), dtype=np.int64)
    for id, _, (top, left, bottom, right), _ in segments:
        ids[top:bottom, left:right] = id
    return ids


@pytest.fixture(scope="module")
def folder(vocabulary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One image, with label map, segments and objects; registered under NAMES."""
    root = tmp_path_factory.mktemp("pets")
    for name in ("images", "labels", "segments"):
        (root / name).mkdir()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "images/1.png")
    ids = ids_of()
    Image.fromarray(encode_ids(ids)).save(root / "segments/1.png")
    labels = np.full(ids.shape, IGNORE, dtype=np.uint8)
    for id, label, _, _ in SEGMENTS:
        labels[ids == id] = label
    Image.fromarray(labels).save(root / "labels/1.png")
    image = {"id": 1, "file_name": "1.png", "height": HEIGHT, "width": WIDTH}
    listed = [
        {"id": id, "category_id": IDS[label], "iscrowd": int(crowd)}
        for id, label, _, crowd in SEGMENTS
    ]
    categories = [{"id": IDS[id], "name": str(id), "isthing": int(id < GRASS)} for id in IDS]
    panoptic = {
        "images": [image],
        "annotations": [{"image_id": 1, "file_name": "1.png", "segments_info": listed}],
        "categories": categories,
    }
    (root / "panoptic.json").write_text(json.dumps(panoptic))
    objects = []
    for number, (id, label, (top, left, bottom, right), crowd) in enumerate(SEGMENTS[:3], start=1):
        corners = [left, top, right, top, right, bottom, left, bottom]
        outline = [corners] if id == 3 else encode_mask(ids == id)
        entry = {"id": number, "image_id": 1, "category_id": IDS[label], "iscrowd": int(crowd)}
        objects.append(entry | {"segmentation": outline})
    instances = {"images": [image], "annotations": objects, "categories": categories[:2]}
    (root / "instances.json").write_text(json.dumps(instances))
    images = root / "images"
    register_semantic_dataset(NAMES[0], images, root / "labels", vocabulary, image_suffix=".png")
    register_panoptic_dataset(
        NAMES[1], images, root / "panoptic.json", root / "segments", vocabulary
    )
    register_instance_dataset(NAMES[2], images, root / "instances.json", vocabulary)
    return root


@pytest.fixture
def config(folder: Path) -> Callable[[str], CfgNode]:
    def make(mapper: str) -> CfgNode:
        kind = next(kind for kind in ("semantic", "panoptic", "instance") if kind in mapper)
        cfg = default_config()
        cfg.DATASETS.TRAIN = (f"test_{kind}",)
        cfg.INPUT.DATASET_MAPPER_NAME = mapper
        cfg.INPUT.FORMAT = "RGB"
        cfg.INPUT.MIN_SIZE_TRAIN = (30, 40, 80)
        cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = "choice"
        cfg.INPUT.CROP.ENABLED = True
        cfg.INPUT.CROP.TYPE = "absolute"
        cfg.INPUT.CROP.SIZE = [32, 32]
        cfg.INPUT.COLOR_AUG_SSD = True
        if mapper == "detr_panoptic":
            cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = "absolute_range", [384, 600]
        cfg.INPUT.SIZE_DIVISIBILITY = -1 if mapper.endswith("lsj") else 32
        cfg.INPUT.IMAGE_SIZE, cfg.INPUT.MIN_SCALE, cfg.INPUT.MAX_SCALE = 64, 0.5, 2.0
        return cfg

    return make


def plain(cfg: CfgNode) -> CfgNode:
    """Nothing random, nothing resized."""
    cfg.INPUT.MIN_SIZE_TRAIN = (HEIGHT,)
    cfg.INPUT.CROP.ENABLED = cfg.INPUT.COLOR_AUG_SSD = False
    cfg.INPUT.RANDOM_FLIP = "none"
    return cfg


def seed(value: int) -> None:
    random.seed(value)
    np.random.seed(value)


def record(cfg: CfgNode) -> dict:
    return copy.deepcopy(DatasetCatalog.get(cfg.DATASETS.TRAIN[0])[0])


MAPPERS = (
    "mask_former_semantic",
    "mask_former_panoptic",
    "mask_former_instance",
    "coco_panoptic_lsj",
    "coco_instance_lsj",
    "detr_panoptic",
)


class TestAll:
    @pytest.mark.parametrize("mapper", MAPPERS)
    def test_objects_without_augmentation(self, config, mapper: str) -> None:
        cfg = plain(config(mapper))
        if mapper.endswith("lsj"):
            cfg.INPUT.IMAGE_SIZE, cfg.INPUT.MIN_SCALE, cfg.INPUT.MAX_SCALE = 64, 60 / 64, 60 / 64
        item = record(cfg)
        before = copy.deepcopy(item)
        output = build_mapper(cfg, is_train=True)(item)
        assert item == before
        expected = {
            "semantic": [(CAT, (70000, 3)), (DOG, (4,)), (GRASS, (9,))],
            "panoptic": [(CAT, (70000,)), (CAT, (3,)), (GRASS, (9,))],
            "instance": [(CAT, (70000,)), (CAT, (3,))],
        }[cfg.DATASETS.TRAIN[0].removeprefix("test_")]
        objects = output["instances"]
        assert objects.gt_classes.tolist() == [label for label, _ in expected]
        assert objects.gt_classes.dtype == torch.int64 and objects.gt_masks.dtype == torch.bool
        assert objects.image_size == tuple(objects.gt_masks.shape[1:]) == (64, 64)
        assert output["image"].shape == (3, 64, 64) and output["image"].dtype == torch.uint8
        assert (output["height"], output["width"]) == (HEIGHT, WIDTH)
        assert (output["image"][:, HEIGHT:] == 128).all()
        assert (output["image"][..., WIDTH:] == 128).all()
        for mask, (_, ids) in zip(objects.gt_masks.numpy(), expected, strict=True):
            np.testing.assert_array_equal(mask[:HEIGHT, :WIDTH], np.isin(ids_of(), ids))
            assert not mask[HEIGHT:].any() and not mask[:, WIDTH:].any()
        kept = {"file_name", "image_id", "height", "width", "image", "instances", "sem_seg"}
        assert output.keys() <= kept
        if "sem_seg" in output:
            labels = output["sem_seg"]
            assert (labels[HEIGHT:] == IGNORE).all() and (labels[:, WIDTH:] == IGNORE).all()
            shown = np.asarray(Image.open(Path(item["file_name"]).parents[1] / "labels/1.png"))
            np.testing.assert_array_equal(labels[:HEIGHT, :WIDTH], shown)

    @pytest.mark.parametrize("mapper", MAPPERS)
    def test_masks_go_where_the_image_goes(self, config, mapper: str) -> None:
        """An image whose pixels show its segments."""
        cfg = config(mapper)
        cfg.INPUT.COLOR_AUG_SSD = False
        cfg.INPUT.MIN_SIZE_TRAIN = (80,)
        item = record(cfg)
        painted = Path(item["file_name"]).parents[1] / "painted.png"
        grey = {0: 128, 70000: 0, 3: 255, 4: 128, 9: 128}
        values = np.vectorize(grey.get)(ids_of()).astype(np.uint8)
        Image.fromarray(values.repeat(3).reshape(HEIGHT, WIDTH, 3)).save(painted)
        item["file_name"] = str(painted)
        mapped = build_mapper(cfg, is_train=True)
        for trial in range(10):
            seed(trial)
            output = mapped(item)
            cats = output["instances"].gt_masks[output["instances"].gt_classes == CAT].any(dim=0)
            bright = (output["image"][0].int() - 128).abs() > 100
            assert (cats != bright).float().mean() < 0.06  # edges, where resizing mixes
            assert not bright.any() or (cats & bright).sum() > 0.8 * bright.sum()

    @pytest.mark.parametrize("mapper", MAPPERS)
    def test_the_same_seed_gives_the_same_item(self, config, mapper: str) -> None:
        mapped, outputs = build_mapper(config(mapper), is_train=True), []
        for value in (5, 5, 6):
            seed(value)
            outputs.append(mapped(record(config(mapper))))
        assert torch.equal(outputs[0]["image"], outputs[1]["image"])
        masks = [output["instances"].gt_masks for output in outputs]
        assert torch.equal(masks[0], masks[1])
        assert not torch.equal(outputs[0]["image"], outputs[2]["image"])

    @pytest.mark.parametrize("mapper", MAPPERS)
    def test_testing_reads_no_ground_truth(self, config, mapper: str) -> None:
        cfg = config(mapper)
        cfg.INPUT.MIN_SIZE_TEST = 80
        item = record(cfg)
        for key in ("sem_seg_file_name", "pan_seg_file_name"):
            if key in item:
                item[key] = "nowhere.png"
        output = build_mapper(cfg, is_train=False)(item)
        assert output.keys() <= {"file_name", "image_id", "height", "width", "image"}
        assert output["image"].shape == (3, 80, 120)

    @pytest.mark.parametrize("mapper", MAPPERS)
    def test_oracles_get_the_classes(self, config, mapper: str) -> None:
        cfg = config(mapper)
        cfg.MODEL.RANKSEG = CfgNode({"FLAG": False, "USE_GT": True, "ORACLE": False})
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, cfg.INPUT.MIN_SIZE_TEST = 4, 4
        output = build_mapper(cfg, is_train=False)(record(cfg))
        shown = [CAT, DOG] if "instance" in mapper else [CAT, DOG, GRASS]
        assert output["instances"].gt_classes.tolist() == shown
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 1
        with pytest.raises(UserError, match=r"1\.png (has class|holds the value) "):
            build_mapper(cfg, is_train=False)(record(cfg))
        with pytest.raises(UserError, match=r"the classes of .* are unknown"):
            build_mapper(cfg, is_train=False)({"file_name": record(cfg)["file_name"]})


class TestAugmentations:
    def test_published_orders(self, config) -> None:
        names = [type(step).__name__ for step in resized_crop(config("mask_former_panoptic"))]
        assert names[0] == "ResizeShortestEdge" and names[-1] == "RandomFlip"
        assert names[2] == ColorAugSSDTransform.__name__ or "Color" in names[2]
        names = [type(step).__name__ for step in large_scale_jitter(config("coco_panoptic_lsj"))]
        assert names == ["RandomFlip", "RandomScale", "FixedSizeCrop"]
        (step,) = resize_or_crop(config("detr_panoptic"))
        whole, cropped = (
            [type(each).__name__ for each in s.augs] for s in (step.first, step.second)
        )
        assert whole == ["RandomFlip", "ResizeShortestEdge"]
        assert cropped == ["RandomFlip", "ResizeShortestEdge", "RandomCrop", "ResizeShortestEdge"]
        names = [type(step).__name__ for step in resize_or_crop(plain(config("detr_panoptic")))]
        assert names == ["ResizeShortestEdge"]

    def test_jitter_equals_its_steps_one_by_one(self, config) -> None:
        cfg = config("coco_panoptic_lsj")
        mapped, item = build_mapper(cfg, is_train=True), record(cfg)
        for trial in range(4):
            seed(trial)
            output = mapped(item)
            seed(trial)
            inputs = T.AugInput(np.asarray(Image.open(item["file_name"])))
            for step in (
                T.RandomFlip(),
                RandomScale(0.5, 2.0, (64, 64)),
                T.FixedSizeCrop((64, 64)),
            ):
                inputs.apply_augmentations([step])
            np.testing.assert_array_equal(output["image"].numpy(), inputs.image.transpose(2, 0, 1))

    def test_detr_equals_its_steps_one_by_one(self, config) -> None:
        """Image, PNG and masks, with the same random numbers; every second image is a crop."""
        cfg = config("detr_panoptic")
        cfg.INPUT.SIZE_DIVISIBILITY = -1
        mapped, item, crops = build_mapper(cfg, is_train=True), record(cfg), 0
        for trial in range(8):
            seed(trial)
            output = mapped(item)
            seed(trial)
            steps = [T.RandomFlip(), T.ResizeShortestEdge((30, 40, 80), 1333, "choice")]
            if np.random.rand() <= 0.5:
                crops += 1
                before = T.ResizeShortestEdge([400, 500, 600], sample_style="choice")
                steps[1:1] = [before, T.RandomCrop("absolute_range", [384, 600])]
            inputs = T.AugInput(np.asarray(Image.open(item["file_name"])))
            transforms = inputs.apply_augmentations(steps)
            np.testing.assert_array_equal(output["image"].numpy(), inputs.image.transpose(2, 0, 1))
            ids = decode_ids(transforms.apply_segmentation(encode_ids(ids_of())))
            expected = [ids == id for id in (70000, 3, 9)]
            np.testing.assert_array_equal(output["instances"].gt_masks.numpy(), expected)
            labels = np.full(ids.shape, IGNORE)
            for id, label, _, _ in SEGMENTS:
                labels[ids == id] = label
            np.testing.assert_array_equal(output["sem_seg"].numpy(), labels)
        assert 2 <= crops <= 6

    def test_detr_draws_sides_and_crops_uniformly(self) -> None:
        """Of a wide image: every short side, and crops of any size between the two."""
        cfg = default_config()
        cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE = True, "absolute_range"
        cfg.INPUT.CROP.SIZE, cfg.INPUT.MIN_SIZE_TRAIN = [384, 600], (30, 40)
        (step,), image = resize_or_crop(cfg), np.zeros((10, 20, 3), dtype=np.uint8)
        seed(0)
        drawn = [list(step(T.AugInput(image))) for _ in range(80)]
        last = [transforms[-1].new_h for transforms in drawn if len(transforms) == 2]
        assert 28 <= len(last) <= 52 and set(last) == {30, 40}
        cut = [transforms for transforms in drawn if len(transforms) == 4]
        assert {before.new_h for _, before, _, _ in cut} == {400, 500, 600}
        for _, before, crop, _ in cut:
            assert 384 <= crop.h <= min(before.new_h, 600) and 384 <= crop.w <= 600
        assert np.ptp([crop.w for _, _, crop, _ in cut]) > 150
        flips = [type(transforms[0]).__name__ == "HFlipTransform" for transforms in drawn]
        assert 0.3 < np.mean(flips) < 0.7

    def test_either_of_two(self) -> None:
        """The draw is NumPy's, before those of the steps."""
        step = EitherOf([T.ResizeShortestEdge(3)], [T.ResizeShortestEdge(5)])
        for trial in range(6):
            seed(trial)
            inputs = T.AugInput(np.zeros((2, 2, 3), dtype=np.uint8))
            step(inputs)
            seed(trial)
            assert len(inputs.image) == (3 if np.random.rand() > 0.5 else 5)

    def test_scales_are_detectron2s(self, golden: Path) -> None:
        """Sizes after its ``ResizeScale``, with the same random numbers."""
        facts = json.loads((golden / "detectron2" / "behaviour.json").read_text("utf-8"))
        facts = facts["data"]["ResizeScale"]
        low, high, *box = facts["args"]
        np.random.seed(facts["seed"])
        for height, width, new_height, new_width in facts["rows_h_w_newh_neww"]:
            step = RandomScale(low, high, tuple(box)).get_transform(np.zeros((height, width, 3)))
            assert (step.new_h, step.new_w) == (new_height, new_width)

    def test_a_very_thin_image_keeps_a_pixel(self) -> None:
        step = RandomScale(0.1, 0.1, (10, 10)).get_transform(np.zeros((1000, 2, 3)))
        assert (step.new_h, step.new_w) == (1, 1)

    @pytest.mark.parametrize(("kind", "changes"), [("none", False), ("vertical", True)])
    def test_flip(self, config, kind: str, changes: bool) -> None:
        cfg = plain(config("mask_former_panoptic"))
        cfg.INPUT.RANDOM_FLIP = kind
        mapped, seen = build_mapper(cfg, is_train=True), set()
        for trial in range(8):
            seed(trial)
            seen.add(mapped(record(cfg))["image"].numpy().tobytes())
        assert len(seen) == 1 + changes

    def test_the_crop_uses_the_labels_of_segments(self, config) -> None:
        cfg = plain(config("mask_former_panoptic"))
        cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.SIZE = True, [12, 12]
        cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 0.75
        mapped, fractions = build_mapper(cfg, is_train=True), []
        for trial in range(12):
            seed(trial)
            labels = mapped(record(cfg))["sem_seg"]
            counts = labels[labels != IGNORE].bincount()
            fractions.append((counts.max() / counts.sum()).item() if len(counts) else 1)
        assert np.mean(np.array(fractions) < 0.75) > 0.6  # of single windows it is a third

    def test_the_crop_cannot_use_labels_of_instances(self, config) -> None:
        cfg = config("mask_former_instance")
        cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 0.75
        with pytest.raises(UserError, match=r"SINGLE_CATEGORY_MAX_AREA needs a label map"):
            build_mapper(cfg, is_train=True)


@pytest.mark.parametrize("wanted", [[], [1], [44, 300], [300], [255, 256], [70000]])
def test_masks_of_values(wanted: list[int]) -> None:
    """Also of values that the map lacks, and that exceed 255 in a map of bytes."""
    for values in ([[44, 1], [255, 0]], [[300, 1], [256, 70000]]):
        masks = masks_of_values(torch.tensor(values), wanted)
        assert masks.tolist() == [(np.array(values) == value).tolist() for value in wanted]


class TestPanoptic:
    def test_a_segment_outside_the_crop_is_empty(self, config) -> None:
        cfg = config("mask_former_panoptic")
        cfg.INPUT.CROP.SIZE, cfg.INPUT.MIN_SIZE_TRAIN = [8, 8], (HEIGHT,)
        mapped, sizes = build_mapper(cfg, is_train=True), []
        for trial in range(6):
            seed(trial)
            objects = mapped(record(cfg))["instances"]
            assert objects.gt_classes.tolist() == [CAT, CAT, GRASS]
            sizes += objects.gt_masks.flatten(1).sum(dim=1).tolist()
        assert 0 in sizes and max(sizes) > 0

    def test_nothing_but_void(self, config, tmp_path: Path) -> None:
        cfg = config("mask_former_panoptic")
        item = record(cfg) | {"segments_info": [], "pan_seg_file_name": str(tmp_path / "a.png")}
        Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)).save(tmp_path / "a.png")
        output = build_mapper(cfg, is_train=True)(item)
        assert len(output["instances"]) == 0
        assert output["instances"].gt_masks.shape == (0, 32, 32)
        assert (output["sem_seg"] == IGNORE).all()

    def test_five_hundred_objects(self, config, tmp_path: Path) -> None:
        cfg = plain(config("mask_former_panoptic"))
        ids = (np.arange(HEIGHT * WIDTH) % 500 + 1).reshape(HEIGHT, WIDTH)
        Image.fromarray(encode_ids(ids)).save(tmp_path / "a.png")
        listed = [{"id": i, "category_id": CAT, "isthing": True} for i in range(1, 501)]
        item = record(cfg) | {"segments_info": listed, "pan_seg_file_name": str(tmp_path / "a.png")}
        masks = build_mapper(cfg, is_train=True)(item)["instances"].gt_masks
        for number in (0, 255, 256, 499):
            expected = ids == number + 1
            np.testing.assert_array_equal(masks[number, :HEIGHT, :WIDTH], expected)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"pan_seg_file_name": None}, r"1\.png has no segments: this needs a panoptic"),
            ({"segments_info": []}, r"1\.png holds the segment id \d+, which the JSON file"),
            ({"pan_seg_file_name": "nowhere.png"}, r"no file at nowhere\.png"),
            ({"file_name": "nowhere.jpg"}, r"no file at nowhere\.jpg"),
        ],
    )
    @pytest.mark.parametrize("mapper", ["mask_former_panoptic", "detr_panoptic"])
    def test_faults(self, config, mapper: str, change: dict, message: str) -> None:
        cfg = config(mapper)
        with pytest.raises(UserError, match=message) as error:
            build_mapper(cfg, is_train=True)(record(cfg) | change)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("mapper", ["mask_former_panoptic", "detr_panoptic"])
    def test_png_and_list_disagree(self, config, tmp_path: Path, mapper: str) -> None:
        cfg = config(mapper)
        mapped, item = build_mapper(cfg, is_train=True), record(cfg)
        lonely = {"id": 77, "category_id": DOG, "isthing": True}
        with pytest.raises(UserError, match=r"has no pixel of the segment id 77"):
            mapped(item | {"segments_info": [*item["segments_info"], lonely]})
        covered = {"id": 77, "category_id": SKY, "isthing": False}  # below objects
        objects = mapped(item | {"segments_info": [*item["segments_info"], covered]})["instances"]
        assert objects.gt_classes.tolist()[-1] == SKY and not objects.gt_masks[-1].any()
        Image.fromarray(encode_ids(ids_of()[:-1])).save(tmp_path / "a.png")
        with pytest.raises(UserError, match=r"a\.png has \(height, width\) \(39, 60\), but its"):
            mapped(item | {"pan_seg_file_name": str(tmp_path / "a.png")})


class TestInstance:
    def test_objects_outside_the_crop(self, config) -> None:
        """Kept by the mapper of ADE20K, left out by that of COCO."""
        numbers = {}
        for mapper in ("mask_former_instance", "coco_instance_lsj"):
            cfg = config(mapper)
            cfg.INPUT.CROP.SIZE, cfg.INPUT.MIN_SIZE_TRAIN = [8, 8], (HEIGHT,)
            cfg.INPUT.IMAGE_SIZE, cfg.INPUT.MIN_SCALE = 16, 2.0
            mapped, found = build_mapper(cfg, is_train=True), []
            for trial in range(12):
                seed(trial)
                objects = mapped(record(cfg))["instances"]
                found.append((len(objects), int(objects.gt_masks.flatten(1).any(dim=1).sum())))
            numbers[mapper] = found
        assert {total for total, _ in numbers["mask_former_instance"]} == {2}
        assert min(seen for _, seen in numbers["mask_former_instance"]) < 2
        assert all(total == seen for total, seen in numbers["coco_instance_lsj"])
        assert len({total for total, _ in numbers["coco_instance_lsj"]}) > 1

    def test_no_object(self, config) -> None:
        cfg = config("coco_instance_lsj")
        objects = build_mapper(cfg, is_train=True)(record(cfg) | {"annotations": []})["instances"]
        assert objects.gt_masks.shape == (0, 64, 64) and objects.gt_classes.shape == (0,)

    @pytest.mark.parametrize(
        ("outline", "message"),
        [
            (None, r"an object of .*1\.png is neither a list of polygons nor an RLE"),
            ([[0, 0, 1e7, 0, 5, 5]], r"an object of .*1\.png: a polygon lies outside"),
            ({"size": [3, 3], "counts": [9]}, r"\[3, 3\], but the image has .* \(40, 60\)"),
            ({"size": [40, 60], "counts": "?"}, r"1\.png: the RLE is damaged"),
        ],
    )
    def test_faults_of_outlines(self, config, outline: object, message: str) -> None:
        cfg = config("mask_former_instance")
        item = record(cfg) | {"annotations": [{"category_id": CAT, "segmentation": outline}]}
        with pytest.raises(UserError, match=message):
            build_mapper(cfg, is_train=True)(item)

    def test_no_annotations(self, config) -> None:
        cfg = config("mask_former_instance")
        with pytest.raises(UserError, match=r"1\.png has no annotated instances"):
            build_mapper(cfg, is_train=True)({"file_name": record(cfg)["file_name"]})


class TestSemantic:
    def test_nothing_but_ignored_pixels(self, config, tmp_path: Path) -> None:
        cfg = config("mask_former_semantic")
        Image.fromarray(np.full((HEIGHT, WIDTH), IGNORE, dtype=np.uint8)).save(tmp_path / "a.png")
        item = record(cfg) | {"sem_seg_file_name": str(tmp_path / "a.png")}
        objects = build_mapper(cfg, is_train=True)(item)["instances"]
        assert objects.gt_masks.shape == (0, 32, 32) and objects.gt_classes.dtype == torch.int64


@pytest.mark.parametrize(
    ("mapper", "dataset", "message"),
    [
        ("mask_former_panoptic", "test_semantic", "'test_semantic' has no segments: use"),
        ("detr_panoptic", "test_semantic", "'test_semantic' has no segments: use"),
        ("coco_instance_lsj", "test_semantic", "'test_semantic' has no instances: use"),
        ("mask_former_panoptic", "test_instance", "'test_instance' is no semantic one"),
        ("mask_former_semantic", "test_instance", "'test_instance' is no semantic one"),
    ],
)
def test_data_sets_of_another_kind(config, mapper: str, dataset: str, message: str) -> None:
    cfg = config(mapper)
    cfg.DATASETS.TRAIN = (dataset,)
    with pytest.raises(UserError, match=message):
        build_mapper(cfg, is_train=True)


def test_names_of_the_vocabulary(vocabulary: Path, folder: Path) -> None:
    loaded = Vocabulary.load(vocabulary)
    metadata = MetadataCatalog.get("test_panoptic")
    assert metadata.stuff_classes == list(loaded.names)
    assert metadata.thing_dataset_id_to_contiguous_id == {1: 0, 7: 1}
    assert metadata.stuff_dataset_id_to_contiguous_id == {11: 2, 30: 3}
    assert MetadataCatalog.get("test_instance").thing_classes == ["cat", "dog"]
