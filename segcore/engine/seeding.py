"""Random numbers that depend on what they are for, and not on what was drawn before.

Whatever a training run draws, it draws after seeding from (the run's seed, the iteration, a place).
So the random state of a run is two numbers, its seed and its iteration: a resumed run draws what an
unbroken one would, and the number of loader workers changes nothing.
"""

import random

import numpy as np
import torch

_SAMPLE, _STEP = 0, 1


def seed_sample(seed: int, iteration: int, index: int) -> None:
    """Before an image is read and augmented: ``index`` is its place in the batch."""
    _seed_all(seed, _SAMPLE, iteration, index)


def seed_step(seed: int, iteration: int, rank: int) -> None:
    """Before the model computes a batch, in every process (``rank``)."""
    _seed_all(seed, _STEP, iteration, rank)


def _seed_all(*words: int) -> None:
    """Seed python, numpy and torch, on the CPU and on GPUs, from whole numbers from 0 on."""
    state = np.random.SeedSequence(words).generate_state(4)
    random.seed(state.tobytes())
    np.random.seed(state)
    torch.manual_seed(int(state[0]) << 32 | int(state[1]))
