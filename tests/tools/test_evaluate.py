"""Suites from the command to the page, interrupted and continued."""

import json
import os
import subprocess
import sys

import pytest
import torch
from detectron2.data import DatasetCatalog

from catrank.cli import ROOT
from catrank.cli.parsing import Parser, parse
from catrank.evaluation import passports, suites
from catseg_d2 import CATSeg
from segcore.datasets import register_semantic_dataset
from segcore.errors import UserError
from segcore.scenes import SCENES_60, Settings, write_scenes

DATASET = "evaluated_scenes"
CONFIG = "catseg_d2/scenes_60.yaml"
IMAGES = 6


def parse_arguments(words):
    return parse(Parser(ROOT, "catrank"), ["evaluate", *words])[1]


@pytest.fixture(scope="module")
def weights(repository):
    return str(repository / "demo/models/scenes_60.safetensors")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    write_scenes(root, SCENES_60, Settings(num_train=1, num_test=IMAGES, size=96), workers=1)
    return root


@pytest.fixture(scope="module")
def dataset(root):
    folders = [root / "scenes-60" / "test" / name for name in ("images", "labels")]
    register_semantic_dataset(DATASET, *folders, "scenes_60", image_suffix=".png")
    yield DATASET
    DatasetCatalog.remove(DATASET)


@pytest.fixture
def evaluate(dataset, weights, tmp_path, monkeypatch):
    """Runs the tool in this process; returns what results.json holds."""
    monkeypatch.setattr(suites, "_log_to", lambda folder: None)  # handlers would stay

    def call(*arguments, output=tmp_path / "out", options=()):
        model = ["--config-file", CONFIG, "--weights", weights]
        where = ["--datasets", dataset, "--output", str(output), *arguments]
        usual = ["MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0", "TEST.SAVE_SECONDS", "1e-9"]
        line = [*model, *where, "--", *usual, *options]
        suites.main(suites.complete(parse_arguments(line)))
        return json.loads((output / "results.json").read_text("utf-8"))

    return call


@pytest.fixture
def seen(monkeypatch):
    """The images that a model was asked about; after ``stop_after`` of them Ctrl-C is pressed."""
    images = []
    forward = CATSeg.forward

    def count(self, batch):
        if len(images) == count.stop_after:
            raise KeyboardInterrupt
        images.extend(item["file_name"] for item in batch)
        return forward(self, batch)

    count.stop_after = None
    monkeypatch.setattr(CATSeg, "forward", count)
    count.images = images
    return count


def test_interrupted_and_continued(evaluate, seen, tmp_path, monkeypatch):
    whole = evaluate(output=tmp_path / "whole")
    assert len(seen.images) == IMAGES
    seen.stop_after = IMAGES + 3
    with pytest.raises(KeyboardInterrupt):
        evaluate()
    # A save takes a twentieth of the time at most, so the last images may not be in it.
    state = next((tmp_path / "out").rglob("unfinished-0-of-1.pt"))
    done = torch.load(state, weights_only=True)["done"]
    assert 1 <= done <= 3
    seen.stop_after = None
    seen.images.clear()
    continued = evaluate()
    assert len(seen.images) == IMAGES - done
    assert continued["results"][0]["scores"] == whole["results"][0]["scores"]
    assert continued["results"][0]["classes"] == whole["results"][0]["classes"]
    folders = [next((tmp_path / name).rglob("result.json")) for name in ("whole", "out")]
    assert folders[0].read_text() == folders[1].read_text(), "the examples are the same too"
    assert not list((tmp_path / "out").rglob("unfinished*"))

    seen.images.clear()
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", None)
    assert evaluate() == continued, "what is finished is not done again, and needs no model"
    assert not seen.images


def test_what_it_leaves(evaluate, tmp_path, weights):
    row = evaluate("--examples", "2")["results"][0]
    out = tmp_path / "out"
    assert row["metric"] == "mIoU" and row["measured"] == row["scores"]["sem_seg"]["mIoU"] > 30
    assert {"mIoU", "mIoU_union"} <= row["scores"]["sem_seg"].keys()
    assert len(row["classes"]) == 60 and row["classes"]["sand"].keys() == {"IoU", "ACC"}
    passport = row["passport"]
    assert passport["dataset"]["count"] == IMAGES
    assert passport["model"]["config"] == CONFIG
    assert passport["vocabulary"]["templates"] == "single"
    assert passport["pruning"] == {"classes of a crop": 256}
    page = (out / "index.html").read_text("utf-8")
    assert page.count("<figure>") == 3 * 4, (
        "image, ground truth and prediction of two worst and two best"
    )
    assert page.count("<h3>worst, ") == page.count("<h3>best, ") == 2
    for name in page.split('src="')[1:]:
        assert (out / name.partition('"')[0]).is_file()
    text = (out / "results.md").read_text("utf-8")
    assert "| sand |" in text and passport["model"]["checkpoint_sha256"] in text
    result = json.loads(next(out.rglob("result.json")).read_text())
    scores = [each["score"] for each in [*result["worst"], *reversed(result["best"])]]
    assert scores == sorted(scores) and len(scores) == 4


def test_other_settings_are_evaluated_again(evaluate, seen):
    one = evaluate()
    seen.images.clear()
    other = evaluate(options=["MODEL.SEM_SEG_HEAD.MAX_CLASSES", "5"])
    assert len(seen.images) == IMAGES
    assert other["results"][0]["passport"]["pruning"] == {"classes of a crop": 5}
    assert other["results"][0]["scores"] != one["results"][0]["scores"]


