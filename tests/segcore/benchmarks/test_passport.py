"""Passports (run manifests): their content, and the differences of two."""

import copy
import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

import catseg_d2  # noqa: F401  (its keys)
import mask2former_rankseg  # noqa: F401
from segcore.benchmarks.passport import (
    SAME_SCORE,
    describe_evaluators,
    describe_files,
    describe_input,
    describe_pruning,
    differences,
    file_hash,
    read_passport,
    settings,
)
from segcore.benchmarks.runs import Result, finished, make_run
from segcore.datasets import register_semantic_dataset
from segcore.errors import UserError
from segcore.evaluation import (
    EvaluatorsByOutput,
    MultilabelEvaluator,
    SemanticEvaluator,
    VideoSemanticEvaluator,
)

CONFIG = "catseg_d2/scenes_60.yaml"
DATASET = "passport_images"


@pytest.fixture
def dataset(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for name in "ab":
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / folder / f"{name}.png")
    folders = [tmp_path / name for name in ("images", "labels")]
    register_semantic_dataset(DATASET, *folders, "scenes_60", image_suffix=".png")
    yield DATASET
    DatasetCatalog.remove(DATASET)
    MetadataCatalog.remove(DATASET)


@pytest.fixture
def run(dataset, tmp_path):
    """A run whose checkpoint is a file of five bytes."""
    (tmp_path / "model.pth").write_bytes(b"model")
    return _run(tmp_path)


def _run(folder, *options, synonyms="first"):
    prompts = {"templates": "single", "synonyms": synonyms}
    weights = str(folder / "model.pth")
    return make_run("a", CONFIG, weights, options, folder / "out", [DATASET], prompts)


def test_content(run, dataset):
    passport = json.loads(json.dumps(run.passport(dataset)))
    conventions = passport["evaluator"]["conventions"]
    assert passport["evaluator"]["name"] == "SemanticEvaluator"
    assert "Detectron2" in conventions["mIoU"] and "older" in conventions["mIoU_union"]
    assert passport["dataset"]["name"] == dataset and passport["dataset"]["count"] == 2
    vocabulary = passport["vocabulary"]
    assert (vocabulary["name"], vocabulary["classes"], len(vocabulary["sha256"])) == (
        "scenes_60",
        60,
        64,
    )
    assert (vocabulary["templates"], vocabulary["synonyms"]) == ("single", "first")
    assert passport["model"] == {
        "config": CONFIG,
        "checkpoint": "model.pth",
        "checkpoint_sha256": "9372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a0f70d652b6b825e4",
    }
    assert passport["pruning"] == {"classes of a crop": 256}
    assert passport["input"]["size"] == "shorter side 96, longer side at most 384"
    assert passport["precision"]["numbers"] == "float32"
    assert {"torch", "numpy", "detectron2", "commit"} <= passport["versions"].keys()
    assert {"date", "machine"} <= passport["made"].keys()


def test_settings_are_those_that_differ_from_the_defaults(run):
    found = settings(run.cfg)
    assert found["INPUT.MIN_SIZE_TEST"] == 96 and found["MODEL.SEM_SEG_HEAD.HIDDEN_DIMS"] == 32
    assert "MODEL.SEM_SEG_HEAD.MAX_CLASSES" not in found, "256 by default"
    assert not {"MODEL.WEIGHTS", "MODEL.DEVICE", "TEST.SAVE_SECONDS"} & found.keys()
    assert json.loads(json.dumps(found)) == found


def test_the_list_of_files_does_not_depend_on_the_location():
    def described(root, names="abc"):
        return describe_files([{"file_name": f"{root}/images/{name}.jpg"} for name in names])

    assert described("/data") == described("/home/me/datasets")
    assert described("/data")["count"] == 3
    assert described("/data", "abd")["files_sha256"] != described("/data")["files_sha256"]
    assert described("/data", "ab")["files_sha256"] != described("/data")["files_sha256"]
    video = {"file_names": ["/data/v/0.jpg", "/data/v/1.jpg"]}
    shorter = {"file_names": ["/data/v/0.jpg"]}
    assert describe_files([video])["files_sha256"] != describe_files([shorter])["files_sha256"]


