"""Mask2Former's three tasks by the command line, and the class names of its predictions."""

import json

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

import mask2former_rankseg  # noqa: F401
from catrank import Model
from segcore.config import load_config
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary

SMALL = {
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "MODEL.SEM_SEG_HEAD.MASK_DIM": 16,
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": 1,
    "MODEL.MASK_FORMER.HIDDEN_DIM": 32,
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 12,
    "MODEL.MASK_FORMER.DIM_FEEDFORWARD": 32,
    # The scores of an untrained model are low.
    "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD": 0.0,
    "MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD": 0.0,
    "MODEL.DEVICE": "cpu",
}


@pytest.fixture
def closed(tmp_path):
    """Arguments for a small model with random weights, by the name of a config in the package."""

    def make(config: str, *more: object) -> list[str]:
        opts = [str(value) for pair in SMALL.items() for value in pair] + [str(v) for v in more]
        torch.manual_seed(0)
        model = build_model(load_config(f"mask2former_rankseg/{config}", opts))
        torch.save({"model": model.state_dict()}, weights := tmp_path / "model.pth")
        config_file = ["--config-file", f"mask2former_rankseg/{config}"]
        return [*config_file, "--opts", *opts, "MODEL.WEIGHTS", str(weights)]

    return make


@pytest.fixture
def segment(closed, demo, tmp_path):
    """Segments an image of noise; returns the folder of the results."""

    def run(config: str, *arguments: str) -> object:
        noise = np.random.default_rng(0).integers(0, 256, (70, 110, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "a.png")
        config_file, model = (given := closed(config))[:2], given[2:]
        files = ["--input", tmp_path / "a.png", "--output", tmp_path / "out"]
        assert demo(*config_file, *files, *arguments, *model) == 0
        with Image.open(tmp_path / "out" / "a_overlay.png") as overlay:
            assert overlay.size == (110, 70)
        return tmp_path / "out"

    return run


def labels_of(folder) -> np.ndarray:
    with Image.open(folder / "a_labels.png") as image:
        return np.asarray(image)


def test_panoptic_with_rankseg(segment, capsys):
    out = segment("scenes_60_panoptic_rankseg.yaml")
    listed = json.loads((out / "a_segments.json").read_text())
    labels = labels_of(out)
    assert listed and {entry["id"] for entry in listed} <= set(range(1, 13))
    assert all((labels == entry["id"]).sum() == entry["area"] for entry in listed)
    names = [
        entry["name"] for entry in json.loads((out / "vocabulary.json").read_text())["classes"]
    ]
    assert all(names[entry["category_id"]] == entry["name"] for entry in listed)
    assert "a: RankSeg ranks" in capsys.readouterr().out


def test_objects_above_a_score(segment):
    everything = segment("scenes_60_instance.yaml", "--min-score", "0")
    listed = json.loads((everything / "a_segments.json").read_text())
    scores = np.array([entry["score"] for entry in listed])
    assert (np.diff(scores) <= 0).all()
    kept = int(np.argmin(np.diff(scores))) + 1  # up to the largest gap
    between = scores[kept - 1 : kept + 1].mean()
    some = segment("scenes_60_instance.yaml", "--overwrite", "--min-score", str(between))
    assert json.loads((some / "a_segments.json").read_text()) == listed[:kept]
    assert labels_of(some).max() <= kept


def test_semantic(segment):
    out = segment("scenes_1k_rankseg.yaml")
    classes = json.loads((out / "vocabulary.json").read_text())["classes"]
    assert labels_of(out).max() < len(classes) == 1120
    assert not (out / "a_segments.json").exists()


def test_a_model_of_many_tasks_predicts_the_most_detailed_one(closed):
    config = "scenes_60_panoptic_rankseg.yaml"
    opts = closed(config)[3:]
    cfg = load_config(f"mask2former_rankseg/{config}", opts)
    cfg.MODEL.MASK_FORMER.TEST.SEMANTIC_ON = cfg.MODEL.MASK_FORMER.TEST.INSTANCE_ON = True
    tasks = Model(cfg).network.tasks
    assert tasks.panoptic and not tasks.semantic and not tasks.instance
    assert cfg.MODEL.MASK_FORMER.TEST.SEMANTIC_ON  # the caller's config stays as it is


def test_a_model_without_class_names_is_refused(closed):
    config = "scenes_60_instance.yaml"
    options = closed(config)[3:]
    # As a published checkpoint: a plain dict carries no class names.
    torch.save(dict(torch.load(options[-1])["model"]), options[-1])
    cfg = load_config(f"mask2former_rankseg/{config}", options)
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("unknown_data_set",)
    with pytest.raises(UserError, match=r"nothing names the classes .* --vocabulary"):
        Model(cfg)


def test_another_number_of_class_names_is_refused(closed):
    config = "scenes_60_instance.yaml"
    cfg = load_config(f"mask2former_rankseg/{config}", closed(config)[3:])
    vocabulary = Vocabulary.from_class_names(["sky", "tree"])
    with pytest.raises(UserError, match=r"has 2 names, but MODEL.SEM_SEG_HEAD.NUM_CLASSES"):
        Model(cfg, vocabulary)
