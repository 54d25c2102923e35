"""MaskFormer, compared with outputs of the published code, stage by stage."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from torch import Tensor, nn

from mask2former_rankseg import MaskFormer
from mask2former_rankseg.checkpoint import names_of
from segcore.config import load_config
from segcore.datasets.model_classes import ModelClasses
from segcore.engine import Trainer, build_optimizer
from segcore.inference.windows import Window

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import deterministic
import host_models
from mask2former_models import build
from maskformer_cases import FAMILY, KEYS

MODELS = host_models.cases_of(
    "maskformer/cases.json",
    lambda _, case: "config" in case,
    ("sem_r50_b2", "sem_swin_small_b1", "pan_r50_b1"),
)
STORED = {path.stem for path in (host_models.GOLDEN / "maskformer").glob("keys_*.json")}
DERIVED = ("relative_position_index", "criterion.empty_weight")  # the config determines them
# Which part of an array is stored.
STRIDES = {
    "backbone": (1, 16, 2, 2),
    "pixel_decoder/mask_features": (1, 16, 3, 3),
    "pixel_decoder/transformer_encoder": (1, 8),
    "head/pred_logits": (1, 3, 5),
    "head/pred_masks": (1, 3, 3, 3),
    "head/pred_masks_0": (1, 9, 4, 4),
}


def kept(name: str, tensor: Tensor) -> Tensor:
    """Return the stored part of an array."""
    key = max((key for key in STRIDES if name.startswith(key)), key=len)
    return tensor[tuple(slice(None, None, step) for step in STRIDES[key])]


class Case:
    """A stored case of a whole model, with the reference's weights."""

    def __init__(self, golden: Path, name: str) -> None:
        self.about = json.loads((golden / "maskformer" / "cases.json").read_text())[name]
        with np.load(golden / "maskformer" / f"{name}.npz") as arrays:
            self.arrays = {key.replace("|", "/"): arrays[key] for key in arrays}
        self.model: MaskFormer = build(f"{FAMILY}/{self.about['config']}", *self.about["overrides"])
        if self.about["thing_ids"] is not None:
            things = frozenset(self.about["thing_ids"])
            self.model.classes = ModelClasses(thing_ids=things)
        weights = host_models.published_weights(self.about["keys"])
        assert self.model.load_state_dict(weights) == ([], [])
        self.images = [
            {"image": deterministic.image(image, h, w), "height": height, "width": width}
            for image, h, w, height, width in self.about["inputs"]
        ]


@pytest.fixture(scope="module", params=MODELS)
def case(request: pytest.FixtureRequest, golden: Path) -> Case:
    return Case(golden, request.param)


@torch.no_grad()
def test_every_stage(case: Case) -> None:
    model = case.model
    features = model.backbone(model.to_batch(case.images).tensor)
    mask_features, (attended,) = model.sem_seg_head.pixel_decoder(features)
    decoded = model.sem_seg_head.predictor([attended], mask_features, True)
    found = {f"backbone/{name}": value for name, value in features.items()}
    found["pixel_decoder/mask_features"] = mask_features
    found["pixel_decoder/transformer_encoder"] = attended
    for i, (classes, masks) in enumerate(decoded.predictions):
        found |= {f"head/pred_logits_{i}": classes, f"head/pred_masks_{i}": masks}
    found["head/pred_masks"] = decoded.predictions[-1][1]
    expected = {key: value for key, value in case.arrays.items() if not key.startswith("out")}
    assert expected.keys() <= found.keys() and len(expected) >= 12
    for name, array in expected.items():
        value = torch.from_numpy(array)
        error = (kept(name, found[name]) - value).abs().max()
        assert error <= 5e-5 * max(1.0, value.std()), name


@torch.no_grad()
def test_predictions(case: Case) -> None:
    predictions = case.model(case.images)
    assert len(predictions) == len(case.about["inputs"])
    for i, prediction in enumerate(predictions):
        compare_prediction(prediction, case, f"out{i}")
    segments = [each["panoptic_seg"][1] for each in predictions if "panoptic_seg" in each]
    assert segments == case.about["segments_info"]