def test_windows_and_augmentation(tmp_path):
    whole = make_run("a", CONFIG, "", [], tmp_path, [], {}).cfg
    assert describe_input(whole)["windows"].startswith("the whole image")
    tiled = make_run("a", CONFIG, "", ["TEST.SLIDING_WINDOW", "True"], tmp_path, [], {}).cfg
    assert describe_input(tiled)["windows"] == (
        "tiles of 384, overlap 0.333, of an image of 640, squeezed to a square, and the whole image"
    )
    options = ["TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(64, 96)"]
    assert describe_input(make_run("a", CONFIG, "", options, tmp_path, [], {}).cfg)[
        "augmentation"
    ] == ("shorter sides 64, 96 and flipped")


def test_pruning(tmp_path):
    def described(config, *options):
        return describe_pruning(make_run("a", config, "", options, tmp_path, [], {}).cfg)

    everything = ["MODEL.SEM_SEG_HEAD.MAX_CLASSES", "0"]
    assert described(CONFIG, *everything) == {"classes of a crop": "all"}
    family = "mask2former_rankseg/scenes_60_panoptic"
    assert described(f"{family}.yaml") == {"classes of an image": "all"}
    assert described(f"{family}_rankseg.yaml") == {"classes of an image": 10}


def test_conventions_of_several_evaluators(dataset):
    both = EvaluatorsByOutput(
        dataset,
        {
            "sem_seg": SemanticEvaluator(dataset),
            "category_scores": MultilabelEvaluator(dataset, top=(1,)),
        },
    )
    described = describe_evaluators(both)
    assert described["name"] == "SemanticEvaluator, MultilabelEvaluator"
    assert {"mIoU", "mIoU_union", "mAP", "mAP-envelope", "mAP-image"} == described[
        "conventions"
    ].keys()
    videos = describe_evaluators(VideoSemanticEvaluator(dataset))
    assert {"VC8", "VC16", "mIoU"} <= videos["conventions"].keys()


def test_every_field_that_differs(run, dataset):
    one = run.passport(dataset)
    other = copy.deepcopy(one)
    other["made"]["date"] = "another day"
    assert differences(one, other) == []
    other["versions"]["torch"] = "2.99"
    assert differences(one, other, without=SAME_SCORE) == []
    other["pruning"]["classes of a crop"] = "all"
    del other["precision"]["convolutions"]
    other["settings"]["TEST.SLIDING_WINDOW"] = True
    other["later"] = {"field": 1}
    lines = differences(one, other)
    assert f'versions: torch: "{one["versions"]["torch"]}" | "2.99"' in lines
    assert 'pruning: classes of a crop: 256 | "all"' in lines
    assert 'precision: convolutions: "float32" | -' in lines
    assert "TEST.SLIDING_WINDOW: - | true" in lines
    assert "later: field: - | 1" in lines
    assert len(lines) == 5


def test_a_result_is_kept_while_its_passport_holds(run, dataset, tmp_path):
    passport = run.passport(dataset)
    assert not finished(run, dataset, passport)
    Result(passport, {"sem_seg": {"mIoU": None}}, {}, run.folder(dataset)).write()
    assert Result.read(run.folder(dataset)).summary == {"mIoU": None}
    assert read_passport(run.folder(dataset) / "passport.json") == passport
    assert finished(run, dataset, run.passport(dataset))
    other = _run(tmp_path, synonyms="all")
    assert not finished(other, dataset, other.passport(dataset))
    (tmp_path / "model.pth").write_bytes(b"other")
    assert not finished(run, dataset, run.passport(dataset))
    (tmp_path / "model.pth").write_bytes(b"model")
    (run.folder(dataset) / "result.json").write_text("{")
    assert not finished(run, dataset, run.passport(dataset))


def test_no_passport(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[1]")
    with pytest.raises(UserError, match=r"a\.json holds no passport"):
        read_passport(path)
    with pytest.raises(UserError, match="cannot read"):
        read_passport(tmp_path / "none.json")
    assert file_hash(tmp_path / "none.pth") is None
