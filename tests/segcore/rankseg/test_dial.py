"""How many classes are kept: reading the dial, and selecting by it."""

import pytest
import torch

from segcore.errors import UserError
from segcore.rankseg.dial import ClassesKept


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (32, ClassesKept(32)),
        ("32", ClassesKept(32)),
        (1, ClassesKept(1)),
        (0.05, ClassesKept(0, 0.05)),
        (1e-5, ClassesKept(0, 1e-5)),
        (".05", ClassesKept(0, 0.05)),
        ("32,0.05", ClassesKept(32, 0.05)),
        (" 0.05, 32 ", ClassesKept(32, 0.05)),
        ("all", ClassesKept()),
        (ClassesKept(4, 0.5), ClassesKept(4, 0.5)),
    ],
)
def test_settings(value: object, kept: ClassesKept) -> None:
    assert ClassesKept.parse(value) == kept


@pytest.mark.parametrize(
    "value",
    [0, -3, 1.0, 0.0, "", "none", "32,64", "0.1,0.2", "1,2,0.5", True, None, "nan", "1e400", "٣"],
)
def test_other_settings_are_refused(value: object) -> None:
    with pytest.raises(UserError, match=r"--keep is .*: use a number of classes from 1"):
        ClassesKept.parse(value, "--keep")


LOGITS = torch.tensor([-2.0, 3.0, 0.5, -1.0, 2.0])


@pytest.mark.parametrize(
    ("kept", "ids"),
    [
        (ClassesKept(), [1, 4, 2, 3, 0]),
        (ClassesKept(2), [1, 4]),
        (ClassesKept(9), [1, 4, 2, 3, 0]),
        (ClassesKept(0, 0.5), [1, 4, 2]),
        (ClassesKept(2, 0.5), [1, 4]),
        (ClassesKept(4, 0.85), [1, 4]),
        (ClassesKept(0, 0.99), [1]),  # the most probable class is kept in any case
    ],
)
def test_selection(kept: ClassesKept, ids: list[int]) -> None:
    assert kept.select(LOGITS).tolist() == ids
