"""The generated references: config keys, commands, and the figures of the methods."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from docs_site import command_pages, config_keys, figures


@pytest.fixture(scope="module")
def keys() -> dict[str, config_keys.Key]:
    return {key.name: key for key in config_keys.all_keys()}


def test_keys_have_their_comments(keys: dict[str, config_keys.Key]) -> None:
    assert keys["SOLVER.EMA_DECAY"].comment.startswith("Decay of the exponential moving average")
    assert keys["SOLVER.OPTIMIZER"].comment == 'or "SGD"'
    # A group of keys shares the comment above it.
    assert keys["TEST.TOP_K"].comment == keys["TEST.SEM_SEG_OUTPUT"].comment
    assert keys["MODEL.ESSNET.DIM"].package == "per_pixel"
    assert "SOLVER.BASE_LR" not in keys  # Detectron2's


def test_most_keys_are_described(keys: dict[str, config_keys.Key]) -> None:
    assert len(keys) > 200
    described = sum(bool(key.comment) for key in keys.values())
    assert described / len(keys) > 0.85


def test_comments_of_assignments(tmp_path: Path) -> None:
    path = tmp_path / "keys.py"
    path.write_text(
        'def add(cfg):\n    """Add."""\n    cfg.A = 1\n    # Of B,\n    # in pixels.\n'
        "    cfg.B = 2\n    cfg.C = 3  # and C\n\n    cfg.D = '#x'\n"
    )
    found = [config_keys.comment_of(path, line) for line in (3, 6, 7, 9)]
    assert found == ["", "Of B, in pixels.", "and C", ""]


def test_the_page_of_keys_is_a_table(keys: dict[str, config_keys.Key]) -> None:
    page = config_keys.page()
    assert "## MODEL.SEM_SEG_HEAD\n" in page
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == len(keys)
    assert all(row.replace("\\|", "").count("|") == 5 for row in rows)


def test_every_word_has_its_help() -> None:
    page = command_pages.page()
    for word in ("segment", "data check", "models list", "info"):
        assert f"## catrank {word}\n" in page
    assert "--classes" in page


@pytest.mark.parametrize("name", figures.FIGURES)
def test_figures_are_up_to_date(repository: Path, name: str) -> None:
    drawn = str(figures.FIGURES[name]())
    assert (repository / f"docs/images/{name}.svg").read_text("utf-8") == drawn
