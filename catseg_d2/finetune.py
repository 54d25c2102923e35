"""Which parameters of the CLIP towers learn."""

from collections.abc import Callable

from segcore.errors import UserError

from .clip import DenseCLIP

# Mode -> does the parameter of this name learn? Only "transformer" blocks learn in published modes,
# never the embeddings, outer norms and projections.
MODES: dict[str, Callable[[str], bool]] = {
    "attention": lambda name: name.endswith(("q_proj_weight", "v_proj_weight")),
    "full": lambda name: "transformer" in name or "prompt" in name,
    "prompt": lambda name: "prompt" in name,
    "all": lambda name: True,
    "frozen": lambda name: False,
}


def set_trainable(clip: DenseCLIP, mode: str) -> None:
    """Mark the parameters of ``clip`` that learn in ``mode``, one of ``MODES``.

    Raises:
        UserError: unknown mode.
    """
    if mode not in MODES:
        raise UserError(
            f"MODEL.SEM_SEG_HEAD.CLIP_FINETUNE is '{mode}': use one of {', '.join(MODES)}."
        )
    for name, parameter in clip.named_parameters():
        parameter.requires_grad_(MODES[mode](name))
