"""The loss of the multi-label heads."""

import torch
from torch import Tensor


def asymmetric_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma_neg: float = 2.0,
    gamma_pos: float = 0.0,
    clip: float = 0.05,
    eps: float = 1e-5,
    focus_gradient: bool = True,
) -> Tensor:
    """Return the asymmetric loss, in which easy absent classes count little (ASL, ICCV 2021).

    Of an absent class, a probability up to ``clip`` costs nothing. The published focusing exponents
    are the default, (4, 1) on COCO-Stuff. Computed in float32.

    Args:
        logits: (B, C).
        targets: (B, C), the present classes; bool, or 0 and 1.
        gamma_neg, gamma_pos: focusing exponents of absent and present classes.
        clip: shift of the probability of absent classes.
        eps: probabilities below it count as it in the logarithm.
        focus_gradient: gradients flow through the focusing weights, as in RankSeg; False:
            through the logarithms alone, as in Query2Label's published training.
    Returns:
        The mean over images and classes.
    """
    present = logits.float().sigmoid()
    absent = (1 - present + clip).clamp(max=1)
    targets = targets.bool()
    logarithm = present.where(targets, absent).clamp(min=eps).log()
    with torch.set_grad_enabled(focus_gradient and torch.is_grad_enabled()):
        focus = ((1 - present) ** gamma_pos).where(targets, (1 - absent) ** gamma_neg)
    return -(focus * logarithm).mean()
