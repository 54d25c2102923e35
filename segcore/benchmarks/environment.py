"""Describe the environment of a score: versions and the machine."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import numpy as np
import torch


def versions() -> dict[str, str | None]:
    """Return the versions of the software; None if something is not installed."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "detectron2": _installed("detectron2"),
        "catrank": _installed("catrank"),
        "commit": commit(),
    }


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """Return the commit of this file's checkout, with "-changed" if files differ from it."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        git, quiet = ["git", "-C", str(root)], {"capture_output": True, "text": True}
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], **quiet).returncode
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("-changed" if changed else "")


def machine(device: str) -> str:
    """Return the name of the GPU or CPU, and the operating system."""
    if torch.device(device).type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {platform.system()}"
    return f"{platform.machine()} CPU, {platform.system()}"
