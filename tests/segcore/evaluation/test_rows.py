"""The table of rows of many images."""

import torch

from segcore.evaluation.rows import FIRST, Rows


def test_rows_are_those_appended() -> None:
    expected = torch.rand(2 * FIRST + 3, 5, generator=torch.Generator().manual_seed(0))
    rows = Rows()
    for row in expected:
        rows.append(row)
    assert rows.table().equal(expected)


def test_a_table_continues_and_is_left_as_it_was() -> None:
    begun = torch.tensor([[True, False], [False, False]])
    rows = Rows(begun)
    rows.append(torch.tensor([True, True]))
    table = rows.table()
    rows.append(torch.tensor([False, True]))
    assert table.tolist() == [[True, False], [False, False], [True, True]]
    assert begun.tolist() == [[True, False], [False, False]]


def test_a_saved_table_has_no_spare_rows() -> None:
    rows = Rows()
    rows.append(torch.zeros(7))
    assert rows.table().untyped_storage().nbytes() == 7 * 4


def test_no_rows() -> None:
    assert Rows().table().shape == (0,)
