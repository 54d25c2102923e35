"""Seed random numbers from the seed of the run, the iteration and an index.

A training run seeds before everything that it draws. The random state of a run is therefore two
numbers, its seed and its iteration: a resumed run draws what an unbroken one would draw, and the
number of loader workers changes nothing.
"""

import random

import numpy as np
import torch

_SAMPLE, _STEP = 0, 1


def seed_sample(seed: int, iteration: int, index: int) -> None:
    """Seed before an image is read and augmented; ``index`` is its index in the batch."""
    _seed_all(seed, _SAMPLE, iteration, index)


def seed_step(seed: int, iteration: int, rank: int) -> None:
    """Seed before the model computes a batch, in every process (``rank``)."""
    _seed_all(seed, _STEP, iteration, rank)


def _seed_all(*entropy: int) -> None:
    """Seed python, numpy and torch, on the CPU and on GPUs, from non-negative integers."""
    state = np.random.SeedSequence(entropy).generate_state(4)
    random.seed(state.tobytes())
    np.random.seed(state)
    torch.manual_seed(int(state[0]) << 32 | int(state[1]))
