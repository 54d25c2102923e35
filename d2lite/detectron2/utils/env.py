"""Random seeds and the environment."""

import logging
import os
import random
from datetime import datetime

import numpy as np
import torch

TORCH_VERSION = tuple(map(int, torch.__version__.split(".")[:2]))


def seed_all_rng(seed: int | None = None) -> None:
    """Seed torch, numpy, random and the hashes of child processes with one number.

    Args:
        seed: a random one where it is None.
    """
    if seed is None:
        now = datetime.now().microsecond
        seed = os.getpid() + now + int.from_bytes(os.urandom(2), "big")
        logging.getLogger(__name__).info("Using a random seed: %d", seed)
    for set_seed in (torch.manual_seed, np.random.seed, random.seed):
        set_seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)
