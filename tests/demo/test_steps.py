"""A step runs once, and again when it, its sources or a step before it changed."""

import importlib
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from segcore.errors import UserError
from segcore.runtime.console import Console


@pytest.fixture
def steps(tmp_path):
    return importlib.import_module("steps")


@pytest.fixture
def two_steps(steps, tmp_path):
    """Both append a letter to a file of their own, so that runs can be counted."""
    (tmp_path / "source.py").write_text("one")

    def step(name):
        write = f"open({str(tmp_path / name)!r}, 'a').write('x')"
        make = f"import pathlib; pathlib.Path({str(tmp_path / 'out' / name)!r}).mkdir(parents=True)"
        return steps.Step(name, name, ["-c", f"{write}; {make}"], ["*.py"], tmp_path / "out" / name)

    return step("first"), step("second")


@pytest.fixture
def console() -> Console:
    """A console whose output is kept."""
    return Console(io.StringIO(), io.StringIO())


def run_both(steps, tmp_path, pair):
    runner = steps.Steps(tmp_path / "out", tmp_path, {}, Console(silent=True))
    for step in pair:
        runner.run(step)
    return [len((tmp_path / step.name).read_text()) for step in pair]


def test_a_second_call_runs_nothing(steps, tmp_path, two_steps):
    assert run_both(steps, tmp_path, two_steps) == [1, 1]
    assert run_both(steps, tmp_path, two_steps) == [1, 1]


def test_changes_are_followed(steps, tmp_path, two_steps):
    first, second = two_steps
    run_both(steps, tmp_path, two_steps)
    (tmp_path / "source.py").write_text("two")
    assert run_both(steps, tmp_path, two_steps) == [2, 2]
    changed = replace(second, command=[*second.command, "more"])
    assert run_both(steps, tmp_path, (first, changed)) == [2, 3]
    changed_first = replace(first, command=[*first.command, "more"])
    assert run_both(steps, tmp_path, (changed_first, changed)) == [3, 4]
    (tmp_path / "out" / "second").rmdir()
    assert run_both(steps, tmp_path, (changed_first, changed)) == [3, 5]


@pytest.mark.parametrize("content", [b'{"first": {"sta', b"\xff\x00", b"", b"7", b"[1, 2]"])
def test_a_damaged_record_counts_as_empty(steps, tmp_path, two_steps, content):
    run_both(steps, tmp_path, two_steps)
    (tmp_path / "out" / "steps.json").write_bytes(content)
    assert run_both(steps, tmp_path, two_steps) == [2, 2]


def test_outputs_lie_in_the_repository_wherever_it_is_started(steps, tmp_path, monkeypatch):
    repository, elsewhere = tmp_path / "repository", tmp_path / "elsewhere"
    for folder in (repository, elsewhere):
        (folder / "out").mkdir(parents=True)
        (folder / "out" / "precious").touch()
    monkeypatch.chdir(elsewhere)
    step = steps.Step("x", "x", ["-c", "import os; os.mkdir('out')"], [], Path("out"))
    for _ in range(2):
        steps.Steps(repository, repository, {}, Console(silent=True)).run(step)
    assert (elsewhere / "out" / "precious").exists()
    assert not (repository / "out" / "precious").exists()


def test_a_failed_step_shows_its_output_and_is_tried_again(steps, tmp_path, console):
    command = ["-c", "print('reason'); exit(3)"]
    failing = steps.Step("bad", "Fails", command, [], tmp_path / "out" / "bad")
    for count in (1, 2):
        with pytest.raises(UserError, match=r"'bad' failed with exit code 3.*bad\.txt"):
            steps.Steps(tmp_path / "out", tmp_path, {}, console).run(failing)
        assert console.out.getvalue() == "reason\n" * count


def test_the_console_shows_a_line_a_step_and_warnings_once(steps, tmp_path, console):
    code = "import sys; print('warning: odd', file=sys.stderr); print('x\\n' * 1000)"
    results = iter(["a score", "a score", "a score"])
    pair = [steps.Step(n, n, ["-c", code], [], result=lambda folder: next(results)) for n in "ab"]
    for run in (pair, pair[:1]):
        runner = steps.Steps(tmp_path / "out", tmp_path, {}, console)
        for step in run:
            runner.run(step)
    lines = console.out.getvalue().splitlines()
    assert [re.sub(r"\d+ s", "N s", line) for line in lines] == [
        "a  a score  (N s)",
        "b  a score  (N s)",
        "a  a score  (unchanged)",
    ]
    assert console._err.getvalue() == "warning: odd\n"
    assert runner.log("b").read_text().count("x\n") == 1000


def test_the_environment_reaches_the_command_and_its_output_is_kept(steps, tmp_path):
    command = ["-c", "import os; print(os.environ['GREETING'])"]
    step = steps.Step("env", "Environment", command, [], None)
    runner = steps.Steps(tmp_path / "out", tmp_path, {"GREETING": "hello"}, Console(silent=True))
    runner.run(step)
    assert runner.log("env").read_text() == "hello\n"


def test_files_that_determine_a_result_are_sources_of_its_step(repository):
    planned = {step.name: step for step in importlib.import_module("run_demo").STEPS}

    def sources(name):
        return {path for pattern in planned[name].sources for path in repository.glob(pattern)}

    for step in planned.values():
        assert all(any(repository.glob(pattern)) for pattern in step.sources), step.name
    scenes = repository / "segcore/vocabularies/scenes_60.json"
    for name in ("train", "evaluate"):
        parts = ("catseg_d2/losses.py", "catseg_d2/encoders/models/scenes-tiny.json")
        assert {scenes, *(repository / part for part in parts)} <= sources(name)
    for name in ("evaluate-rankseg", "evaluate-panoptic"):
        parts = ("mask2former_rankseg/matcher.py", "configs/mask2former_rankseg/parts/scenes.yaml")
        assert {scenes, *(repository / part for part in parts)} <= sources(name)
