"""Console examples of the documentation run: fences with the title "runs in seconds".

The commands of a page run in order in one folder, which holds what the page takes for granted:
photo.jpg, image.jpg, photos/ and frames/.
"""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from catrank.cli import main
from segcore.scenes import SCENES_60, plan_video, render

REPOSITORY = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r'^```bash title="runs in seconds"\n(.*?)^```', re.DOTALL | re.MULTILINE)
PAGES = {
    path.relative_to(REPOSITORY).as_posix(): blocks
    for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
    if (blocks := BLOCK.findall(path.read_text("utf-8")))
}


def commands(blocks: list[str]) -> list[list[str]]:
    """Return the command lines of blocks, as lists of words."""
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def test_there_are_examples() -> None:
    assert len(PAGES) >= 3 and sum(len(commands(blocks)) for blocks in PAGES.values()) >= 8


@pytest.mark.parametrize("page", PAGES)
def test_examples(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "frames"):
        Path(folder).mkdir()
    frames = [render(scene, 96).image for scene in plan_video(SCENES_60, 0, "train", 0, 3)]
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(f"frames/{index:03}.png")
    for name in ("photo.jpg", "image.jpg", "photos/1.jpg"):
        Image.fromarray(frames[0]).save(name)
    for program, *arguments in commands(PAGES[page]):
        assert program == "catrank", "examples that run are commands of catrank"
        assert main(arguments) in (0, 1), arguments  # 1: done, and something was found
