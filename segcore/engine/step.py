"""Run training steps, in float32 or under autocast, on a GPU or on the CPU."""

import logging
import math
import time
from collections.abc import Iterable
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import nn

from segcore.errors import UserError

from .collective import collective
from .pairs import SkippedPairs
from .samples import EndlessBatches
from .seeding import seed_step

logger = logging.getLogger(__name__)


def autocast_dtype(device: torch.device) -> torch.dtype:
    """Return the half precision to train in: bfloat16 if the device supports it, else float16."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        return torch.float16
    return torch.bfloat16


class AutocastTrainer(SimpleTrainer):
    """Detectron2's simple trainer with autocast on any device.

    Args:
        model: returns a dict of losses in training mode.
        data_loader: batches without end.
        optimizer: steps after every batch.
        dtype: half precision for autocast, or None for float32 throughout. Under float16 the loss
            is scaled so that small gradients survive; a step whose gradients overflow is skipped.
        seed: at least 0; all random numbers of a step follow from it and the iteration.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
        optimizer: torch.optim.Optimizer,
        *,
        dtype: torch.dtype | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self.device_type = next(model.parameters()).device.type
        self.dtype = dtype
        self.seed = seed
        self._skipped = SkippedPairs()
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=dtype == torch.float16)

    def begin(self, iteration: int) -> None:
        """Let the loader start with the batch of ``iteration``; call it before the first step."""
        batches = getattr(self.data_loader, "batch_sampler", None)
        if isinstance(batches, EndlessBatches):
            batches.begin(self.seed, iteration)

    def run_step(self) -> None:
        """Fetch a batch, compute its losses and gradients, log the losses, update the model.

        Raises:
            UserError: in all processes, if one cannot read or use its part of the batch, or its
                loss is not finite; the model stays unchanged.
        """
        start = time.perf_counter()
        with collective():
            data = next(self._data_loader_iter)
        self._skipped.note(data)
        data_time = time.perf_counter() - start

        seed_step(self.seed, self.iter, comm.get_rank())
        autocast = torch.autocast(self.device_type, self.dtype, enabled=self.dtype is not None)
        with collective(), autocast:
            losses = self.model(data)
            _require_finite(losses, data, self.iter)
        self.optimizer.zero_grad()
        self.scaler.scale(sum(losses.values())).backward()
        self.after_backward()
        self.write_metrics(losses, data_time, self.iter)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict() | {"seed": self.seed}
        return state | (
            {"grad_scaler": self.scaler.state_dict()} if self.scaler.is_enabled() else {}
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        try:
            super().load_state_dict(state_dict)
        except ValueError as error:
            raise UserError(
                "the checkpoint's optimizer does not fit the trainable parameters of this model: "
                "resume with the config it was trained with, or start anew with MODEL.WEIGHTS"
            ) from error
        # Checkpoints of other programs have no seed: then the seed of this run stays.
        if (seed := state_dict.get("seed", self.seed)) != self.seed:
            logger.info("Continuing with the seed of the checkpoint, %d", seed)
            self.seed = seed
        if self.scaler.is_enabled() and "grad_scaler" in state_dict:
            self.scaler.load_state_dict(state_dict["grad_scaler"])


def _require_finite(losses: dict[str, torch.Tensor], batch: list[dict], iteration: int) -> None:
    total = sum(losses.values()).item()
    if math.isfinite(total):
        return
    parts = ", ".join(f"{name} {loss.item():g}" for name, loss in losses.items())
    files = ", ".join(str(item.get("file_name", "?")) for item in batch)
    raise UserError(
        f"the loss is {total:g} at iteration {iteration} ({parts}) on the batch of {files}: look "
        "at these files, lower SOLVER.BASE_LR or set SOLVER.CLIP_GRADIENTS"
    )
