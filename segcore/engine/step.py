"""One training step, in float32 or under autocast, on a GPU or on the CPU."""

import time
from collections.abc import Iterable
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from torch import nn

from segcore.errors import UserError


def autocast_dtype(device: torch.device) -> torch.dtype:
    """The half precision to train in: bfloat16 where the device computes in it, else float16."""
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
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
        optimizer: torch.optim.Optimizer,
        *,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self.device_type = next(model.parameters()).device.type
        self.dtype = dtype
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=dtype == torch.float16)

    def run_step(self) -> None:
        """Fetch a batch, compute its losses and gradients, note the losses, update the model."""
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start

        with torch.autocast(self.device_type, self.dtype, enabled=self.dtype is not None):
            losses = self.model(data)
        self.optimizer.zero_grad()
        self.scaler.scale(sum(losses.values())).backward()
        self.after_backward()
        # Before the update, so that a loss that is not finite stops the training with the model
        # as it was.
        self.write_metrics(losses, data_time, self.iter)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return state | (
            {"grad_scaler": self.scaler.state_dict()} if self.scaler.is_enabled() else {}
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        try:
            super().load_state_dict(state_dict)
        except ValueError as error:
            raise UserError(
                "the checkpoint's optimizer does not fit the parameters that learn here: resume "
                "with the config it was trained with, or start anew with MODEL.WEIGHTS"
            ) from error
        if self.scaler.is_enabled() and "grad_scaler" in state_dict:
            self.scaler.load_state_dict(state_dict["grad_scaler"])
