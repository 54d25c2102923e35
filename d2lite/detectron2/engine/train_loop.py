"""The training loop, its hooks, and one step of gradient descent."""

import concurrent.futures
import logging
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from detectron2.utils import comm
from detectron2.utils.events import EventStorage, get_event_storage


class HookBase:
    """Base of hooks, which a trainer calls; ``self.trainer`` is that trainer."""

    trainer: "TrainerBase" = None

    def before_train(self) -> None:
        """Before the first iteration."""

    def after_train(self) -> None:
        """After the last iteration, also after an error."""

    def before_step(self) -> None:
        """Before every iteration."""

    def after_backward(self) -> None:
        """After the gradients of an iteration have been computed."""

    def after_step(self) -> None:
        """After every iteration."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold; a hook that returns something has ``load_state_dict``."""
        return {}


class TrainerBase:
    """A loop that runs :meth:`run_step` and calls hooks around it."""

    def __init__(self) -> None:
        self._hooks: list[HookBase] = []
        self.iter = 0
        self.start_iter = 0
        self.max_iter: int
        self.storage: EventStorage

    def register_hooks(self, hooks: Iterable[HookBase | None]) -> None:
        """Add hooks, which run in this order; None is skipped."""
        hooks = [hook for hook in hooks if hook is not None]
        for hook in hooks:
            if not isinstance(hook, HookBase):
                raise AssertionError(f"{hook!r} is no HookBase")
            hook.trainer = weakref.proxy(self)  # no cycle: trainers must die when they are done
        self._hooks.extend(hooks)

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run the iterations ``start_iter`` to ``max_iter - 1``."""
        logger = logging.getLogger(__name__)
        logger.info("Starting training from iteration %d", start_iter)
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        with EventStorage(start_iter) as self.storage:
            try:
                self._run_all(range(start_iter, max_iter))
            except Exception:
                logger.exception("Training stopped at iteration %d", self.iter)
                raise
            finally:
                self.after_train()

    def _run_all(self, iterations: range) -> None:
        """Run the iterations between the hooks; ``iter`` ends at ``max_iter``."""
        self.before_train()
        for self.iter in iterations:
            self.before_step()
            self.run_step()
            self.after_step()
        self.iter += 1

    def _call_hooks(self, moment: str) -> None:
        for hook in self._hooks:
            getattr(hook, moment)()

    def before_train(self) -> None:
        """Call the hooks."""
        self._call_hooks("before_train")

    def after_train(self) -> None:
        """Call the hooks; the storage is at the number of iterations then."""
        self.storage.iter = self.iter
        self._call_hooks("after_train")

    def before_step(self) -> None:
        """Call the hooks; the storage is at this iteration from then on."""
        self.storage.iter = self.iter
        self._call_hooks("before_step")

    def after_backward(self) -> None:
        """Call the hooks."""
        self._call_hooks("after_backward")

    def after_step(self) -> None:
        """Call the hooks."""
        self._call_hooks("after_step")

    def run_step(self) -> None:
        """Run one iteration."""
        raise NotImplementedError(f"{type(self).__name__} has no run_step")

    def state_dict(self) -> dict[str, Any]:
        """The iteration, and the state of the hooks that have one, by class name."""
        state: dict[str, Any] = {"iteration": self.iter}
        hooks: dict[str, Any] = {}
        for hook in self._hooks:
            if hook_state := hook.state_dict():
                hooks.setdefault(type(hook).__qualname__, hook_state)
        if hooks:
            state["hooks"] = hooks
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a saved state."""
        self.iter = state_dict["iteration"]
        by_name: dict[str, HookBase] = {}
        for hook in self._hooks:
            by_name.setdefault(type(hook).__qualname__, hook)
        for name, state in state_dict.get("hooks", {}).items():
            if name in by_name:
                by_name[name].load_state_dict(state)
            else:
                logging.getLogger(__name__).warning("No hook %s takes its saved state", name)


