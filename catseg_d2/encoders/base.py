"""What the meta-architectures need of an image and a text encoder with a joint embedding space.

Shapes: B crops, N = h*w patches, p class tokens (0 or 1), D vision width, C joint width, L tokens,
K prompts.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.errors import UserError, printable
from segcore.memory import recomputed
from segcore.text import Tokenizer

RESIDUALS = ("class", "own")


@dataclass(frozen=True)
class EncoderOptions:
    """Settings of encoders.

    Attributes:
        prompt_length, prompt_depth: visual prompt tuning: ``prompt_length`` trainable tokens in
            each of the first ``prompt_depth`` vision blocks.
        checkpointing: recompute the blocks in the backward pass instead of keeping activations.
        dense_residual: residual of a token in the last block, where that has no attention for dense
            embeddings: "class", that of the class token, as published, or "own".
        tokenizer: file of a tokenizer that comes with the weights.
    """

    prompt_length: int = 0
    prompt_depth: int = 0
    checkpointing: bool = False
    dense_residual: str = "class"
    tokenizer: Path | None = None


class ImageTextEncoder(nn.Module, ABC):
    """An image encoder with dense embeddings, one per patch, and a text encoder.

    Attributes:
        logit_scale: logarithm of the factor of cosine similarities in training, a scalar parameter.
        prompt_tokens: of visual prompt tuning, (depth, length, D), or None.
        guidance_blocks: indices of the two vision blocks whose output guides the decoder.
    """

    PIXEL_MEAN: ClassVar[tuple[float, float, float]]  # of the training images, RGB, 0..255
    PIXEL_STD: ClassVar[tuple[float, float, float]]
    CLASS_TOKENS: ClassVar[int]  # p, in front of the patches

    logit_scale: nn.Parameter

    def __init__(self, options: EncoderOptions) -> None:
        super().__init__()
        self.options = options
        self.prompt_tokens: nn.Parameter | None = None
        self.register_load_state_dict_pre_hook(_rename_published)

    # ------------------------------------------------------------------ sizes

    @property
    @abstractmethod
    def vision_width(self) -> int:
        """Width of the vision blocks and of both guidance features, D."""

    @property
    @abstractmethod
    def text_width(self) -> int:
        """Width of the text blocks."""

    @property
    @abstractmethod
    def joint_width(self) -> int:
        """Width of the embeddings, C."""

    @property
    @abstractmethod
    def patch_size(self) -> int:
        """Side of a patch in pixels."""

    @property
    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """Turns prompts and captions into rows of token ids, (K, L)."""

    # ------------------------------------------------------------------ text

    @abstractmethod
    def encode_text(self, tokens: Tensor) -> Tensor:
        """Return unit-norm embeddings (K, C) of token ids (K, L)."""

    @abstractmethod
    def text_state(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the text encoder."""

    # ------------------------------------------------------------------ weights

    @abstractmethod
    def from_published(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return published weights of these encoders under our names.

        Args:
            state_dict: in one of the layouts that the model is published in, or already in ours.
        """

    def idle_parameters(self) -> Iterator[nn.Parameter]:
        """Yield parameters that no method reads; they are never trained."""
        return iter(())

    # ------------------------------------------------------------------ images

    @property
    @abstractmethod
    def vision_blocks(self) -> Sequence[nn.Module]:
        """All blocks of the image encoder."""

    @property
    def mixing_blocks(self) -> Sequence[nn.Module]:
        """The first blocks, which dense embeddings share with the global one."""
        return self.vision_blocks

    @abstractmethod
    def embed_patches(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return the tokens (B, p + N, D) of the first block, and their grid (h, w)."""

    @abstractmethod
    def run_vision_block(self, block: nn.Module, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Run a vision block on tokens (B, p + N, D); prompts may be between class and patches."""

    @abstractmethod
    def read_out_dense(self, x: Tensor) -> Tensor:
        """Return dense embeddings (B, p + N, C) from the output (B, p + N, D) of mixing blocks.

        That of a token is the global embedding if the last attention, which gathers it, were to
        attend to this token only.
        """

    @abstractmethod
    def read_out_global(self, x: Tensor) -> Tensor:
        """Return global embeddings (B, C) from the output (B, p + N, D) of all blocks."""

    def forward(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """:meth:`encode_image`, in the form that ``nn.Module.compile`` compiles."""
        return self.encode_image(images)

    def encode_image(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return dense embeddings of crops, and intermediate features that guide the decoder.

        Args:
            images: (B, 3, H, W), normalised, sides multiples of the patch size.
        Returns:
            Embeddings (B, C, h, w), not of unit norm, in the joint space; and the features
            (B, D, h, w) after each of the two guidance blocks.
        """
        x, grid = self.embed_patches(images)
        guidance = []
        for index, block in enumerate(self.mixing_blocks):
            x = self._run_prompted(block, x, grid, index)
            if index in self.guidance_blocks:
                guidance.append(self._to_map(x, grid))
        return self._to_map(self.read_out_dense(x), grid), (guidance[0], guidance[-1])

    def embed_image(self, images: Tensor) -> Tensor:
        """Return global image embeddings (B, C), unit-norm.

        Args:
            images: (B, 3, H, W) as in :meth:`encode_image`.
        """
        x, grid = self.embed_patches(images)
        for index, block in enumerate(self.vision_blocks):
            x = self._run_prompted(block, x, grid, index)
        return F.normalize(self.read_out_global(x), dim=-1)

    # ------------------------------------------------------------------ for the subclasses

    def finish(self, name: str) -> None:
        """Choose the guidance blocks and add visual prompts, once the blocks are there.

        Args:
            name: of the model, for error messages.
        Raises:
            UserError: the options do not fit the model.
        """
        prompt_length, prompt_depth = self.options.prompt_length, self.options.prompt_depth
        residual, depth = self.options.dense_residual, len(self.vision_blocks)
        if residual not in RESIDUALS:
            raise UserError(
                f"MODEL.SEM_SEG_HEAD.DENSE_RESIDUAL is {printable(repr(residual))}: use "
                f"{' or '.join(RESIDUALS)}"
            )
        if residual != "class" and not self.CLASS_TOKENS:
            raise UserError(
                f"MODEL.SEM_SEG_HEAD.DENSE_RESIDUAL is {residual!r}, but {name} has no class token "
                "whose residual it could replace: set it to class"
            )
        if prompt_depth > depth:
            raise UserError(
                f"MODEL.SEM_SEG_HEAD.PROMPT_DEPTH is {prompt_depth}, but {name} has {depth} "
                "blocks: lower it."
            )
        if prompt_length and prompt_depth:
            tokens = torch.randn(prompt_depth, prompt_length, self.vision_width)
            self.prompt_tokens = nn.Parameter(0.02 * tokens)
        # The features after one and two thirds of the blocks guide the decoder.
        self.guidance_blocks = (max(depth // 3 - 1, 0), max(2 * depth // 3 - 1, 0))

    def dense_residual(self, x: Tensor) -> Tensor:
        """Return the residual of each token of x (B, 1 + N, D) where a block has no attention."""
        return x if self.options.dense_residual == "own" else x[:, :1]

    def run(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Return ``function(x)``, recomputed in the backward pass if so configured."""
        return recomputed(function, x) if self.options.checkpointing else function(x)

    def _run_prompted(
        self, block: nn.Module, x: Tensor, grid: tuple[int, int], index: int
    ) -> Tensor:
        """Run a vision block, with the visual prompt of its depth if it has one."""
        if self.prompt_tokens is None or index >= len(self.prompt_tokens):
            return self.run(lambda x: self.run_vision_block(block, x, grid), x)
        prompt, front = self.prompt_tokens[index].expand(len(x), -1, -1), self.CLASS_TOKENS
        x = torch.cat([x[:, :front], prompt, x[:, front:]], dim=1)
        x = self.run(lambda x: self.run_vision_block(block, x, grid), x)
        return torch.cat([x[:, :front], x[:, front + prompt.shape[1] :]], dim=1)

    def _to_map(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Reshape tokens (B, p + N, width) without class tokens to (B, width, h, w)."""
        return tokens[:, self.CLASS_TOKENS :].transpose(1, 2).unflatten(2, grid)


def _rename_published(
    module: ImageTextEncoder, state_dict: dict[str, Any], prefix: str, *_: Any
) -> None:
    """Rename published weights, in place: a ``load_state_dict`` pre-hook of encoders."""
    own = {key: state_dict.pop(key) for key in list(state_dict) if key.startswith(prefix)}
    renamed = module.from_published({k.removeprefix(prefix): v for k, v in own.items()})
    state_dict.update({prefix + key: value for key, value in renamed.items()})


def resize_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return positional embeddings (N, D) of a square grid, resized bicubically to ``grid``.

    As in CAT-Seg: not antialiased. A table of the same grid is returned as it is.
    """
    side = round(len(positions) ** 0.5)
    if grid == (side, side):
        return positions
    maps = positions.T.reshape(1, -1, side, side)
    return F.interpolate(maps, grid, mode="bicubic", align_corners=False)[0].flatten(1).T