def compare_prediction(prediction: dict, case: Case, out: str) -> None:
    scores = prediction["sem_seg"]
    expected = torch.from_numpy(case.arrays[f"{out}/sem_seg"])
    assert (scores[::5, ::6, ::6] - expected).abs().max() <= 2e-5
    best = torch.from_numpy(case.arrays[f"{out}/argmax"]).long()
    assert (scores.argmax(dim=0)[::2, ::2] == best).float().mean() >= 0.995
    if f"{out}/panoptic_seg" in case.arrays:
        expected = torch.from_numpy(case.arrays[f"{out}/panoptic_seg"])
        assert (prediction["panoptic_seg"][0] == expected).float().mean() >= 0.995


@torch.no_grad()
def test_images_alone_and_windows_of_them(case: Case) -> None:
    """A batch changes nothing, but for its padding; nor do windows of the un-merged prediction."""
    item = case.images[0]
    (alone,) = case.model([item])
    together = case.model([item, item])
    torch.testing.assert_close(together[1]["sem_seg"], alone["sem_seg"], rtol=0, atol=1e-5)
    (unmerged,) = case.model.unmerged_predictions([item])
    window = Window(3, 40, 10, 75)
    scores = unmerged.window_scores(window)(torch.arange(0, 150, 7))
    expected = window.of(alone["sem_seg"])[::7]
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)


def meta_model(config: str) -> tuple[MaskFormer, object]:
    """Build a model without memory for weights; return its config too."""
    cfg = load_config(f"{FAMILY}/{config}", ["MODEL.DEVICE", "meta", "MODEL.WEIGHTS", ""])
    with torch.device("meta"):
        return build_model(cfg), cfg


@pytest.mark.parametrize("file", sorted(STORED | {f"keys_{name}" for name in KEYS}))
def test_published_names_shapes_and_counts(golden: Path, file: str) -> None:
    about = json.loads((golden / "maskformer" / f"{file}.json").read_text())
    assert KEYS.get(file.removeprefix("keys_"), about["config"]) == about["config"]
    model, _ = meta_model(about["config"])
    names = names_of(model)
    ours = {names.to_published(key): [*value.shape] for key, value in model.state_dict().items()}
    assert ours == {k: shape for k, shape in about["keys"].items() if not k.endswith(DERIVED)}
    assert sum(parameter.numel() for parameter in model.parameters()) == about["parameters"]
    assert all(names.to_ours(names.to_published(key)) == key for key in model.state_dict())


@pytest.mark.parametrize("name", ["ade20k_sem_r50", "ade20k_sem_swin_tiny"])
def test_optimizer_and_schedule(golden: Path, name: str) -> None:
    reference = json.loads((golden / "maskformer" / "optimizer.json").read_text())[name]
    config = json.loads((golden / "maskformer" / f"keys_{name}.json").read_text())["config"]
    model, cfg = meta_model(config)
    to_published = names_of(model).to_published
    names = {parameter: to_published(key) for key, parameter in model.named_parameters()}
    groups = build_optimizer(cfg, model).param_groups
    found = {
        names[p]: [group["lr"], group["weight_decay"]] for group in groups for p in group["params"]
    }
    assert found.keys() == reference["groups"].keys()
    for key, expected in reference["groups"].items():
        assert found[key] == pytest.approx(expected, rel=1e-12), key
    clipping = cfg.SOLVER.CLIP_GRADIENTS
    assert (clipping.ENABLED, clipping.CLIP_TYPE) == (True, "full_model")
    assert reference["clip_full_model"] == clipping.CLIP_VALUE
    compare_schedule(cfg, reference["lr"])


def compare_schedule(cfg: object, expected: dict[str, float]) -> None:
    optimizer = build_optimizer(cfg, nn.Linear(1, 1))
    scheduler = Trainer.build_lr_scheduler(cfg, optimizer)
    for iteration, rate in expected.items():
        scheduler.last_epoch = int(iteration)
        assert math.isclose(scheduler.get_lr()[0], rate, rel_tol=1e-6), iteration
