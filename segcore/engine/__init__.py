"""Training and evaluation: one process or many, on GPUs or on the CPU."""

from .launch import launch, setup
from .optimizer import build_optimizer
from .step import AutocastTrainer
from .trainer import Trainer

__all__ = ["AutocastTrainer", "Trainer", "build_optimizer", "launch", "setup"]
