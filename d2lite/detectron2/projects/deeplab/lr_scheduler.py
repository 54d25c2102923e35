"""The polynomial learning-rate schedule."""

from torch.optim import Optimizer

from detectron2.solver.lr_scheduler import LRScheduler, _get_warmup_factor_at_iter


class WarmupPolyLR(LRScheduler):
    """The base learning rate times a warm-up times a power of the fraction of iterations left.

    Args:
        optimizer: its learning rates are set.
        max_iters: where the curve reaches 0.
        warmup_factor, warmup_iters, warmup_method: the warm-up, which multiplies.
        last_epoch: iterations done.
        power: of the curve.
        constant_ending: after the warm-up the factor does not fall below this.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_iters: int,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,  # 0 for none
        warmup_method: str = "linear",
        last_epoch: int = -1,
        power: float = 0.9,
        constant_ending: float = 0.0,
    ) -> None:
        self.max_iters, self.power, self.constant_ending = max_iters, power, constant_ending
        self.warmup_factor, self.warmup_iters = warmup_factor, warmup_iters
        self.warmup_method = warmup_method
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        warmup = _get_warmup_factor_at_iter(
            self.warmup_method, self.last_epoch, self.warmup_iters, self.warmup_factor
        )
        factor = warmup * (1.0 - self.last_epoch / self.max_iters) ** self.power
        if warmup == 1.0 and self.constant_ending > 0:
            factor = max(factor, self.constant_ending)
        return [base * factor for base in self.base_lrs]
