"""Test-time augmentation: the mean over sizes and horizontal flips, in little memory."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling import build_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import catseg_d2  # noqa: F401
from segcore.config import load_config
from segcore.engine.tta import SemanticTTA, with_tta
from segcore.errors import UserError
from segcore.inference.predictions import PredictionKind
from segcore.inference.unmerged import mean_prediction
from segcore.inference.windows import Window

sys.path.insert(0, str(Path(__file__).parents[2]))
import deterministic
from mask2former_models import RANKED, SWIN_T, TINY, build

CATSEG = "catseg_d2/scenes_60.yaml"
PATCHES = "TEST.PATCH_INFERENCE"
TILES = ("TEST.SLIDING_WINDOW", True, f"{PATCHES}.OUTPUT_SIZE", 0, f"{PATCHES}.TILE", 70)
SIZES, MAX_SIZE = (48, 72, 100), 150


def catseg(*options: object) -> nn.Module:
    torch.manual_seed(0)
    return build_model(load_config(CATSEG, ["MODEL.WEIGHTS", "", *options])).eval()


def mask2former(options: dict | None = None) -> nn.Module:
    torch.manual_seed(0)
    options = TINY | (options or {})
    return build(SWIN_T, *(item for pair in options.items() for item in pair))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "catseg": catseg,
    "catseg, tiles": lambda: catseg(*TILES, "MODEL.SEM_SEG_HEAD.MAX_CLASSES", 7),
    "mask2former": mask2former,
    "rankseg": lambda: mask2former(RANKED),
}


def item(height: int = 64, width: int = 90, **size: int) -> dict:
    return {"image": deterministic.image("tta", height, width)} | size


def plain(model: nn.Module, inputs: dict, key: str = "sem_seg", flip: bool = True) -> Tensor:
    """The definition: the scores of every view, put back and averaged."""
    image = inputs["image"]
    size = {"height": inputs.get("height", image.shape[1])}
    size["width"] = inputs.get("width", image.shape[2])
    pixels, found = image.permute(1, 2, 0).numpy(), []
    for edge in SIZES:
        resized = ResizeShortestEdge(edge, MAX_SIZE).get_transform(pixels).apply_image(pixels)
        for mirrored in (False, True)[: 1 + flip]:
            view = resized[:, ::-1] if mirrored else resized
            view = torch.from_numpy(np.ascontiguousarray(view)).permute(2, 0, 1)
            scores = model([{"image": view, **size}])[0][key]
            found.append(scores.flip(-1) if mirrored and scores.ndim == 3 else scores)
    return torch.stack(found).mean(dim=0)


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_scores_are_the_mean_of_the_views(name: str, flip: bool) -> None:
    model, inputs = MODELS[name](), item(height=70, width=81)
    prediction = SemanticTTA(model, SIZES, MAX_SIZE, flip=flip)([inputs])[0]
    expected = plain(model, inputs, flip=flip)
    assert prediction["sem_seg"].shape == expected.shape == (len(expected), 70, 81)
    torch.testing.assert_close(prediction["sem_seg"], expected, rtol=1e-4, atol=1e-6)
    one = model([inputs])[0]["sem_seg"]
    assert (one - expected).abs().max() > 1e-4  # the views do say something of their own


@pytest.mark.parametrize("name", MODELS)
def test_labels_are_the_arg_max_and_ranks_follow(name: str) -> None:
    model, inputs = MODELS[name](), item()
    tta = SemanticTTA(model, SIZES, MAX_SIZE, flip=True)
    scores = tta([inputs])[0]["sem_seg"]
    model.prediction_kind = PredictionKind("labels", 3)
    prediction = tta([inputs])[0]
    values, labels = scores.sort(dim=0, descending=True, stable=True)
    assert torch.equal(prediction["sem_seg_labels"], scores.argmax(dim=0))
    assert torch.equal(prediction["top_k_scores"], values[:3])
    assert torch.equal(prediction["top_k_labels"], labels[:3])
    assert "sem_seg" not in prediction


def test_scores_of_the_classes_of_an_image_are_means() -> None:
    model, inputs = mask2former(RANKED), item()
    prediction = SemanticTTA(model, SIZES, MAX_SIZE, flip=True)([inputs])[0]
    expected = plain(model, inputs, "category_scores")
    torch.testing.assert_close(prediction["category_scores"], expected)
    kappa = RANKED["MODEL.RANKSEG.TOPK"]
    assert prediction["category_ids"].tolist() == expected.topk(kappa).indices.tolist()


def test_a_flipped_image_has_the_flipped_prediction() -> None:
    tta, inputs = SemanticTTA(mask2former(), SIZES, MAX_SIZE, flip=True), item()
    prediction = tta([inputs])[0]["sem_seg"]
    mirrored = tta([inputs | {"image": inputs["image"].flip(-1)}])[0]["sem_seg"]
    torch.testing.assert_close(mirrored.flip(-1), prediction, rtol=1e-3, atol=1e-4)


class Colours(nn.Module):
    """A model without ``unmerged_predictions``: the scores are the image's own channels."""

    def forward(self, inputs: list[dict]) -> list[dict[str, Tensor]]:
        size = inputs[0]["height"], inputs[0]["width"]
        image = inputs[0]["image"][None].float()
        scores = nn.functional.interpolate(image, size, mode="bilinear", align_corners=False)
        return [{"sem_seg": scores[0]}]


