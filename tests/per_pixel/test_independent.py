"""The independent scheme: a classifier's scores in a file, and a Segmenter that selects by them."""

import json
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.utils import comm
from PIL import Image
from torch import Tensor

import catrank
from catrank.training import main
from per_pixel.config import build_decode_head
from segcore.config import load_config
from segcore.datasets import register_semantic_dataset
from segcore.datasets.category_scores import NAME, ImageScores, ScoresFile, write_scores
from segcore.engine.tta import with_tta
from segcore.errors import UserError
from segcore.evaluation.category_scores import CategoryScoresWriter
from segcore.mappers import build_mapper

sys.path.insert(0, str(Path(__file__).parents[1]))
from per_pixel_hosts import VIT, write_config

CLASSES, TOPK = 12, 4
IMAGES = {"independent_train": 6, "independent_val": 3}
DATA = {
    "DATASETS.TRAIN": ("independent_train",),
    "DATASETS.TEST": ("independent_val",),
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 2,
    "MODEL.RANKSEG.FLAG": True,
    "MODEL.RANKSEG.TOPK": TOPK,
}
QUERY2LABEL = VIT | {
    "MODEL.META_ARCHITECTURE": "Query2Label",
    "MODEL.QUERY2LABEL.IN_FEATURE": "tokens",
    "MODEL.QUERY2LABEL.FEEDFORWARD_DIM": 32,
    "INPUT.DATASET_MAPPER_NAME": "image_classes",
    "INPUT.IMAGE_CLASSES.SIZE": 32,
}
SEGMENTER = VIT | {
    "MODEL.RANKSEG.INDEPENDENT.FLAG": True,
    "MODEL.RANKSEG.LOSS_WEIGHT": 10.0,
    "MODEL.PER_PIXEL.TEST.WINDOW": [32, 32],
    "MODEL.PER_PIXEL.TEST.STRIDE": [16, 16],
    "INPUT.DATASET_MAPPER_NAME": "per_pixel_semantic",
    "INPUT.MIN_SIZE_TRAIN": (48,),
    "INPUT.CROP.ENABLED": True,
    "INPUT.CROP.TYPE": "absolute",
    "INPUT.CROP.SIZE": (32, 32),
    "INPUT.SIZE_DIVISIBILITY": 32,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a folder with two data sets, which are registered, and a config."""
    root, draw = tmp_path_factory.mktemp("independent"), np.random.default_rng(0)
    for name, number in IMAGES.items():
        register(root, name, [f"class {index}" for index in range(CLASSES)])
        for index in range(number):
            write_image(root / name, index, draw)
    write_config(root)
    yield root
    for name in IMAGES:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def register(root: Path, name: str, classes: list[str], images: str | None = None) -> None:
    folder = root / (images or name)
    folders = (folder / "images", folder / "labels")
    register_semantic_dataset(name, *folders, classes, image_suffix=".png", ignore_label=255)


def write_image(folder: Path, index: int, draw: np.random.Generator) -> None:
    labels = np.repeat(np.repeat(draw.integers(0, CLASSES, (3, 4)), 16, 0), 16, 1)
    image = draw.integers(0, 256, (48, 64, 3))
    for kind, pixels in (("images", image), ("labels", labels)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"{index}.png")


def words(options: dict) -> list:
    return [item for pair in options.items() for item in pair]


def command(folder: Path, out: Path, options: dict, eval_only: bool = False) -> dict | None:
    """Do what a call of train_net.py does, in this process."""
    options = DATA | options | {"OUTPUT_DIR": str(out)}
    config = str(folder / "per_pixel.yaml")
    flags = {"config_file": config, "eval_only": eval_only, "resume": False, "num_gpus": 1}
    return main(Namespace(opts=[*map(str, words(options))], **flags))


@pytest.fixture(scope="module")
def scores(folder: Path) -> Path:
    """Return the folder of the scores of a classifier of two training steps."""
    out = folder / "query2label"
    command(folder, out, QUERY2LABEL)
    both = {"DATASETS.TEST": tuple(IMAGES), "TEST.WRITE_SCORES": True}
    both |= {"MODEL.WEIGHTS": str(out / "model_final.pth")}
    command(folder, out, QUERY2LABEL | both, eval_only=True)
    return out / "inference"


def segmenter(folder: Path, scores: Path | str, **options: object) -> CfgNode:
    options = DATA | SEGMENTER | {"MODEL.RANKSEG.INDEPENDENT.SCORES": str(scores)} | options
    return load_config(folder / "per_pixel.yaml", words(options))


def test_three_commands(folder: Path, scores: Path) -> None:
    """Train a classifier, write its scores, train and evaluate a segmenter on them."""
    files = sorted(scores.rglob(NAME))
    assert [path.parent.name for path in files] == sorted(IMAGES)
    assert len({ScoresFile.open(path).weights for path in files}) == 1
    options = SEGMENTER | {"MODEL.RANKSEG.INDEPENDENT.SCORES": str(scores)}
    command(folder, folder / "segmenter", options)
    reports = [
        json.loads(
            (folder / run / "inference/independent_val/multilabel_evaluation.json").read_text()
        )
        for run in ("query2label", "segmenter")
    ]
    assert reports[0]["scores"] == pytest.approx(reports[1]["scores"])
    assert (folder / "segmenter/inference/independent_val/sem_seg_evaluation.json").is_file()
    state = torch.load(folder / "segmenter/model_final.pth", weights_only=True)["model"]
    assert state["decode_head.ranking.scores.weight"].shape == (TOPK,)
    assert not any("ranking.head" in name for name in state)


def test_windows_and_training_use_the_selection_of_the_whole_image(
    folder: Path, scores: Path
) -> None:
    cfg = segmenter(folder, scores)
    model = build_model(cfg).eval()
    model.may_predict = True
    item = build_mapper(cfg, is_train=False)(record(folder, "independent_val", 1))
    top = item["category_logits"].argsort(descending=True)[:TOPK]
    output = model([item])[0]
    present = output["sem_seg"].amax(dim=(1, 2)) > 1e-20
    assert {*present.nonzero()[:, 0].tolist()} == {*top.tolist()}
    assert {*output["category_ids"].tolist()} == {*top.tolist()}
    torch.testing.assert_close(output["category_scores"], item["category_logits"].sigmoid())
    cfg.TEST.AUG.ENABLED, cfg.TEST.AUG.MIN_SIZES = True, (32,)
    augmented = with_tta(cfg, model)([item])[0]
    assert {*augmented["category_ids"].tolist()} == {*top.tolist()}

    train = [
        build_mapper(cfg, is_train=True)(record(folder, "independent_train", i)) for i in (0, 1)
    ]
    losses = model.train()(train)
    assert "loss_ml" not in losses
    logits, _ = model.category_predictions
    assert logits.equal(torch.stack([each["category_logits"] for each in train]))


def test_classes_are_scored_in_the_order_of_their_ranks(folder: Path, scores: Path) -> None:
    """The rows of the class table, and the scale and bias of a rank, follow the given logits."""
    cfg = segmenter(folder, scores)
    head = build_decode_head(cfg, build_model(cfg).backbone.output_shape()).eval()
    features = {"tokens": torch.randn(2, 24, 4, 4)}
    logits = torch.randn(2, CLASSES)
    found = head(features, logits)
    assert found.classes.equal(logits.argsort(dim=1, descending=True)[:, :TOPK])
    assert found.category_logits is logits
    order = torch.tensor([1, 0, *range(2, CLASSES)])
    with torch.no_grad():
        head.class_embeddings.copy_(head.class_embeddings[:, order])
    swapped = head(features, logits[:, order])
    torch.testing.assert_close(swapped.scores, found.scores)


def record(folder: Path, name: str, index: int) -> dict:
    root = folder / name
    files = {"file_name": "images", "sem_seg_file_name": "labels"}
    return {key: str(root / kind / f"{index}.png") for key, kind in files.items()}


def test_an_item_holds_the_scores_of_its_image_alone(folder: Path, scores: Path) -> None:
    """Loading workers send the whole memory of a tensor, not the part that it shows."""
    file_name = record(folder, "independent_val", 0)["file_name"]
    logits = ImageScores(str(scores), ["independent_val"])[file_name]
    assert logits.untyped_storage().nbytes() == CLASSES * logits.element_size()


# ---- files that do not fit -------------------------------------------------------------------


def mapped(folder: Path, scores: Path | str, **options: object) -> dict:
    cfg = segmenter(folder, scores, **options)
    return build_mapper(cfg, is_train=False)(record(folder, "independent_val", 0))


def test_scores_of_other_images_are_refused(folder: Path, scores: Path) -> None:
    file = scores / "independent_train" / NAME
    with pytest.raises(UserError, match="was made for other images than those of independent_val"):
        mapped(folder, file)


def test_scores_of_other_classes_are_refused(
    folder: Path, scores: Path, forget_datasets: None
) -> None:
    names = [f"kind {index}" for index in range(CLASSES)]
    register(folder, "independent_other", names, images="independent_val")
    with pytest.raises(UserError, match="was made for other classes than those of independent_oth"):
        mapped(folder, scores, **{"DATASETS.TEST": ("independent_other",)})


def test_scores_of_two_classifiers_are_refused(folder: Path, scores: Path, tmp_path: Path) -> None:
    shutil.copytree(scores, tmp_path / "scores")
    names = [f"{index}.png" for index in range(IMAGES["independent_val"])]
    file = tmp_path / "scores" / "independent_val" / NAME
    write_scores(file, "independent_val", names, torch.zeros(len(names), CLASSES), "others")
    with pytest.raises(UserError, match="were written by different checkpoints"):
        ImageScores(str(tmp_path / "scores"), [*IMAGES])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no file of scores, or it is damaged"),
        (b"no safetensors" * 9, "is no file of scores, or it is damaged"),
        ({"logits": torch.zeros(3, CLASSES)}, "is no file of scores"),
    ],
)
def test_other_files_are_refused(
    folder: Path, tmp_path: Path, content: bytes | dict, message: str
) -> None:
    file = tmp_path / NAME
    file.write_bytes(content if isinstance(content, bytes) else safetensors.torch.save(content))
    with pytest.raises(UserError, match=message):
        mapped(folder, file)


@pytest.mark.parametrize("damage", ["images", "logits"])
def test_damaged_contents_are_refused(
    folder: Path, scores: Path, tmp_path: Path, damage: str
) -> None:
    file = tmp_path / NAME
    source = scores / "independent_val" / NAME
    with safetensors.safe_open(source, "pt") as opened:
        header = opened.metadata()
    tensors = safetensors.torch.load_file(source)
    damaged: Tensor = tensors[damage]
    damaged[0] = float("nan") if damage == "logits" else 0
    file.write_bytes(safetensors.torch.save(tensors, header))
    with pytest.raises(UserError, match=r"is damaged|are not finite"):
        mapped(folder, file)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "INDEPENDENT.SCORES is empty"),
        ("missing.safetensors", "there is no file missing.safetensors"),
        ("{empty}", f"has no {NAME}"),
    ],
)
def test_missing_files_are_one_message(
    folder: Path, tmp_path: Path, path: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        mapped(folder, path.format(empty=tmp_path))


def test_images_without_scores_are_one_message(folder: Path, scores: Path) -> None:
    model = build_model(segmenter(folder, scores)).eval()
    model.may_predict = True
    with pytest.raises(UserError, match="has no scores of a classifier"):
        model([{"image": torch.zeros(3, 48, 48)}])
    with pytest.raises(UserError, match=f"has scores of 7 classes .* the model has {CLASSES}"):
        model([{"image": torch.zeros(3, 48, 48), "category_logits": torch.zeros(7)}])


def test_oracle_and_scores_exclude_each_other(folder: Path, scores: Path) -> None:
    with pytest.raises(UserError, match=r"MODEL\.RANKSEG\.ORACLE and INDEPENDENT\.FLAG"):
        build_model(segmenter(folder, scores, **{"MODEL.RANKSEG.ORACLE": True}))


def test_models_without_logits_of_images_write_no_scores(folder: Path, scores: Path) -> None:
    options = SEGMENTER | {
        "MODEL.RANKSEG.INDEPENDENT.SCORES": str(scores),
        "MODEL.WEIGHTS": str(folder / "segmenter" / "model_final.pth"),
        "TEST.WRITE_SCORES": True,
    }
    with pytest.raises(UserError, match="returned no category_logits for dataset"):
        command(folder, folder / "segmenter", options, eval_only=True)


def test_segmenting_with_a_classifier_of_images_is_one_message(folder: Path, scores: Path) -> None:
    with pytest.raises(UserError, match="Query2Label predicts which classes are in an image"):
        catrank.load(str(folder / "query2label" / "model_final.pth"), device="cpu")


def test_two_processes_write_the_file_of_one(
    folder: Path, scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [record(folder, "independent_val", index) for index in range(3)]
    outputs = [{"category_logits": torch.randn(CLASSES)} for _ in items]
    one, *two = (
        CategoryScoresWriter("independent_val", output_dir=tmp_path / part) for part in "abc"
    )
    one.process(items, outputs)
    assert one.evaluate() == {}
    two[0].process(items[1:2], outputs[1:2])
    two[1].process([items[2], items[0]], [outputs[2], outputs[0]])
    states = [writer.state() for writer in two]
    restored = CategoryScoresWriter("independent_val", output_dir=tmp_path / "d")
    restored.load_state(states[1])  # as an interrupted evaluation
    states[1] = restored.state()
    monkeypatch.setattr(comm, "gather", lambda _: states)
    two[0].evaluate()
    files = [ScoresFile.open(tmp_path / part / NAME) for part in "ab"]
    assert vars(files[0]) | {"path": None} == vars(files[1]) | {"path": None}
    tensors = [safetensors.torch.load_file(file.path) for file in files]
    assert all(value.equal(tensors[1][name]) for name, value in tensors[0].items())
    states.pop()
    with pytest.raises(UserError, match=r"0\.png of dataset 'independent_val' was not classified"):
        two[0].evaluate()
