"""A report of versions and devices."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import torch
from tabulate import tabulate


def collect_env_info() -> str:
    """Return a table of text: platform, Python, libraries, devices."""
    rows = [("platform", platform.platform()), ("Python", sys.version.replace("\n", " "))]
    for library in ("detectron2", "torch", "torchvision", "numpy", "pillow", "fvcore", "iopath"):
        try:
            rows.append((library, version(library)))
        except PackageNotFoundError:
            rows.append((library, "not installed"))
    rows.append(("CUDA of torch", torch.version.cuda or "none"))
    devices = range(torch.cuda.device_count())
    rows += [(f"GPU {i}", torch.cuda.get_device_name(i)) for i in devices] or [("GPU", "none")]
    rows.append(("DETECTRON2_DATASETS", os.environ.get("DETECTRON2_DATASETS", "not set")))
    return tabulate(rows)
