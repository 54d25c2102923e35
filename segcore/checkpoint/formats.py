"""What a checkpoint file looks like from outside, before anything in it is read."""

import zipfile
from pathlib import Path

import safetensors

SUFFIXES = (".pth", ".pt", ".pkl", ".safetensors")
# Weights of the largest published model are below 10 GB.
MAX_CHECKPOINT_BYTES = 64 << 30


def damage(path: Path) -> str:
    """Say why a file cannot be the checkpoint that its suffix promises; "" where it can.

    Only the beginning and the end are looked at: pages that servers send in place of files are
    noticed, and files that are cut short. Nothing is executed.
    """
    with path.open("rb") as file:
        start = file.read(512)
        file.seek(-1, 2) if start else None
        end = file.read(1)
    if not start:
        return "it is empty"
    if start.lstrip()[:1] == b"<":
        return "it is a web page"
    if path.suffix.lower() == ".safetensors":
        return _damage_of_safetensors(path)
    if start.startswith(b"PK"):
        return "" if zipfile.is_zipfile(path) else "it is cut short"
    if path.suffix.lower() == ".pkl":
        return "" if end == b"." else "it is no whole pickle: it is cut short, or something else"
    return "" if start.startswith(b"\x80") else "it is no checkpoint of PyTorch"


def _damage_of_safetensors(path: Path) -> str:
    try:
        with safetensors.safe_open(path, "np"):  # compares the size with the header
            return ""
    except safetensors.SafetensorError:
        return "it is no whole .safetensors file: it is cut short, or something else"