def test_any_model_with_scores_will_do() -> None:
    """A smooth image comes back where it was, whatever the size and the mirror."""
    rows, columns = torch.meshgrid(torch.arange(60), torch.arange(90), indexing="ij")
    image = torch.stack([2 * rows, 2 * columns, rows + columns]).to(torch.uint8)
    prediction = SemanticTTA(Colours(), (40, 60, 90), 200, flip=True)([{"image": image}])[0]
    inner = Window(4, 56, 4, 86)
    assert (inner.of(prediction["sem_seg"]) - inner.of(image)).abs().max() < 1


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor) and tensor.untyped_storage().nbytes():
                size = tensor.untyped_storage().nbytes() // tensor.element_size()
                self.elements = max(self.elements, size)
        return result


@pytest.mark.parametrize("name", ["catseg", "mask2former"])
def test_no_tensor_holds_the_scores_of_all_classes(name: str) -> None:
    """A million pixels: the largest tensor is the chunk of scores, not classes x pixels nor
    a view's masks at all pixels."""
    model = catseg() if name == "catseg" else mask2former({"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 300})
    if name == "catseg":
        model.set_vocabulary([f"thing {number}" for number in range(300)])
    model.prediction_kind = PredictionKind("labels")
    tta = SemanticTTA(model, SIZES, MAX_SIZE, flip=True)
    inputs = {"image": deterministic.image("tta", 64, 64), "height": 1024, "width": 1024}
    views = model.unmerged_predictions(list(tta._views(inputs)))
    with Largest() as largest:
        mean_prediction(views, model.prediction_kind)
    assert largest.elements < 3 << 20, largest.elements  # 300 classes would be 300 << 20


def config(*options: object):
    return load_config(SWIN_T, ["MODEL.WEIGHTS", "", "TEST.AUG.ENABLED", True, *options])


def test_config_says_what_is_done() -> None:
    model = Colours().eval()
    assert with_tta(config("TEST.AUG.ENABLED", False), model) is model
    cfg = config("TEST.AUG.MIN_SIZES", [10, 20], "TEST.AUG.MAX_SIZE", 30, "TEST.AUG.FLIP", False)
    tta = with_tta(cfg, model)
    assert not tta.training
    assert [view["image"].shape for view in tta._views(item(40, 80))] == [(3, 10, 20), (3, 15, 30)]


def test_the_trainer_evaluates_with_it(monkeypatch) -> None:
    """Outside of a training; within one, the model itself is evaluated."""
    from detectron2.utils.events import EventStorage

    from segcore.engine import trainer

    asked = []
    monkeypatch.setattr(
        trainer, "collective_inference", lambda model, *_: asked.append(model) or {}
    )
    monkeypatch.setattr(trainer.Trainer, "build_test_loader", lambda cfg, name: None)
    cfg, model = config("DATASETS.TEST", ("any",), "TEST.SAVE_SECONDS", 0), Colours()
    trainer.Trainer.test(cfg, model, [None])
    with EventStorage():
        trainer.Trainer.test(cfg, model, [None])
    assert isinstance(asked[0], SemanticTTA) and asked[0].model is model
    assert asked[1] is model


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (("TEST.AUG.MIN_SIZES", []), "MIN_SIZES"),
        (("TEST.AUG.MAX_SIZE", 0), "MAX_SIZE"),
        (("MODEL.MASK_FORMER.TEST.INSTANCE_ON", True), "INSTANCE_ON"),
    ],
)
def test_what_cannot_be_done_is_one_error_message(options: tuple, key: str) -> None:
    with pytest.raises(UserError, match=key):
        with_tta(config(*options), Colours())


def test_videos_are_refused() -> None:
    with pytest.raises(UserError, match="videos"):
        SemanticTTA(Colours(), SIZES, MAX_SIZE, flip=True)([{"image": [torch.zeros(3, 4, 4)]}])
