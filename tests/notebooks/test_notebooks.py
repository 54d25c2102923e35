"""The notebooks run from their first cell to their last, in an empty folder."""

import os
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "notebooks"


def outputs(notebook: "nbformat.NotebookNode") -> str:
    """Return all text that the cells printed or returned."""
    text = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return "\n".join(text)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function: name of a notebook -> it with its outputs."""
    command = tmp_path / "bin/catrank"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m catrank "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # The kernel of this Python, whichever kernels are installed for the user.
    kernel = tmp_path / "share/jupyter/kernels/python3/kernel.json"
    kernel.parent.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(
        f'{{"argv": {argv!r}, "display_name": "Python 3", "language": "python"}}'.replace("'", '"')
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share/jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    work = tmp_path / "work"
    work.mkdir()

    def execute(name: str) -> "nbformat.NotebookNode":
        notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        client = nbclient.NotebookClient(
            notebook, timeout=1200, resources={"metadata": {"path": str(work)}}
        )
        return client.execute()

    return execute


def test_notebooks_are_stored_without_outputs() -> None:
    paths = list(FOLDER.glob("*.ipynb"))
    assert len(paths) == 2
    for path in paths:
        cells = nbformat.read(path, as_version=4).cells
        assert all(not cell.get("outputs") for cell in cells), f"clear the outputs of {path.name}"


@pytest.mark.slow
def test_first_image(run, tmp_path: Path) -> None:
    text = outputs(run("first_image"))
    assert "purple" in text and "(320, 320)" in text
    assert "annotations.json" in text or "coco" in text


@pytest.mark.slow
def test_custom_dataset(run, tmp_path: Path) -> None:
    notebook = run("custom_dataset")
    scores = eval(notebook.cells[-3]["outputs"][0]["data"]["text/plain"])
    assert scores["mIoU"] > 60 and set(scores) == {"mIoU", "IoU-grass", "IoU-cat", "IoU-dog"}
    assert (tmp_path / "work/check/index.html").is_file()
