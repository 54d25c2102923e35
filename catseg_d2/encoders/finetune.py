"""Fine-tuning modes: which parameters of the encoders are trained."""

from collections.abc import Callable

from segcore.errors import UserError

from .base import ImageTextEncoder

# Query and value matrices; EVA-02's are layers of their own.
ATTENTION = ("q_proj_weight", "v_proj_weight", "q_proj.weight", "v_proj.weight")
# Parts of the names of blocks, and of the pooling that is SigLIP's last attention.
BLOCKS = ("transformer", "prompt", "trunk.blocks.", "attn_pool.")
# Mode -> whether the parameter of a name is trained. Published modes train "transformer" blocks
# only, never the embeddings, outer norms and projections.
MODES: dict[str, Callable[[str], bool]] = {
    "attention": lambda name: name.endswith(ATTENTION),
    "full": lambda name: any(part in name for part in BLOCKS),
    "prompt": lambda name: "prompt" in name,
    "all": lambda name: True,
    "frozen": lambda name: False,
}


def set_trainable(encoders: ImageTextEncoder, mode: str) -> None:
    """Make the parameters of ``encoders`` trainable that ``mode``, one of ``MODES``, trains.

    Raises:
        UserError: unknown mode.
    """
    if mode not in MODES:
        raise UserError(
            f"MODEL.SEM_SEG_HEAD.CLIP_FINETUNE is '{mode}': use one of {', '.join(MODES)}."
        )
    idle = {id(parameter) for parameter in encoders.idle_parameters()}
    for name, parameter in encoders.named_parameters():
        parameter.requires_grad_(MODES[mode](name) and id(parameter) not in idle)
