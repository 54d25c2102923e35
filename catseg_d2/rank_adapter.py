"""Adapter files: a ranking head alone, to use with a CAT-Seg checkpoint that has none.

A file of a few megabytes, ``.safetensors``. It holds the head, samples of the weights of the
encoders that it was trained on, and in its metadata the sizes of the head and the name of the
encoders. The head reads features of these encoders; with others its scores have no meaning.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from segcore.checkpoint import locate, read_checkpoint
from segcore.checkpoint.weights import is_for_use
from segcore.errors import UserError, printable
from segcore.rankseg.dial import MOST
from segcore.runtime.files import writing

from .ranking import HeadShape

KEY = "catrank_rank_adapter"  # in the metadata
FORMAT = 1
SAMPLES = "encoder_samples"
SAMPLES_PER_TENSOR = 8
# Weights in half precision, or retrained for a few steps, are those of the same encoders.
RELATIVE, ABSOLUTE, SHARE = 1e-2, 1e-4, 0.9


@dataclass(frozen=True)
class RankAdapter:
    """The content of an adapter file.

    Attributes:
        source: path of the file, for messages.
        encoders: their name in ``MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED``.
        shape: of the head.
        ranks: number of trained per-rank scales; 0 = none.
        scale: what they are a factor of, "" | "logits" | "cost".
        samples: of the weights of the encoders, see :func:`sample_weights`.
        tensors: the head and the scales, by their names in the model's ``ranker``.
    """

    source: str
    encoders: str
    shape: HeadShape
    ranks: int
    scale: str
    samples: Tensor
    tensors: Mapping[str, Tensor]

    @classmethod
    def read(cls, path: str) -> "RankAdapter":
        """Read a file; nothing in it is executed.

        Raises:
            UserError: it is missing, damaged or no adapter.
        """
        where = printable(path)
        no_file = UserError(f"MODEL.RANKSEG.WEIGHTS is {where}, which is no file")
        if Path(path).suffix and "://" not in path and not Path(path).is_file():
            raise no_file
        file = Path(locate(path))
        if not file.is_file():
            raise no_file
        no_adapter = UserError(
            f"{where} is no rank adapter: name a file that tools/rank_adapter.py has written in "
            "MODEL.RANKSEG.WEIGHTS"
        )
        if file.suffix.lower() != ".safetensors":
            raise no_adapter
        tensors = dict(read_checkpoint(file)["model"])
        with safetensors.safe_open(file, "pt") as opened:
            text = (opened.metadata() or {}).get(KEY)
        try:
            content = json.loads(text or "")
            shape = HeadShape(**content["shape"])
            encoders, ranks, scale = (content[key] for key in ("encoders", "ranks", "scale"))
            samples = tensors.pop(SAMPLES).float()
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise no_adapter from error
        known = content.get("format") == FORMAT and type(encoders) is str
        if not known or ((scale, ranks) != ("", 0) and not _is_scale(scale, ranks)):
            raise no_adapter
        return cls(path, encoders, shape, ranks, scale, samples, tensors)

    @classmethod
    def of(cls, model: nn.Module) -> "RankAdapter":
        """Return the adapter of a ``CATSeg`` with a ranking."""
        ranking = model.ranking
        return cls(
            "",
            model.clip_weights[0],
            ranking.head.shape,
            0 if ranking.scores is None else ranking.scores.kappa,
            ranking.scale,
            sample_weights(model.clip),
            ranking.state_dict(),
        )

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        content: dict[str, Any] = {
            "format": FORMAT,
            "encoders": self.encoders,
            "shape": asdict(self.shape),
            "ranks": self.ranks,
            "scale": self.scale,
        }
        tensors = {name: value.contiguous() for name, value in self.tensors.items()}
        tensors[SAMPLES] = self.samples
        with writing(path) as file:
            file.write(safetensors.torch.save(tensors, {KEY: json.dumps(content)}))

    def fill(self, ranker: nn.Module) -> None:
        """Load the tensors into a ranker of this shape.

        Raises:
            UserError: they do not fit: the file is damaged.
        """
        current = ranker.state_dict()
        wrong = current.keys() ^ self.tensors.keys()
        wrong |= {k for k in current.keys() - wrong if current[k].shape != self.tensors[k].shape}
        wrong |= {k for k in current.keys() - wrong if not self.tensors[k].isfinite().all()}
        if wrong:
            raise UserError(
                f"{printable(self.source)} is damaged, or of another version: its tensor "
                f"{printable(min(wrong))} is not that of a ranking head"
            )
        ranker.load_state_dict({name: value.float() for name, value in self.tensors.items()})

    def check_encoders(self, clip: nn.Module, name: str) -> None:
        """Check that the adapter was trained on encoders with these weights.

        Args:
            clip: the encoders.
            name: of them.

        Raises:
            UserError: it was not.
        """
        ours = sample_weights(clip)
        same = self.encoders == name and ours.shape == self.samples.shape
        if same:
            close = torch.isclose(ours, self.samples, rtol=RELATIVE, atol=ABSOLUTE)
            same = bool(close.float().mean() >= SHARE)
        if not same:
            raise UserError(
                f"the rank adapter {printable(self.source)} was trained on other encoders "
                f"({printable(self.encoders)}) than those of the checkpoint ({printable(name)}): "
                "name the adapter of this checkpoint in MODEL.RANKSEG.WEIGHTS, or the checkpoint "
                "of this adapter in MODEL.WEIGHTS"
            )


def _is_scale(scale: object, ranks: object) -> bool:
    return scale in ("logits", "cost") and type(ranks) is int and 1 <= ranks <= MOST


def complete_ranking(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Give a checkpoint without a ranking that of the model, in place: a ``load_state_dict``
    pre-hook of the model.

    The model's is that of an adapter, or in training its initial one.

    Raises:
        UserError: for inference there are two rankings, or none.
    """
    if module.ranking is None:
        return
    carried = any(name.startswith(f"{prefix}ranking.") for name in state_dict)
    if is_for_use(module) and carried == (module.rank_adapter is not None):
        raise UserError(
            "the checkpoint has a ranking head of its own: leave out MODEL.RANKSEG.WEIGHTS"
            if carried
            else "the checkpoint has no ranking head: name a rank adapter of it in "
            "MODEL.RANKSEG.WEIGHTS, or set MODEL.RANKSEG.FLAG False"
        )
    if not carried:
        own = module.ranking.state_dict()
        state_dict.update({f"{prefix}ranking.{name}": value for name, value in own.items()})


def check_adapter(module: nn.Module, _: Any) -> None:
    """Check the encoders of a model with an adapter: a ``load_state_dict`` post-hook."""
    if module.rank_adapter is not None:
        module.rank_adapter.check_encoders(module.clip, module.clip_weights[0])


def sample_weights(clip: nn.Module) -> Tensor:
    """Return samples (n, 8) float32 of the encoders' matrices, evenly spaced in each.

    The token table is left out: small checkpoints hold some of its rows alone.
    """
    samples = []
    for name, value in clip.named_parameters():
        if value.ndim < 2 or value.numel() < SAMPLES_PER_TENSOR or "token_embedding" in name:
            continue
        flat = value.detach().flatten()
        index = torch.linspace(0, len(flat) - 1, SAMPLES_PER_TENSOR, dtype=torch.float64).long()
        samples.append(flat[index.to(flat.device)].float().cpu())
    return torch.stack(samples)
