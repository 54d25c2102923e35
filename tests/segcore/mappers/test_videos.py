"""Mappers of videos: sampling of frames, augmentation, objects, errors."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from PIL import Image

import mask2former_rankseg  # noqa: F401  (the keys of INPUT)
from segcore.config import default_config
from segcore.datasets import (
    register_track_dataset,
    register_video_semantic_dataset,
)
from segcore.errors import UserError
from segcore.mappers import build_mapper
from segcore.mappers.clip_augmentations import RandomRotation, Rotate, clip_augmentations
from segcore.mappers.colours import Blend
from segcore.mappers.sampling import ClipSampler
from segcore.scenes.coco import encode_mask

HEIGHT, WIDTH, FRAMES, IGNORE = 40, 60, 6, 255
CAT, DOG, GRASS = range(3)
SEMANTIC, INSTANCE = "vspw_video_semantic", "ytvis_video_instance"
NAMES = {SEMANTIC: "test_clips_semantic", INSTANCE: "test_clips_tracks"}


def boxes(frame: int) -> dict[int, tuple[slice, slice]]:
    """A cat that walks to the right; a dog in the last two frames."""
    found = {CAT: (slice(5, 25), slice(4 * frame, 4 * frame + 20))}
    if frame >= FRAMES - 2:
        found[DOG] = (slice(30, 38), slice(45, 58))
    return found


def labels_of(frame: int) -> np.ndarray:
    """Grass in the lower half, the sky is none of the classes."""
    labels = np.full((HEIGHT, WIDTH), IGNORE)
    labels[20:] = GRASS
    for label, box in boxes(frame).items():
        labels[box] = label
    return labels


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One video, whose pixels are the labels: 200 for none, 60 x (label + 1) for the others."""
    root = tmp_path_factory.mktemp("clips")
    for kind in ("origin", "mask"):
        (root / "data/walk" / kind).mkdir(parents=True)
    tracks = {label: [None] * FRAMES for label in (CAT, DOG)}
    for frame in range(FRAMES):
        labels = labels_of(frame)
        grey = np.where(labels == IGNORE, 200, 60 * (labels + 1)).astype(np.uint8)
        Image.fromarray(np.stack([grey] * 3, axis=2)).save(root / f"data/walk/origin/{frame}.png")
        stored = np.where(labels == IGNORE, 0, labels + 1).astype(np.uint8)
        Image.fromarray(stored).save(root / f"data/walk/mask/{frame}.png")
        for label in boxes(frame):
            tracks[label][frame] = encode_mask(labels == label)
    files = [f"walk/origin/{frame}.png" for frame in range(FRAMES)]
    video = {"id": 1, "height": HEIGHT, "width": WIDTH, "length": FRAMES, "file_names": files}
    annotations = [
        {"id": 10 + label, "video_id": 1, "category_id": label + 1, "segmentations": outlines}
        for label, outlines in tracks.items()
    ]
    crowd = [{"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}] * FRAMES
    annotations.append(annotations[0] | {"id": 30, "iscrowd": 1, "segmentations": crowd})
    (root / "all.json").write_text(json.dumps({"videos": [video], "annotations": annotations}))
    (root / "all.txt").write_text("walk\n")
    classes = [
        {"name": name, "isthing": id < GRASS, "dataset_id": id + 1}
        for id, name in enumerate(("cat", "dog", "grass"))
    ]
    vocabulary = root / "pets.json"
    vocabulary.write_text(json.dumps({"name": "pets", "ignore_label": IGNORE, "classes": classes}))
    folders = (root / "data/<video>/origin", root / "data/<video>/mask")
    register_video_semantic_dataset(NAMES[SEMANTIC], root / "all.txt", *folders, vocabulary)
    register_track_dataset(NAMES[INSTANCE], root / "data", root / "all.json", vocabulary)
    yield root
    for name in NAMES.values():
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def config(mapper: str, **inputs: object) -> CfgNode:
    """Nothing is resized, and all frames make a clip."""
    cfg = default_config()
    cfg.DATASETS.TRAIN = (NAMES[mapper],)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 3 if mapper == SEMANTIC else 2
    cfg.INPUT.DATASET_MAPPER_NAME = mapper
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.MIN_SIZE_TRAIN = (HEIGHT,)
    cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = "choice_by_clip"
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.INPUT.SAMPLING_FRAME_NUM = FRAMES
    for key, value in inputs.items():
        cfg.INPUT[key] = value
    return cfg


def record(mapper: str) -> dict:
    return copy.deepcopy(DatasetCatalog.get(NAMES[mapper])[0])


class TestSampling:
    def test_frames_near_the_first_one_in_order(self) -> None:
        np.random.seed(0)
        sampler = ClipSampler(num_frames=3, reach=4)
        clips = [sampler(50) for _ in range(300)]
        assert all(len(set(frames)) == 3 and frames == sorted(frames) for frames in clips)
        assert all(frames[2] - frames[0] <= 8 for frames in clips)
        assert {frame for frames in clips for frame in frames} == set(range(50))

    def test_all_pairs_of_a_reach_have_the_same_probability(self) -> None:
        """The second frame is drawn uniformly around the first."""
        np.random.seed(0)
        pairs = [tuple(ClipSampler(2, reach=1)(3)) for _ in range(6000)]
        fractions = [pairs.count(pair) / len(pairs) for pair in ((0, 1), (1, 2))]
        assert fractions == pytest.approx([0.5, 0.5], abs=0.03)

    @pytest.mark.parametrize("length", [1, 2, 3])
    def test_short_videos(self, length: int) -> None:
        frames = ClipSampler(num_frames=5)(length)
        assert len(frames) == 5 and set(frames) <= set(range(length))

    def test_one_frame(self) -> None:
        assert len(ClipSampler(num_frames=1)(9)) == 1

    def test_no_frame_twice_where_there_are_enough(self) -> None:
        np.random.seed(0)
        assert all(sorted(ClipSampler(5)(5)) == list(range(5)) for _ in range(20))

    def test_random_order(self) -> None:
        np.random.seed(0)
        clips = [ClipSampler(4, shuffle=True)(30) for _ in range(20)]
        assert any(frames != sorted(frames) for frames in clips)

    def test_a_stride(self) -> None:
        np.random.seed(0)
        clips = {tuple(ClipSampler(3, interval=5)(20)) for _ in range(400)}
        first_frames = {(start, start + 5, start + 10) for start in range(10)}
        wrapped = {tuple(sorted({s, (s + 5) % 20, (s + 10) % 20})) for s in range(10, 20)}
        assert clips == first_frames | wrapped

    def test_keys(self) -> None:
        cfg = config(SEMANTIC, SAMPLING_FRAME_RANGE=7, SAMPLING_FRAME_SHUFFLE=True)
        assert ClipSampler.from_config(cfg) == ClipSampler(FRAMES, 7, True, None)
        cfg.INPUT.SAMPLING_RANDOM = False
        assert ClipSampler.from_config(cfg).interval == 5
        cfg.INPUT.SAMPLING_INTERVAL = 0
        with pytest.raises(UserError, match="SAMPLING_INTERVAL is 0: it has to be at least 1"):
            ClipSampler.from_config(cfg)


class TestTraining:
    @pytest.mark.parametrize("mapper", NAMES)
    def test_the_same_objects_in_every_frame(self, mapper: str) -> None:
        item = build_mapper(config(mapper), True)(record(mapper))
        assert item["length"] == len(item["image"]) == len(item["instances"]) == FRAMES
        assert (item["height"], item["width"]) == (HEIGHT, WIDTH)
        assert "sem_seg_file_names" not in item and "frame_annotations" not in item
        classes = [CAT, GRASS, DOG] if mapper == SEMANTIC else [CAT, DOG]
        for frame, objects in enumerate(item["instances"]):
            assert item["file_names"][frame].endswith(f"{frame}.png")
            assert item["image"][frame].shape == (3, HEIGHT, WIDTH)
            assert objects.gt_classes.tolist() == classes and objects.image_size == (HEIGHT, WIDTH)
            wanted = np.stack([labels_of(frame) == label for label in classes])
            assert objects.gt_masks.dtype == torch.bool
            assert np.array_equal(objects.gt_masks.numpy(), wanted)
            indices = [index if mask.any() else -1 for index, mask in enumerate(wanted)]
            assert objects.gt_ids.tolist() == indices

    @pytest.mark.parametrize("mapper", NAMES)
    def test_objects_in_no_frame_are_dropped(self, mapper: str) -> None:
        """The dog comes after the frames that are drawn."""
        video = record(mapper)
        video["length"] = FRAMES - 2
        item = build_mapper(config(mapper, SAMPLING_FRAME_NUM=2), True)(video)
        assert all(DOG not in objects.gt_classes.tolist() for objects in item["instances"])

    def test_a_clip_without_a_class(self, folder: Path, tmp_path: Path) -> None:
        Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "none.png")
        video = record(SEMANTIC) | {"sem_seg_file_names": [str(tmp_path / "none.png")] * FRAMES}
        item = build_mapper(config(SEMANTIC), True)(video)
        for objects in item["instances"]:
            assert objects.gt_masks.shape == (0, HEIGHT, WIDTH) and len(objects.gt_ids) == 0

    @pytest.mark.parametrize("mapper", NAMES)
    def test_all_frames_are_augmented_alike(self, mapper: str) -> None:
        """Masks match the pixels under every augmentation."""
        cfg = config(
            mapper, MIN_SIZE_TRAIN=(40, 80), RANDOM_FLIP="flip_by_clip", AUGMENTATIONS=["rotation"]
        )
        cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = (
            True,
            "absolute",
            (30, 50),
        )
        load, sizes, lefts = build_mapper(cfg, True), set(), set()
        for seed in range(12):
            np.random.seed(seed)
            item = load(record(mapper))
            (size,) = {tuple(image.shape) for image in item["image"]}
            sizes.add(size[1])
            for image, objects in zip(item["image"], item["instances"], strict=True):
                assert objects.gt_masks.shape[1:] == size[1:]
                for label, mask in zip(objects.gt_classes.tolist(), objects.gt_masks, strict=True):
                    if mask.sum() > 200:
                        inside = image[0][mask].float()
                        assert inside.median() == pytest.approx(60 * (label + 1), abs=1)
            starts = [item["instances"][t].gt_masks[0].any(0).int().argmax() for t in (0, -1)]
            lefts.add(bool(starts[0] < starts[1]))
        assert sizes == {40, 80}
        assert lefts == {True, False}  # flipped or not

    def test_the_same_seed_draws_the_same(self) -> None:
        every = ["brightness", "contrast", "saturation", "rotation"]
        cfg = config(SEMANTIC, RANDOM_FLIP="flip_by_clip", AUGMENTATIONS=every)
        items = []
        for _ in range(2):
            np.random.seed(3)
            items.append(build_mapper(cfg, True)(record(SEMANTIC)))
        assert all(map(torch.equal, items[0]["image"], items[1]["image"]))
        assert items[0]["file_names"] == items[1]["file_names"]

    def test_padding(self) -> None:
        item = build_mapper(config(INSTANCE, SIZE_DIVISIBILITY=32), True)(record(INSTANCE))
        assert {tuple(image.shape) for image in item["image"]} == {(3, 64, 64)}
        assert (item["image"][0][:, HEIGHT:] == 128).all()
        assert not item["instances"][0].gt_masks[:, HEIGHT:].any()


class TestTesting:
    @pytest.mark.parametrize("mapper", NAMES)
    def test_all_frames_resized(self, mapper: str) -> None:
        item = build_mapper(config(mapper, MIN_SIZE_TEST=20), False)(record(mapper))
        assert len(item["image"]) == item["length"] == FRAMES and "instances" not in item
        assert item["image"][4].shape == (3, 20, 30)
        assert (item["height"], item["width"]) == (HEIGHT, WIDTH)

    def test_frames_are_read_on_access(self, tmp_path: Path) -> None:
        video = record(SEMANTIC)
        video["file_names"][3] = str(tmp_path / "lost.png")
        item = build_mapper(config(SEMANTIC), False)(video)
        assert item["image"][2] is not None
        with pytest.raises(UserError, match=r"no file at .*lost\.png"):
            item["image"][3]

    @pytest.mark.parametrize(("mapper", "classes"), [(SEMANTIC, [0, 1, 2]), (INSTANCE, [0, 1])])
    def test_an_oracle_gets_the_classes(self, mapper: str, classes: list[int]) -> None:
        cfg = config(mapper)
        cfg.MODEL.RANKSEG.USE_GT = True
        item = build_mapper(cfg, False)(record(mapper))
        assert [each.gt_classes.tolist() for each in item["instances"]] == [classes] * FRAMES


class TestAugmentations:
    def test_a_rotation_moves_masks_and_points_alike(self) -> None:
        mask = np.zeros((60, 80))
        mask[10:20, 50:70] = 1
        turn = Rotate(15, (40, 30))
        rows, columns = np.nonzero(turn.apply_segmentation(mask))
        (centre,) = turn.apply_coords(np.array([[60.0, 15.0]]))
        assert centre == pytest.approx([columns.mean() + 0.5, rows.mean() + 0.5], abs=0.5)
        assert centre[1] < 15  # anticlockwise: what is on the right goes up
        image = turn.apply_image(np.stack([mask * 255] * 3, axis=2).astype(np.uint8))
        assert ((image[..., 0] > 127) != turn.apply_segmentation(mask)).mean() < 0.01

    def test_labels_of_any_value_survive_a_rotation(self) -> None:
        np.random.seed(0)
        turn = RandomRotation().get_transform(np.zeros((50, 50, 3)))
        assert set(np.unique(turn.apply_segmentation(np.full((50, 50), 65535.0)))) <= {0, 65535}

    @pytest.mark.parametrize(("key", "moves_mean"), [("brightness", True), ("contrast", False)])
    def test_brightness_and_contrast(self, key: str, moves_mean: bool) -> None:
        (*_, augmentation) = clip_augmentations(config(SEMANTIC, AUGMENTATIONS=[key]))
        np.random.seed(0)
        image = np.tile(np.arange(60, 160, dtype=np.uint8)[None, :, None], (9, 1, 3))
        transform = augmentation.get_transform(image)
        changed = transform.apply_image(image)
        assert isinstance(transform, Blend) and 0.9 <= transform.factor <= 1.1
        assert (abs(changed.mean() - image.mean()) > 1) == moves_mean
        assert changed.std() / image.std() == pytest.approx(transform.factor, abs=0.01)

    def test_saturation_leaves_grey_alone_in_either_order_of_colours(self) -> None:
        grey = np.full((2, 2, 3), 90, dtype=np.uint8)
        green = np.zeros((2, 2, 3), dtype=np.uint8)
        green[..., 1] = 200
        for order in ("RGB", "BGR"):
            cfg = config(SEMANTIC, AUGMENTATIONS=["saturation"], FORMAT=order)
            make = clip_augmentations(cfg)[-1].make
            assert (Blend(0.5, make).apply_image(grey) == 90).all()
            assert Blend(0.5, make).apply_image(green)[0, 0].tolist() == [59, 159, 59]
            red = Blend(0.5, make).apply_image(np.eye(3, dtype=np.uint8)[None] * 200)
            assert red[0, "RGB".index(order[0]), 1] == round(0.5 * 200 * 0.299)

    def test_sizes_of_a_range(self) -> None:
        cfg = config(SEMANTIC, MIN_SIZE_TRAIN=(20, 40), MIN_SIZE_TRAIN_SAMPLING="range_by_clip")
        (resize,) = clip_augmentations(cfg)
        image = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
        heights = {resize(T.AugInput(image)).new_h for _ in range(50)}
        assert len(heights) > 5 and min(heights) >= 20 and max(heights) <= 40


class TestFaults:
    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            ({"MIN_SIZE_TRAIN_SAMPLING": "choice"}, r"use 'choice_by_clip' or 'range_by_clip'"),
            ({"RANDOM_FLIP": "horizontal"}, r"RANDOM_FLIP is 'horizontal', .*'flip_by_clip'"),
            ({"AUGMENTATIONS": ["blur"]}, r"INPUT.AUGMENTATIONS has 'blur': there are"),
            ({"COLOR_AUG_SSD": True}, r"INPUT.COLOR_AUG_SSD is for images"),
            ({"SAMPLING_FRAME_NUM": 0}, r"SAMPLING_FRAME_NUM is 0: it has to be at least 1"),
        ],
    )
    def test_keys(self, inputs: dict, message: str) -> None:
        with pytest.raises(UserError, match=message):
            build_mapper(config(SEMANTIC, **inputs), True)

    def test_a_crop_that_uses_labels(self) -> None:
        cfg = config(SEMANTIC)
        cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = True, 0.75
        with pytest.raises(UserError, match="SINGLE_CATEGORY_MAX_AREA is for images"):
            build_mapper(cfg, True)

    def test_the_mapper_of_another_kind(self) -> None:
        cfg = config(INSTANCE)
        cfg.DATASETS.TRAIN = (NAMES[SEMANTIC],)
        with pytest.raises(UserError, match="has no tracks of objects: use 'vspw_video_semantic'"):
            build_mapper(cfg, True)
        cfg = config(SEMANTIC)
        cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 0
        with pytest.raises(
            UserError, match=r"IGNORE_VALUE is 0, but .* marks such pixels with 255"
        ):
            build_mapper(cfg, True)

    def test_images_and_videos_mixed_up(self) -> None:
        cfg = config(SEMANTIC)
        with pytest.raises(UserError, match="mapper of videos, but the data set holds images"):
            build_mapper(cfg, False)({"file_name": "a.png"})
        cfg.INPUT.DATASET_MAPPER_NAME = "mask_former_semantic"
        with pytest.raises(UserError, match="mapper of images, but the data set holds videos"):
            build_mapper(cfg, False)(record(SEMANTIC))

    @pytest.mark.parametrize(
        ("mapper", "key"), [(SEMANTIC, "sem_seg_file_names"), (INSTANCE, "frame_annotations")]
    )
    def test_training_without_ground_truth(self, mapper: str, key: str) -> None:
        video = record(mapper)
        del video[key]
        with pytest.raises(UserError, match=r"video (walk|1) has no (label maps|tracks)"):
            build_mapper(config(mapper), True)(video)

    @pytest.mark.parametrize(
        ("key", "edit", "message"),
        [
            ("file_names", lambda path: path.unlink(), r"no file at .*2\.png"),
            (
                "file_names",
                lambda path: Image.new("RGB", (8, 8)).save(path),
                r"2\.png has \(height, width\) \(8, 8\), but its video has \(40, 60\)",
            ),
            (
                "sem_seg_file_names",
                lambda path: Image.new("L", (8, 8)).save(path),
                r"2\.png has \(height, width\) \(8, 8\), but its video has \(40, 60\)",
            ),
            (
                "sem_seg_file_names",
                lambda path: Image.new("L", (WIDTH, HEIGHT), 9).save(path),
                r"2\.png holds the value 9, but a video's labels are 1 to 3",
            ),
        ],
    )
    def test_a_file_of_a_frame(
        self, tmp_path: Path, key: str, edit: Callable, message: str
    ) -> None:
        video, path = record(SEMANTIC), tmp_path / "2.png"
        path.write_bytes(Path(video[key][2]).read_bytes())
        video[key][2] = str(path)
        edit(path)
        with pytest.raises(UserError, match=message):
            build_mapper(config(SEMANTIC), True)(video)

    def test_an_outline_of_another_size(self) -> None:
        video = record(INSTANCE)
        video["frame_annotations"][1][0]["segmentation"] = {"size": [4, 4], "counts": [16]}
        with pytest.raises(UserError, match=r"track 0 in .*1\.png: the RLE has the size \[4, 4\]"):
            build_mapper(config(INSTANCE), True)(video)
