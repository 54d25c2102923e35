"""Preparing the benchmarks of semantic segmentation, on miniatures of the official downloads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from downloads import load, registered_labels, save
from pycocotools import mask as run_lengths

from segcore.datasets.label_maps import LabelMaps
from segcore.errors import UserError
from segcore.images import read_image

IMAGE = np.full((2, 3, 3), 90)


def save_mat(path: Path, **arrays: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, arrays, do_compression=True)
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def voc(root: Path) -> Path:
    folder = root / "VOCdevkit/VOC2012"
    write(folder / "ImageSets/Segmentation/val.txt", "2007_000033\n2007_000042")
    for name, mask in (
        ("2007_000033", [[0, 1, 20], [255, 5, 0]]),
        ("2007_000042", [[0, 0, 0], [255, 0, 0]]),  # no object: not in PAS-20
        ("2007_000001", [[1, 1, 1], [1, 1, 1]]),  # of the training part
    ):
        save(folder / f"JPEGImages/{name}.jpg", IMAGE)
        mask = save(folder / f"SegmentationClassAug/{name}.png", mask)
    return folder / "SegmentationClassAug/2007_000033.png"


def context_59(root: Path) -> Path:
    folder = root / "VOCdevkit/VOC2010"
    save(folder / "JPEGImages/2008_000002.jpg", IMAGE)
    save(folder / "JPEGImages/2008_000003.jpg", IMAGE)

    def runs(pixels: list) -> dict:
        encoded = run_lengths.encode(np.asfortranarray(pixels, dtype=np.uint8))
        return {"size": encoded["size"], "counts": encoded["counts"].decode()}

    image = {"file_name": "2008_000002.jpg", "height": 2, "width": 3}
    content = {
        "images": [
            image | {"image_id": 7, "phase": "val"},
            image | {"image_id": 8, "phase": "train", "file_name": "2008_000003.jpg"},
        ],
        "annos_segmentation": [
            {"image_id": 7, "category_id": 2, "segmentation": runs([[1, 1, 0], [0, 0, 0]])},
            {"image_id": 7, "category_id": 458, "segmentation": runs([[0, 1, 1], [0, 0, 0]])},
            {"image_id": 7, "category_id": 1, "segmentation": runs([[0, 0, 0], [1, 0, 0]])},
            {"image_id": 8, "category_id": 2, "segmentation": runs([[1, 1, 1], [1, 1, 1]])},
        ],
    }
    return write(folder / "trainval_merged.json", json.dumps(content))


def context_459(root: Path) -> Path:
    folder = root / "VOCdevkit/VOC2010"
    write(folder / "pascalcontext_val.txt", "2008_000002\n2008_999999\n")  # one has no annotation
    save(folder / "JPEGImages/2008_000002.jpg", IMAGE)
    labels = np.array([[1, 459, 2], [2, 2, 2]], dtype=np.uint16)
    return save_mat(folder / "trainval/2008_000002.mat", LabelMap=labels)


def coco_stuff_10k(root: Path) -> Path:
    folder = root / "coco/coco_stuff_10k"
    for split, name in (("train", "COCO_train2014_1"), ("test", "COCO_train2014_2")):
        write(folder / f"imageLists/{split}.txt", f"{name}\n")
        save(folder / f"images/{name}.jpg", IMAGE)
        labels = np.array([[0, 1, 182], [12, 13, 92]], dtype=np.uint16)  # no class has the id 12
        path = save_mat(folder / f"annotations/{name}.mat", S=labels, names=np.zeros(3))
    return path


def coco_stuff(root: Path) -> Path:
    folder = root / "coco-stuff"
    save(folder / "images/val2017/1.jpg", IMAGE)
    return save(folder / "annotations/val2017/1.png", [[0, 181, 255], [11, 12, 91]])


def cityscapes(root: Path) -> Path:
    folder = root / "cityscapes"
    for split in ("train", "val"):
        stem = f"{split}/ulm/ulm_000000_000019"
        save(folder / f"leftImg8bit/{stem}_leftImg8bit.png", IMAGE)
        polygons = {"imgHeight": 2, "imgWidth": 3, "objects": []}
        write(folder / f"gtFine/{stem}_gtFine_polygons.json", json.dumps(polygons))
        save(folder / f"gtFine/{stem}_gtFine_instanceIds.png", [[0, 7, 33], [8, 6, 29]])
        path = save(folder / f"gtFine/{stem}_gtFine_labelIds.png", [[0, 7, 33], [8, 6, 29]])
    return path


def ade20k_full(root: Path) -> Path:
    folder = root / "ADE20K_2021_17_01"
    ids = np.array([[2978, 3148, 0], [312, 2978, 3687]])  # wall, adding machine, none, building
    pixels = np.stack([ids // 256 * 10 + 3, ids % 256, ids * 0 + 9], axis=-1)
    for split, name in (("training", "ADE_train_1"), ("validation", "ADE_val_1")):
        scene = folder / f"images/ADE/{split}/urban/street"
        save(scene / f"{name}.jpg", IMAGE)
        path = save(scene / f"{name}_seg.png", pixels)
        save(scene / f"{name}_parts_1.png", pixels)
    return path


SCRIPTS = {  # script: what makes the download, options, data set -> labels of its first image
    "voc": (
        voc,
        {},
        {
            "voc_2012_test_sem_seg": [[255, 0, 19], [255, 4, 255]],
            "voc_2012_test_background_sem_seg": [[20, 0, 19], [255, 4, 20]],
            "voc_2012_21_val": [[0, 1, 20], [255, 5, 0]],
        },
    ),
    "pascal_context_59": (
        context_59,
        {},
        {"context_59_test_sem_seg": [[0, 58, 58], [255, 255, 255]]},
    ),
    "pascal_context_60": (
        context_59,
        {},
        {
            "pascal_context_60_val": [[1, 59, 59], [0, 0, 0]],
            "pascal_context_60_train": [[1, 1, 1], [1, 1, 1]],
        },
    ),
    "pascal_context_459": (
        context_459,
        {},
        {"context_459_test_sem_seg": [[0, 458, 1], [1, 1, 1]]},
    ),
    "coco_stuff_10k": (
        coco_stuff_10k,
        {},
        {
            "coco_2017_train_stuff_10k_sem_seg": [[255, 0, 170], [255, 11, 80]],
            "coco_2017_test_stuff_10k_sem_seg": [[255, 0, 170], [255, 11, 80]],
        },
    ),
    "coco_stuff": (
        coco_stuff,
        {},
        {"coco_2017_test_stuff_all_sem_seg": [[0, 170, 255], [255, 11, 80]]},
    ),
    "coco_object": (
        coco_stuff,
        {},
        {"coco_object_81_val": [[1, 0, 0], [0, 12, 0]]},
    ),
    "cityscapes": (
        cityscapes,
        {},
        {
            "cityscapes_fine_sem_seg_train": [[255, 0, 18], [1, 255, 255]],
            "cityscapes_fine_sem_seg_val": [[255, 0, 18], [1, 255, 255]],
        },
    ),
    "ade20k_full": (
        ade20k_full,
        {"split": "all"},
        {
            "ade20k_full_sem_seg_train": [[0, 846, 65535], [1, 0, 65535]],
            "ade20k_full_sem_seg_freq_val_all": [[0, 846, 65535], [1, 0, 65535]],
        },
    ),
}


@pytest.mark.parametrize("script", SCRIPTS)
class TestEveryScript:
    def test_labels_are_where_the_data_set_looks_for_them(
        self, script: str, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        download, options, expected = SCRIPTS[script]
        download(tmp_path)
        load(script).prepare(tmp_path, workers=1, **options)
        said = capsys.readouterr()
        for dataset, labels in expected.items():
            found = registered_labels(dataset, tmp_path)
            assert next(iter(found.values())).tolist() == labels
            published = LabelMaps.of(dataset, tmp_path).published
            assert f"{dataset}: the benchmark has {published} images, but there are" in said.err

    def test_what_is_whole_is_kept_and_what_is_not_is_repaired(
        self, script: str, tmp_path: Path
    ) -> None:
        download, options, expected = SCRIPTS[script]
        download(tmp_path)
        load(script).prepare(tmp_path, workers=1, **options)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
        load(script).prepare(tmp_path, workers=1, **options)
        after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
        assert after == before

        dataset, labels = next(iter(expected.items()))
        maps = LabelMaps.of(dataset, tmp_path)
        (path, *_) = sorted(maps.folder.rglob(f"*{maps.suffix}"))
        path.write_bytes(path.read_bytes()[:-30])
        load(script).prepare(tmp_path, workers=1, **options)
        assert next(iter(registered_labels(dataset, tmp_path).values())).tolist() == labels

    def test_a_damaged_download_is_one_error_message(self, script: str, tmp_path: Path) -> None:
        download, options, _ = SCRIPTS[script]
        source = download(tmp_path)
        source.write_bytes(source.read_bytes()[:20])
        with pytest.raises(UserError, match=source.name) as caught:
            load(script).prepare(tmp_path, workers=1, **options)
        assert "\n" not in str(caught.value)

    def test_a_missing_download_is_one_error_message(self, script: str, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=str(tmp_path)):
            load(script).prepare(tmp_path, workers=1, **SCRIPTS[script][1])


READ_EVERYTHING = """
import sys
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
import segcore.datasets
from segcore.evaluation import SemanticEvaluator
from segcore.images import read_class_ids

