"""The program of docs/explanation/rankseg.md runs."""

import re
from pathlib import Path


def test_the_program_runs(repository: Path) -> None:
    page = (repository / "docs" / "explanation" / "rankseg.md").read_text("utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict = {}
    exec(program, names)
    assert names["prediction"].shape == (2, 32, 32)
    assert names["pixel_loss"].isfinite() and names["image_loss"] > 0


def test_every_file_is_listed(repository: Path) -> None:
    page = (repository / "docs" / "explanation" / "rankseg.md").read_text("utf-8")
    for path in (repository / "segcore" / "rankseg").glob("[!_]*.py"):
        assert f"`{path.name}`" in page
