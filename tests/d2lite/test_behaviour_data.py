"""Reading images, catalogs, samplers, loaders."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import (
    DatasetCatalog,
    DatasetFromList,
    DatasetMapper,
    MapDataset,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data import detection_utils as utils
from detectron2.data.common import AspectRatioGroupedDataset
from detectron2.data.datasets import load_sem_seg
from detectron2.data.samplers import (
    InferenceSampler,
    TrainingSampler,
)
from detectron2.utils import comm
from PIL import Image


@pytest.fixture
def facts(behaviour):
    return behaviour["data"]


@pytest.fixture
def name(request):
    """Return an unused name of a data set; remove the data set afterwards."""
    unique = f"d2lite/{request.node.name}"
    yield unique
    DatasetCatalog.pop(unique, None)
    MetadataCatalog.pop(unique, None)


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return str(path)


def test_read_image(arrays, tmp_path):
    rgb = arrays["in/read_rgb"]
    files = {"png": tmp_path / "a.png", "graypng": tmp_path / "g.png"}
    Image.fromarray(rgb).save(files["png"])
    Image.fromarray(arrays["read/graypng_None"]).save(files["graypng"])
    for kind, path in files.items():
        for form in ("RGB", "BGR", "L", None):
            actual, expected = utils.read_image(str(path), form), arrays[f"read/{kind}_{form}"]
            assert actual.dtype == expected.dtype
            np.testing.assert_allclose(actual, expected, atol=1e-9, err_msg=f"{kind} {form}")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif(arrays, tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(arrays["in/read_rgb"]).save(path, exif=exif)
    np.testing.assert_array_equal(
        utils.read_image(str(path), "RGB"), arrays[f"read/exif{orientation}"]
    )


def test_read_other_images(facts, arrays, tmp_path, raised):
    facts = facts["read_image"]
    rgba = np.dstack([arrays["in/read_rgb"], np.full((4, 6), 9, np.uint8)])
    path = save(tmp_path / "rgba.png", rgba)
    np.testing.assert_array_equal(utils.read_image(path, "RGB"), arrays["in/read_rgb"])
    assert [*utils.read_image(path).shape] == facts["rgba_None_shape"]
    exif = Image.Exif()
    exif[0x0112] = 99
    path = save(tmp_path / "odd.png", arrays["in/read_rgb"], exif=exif)
    np.testing.assert_array_equal(utils.read_image(path, "RGB"), arrays["in/read_rgb"])
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    assert raised(utils.read_image, str(bad)) == facts["bad_file"]
    assert raised(utils.read_image, str(tmp_path / "none.png")) == facts["missing_file"]
    assert raised(utils.read_image, path, "NOPE") == facts["unknown_format"]


def test_label_files_keep_their_numbers(arrays, tmp_path):
    labels = arrays["read/int16png_None"]
    path = save(tmp_path / "labels.png", labels.astype(np.uint16))
    np.testing.assert_array_equal(utils.read_image(path), labels)


def test_check_image_size(facts, raised):
    facts, image = facts["check_image_size"], np.zeros((4, 6, 3))
    record = {}
    utils.check_image_size(record, image)
    assert record == facts["adds_missing"]
    assert raised(utils.check_image_size, {"width": 5, "height": 4}, image) == facts["mismatch"]
    assert raised(utils.check_image_size, {"width": 6}, image) == facts["only_width_given"]


@pytest.fixture
def record(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (12, 17, 3), np.uint8)
    image[0, 0] = (10, 60, 200)
    return {
        "file_name": save(tmp_path / "image.png", image),
        "sem_seg_file_name": save(tmp_path / "label.png", rng.integers(0, 9, (12, 17), np.uint8)),
        "image_id": 3,
        "height": 12,
        "width": 17,
    }


def test_mapper(facts, record):
    facts, cfg = facts["DatasetMapper"], get_cfg()
    cfg.INPUT.MIN_SIZE_TEST = 24
    before = dict(record)
    result = DatasetMapper(cfg, False)(record)
    assert record == before
    assert list(result) == list(facts["test"])
    for key in ("image", "sem_seg"):
        assert f"{result[key].dtype} {list(result[key].shape)}" == facts["test"][key]
    assert (result["height"], result["width"]) == tuple(facts["height_width_after_train"])

    cfg.INPUT.MIN_SIZE_TEST = 12
    assert DatasetMapper(cfg, False)(record)["image"][:, 0, 0].tolist() == facts["first_pixel_BGR"]

    cfg.INPUT.CROP.ENABLED = True
    names = [type(a).__name__ for a in DatasetMapper(cfg, True).augmentations.augs]
    assert names == facts["augmentations_with_crop"]


def in_process(monkeypatch, rank, world_size):
    """Pretend to be one of several processes."""
    from detectron2.data import build

    for module in (comm, build):
        for function, value in (("get_rank", rank), ("get_world_size", world_size)):
            if function in vars(module):
                monkeypatch.setattr(module, function, lambda value=value: value)


def test_training_sampler(facts, monkeypatch, raised):
    for case in facts["samplers"]["training"]:
        in_process(monkeypatch, case["rank"], case["world"])
        sampler = TrainingSampler(case["size"], shuffle=case["shuffle"], seed=case["seed"])
        assert list(itertools.islice(sampler, len(case["first"]))) == case["first"], case
    errors = facts["samplers"]["errors"]
    for text, expected in errors.items():
        function, argument = text.rstrip(")").split("(")
        kind = {"TrainingSampler": TrainingSampler, "InferenceSampler": InferenceSampler}[function]
        argument = argument.strip("'") if "'" in argument else int(argument)
        assert raised(kind, argument) == expected, text


def test_inference_sampler(facts, monkeypatch):
    for case in facts["samplers"]["inference"]:
        for rank, (begin, end) in enumerate(case["begin_end_per_rank"]):
            in_process(monkeypatch, rank, case["world"])
            sampler = InferenceSampler(case["n"])
            assert list(sampler) == list(range(begin, end))
            assert len(sampler) == end - begin


def test_aspect_ratio_groups(facts):
    facts = facts["loaders"]["AspectRatioGroupedDataset"]
    records = [{"i": i, "width": w, "height": h} for i, (w, h) in enumerate(facts["wh"])]
    groups = AspectRatioGroupedDataset(records, facts["batch"])
    assert [[record["i"] for record in group] for group in groups] == facts["groups"]


def test_map_dataset(facts):
    facts = facts["loaders"]["MapDataset"]

    def mapped():
        skip = facts["returns_None_for"]
        return MapDataset(list(range(7)), lambda item: None if item in skip else item)

    dataset = mapped()
    assert [dataset[i] for i in range(7)] == facts["read_0_to_6"]
    dataset = mapped()
    assert [dataset[2] for _ in range(10)] == facts["read_2_ten_times"]


def test_map_dataset_over_a_stream():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(range(6))

    assert list(MapDataset(Stream(), lambda i: i if i % 2 else None)) == [1, 3, 5]


def test_dataset_from_list():
    items = [{"a": [1]}, {"a": [2]}]
    packed, copied = DatasetFromList(items), DatasetFromList(items, serialize=False)
    shared = DatasetFromList(items, copy=False, serialize=False)
    for dataset in (packed, copied, shared):
        assert len(dataset) == 2
        assert [dataset[i] for i in range(2)] == items
    for dataset in (packed, copied):
        dataset[0]["a"].append(9)
        assert dataset[0] == items[0] == {"a": [1]}
    assert shared[0] is items[0]


@pytest.mark.parametrize("grouping", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_train_loader(facts, grouping, workers):
    expected = facts["loaders"][f"train_loader{'_grouping' * grouping}_workers{workers}"]
    records = [{"i": i, "width": 4, "height": 3} for i in range(7)]
    loader = build_detection_train_loader(
        records,
        mapper=None,
        sampler=TrainingSampler(7, seed=3),
        total_batch_size=2,
        aspect_ratio_grouping=grouping,
        num_workers=workers,
    )
    batches = itertools.islice(loader, len(expected))
    assert [[record["i"] for record in batch] for batch in batches] == expected


def test_other_loaders(facts, monkeypatch, raised):
    facts = facts["loaders"]
    records = [{"i": i} for i in range(7)]
    loader = build_detection_test_loader(records, mapper=lambda r: r["i"], batch_size=3)
    assert [*loader] == facts["test_loader"]["batches"]
    assert len(loader) == facts["test_loader"]["len"]
    in_process(monkeypatch, 0, 2)
    failure = raised(
        build_detection_train_loader, records, mapper=None, sampler=[0], total_batch_size=3
    )
    assert failure == facts["batch_not_divisible"]


def test_loaders_from_config(name, record):
    DatasetCatalog.register(name, lambda: [record] * 3)
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (name,)
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS = 2, 0
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (16,), 16
    batch = next(iter(build_detection_train_loader(cfg)))
    assert [tuple(item["image"].shape[:2]) for item in batch] == [(3, 16), (3, 16)]
    assert [len(batch) for batch in build_detection_test_loader(cfg, name)] == [1, 1, 1]
    cfg.DATALOADER.SAMPLER_TRAIN = "Nope"
    with pytest.raises(ValueError, match="Nope"):
        build_detection_train_loader(cfg)


def test_catalogs(facts, name, raised):
    facts, calls = facts["catalogs"]["errors"], []
    DatasetCatalog.register(name, lambda: calls.append(1) or [1])
    assert name in DatasetCatalog and name in DatasetCatalog.list()
    assert DatasetCatalog.get(name) == DatasetCatalog.get(name) == [1]
    assert len(calls) == 2
    assert raised(DatasetCatalog.register, name, list) == facts["register_twice"]
    assert raised(DatasetCatalog.register, "x", 3) == facts["register_non_callable"]
    assert raised(DatasetCatalog.get, "d2lite/none") == facts["get_unknown"]
    assert raised(DatasetCatalog.remove, "d2lite/none") == facts["remove_unknown"]


def test_metadata(facts, name, raised):
    facts = facts["catalogs"]["errors"]
    metadata = MetadataCatalog.get(name)
    assert metadata is MetadataCatalog.get(name)
    assert metadata.name == name
    assert metadata.set(a=1) is metadata
    assert raised(getattr, metadata, "b") == facts["metadata_missing_attribute"]
    assert raised(setattr, metadata, "a", 2) == facts["metadata_set_other_value"]
    assert raised(setattr, metadata, "a", 1) == facts["metadata_set_same_value"]
    assert metadata.get("b", 5) == facts["metadata_get_default"]
    assert raised(MetadataCatalog.get, "") == facts["metadata_empty_name"]
    metadata.thing_classes = ["a"]
    assert metadata.class_names == facts["old_name_class_names_reads"]
    metadata.as_dict()["a"] = 7
    assert metadata.a == 1
    MetadataCatalog.remove(name)
    assert name not in MetadataCatalog.list()


def test_load_sem_seg(facts, tmp_path, log_lines):
    for case, fact in facts["load_sem_seg"]["cases"].items():
        roots = {}
        for kind in ("gt", "images"):
            roots[kind] = tmp_path / case / kind
            roots[kind].mkdir(parents=True)
            for file in fact[kind]:
                (roots[kind] / file).parent.mkdir(exist_ok=True)
                (roots[kind] / file).touch()
        lines = log_lines("detectron2.data.datasets.coco")
        arguments = (str(roots["gt"]), str(roots["images"]))
        if isinstance(fact["pairs"], str):
            with pytest.raises(AssertionError):
                load_sem_seg(*arguments, **fact["args"])
            continue
        records = load_sem_seg(*arguments, **fact["args"])
        pairs = [
            [r["file_name"].rsplit("/", 1)[1], r["sem_seg_file_name"].rsplit("/", 1)[1]]
            for r in records
        ]
        assert pairs == fact["pairs"], case
        assert all(list(r) == facts["load_sem_seg"]["keys"] for r in records)
        assert bool(fact["warnings"]) == any("Loaded" not in line for line in lines), case


def test_dataset_dicts(facts, name, raised):
    facts = facts["get_detection_dataset_dicts"]
    DatasetCatalog.register(name, lambda: [{"file_name": "a"}, {"file_name": "b"}])
    assert len(get_detection_dataset_dicts(name)) == 2
    assert len(get_detection_dataset_dicts([name, name])) == 4
    assert raised(get_detection_dataset_dicts, []) == facts["no_names"]
    assert raised(get_detection_dataset_dicts, ["d2lite/none"]) == facts["unknown"]
    DatasetCatalog.remove(name)
    DatasetCatalog.register(name, list)
    assert raised(get_detection_dataset_dicts, [name]) == facts["empty_dataset"]


def test_images_without_objects(facts, name, raised):
    facts = facts["get_detection_dataset_dicts"]
    crowd = {"iscrowd": 1, "category_id": 0}
    records = [{"annotations": [crowd]}, {"annotations": [crowd, {"category_id": 0}]}]
    DatasetCatalog.register(name, lambda: records)
    assert len(get_detection_dataset_dicts(name)) == facts["kept_with_filter_empty"]
    assert get_detection_dataset_dicts(name) == records[1:]
    assert len(get_detection_dataset_dicts(name, filter_empty=False)) == facts["kept_without"]
    DatasetCatalog.remove(name)
    DatasetCatalog.register(name, lambda: records[:1])
    assert raised(get_detection_dataset_dicts, name) == facts["empty_dataset"]


def test_data_sets_that_name_their_objects_otherwise(name, raised):
    records, names = [{"annotations": [{"category_id": 0}]}], [name, f"{name}/other"]
    for each, classes in zip(names, (["cat"], ["dog"]), strict=True):
        DatasetCatalog.register(each, lambda: records)
        MetadataCatalog.get(each).thing_classes = classes
    assert raised(get_detection_dataset_dicts, names) == "ValueError"
    assert len(get_detection_dataset_dicts(names, check_consistency=False)) == 2
    DatasetCatalog.remove(names[1])
    MetadataCatalog.pop(names[1], None)


def test_boxes_are_left_out(lite_only, record):
    with pytest.raises(NotImplementedError, match="install Detectron2"):
        DatasetMapper(get_cfg(), True)(record | {"annotations": []})


def test_reading_gives_no_warning(record):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        DatasetMapper(get_cfg(), False)(record)


def test_yuv(tmp_path):
    """ITU-R BT.601, of 0..1."""
    array = np.array([[[255, 0, 0], [255, 255, 255], [0, 0, 0]]], np.uint8)
    path = save(tmp_path / "rgb.png", array)
    yuv = utils.read_image(path, "YUV-BT.601")
    expected = [[0.299, -0.14713, 0.615], [1, -0.00001, 0], [0, 0, 0]]
    np.testing.assert_allclose(yuv[0], expected, atol=2e-5)
    np.testing.assert_allclose(utils.convert_image_to_rgb(yuv, "YUV-BT.601"), array, atol=0.1)
    for form in ("BGR", "RGB", "L"):
        rgb = utils.convert_image_to_rgb(utils.read_image(path, form), form)
        assert rgb.shape == array.shape and rgb.dtype == np.uint8
        if form != "L":
            np.testing.assert_array_equal(rgb, array)


def test_metadata_may_be_an_array(name):
    """The first value is not compared with anything."""
    metadata = MetadataCatalog.get(name)
    metadata.palette = np.zeros((3, 3))
    metadata.stuff_class_names = ["a"]
    assert metadata.stuff_classes == ["a"]
    assert metadata.get("palette").shape == (3, 3)
