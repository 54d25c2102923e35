"""The per-rank scales of RankSeg, from a checkpoint to a table and an image."""

import importlib.util
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def run(repository, tmp_path, monkeypatch, capsys):
    """Run the tool in this process; return its output."""
    spec = importlib.util.spec_from_file_location(
        "rank_scales", repository / "tools/rank_scales.py"
    )
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.chdir(tmp_path)

    def run(*words: str, code: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["rank_scales.py", *words])
        if code:
            with pytest.raises(SystemExit) as caught:
                tool.main()
            assert caught.value.code == code
        else:
            tool.main()
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    return run


def save(path: Path, **weights: torch.Tensor) -> Path:
    names = {name.replace("__", "."): value for name, value in weights.items()}
    torch.save({"model": {"backbone.weight": torch.ones(2), **names}}, path)
    return path


def test_ours_and_published_files(run, tmp_path) -> None:
    ours = save(tmp_path / "ours.pth", ranking__scores__weight=torch.tensor([3.0, 1.5, 0.25]))
    published = save(tmp_path / "published.pth", ml_norm__weight=torch.tensor([2.0, 1.0]))
    printed = run("ours.pth", "published.pth", "--plot", "scales.svg")
    lines = [line.split() for line in printed.splitlines()]
    assert lines == [
        ["rank", ours.name, published.name],
        ["1", "3.0000", "2.0000"],
        ["2", "1.5000", "1.0000"],
        ["3", "0.2500"],
    ]
    image = ElementTree.parse(tmp_path / "scales.svg").getroot()
    curves = [line.get("points").split() for line in image.iter(f"{SVG}polyline")]
    assert [len(curve) for curve in curves] == [3, 2]
    heights = [float(point.split(",")[1]) for point in curves[0]]
    assert heights == sorted(heights) and heights[0] < heights[-1], "the largest is the highest"
    assert {ours.name, published.name} <= {text.text for text in image.iter(f"{SVG}text")}


def test_other_forms(run, tmp_path) -> None:
    save(tmp_path / "t.pth", ranking__scores__inverse_temperature=torch.tensor([1.25, 0.5]))
    save(tmp_path / "s.pth", ranking__scores__weight=torch.tensor([7.0]))
    assert "1.2500" in run("t.pth")
    assert "7.0000" in run("s.pth", "--plot", "s.svg")


def test_errors_are_one_line(run, tmp_path) -> None:
    save(tmp_path / "plain.pth")
    save(tmp_path / "ranked.pth", ml_norm__weight=torch.ones(2))
    for words, message in {
        ("plain.pth",): "plain.pth holds no per-rank scales",
        ("gone.pth",): "there is no checkpoint gone.pth",
        ("ranked.pth", "--plot", "scales.png"): "must end in .svg",
    }.items():
        (line,) = run(*words, code=2).strip().splitlines()
        assert message in line
