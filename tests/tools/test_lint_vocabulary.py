"""The linter of vocabularies, as it is called."""

import json

import pytest
import torch
import torch.nn.functional as F

from catrank import vocabulary_lint
from catrank.cli import ROOT, run
from catrank.cli.parsing import Parser, parse
from segcore.vocabulary import Vocabulary


@pytest.fixture
def lint():
    """Runs ``catrank vocabulary lint`` in this process; returns its exit code."""

    def call(*arguments: object) -> int:
        return run(*parse(Parser(ROOT, "catrank"), ["vocabulary", "lint", *map(str, arguments)]))

    return call


def test_clean_vocabularies_have_exit_code_0(lint, capsys) -> None:
    assert lint("scenes_60", "a cat, a dog") == 0
    assert capsys.readouterr().out == ""


def test_findings_are_lines_that_name_the_vocabulary(lint, tmp_path, capsys) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(["cat, kitten", "dog, kitten"]))
    assert lint(str(path), "voc20") == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line == f"{path}: 'kitten' belongs to several classes: 'cat, kitten', 'dog, kitten'"


@pytest.mark.parametrize("content", ["[", '["cat", ""]', '["cat", "Cat"]'])
def test_what_is_refused_is_a_finding(lint, tmp_path, capsys, content: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(content)
    assert lint(str(path)) == 1
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_words_that_the_tokenizer_would_cut(lint, tmp_path, capsys) -> None:
    """67 words fit into "A photo of a {} in the scene" with its 8 tokens, start and end."""
    path = tmp_path / "mine.json"
    fits, long = " ".join(["cat"] * 68), " ".join(["dog"] * 69)
    path.write_text(json.dumps({"classes": [fits, {"name": "x", "synonyms": [long]}]}))
    assert lint(str(path)) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert "class 'x'" in line and "78 tokens" in line and "reads 77" in line
    path.write_text(json.dumps({"classes": [fits], "templates": ["{}", "one more {} is there"]}))
    assert lint(str(path)) == 0
    path.write_text(json.dumps({"classes": [fits], "templates": ["{}" + " and" * 8]}))
    assert lint(str(path)) == 1


def test_look_alikes_come_nearest_first() -> None:
    torch.manual_seed(0)
    text = torch.randn(5, 1, 64)
    text[3] = text[0] + 0.01 * torch.randn(1, 64)
    text[4] = text[1] + 0.1 * torch.randn(1, 64)
    words = Vocabulary.load(["a", "b", "c", "d", "e"])
    found = list(vocabulary_lint.look_alikes(words, F.normalize(text, dim=-1), 0.9))
    assert [line.split(" have nearly")[0] for line in found] == [
        "classes 'a' and 'd'",
        "classes 'b' and 'e'",
    ]


def test_weights_compare_embeddings(lint, capsys, monkeypatch) -> None:
    """With a threshold below every cosine all pairs are reported."""
    asked = []
    reader = type("", (), {"load_for_use": asked.append})
    monkeypatch.setattr(vocabulary_lint, "build_checkpointer", lambda cfg, model: reader)
    arguments = ["--config-file", "catseg_d2/scenes_60.yaml", "--weights", "x.safetensors"]
    assert lint("sky, tree, my dog", *arguments, "--threshold", "-1.1") == 1
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert asked == ["x.safetensors"]


def test_models_that_read_no_words_are_refused(lint, capsys) -> None:
    config = "mask2former_rankseg/ade20k/semantic-segmentation/maskformer2_R50_bs16_160k.yaml"
    with pytest.raises(SystemExit) as stop:
        lint("voc20", "--config-file", config)
    assert stop.value.code == 2 and "fixed vocabulary" in capsys.readouterr().err
