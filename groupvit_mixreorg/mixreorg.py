"""MixReorg: learn masks from mixed images, in which the text of every patch is known.

Source: Cai et al., "MixReorg: Cross-Modal Mixed Patch Reorganization is a Good Mask Learner for
Open-World Semantic Segmentation", ICCV 2023. No code of it is public: where the paper leaves a
choice, the arguments of :class:`MixReorg` and docs/explanation/groupvit.md say what is taken.

Shapes: G groups of M images, B = G * M, (h, w) their grid of patches, L = h * w, K group tokens,
D width.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from timm.layers import Mlp
from torch import Tensor, nn

from segcore.errors import UserError

from .grouping import CrossAttention
from .image_encoder import GroupingStage, ImageEncoder, ImageFeatures, initialise_linear
from .mixing import draw_sources, mix, restore

PROGRESSIVE = ("attention", "block", "none")
PROGRESSIVE_LAYERS = 3  # attention follows so many layers of the first stage, the last ones


class MixedFeatures(NamedTuple):
    """What the encoder finds in the original, the mixed and the restored images.

    Attributes:
        original: of the images as they are.
        mixed: of the mixed images; None where no loss needs them.
        restored: of the images whose tokens were mixed and restored; None likewise.
        sources: (G, M, L), the image in its group that each token of a mixed image is from.
    """

    original: ImageFeatures
    mixed: ImageFeatures | None
    restored: ImageFeatures | None
    sources: Tensor


class ProgressiveAttention(nn.Module):
    """Mixed tokens read the tokens of all original images of their group."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(width)
        self.token_norm = nn.LayerNorm(width)
        self.attention = CrossAttention(width, num_heads)

    def forward(self, mixed: Tensor, originals: Tensor) -> Tensor:
        """Both (G, M * L, D), those of all images of a group -> the mixed tokens, enriched."""
        return mixed + self.attention(self.query_norm(mixed), self.token_norm(originals))


class ProgressiveBlock(ProgressiveAttention):
    """The same, with an MLP behind it."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__(width, num_heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, mixed: Tensor, originals: Tensor) -> Tensor:
        """See :class:`ProgressiveAttention`."""
        mixed = super().forward(mixed, originals)
        return mixed + self.mlp(self.mlp_norm(mixed))


class MixReorg(nn.Module):
    """Run GroupViT's image encoder on original, mixed and restored images; training alone.

    The tokens are mixed behind some layers of the first stage, so that they know of their image.
    From there the mixed images pass the same layers as the original ones, with group tokens of
    their own, which begin as those of the original image with the same index. At the end of the
    stage the restored images take the group tokens of the original ones.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        depth: int,
        *,
        group_size: int = 2,
        layer: int = 3,
        cell: int = 1,
        progressive: str = "attention",
        with_mixed: bool = True,
        with_restored: bool = True,
    ) -> None:
        """
        Args:
            width, num_heads: of the encoder.
            depth: layers of its first stage.
            group_size: M.
            layer: of the first stage, behind how many of its layers the tokens are mixed; 0 is
                right behind the positions.
            cell: side, in patches, of the squares that are mixed as a whole.
            progressive: how mixed tokens read the original ones: "attention" behind each of the
                last three layers, "block", attention and an MLP, behind the first layer that
                follows the mixing, or "none".
            with_mixed, with_restored: which features are needed.
        """
        super().__init__()
        self.group_size, self.layer, self.cell = group_size, layer, cell
        self.with_mixed, self.with_restored = with_mixed, with_restored
        followed = {
            "attention": range(max(layer, depth - PROGRESSIVE_LAYERS), depth),
            "block": range(layer, layer + 1),
            "none": range(0),
        }[progressive]
        kind = ProgressiveBlock if progressive == "block" else ProgressiveAttention
        # By the index of the layer that they follow.
        self.progressive = nn.ModuleDict({str(i): kind(width, num_heads) for i in followed})
        self.apply(initialise_linear)

    def forward(
        self, encoder: ImageEncoder, images: Tensor, sources: Tensor | None = None
    ) -> MixedFeatures:
        """
        Args:
            encoder: GroupViT's.
            images: (B, 3, H, W); each M that follow each other are a group.
            sources: (G, M, L), as of :func:`draw_sources`; None: they are drawn.

        Raises:
            UserError: B is no multiple of M.
        """
        self._check_batch(len(images))
        stage = encoder.stages[0]
        tokens, grid = encoder.embed(images)
        if sources is None:
            groups = len(images) // self.group_size
            sources = draw_sources(groups, self.group_size, grid, self.cell, images.device)
        x = stage.join(tokens)
        for index in range(self.layer):
            x = stage.run_block(index, x)
        tokens, group_tokens = stage.split(x)
        mixed = torch.cat([self._by_group(mix, tokens, sources), group_tokens], dim=1)
        for index in range(self.layer, len(stage.blocks)):
            x, mixed = stage.run_block(index, torch.cat([x, mixed])).chunk(2)
            if str(index) in self.progressive:
                mixed = self._read(self.progressive[str(index)], stage, mixed, x)
        return self._features(encoder, x, mixed, sources, grid)

    def _features(
        self,
        encoder: ImageEncoder,
        original: Tensor,
        mixed: Tensor,
        sources: Tensor,
        grid: tuple[int, int],
    ) -> MixedFeatures:
        """Group the needed ones of the three kinds of tokens together, (B, L + K, D) each."""
        stage, branches = encoder.stages[0], [original]
        if self.with_mixed:
            branches.append(mixed)
        if self.with_restored:
            tokens = self._by_group(restore, stage.split(mixed)[0], sources)
            branches.append(torch.cat([tokens, stage.split(original)[1]], dim=1))
        features = encoder.group(torch.cat(branches), grid).chunk(len(branches))
        return MixedFeatures(
            features[0],
            features[1] if self.with_mixed else None,
            features[-1] if self.with_restored else None,
            sources,
        )

    def _by_group(self, function: Callable, tokens: Tensor, sources: Tensor) -> Tensor:
        """Apply ``mix`` or ``restore`` to tokens (B, L, D) of images side by side."""
        return function(tokens.unflatten(0, (-1, self.group_size)), sources).flatten(0, 1)

    def _read(self, module: nn.Module, stage: GroupingStage, mixed: Tensor, x: Tensor) -> Tensor:
        """Let the mixed tokens read the original ones: both (B, L + K, D)."""
        tokens, group_tokens = stage.split(mixed)
        originals, _ = stage.split(x)
        # A group's tokens are one sequence: each query reads all originals, and each once.
        sequences = (
            x.unflatten(0, (-1, self.group_size)).flatten(1, 2) for x in (tokens, originals)
        )
        read = module(*sequences).reshape(tokens.shape)
        return torch.cat([read, group_tokens], dim=1)

    def _check_batch(self, size: int) -> None:
        if size % self.group_size:
            raise UserError(
                f"a process has a batch of {size} images, which cannot be divided into groups of "
                f"{self.group_size} to mix: set SOLVER.IMS_PER_BATCH to a multiple of "
                "MODEL.MIXREORG.GROUP_SIZE for every process"
            )