def test_wording_side_by_side(evaluate, tmp_path):
    results = evaluate("--templates", "imagenet", "--synonyms", "all", "--examples", "0")["results"]
    words = [row["passport"]["vocabulary"] for row in results]
    assert [(each["templates"], each["synonyms"]) for each in words] == [
        ("single", "first"),
        ("imagenet", "all"),
    ]
    assert [each["prompts"] for each in words] == [1, 80]
    assert results[0]["measured"] != results[1]["measured"]
    text = (tmp_path / "out" / "results.md").read_text("utf-8")
    assert "difference |" in text and "templates imagenet, synonyms all" in text


def test_check(evaluate, tmp_path, capsys):
    evaluate()
    path = next((tmp_path / "out").rglob("passport.json"))
    passport = json.loads(path.read_text())
    other = tmp_path / "other.json"
    passport["made"]["date"] = "yesterday"
    other.write_text(json.dumps(passport))
    assert passports.check([str(path), str(other)]) == 0
    passport["vocabulary"]["synonyms"] = "all"
    del passport["settings"]["INPUT.MIN_SIZE_TEST"]
    other.write_text(json.dumps(passport))
    capsys.readouterr()
    assert passports.check([str(path), str(other)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        'vocabulary: synonyms: "first" | "all"',
        "INPUT.MIN_SIZE_TEST: 96 | -",
    ]


def test_check_against_now(evaluate, dataset, tmp_path, capsys):
    evaluate()
    path = next((tmp_path / "out").rglob("passport.json"))
    passport = json.loads(path.read_text())
    passport["versions"] = passports.made_now(passport)["versions"]  # others may commit meanwhile
    passport["dataset"]["count"] = 7
    path.write_text(json.dumps(passport))
    capsys.readouterr()
    assert passports.check([str(path)]) == 1
    opened, found = capsys.readouterr().out.splitlines()
    assert opened.startswith(f"opening what the passport names: config {CONFIG}, weights ")
    assert "data set " in opened and found == "dataset: count: 7 | 6"


def test_check_states_what_it_opens_before(evaluate, tmp_path, capsys, monkeypatch):
    evaluate()
    path = next((tmp_path / "out").rglob("passport.json"))
    passport = json.loads(path.read_text())
    passport["made"]["weights"] = "/etc/\x1b[2Jpasswd"
    path.write_text(json.dumps(passport))

    def opens(*arguments: object) -> None:
        assert r"weights /etc/\x1b[2Jpasswd" in capsys.readouterr().out
        raise UserError("enough")

    capsys.readouterr()
    monkeypatch.setattr(passports, "make_run", opens)
    with pytest.raises(UserError, match="enough"):
        passports.check([str(path)])
    for key in ("weights", "options"):
        other = passport | {"made": passport["made"] | {key: 3}}
        path.write_text(json.dumps(other))
        with pytest.raises(UserError, match="names no files of a run"):
            passports.check([str(path)])


def test_errors(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(suites, "_log_to", lambda folder: None)

    def complete(*arguments):
        return suites.complete(parse_arguments([*arguments, "--output", str(tmp_path)]))

    with pytest.raises(UserError, match="name a --suite"):
        complete("--config-file", CONFIG, "--weights", weights)
    with pytest.raises(UserError, match="names 1 and --weights 0"):
        complete("--config-file", CONFIG, "--suite", "ovss")
    with pytest.raises(UserError, match="--config-file and --weights"):
        complete("--suite", "mess")
    model = ["--config-file", CONFIG, "--weights", weights]
    with pytest.raises(UserError, match="nearest registered one is 'scenes_60_test'"):
        suites.main(complete(*model, "--datasets", "scene_60_test"))


def test_what_is_missing_and_how_to_get_it(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(suites, "_log_to", lambda folder: None)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "nothing"))
    line = ["--config-file", CONFIG, "--weights", weights, "--suite", "ovss"]
    arguments = suites.complete(parse_arguments([*line, "--output", str(tmp_path)]))
    with pytest.raises(UserError, match=r"ade20k_150_test_sem_seg: there is no .*prepare ade20k"):
        suites.main(arguments)


@pytest.mark.slow
def test_the_suite_with_two_processes(evaluate, repository, root, tmp_path):
    """The models that ship; any number of processes finds the same."""
    here = evaluate()["results"][0]
    out = tmp_path / "two"
    options = ["MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0"]
    subprocess.run(
        [
            *(sys.executable, repository / "tools/evaluate.py", "--suite", "scenes"),
            *("--num-gpus", "2", "--output", out, *options),
        ],
        env=os.environ | {"DETECTRON2_DATASETS": str(root), "PYTHONPATH": str(repository)},
        check=True,
        capture_output=True,
    )
    content = json.loads((out / "results.json").read_text("utf-8"))
    there = next(row for row in content["results"] if row["passport"]["model"]["config"] == CONFIG)
    assert there["dataset"] == "scenes_60_test"
    assert (there["scores"], there["classes"]) == (here["scores"], here["classes"])
    one, two = (
        (tmp_path / folder / "result.json").read_text("utf-8")
        for folder in (
            f"out/catseg_d2-scenes_60/{DATASET}",
            "two/catseg_d2-scenes_60/scenes_60_test",
        )
    )
    assert one == two, "the examples are the same too"
