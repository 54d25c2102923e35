"""Divide images or videos into training and validation."""

import hashlib
from collections.abc import Sequence

TRAIN, VAL = "train", "val"


def split_names(names: Sequence[str], fraction: float, seed: int) -> dict[str, str]:
    """Return "train" or "val" for each of different names.

    The order of a hash of seed and name decides, so that the result depends neither on the order
    of the names nor on the machine. Of two or more names at least one goes to either side, unless
    the fraction is 0.

    Args:
        names: of images or videos.
        fraction: of the names, from 0 to 1, that becomes "val".
        seed: another one divides otherwise.
    """
    order = sorted(names, key=lambda name: (_hash(name, seed), name))
    number = round(fraction * len(order))
    if 0 < fraction < 1 and len(order) > 1:
        number = min(max(number, 1), len(order) - 1)
    held_out = set(order[:number])
    return {name: VAL if name in held_out else TRAIN for name in names}


def _hash(name: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()
