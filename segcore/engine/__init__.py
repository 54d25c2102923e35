"""Training and evaluation: one process or many, on GPUs or on the CPU."""

from .launch import launch, setup
from .optimizer import build_optimizer
from .step import AutocastTrainer
from .trainer import Trainer, build_checkpointer
from .user_errors import hide_user_errors

__all__ = [
    "AutocastTrainer",
    "Trainer",
    "build_checkpointer",
    "build_optimizer",
    "launch",
    "setup",
]

hide_user_errors()
