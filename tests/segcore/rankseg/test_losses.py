"""The asymmetric loss: the reference's values and gradients, and the cases that it contains."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from deterministic import noise

from segcore.rankseg.losses import asymmetric_loss


@pytest.mark.parametrize(
    ("gamma_neg", "gamma_pos", "percent"), [(4, 1, 5), (2, 0, 5), (0, 0, 5), (2, 0, 0), (3, 1, 20)]
)
def test_golden_exponents(golden: Path, gamma_neg: int, gamma_pos: int, percent: int) -> None:
    suffix = f"gn{gamma_neg}_gp{gamma_pos}_clip{percent:02d}"
    logits = (2 * noise("pp/asl_logits", (4, 171))).requires_grad_()
    with np.load(golden / "per_pixel" / "asymmetric_loss.npz") as arrays:
        loss = asymmetric_loss(
            logits,
            torch.from_numpy(arrays["targets"]),
            gamma_neg=gamma_neg,
            gamma_pos=gamma_pos,
            clip=percent / 100,
        )
        loss.backward()
        assert loss.item() == pytest.approx(float(arrays[f"loss_{suffix}"]), rel=1e-5)
        gradient = torch.from_numpy(arrays[f"grad_{suffix}"])
    torch.testing.assert_close(logits.grad, gradient, rtol=1e-3, atol=1e-7)


def test_golden_certain_predictions(golden: Path) -> None:
    logits = 3 * noise("m2f/asl/logits", (4, 150))
    logits[0, :4] = torch.tensor([40.0, -40.0, 40.0, -40.0])
    logits.requires_grad_()
    with np.load(golden / "mask2former_rankseg" / "asymmetric_loss.npz") as arrays:
        meta = json.loads(str(arrays["meta"]))
        targets, gradient = (torch.from_numpy(arrays[name]) for name in ("targets", "grad"))
    loss = asymmetric_loss(logits, targets)
    loss.backward()
    assert loss.item() == pytest.approx(meta["loss"], rel=1e-5)
    torch.testing.assert_close(logits.grad, gradient, rtol=1e-4, atol=1e-7)


def test_without_focus_and_clip_it_is_binary_cross_entropy() -> None:
    logits, targets = torch.randn(3, 5), torch.rand(3, 5) > 0.5
    loss = asymmetric_loss(logits, targets, gamma_neg=0, clip=0)
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(logits, targets.float()))


def test_unlikely_absent_classes_are_free() -> None:
    logits = torch.tensor([[-3.0, -50.0]]).requires_grad_()
    loss = asymmetric_loss(logits, torch.zeros(1, 2))
    loss.backward()
    assert loss == 0 and not logits.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_certainty_stay_finite(dtype: torch.dtype) -> None:
    logits = torch.tensor([[100.0, -100.0]], dtype=dtype).requires_grad_()
    for targets in ([[True, False]], [[False, True]]):
        loss = asymmetric_loss(logits, torch.tensor(targets))
        loss.backward()
        assert loss.isfinite() and loss.dtype == torch.float32 and logits.grad.isfinite().all()