class SimpleTrainer(TrainerBase):
    """One model, one optimizer, one stream of batches, one process or DDP.

    Args:
        model: takes a batch, returns a loss or a dict of them; put into training mode.
        data_loader: batches without end.
        optimizer: steps on the sum of the losses.
        gather_metric_period: collect the numbers of all processes every so many iterations.
        zero_grad_before_forward: forget gradients before the forward pass, not after it.
        async_write_metrics: collect numbers in another thread.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        async_write_metrics: bool = False,
    ) -> None:
        super().__init__()
        model.train()
        self.model, self.data_loader, self.optimizer = model, data_loader, optimizer
        self.gather_metric_period = gather_metric_period
        self.zero_grad_before_forward = zero_grad_before_forward
        self.async_write_metrics = async_write_metrics
        self._data_loader_iter_obj: Iterator | None = None
        # One thread, so that numbers are written in order.
        self.concurrent_executor = concurrent.futures.ThreadPoolExecutor(max_workers=1)

    @property
    def _data_loader_iter(self) -> Iterator:
        if self._data_loader_iter_obj is None:  # workers start with the first batch
            self._data_loader_iter_obj = iter(self.data_loader)
        return self._data_loader_iter_obj

    def reset_data_loader(self, data_loader_builder: Callable[[], Iterable]) -> None:
        """Free the loader before building a new one, so that memory does not double."""
        self.data_loader = self._data_loader_iter_obj = None
        self.data_loader = data_loader_builder()

    def run_step(self) -> None:
        """Run forward, backward and the optimizer step; store the metrics."""
        data, seconds = self._next_batch()
        if self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        losses, total = self._losses(data)
        if not self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        total.backward()
        self.after_backward()
        self._report(losses, seconds)
        self.optimizer.step()

    def _next_batch(self) -> tuple[Any, float]:
        """Return the next batch and the seconds that it took."""
        if not self.model.training:
            raise AssertionError("the model was put into evaluation mode during training")
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        return data, time.perf_counter() - start

    def _losses(self, data: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Return the model's losses by name, and their sum."""
        losses = self.model(data)
        if isinstance(losses, torch.Tensor):
            return {"total_loss": losses}, losses
        return losses, sum(losses.values())

    def _report(self, losses: dict[str, torch.Tensor], seconds: float) -> None:
        """Call :meth:`_write_metrics`, in another thread with ``async_write_metrics``."""
        if self.async_write_metrics:
            write = self._write_metrics
            self.concurrent_executor.submit(write, losses, seconds, iter=self.iter)
        else:
            self._write_metrics(losses, seconds)

    def _write_metrics(
        self,
        loss_dict: dict[str, torch.Tensor],
        data_time: float,
        prefix: str = "",
        iter: int | None = None,
    ) -> None:
        """Write the metrics of every ``gather_metric_period``-th iteration.

        Trainers of other projects call this in their ``run_step``.
        """
        iteration = self.iter if iter is None else iter
        if (iteration + 1) % self.gather_metric_period == 0:
            SimpleTrainer.write_metrics(loss_dict, data_time, iteration, prefix)

    @staticmethod
    def write_metrics(
        loss_dict: dict[str, torch.Tensor], data_time: float, cur_iter: int, prefix: str = ""
    ) -> None:
        """Store the losses, averaged over the processes, and the data loading time.

        Raises:
            FloatingPointError: the total is infinite or not a number.
        """
        own = {name: loss.detach().cpu().item() for name, loss in loss_dict.items()}
        gathered = comm.gather({**own, "data_time": data_time})
        storage = get_event_storage()
        storage.put_scalar("rank_data_time", data_time, cur_iter=cur_iter)
        if not comm.is_main_process():
            return
        slowest = max(numbers.pop("data_time") for numbers in gathered)
        storage.put_scalar("data_time", slowest, cur_iter=cur_iter)
        means = {name: float(np.mean([n[name] for n in gathered])) for name in gathered[0]}
        total = sum(means.values())
        if not np.isfinite(total):
            raise FloatingPointError(
                f"the loss is no number at iteration {cur_iter}: {means}; lower SOLVER.BASE_LR, "
                "or clip gradients"
            )
        storage.put_scalar(f"{prefix}total_loss", total, cur_iter=cur_iter)
        if len(means) > 1:
            storage.put_scalars(cur_iter=cur_iter, **means)

    def after_train(self) -> None:
        super().after_train()
        self.concurrent_executor.shutdown(wait=True)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])


class AMPTrainer(SimpleTrainer):
    """Like :class:`SimpleTrainer`, with CUDA's automatic mixed precision.

    Args:
        grad_scaler: scales the loss so that small gradients survive; a new one by default.
        precision: type that autocast computes in.
        log_grad_scaler: whether the scale is put into the storage.
        The others are those of :class:`SimpleTrainer`.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        grad_scaler: torch.amp.GradScaler | None = None,
        precision: torch.dtype = torch.float16,
        log_grad_scaler: bool = False,
        async_write_metrics: bool = False,
    ) -> None:
        super().__init__(
            model,
            data_loader,
            optimizer,
            gather_metric_period,
            zero_grad_before_forward,
            async_write_metrics,
        )
        self.grad_scaler = torch.amp.GradScaler("cuda") if grad_scaler is None else grad_scaler
        self.precision = precision
        self.log_grad_scaler = log_grad_scaler

    def run_step(self) -> None:
        """Run forward under autocast, scaled backward and the optimizer step."""
        if not torch.cuda.is_available():
            raise AssertionError("SOLVER.AMP.ENABLED needs a CUDA device: switch it off")
        data, seconds = self._next_batch()
        if self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        with torch.autocast("cuda", dtype=self.precision):
            losses, total = self._losses(data)
        if not self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        self.grad_scaler.scale(total).backward()
        if self.log_grad_scaler:
            get_event_storage().put_scalar("[metric]grad_scaler", self.grad_scaler.get_scale())
        self.after_backward()
        self._report(losses, seconds)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
