"""The tokenizer of the small SigLIP-type encoders is what the tool writes."""

import importlib.util
import json
from pathlib import Path

import pytest

pytest.importorskip("tokenizers")


def test_the_shipped_file_is_written_again(repository: Path, tmp_path: Path) -> None:
    file = repository / "tools" / "word_tokenizer.py"
    spec = importlib.util.spec_from_file_location("word_tokenizer", file)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    number = tool.write_tokenizer(["scenes_60", "scenes_1k"], tmp_path / "scenes.json")
    shipped = repository / "catseg_d2" / "encoders" / "tokenizers" / "scenes.json"
    written = json.loads((tmp_path / "scenes.json").read_text())["model"]
    expected = json.loads(shipped.read_text())["model"]
    assert number == len(written["vocab"])
    assert (written["vocab"], written["unk_id"]) == (expected["vocab"], expected["unk_id"])