for name in sys.argv[1:]:
    evaluator = SemanticEvaluator(name, distributed=False)
    for record in DatasetCatalog.get(name):
        path, ignored = record["sem_seg_file_name"], MetadataCatalog.get(name).ignore_label
        labels = torch.from_numpy(read_class_ids(path, None, ignored).astype("int64"))
        labels[labels == ignored] = 0
        evaluator.process([record], [{"sem_seg_labels": labels}])
    print(name, evaluator.evaluate()["sem_seg"]["pACC"])
"""


def test_registered_data_sets_read_and_score_what_is_written(tmp_path: Path) -> None:
    datasets = []
    for script, (download, options, expected) in SCRIPTS.items():
        download(tmp_path)
        load(script).prepare(tmp_path, workers=1, **options)
        datasets += expected
    run = subprocess.run(
        [sys.executable, "-c", READ_EVERYTHING, *datasets],
        env=os.environ | {"DETECTRON2_DATASETS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines() == [f"{name} 100.0" for name in datasets]


def test_the_background_of_pas_20b_has_no_image_less(tmp_path: Path) -> None:
    voc(tmp_path)
    load("voc").prepare(tmp_path, workers=1)
    assert set(registered_labels("voc_2012_test_sem_seg", tmp_path)) == {"2007_000033"}
    found = registered_labels("voc_2012_test_background_sem_seg", tmp_path)
    assert found["2007_000042"].tolist() == [[20, 20, 20], [255, 20, 20]]


def test_label_maps_of_another_preparation_get_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    voc(tmp_path)
    folder = tmp_path / "VOCdevkit/VOC2012"
    save(folder / "annotations_detectron2/val/2007_000001.png", [[0]])
    (folder / "JPEGImages/2007_000033.jpg").unlink()
    load("voc").prepare(tmp_path, workers=1)
    said = capsys.readouterr().err
    assert "1 label maps, such as 2007_000001.png, are not of this download" in said
    assert "1 label maps have no image in" in said


@pytest.mark.parametrize("name", ["../../escape", "..", "a/b", "a\\b", "a\0b"])
def test_names_that_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    voc(tmp_path)
    write(tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", f"{name}\n")
    with pytest.raises(UserError, match=r"cannot be the|leads out|control"):
        load("voc").prepare(tmp_path, workers=1)


@pytest.mark.parametrize("value", [0, 460])
def test_pascal_context_459_has_a_class_for_every_pixel(tmp_path: Path, value: int) -> None:
    path = context_459(tmp_path)
    save_mat(path, LabelMap=np.array([[1, value]], dtype=np.uint16))
    with pytest.raises(UserError, match=r"2\.mat holds the labels .* instead of 1\.\.459"):
        load("pascal_context_459").prepare(tmp_path, workers=1)


@pytest.mark.parametrize(
    "arrays",
    [
        {"other": np.ones((2, 3))},
        {"LabelMap": np.full((2, 3), 1.5)},
        {"LabelMap": np.ones((2, 3, 4))},
        {"LabelMap": np.array([["a", "b"]], dtype=object)},
        {"LabelMap": "text"},
    ],
)
def test_matlab_files_without_a_label_map(tmp_path: Path, arrays: dict) -> None:
    save_mat(context_459(tmp_path), **arrays)
    with pytest.raises(UserError, match="holds no label map 'LabelMap'"):
        load("pascal_context_459").prepare(tmp_path, workers=1)


def test_pascal_in_detail_of_another_kind(tmp_path: Path) -> None:
    path = context_59(tmp_path)
    text = path.read_text()
    for old, new, message in (
        ('"annos_segmentation"', '"annotations"', "is not the file of PASCAL in Detail"),
        ('"height": 2', '"height": 3', "the RLE has the size"),
        ('"height": 2', '"height": 999999999', "has an image of"),
        ('"2008_000002.jpg"', '"../2008_000002.jpg"', "cannot be the|leads out|control"),
    ):
        path.write_text(text.replace(old, new))
        with pytest.raises(UserError, match=message):
            load("pascal_context_59").prepare(tmp_path, workers=1)


class TestADE20KFull:
    def test_large_images_are_shrunk(self, tmp_path: Path) -> None:
        folder = tmp_path / "ADE20K_2021_17_01/images/ADE/validation/urban/street"
        pixels = np.zeros((1024, 1537, 3))
        pixels[:, 1000:] = 200
        save(folder / "ADE_val_9.jpg", pixels)
        pixels[:, :1000] = (2978 // 256 * 10, 2978 % 256, 0)
        pixels[:, 1000:] = (312 // 256 * 10, 312 % 256, 0)
        save(folder / "ADE_val_9_seg.png", pixels)
        load("ade20k_full").prepare(tmp_path, split="validation", workers=1)
        labels = registered_labels("ade20k_full_sem_seg_freq_val_all", tmp_path)["ADE_val_9"]
        folder = LabelMaps.of("ade20k_full_sem_seg_freq_val_all", tmp_path).image_folder
        image = read_image(folder / "ADE_val_9.jpg")
        assert labels.dtype == np.uint16 and labels.shape == (512, 768) == image.shape[:2]
        border = 500  # 1000 of 1537 pixels, which every second and one more is left of
        assert (labels[:, :border] == 0).all() and (labels[:, border:] == 1).all()
        assert (image[:, : border - 8] < 20).all() and (image[:, border + 8 :] > 180).all()

    def test_mask_of_another_size(self, tmp_path: Path) -> None:
        mask = ade20k_full(tmp_path)
        save(mask, np.zeros((3, 2, 3)))
        with pytest.raises(UserError, match=r"_seg\.png has \(height, width\) \(3, 2\), but its"):
            load("ade20k_full").prepare(tmp_path, split="validation", workers=1)

    def test_the_pickle_of_the_download_is_not_opened(self, tmp_path: Path) -> None:
        ade20k_full(tmp_path)
        bomb = b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR."
        (tmp_path / "ADE20K_2021_17_01/index_ade20k.pkl").write_bytes(bomb)
        load("ade20k_full").prepare(tmp_path, split="all", workers=1)
        assert not (tmp_path / "ran").exists()
