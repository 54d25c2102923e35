"""One training step of the whole model: losses and gradients of the published code."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.structures import Instances
from torch import Tensor, nn

from mask2former_rankseg.checkpoint import PIXEL, to_published
from mask2former_rankseg.points import RandomPoints
from segcore.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[1]))
import deterministic
from mask2former_models import RANKED, SWIN_T, build, published_weights

OPTIONS = (
    *("MODEL.RANKSEG.FLAG", True, "MODEL.RANKSEG.TOPK", 50, "MODEL.RANKSEG.LOSS_WEIGHT", 10.0),
    *("MODEL.SEM_SEG_HEAD.USE_LAYERNORM", True, "MODEL.SWIN.DROP_PATH_RATE", 0.0),
)


class FixedPoints(RandomPoints):
    """The points of the reference's step."""

    def __init__(self) -> None:
        super().__init__(num_points=256)
        layers = [*(f"aux{i}" for i in range(9)), "final"]
        self.matching, self.losses = iter(layers), iter(layers)

    def unit(self, name: str, number: int) -> Tensor:
        points = deterministic.noise(f"m2f/train/{name}", (number, 256, 2))
        return (points / math.sqrt(3) + 1) / 2

    def uniform(self, number: int, device: torch.device) -> Tensor:
        layer = next(self.matching)
        return torch.cat([self.unit(f"match_points/{layer}/{b}", 1) for b in range(number)])

    def uncertain(self, logits: Tensor) -> Tensor:
        return self.unit(f"loss_points/{next(self.losses)}", len(logits))


def picture(name: str, height: int, width: int, labels: list, boxes: list) -> dict:
    """A picture whose objects are rectangles."""
    masks = torch.zeros(len(labels), height, width, dtype=torch.bool)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    objects = Instances((height, width), gt_classes=torch.tensor(labels).long(), gt_masks=masks)
    return {"image": deterministic.picture(name, height, width), "instances": objects}


def test_equals_reference(golden) -> None:
    expected = np.load(golden / "mask2former_rankseg" / "train_step_swint_rank50.npz")
    about = json.loads(str(expected["meta"]))
    model = build(SWIN_T, *OPTIONS)
    model.load_state_dict(published_weights(model))
    for module in model.train().modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    model.criterion.points = FixedPoints()
    sizes = ((128, 128), (96, 128))
    targets = zip(about["labels"], about["rectangles_y0x0y1x1"], strict=True)
    losses = model(
        [
            picture(f"m2f/train{i}", *size, *target)
            for i, (size, target) in enumerate(zip(sizes, targets, strict=True))
        ]
    )
    sum(losses.values()).backward()
    assert losses.keys() == about["losses"].keys()
    for name, value in about["losses"].items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4), name
    _compare_gradients({to_published(n): p.grad for n, p in model.named_parameters()}, expected)


def _compare_gradients(gradients: dict[str, Tensor], expected) -> None:
    about = json.loads(str(expected["meta"]))
    norms = about["grad_norm_per_parameter"]
    assert gradients.keys() == norms.keys()
    total = math.sqrt(sum(g.square().sum().item() for g in gradients.values()))
    assert total == pytest.approx(about["grad_norm"], rel=1e-3)
    for name, norm in norms.items():
        found = gradients[name].norm().item()
        assert found == pytest.approx(norm, rel=1e-3, abs=1e-6 * total), name
    for key in [key for key in expected if key.startswith("grad/")]:
        wanted = torch.from_numpy(expected[key])
        found = gradients[key.removeprefix("grad/")]
        found = found[..., :: found.shape[-1] // wanted.shape[-1]]
        # What lies before the deformable sampling: one of its 774,144 points is within rounding of
        # the border between two pixels, where the gradient of its place jumps.
        before = key.startswith(("grad/backbone", f"grad/{PIXEL}"))
        share = 2e-3 if before else 2e-4
        assert (found - wanted).abs().max() <= share * wanted.abs().max(), key


# ------------------------------------------------------------------ without reference outputs


def objects(*labels: int) -> dict:
    boxes = [(4 * i, 0, 4 * i + 20, 40) for i in range(len(labels))]
    return picture("m2f/tiny", 64, 64, list(labels), boxes)


@pytest.mark.parametrize("options", [{}, RANKED], ids=["plain", "ranked"])
def test_losses_of_every_layer(tiny, options: dict) -> None:
    few_points = {"MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 32}
    weight = {"MODEL.RANKSEG.LOSS_WEIGHT": 10.0}
    model = tiny(few_points | weight | options).train()
    losses = model([objects(3, 5), objects()])
    kinds = {"ce", "mask", "dice"}
    suffixes = {"", "_0", "_1", "_2", "_3"}
    expected = {f"loss_{kind}{suffix}" for kind in kinds for suffix in suffixes}
    assert losses.keys() == expected | ({"loss_ml"} if options else set())
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    model.deep_supervision = False
    assert {k for k in model([objects(3)]) if k != "loss_ml"} == {f"loss_{kind}" for kind in kinds}


def test_the_oracle_has_no_head_to_teach(tiny) -> None:
    model = tiny(RANKED | {"MODEL.RANKSEG.ORACLE": True}).train()
    losses = model([objects(3, 5)])
    assert "loss_ml" not in losses and losses["loss_ce"].isfinite()


def test_wrong_targets_are_one_sentence(tiny) -> None:
    model = tiny().train()
    with pytest.raises(UserError, match=r"class 12, but there are 12.*NUM_CLASSES"):
        model([objects(12)])
    with pytest.raises(UserError, match=r"INPUT\.DATASET_MAPPER_NAME"):
        model([{"image": torch.zeros(3, 64, 64)}])


def test_half_precision_learns_the_same(tiny) -> None:
    """Under autocast, where positions of deformable attention stay in float32."""
    few_points = {"MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 32, "MODEL.SWIN.DROP_PATH_RATE": 0.0}
    model = tiny(few_points | RANKED).train()
    totals = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses = model([objects(3, 5), objects(1)])
        totals.append(sum(losses.values()))
    totals[1].backward()
    assert totals[1].item() == pytest.approx(totals[0].item(), rel=0.05)
    assert all(p.grad.isfinite().all() for p in model.parameters())
