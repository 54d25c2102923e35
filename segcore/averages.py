"""Averages over the processes of a distributed training."""

from torch import Tensor, distributed


def mean_over_processes(number: Tensor) -> Tensor:
    """Return the mean of a number over the processes; without several, the number itself.

    Distributed training averages gradients over processes. Sums of losses that are divided by the
    mean of how many there are give the gradients that one process would have with all images.

    Args:
        number: a floating-point scalar, which is changed in place.
    """
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(number)
        number = number / distributed.get_world_size()
    return number
