"""The console prints a line a step, warnings once, and no control characters off a terminal."""

import io
import logging
import re
import warnings

import pytest
from detectron2.utils.logger import setup_logger

from segcore.runtime.console import Console, duration
from segcore.runtime.logs import WarningHandler, set_up_quietly


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def console(clock) -> Console:
    return Console(io.StringIO(), io.StringIO(), clock=clock)


def test_a_step_is_one_line_with_its_result(console, clock):
    with console.step("evaluate", total=300) as step:
        for _ in range(300):
            step.update()
        clock.now = 63.0
        step.result = "mIoU 76.1"
    assert console.out.getvalue() == "evaluate  mIoU 76.1  (1 min 3 s)\n"


def test_a_long_step_prints_about_twenty_lines(console, clock):
    with console.step("train", total=10_000, done=5_000) as step:
        for done in range(5_001, 10_001):
            clock.now += 1.0
            step.update(done, "loss 0.5")
    lines = console.out.getvalue().splitlines()
    assert 8 <= len(lines) <= 12
    assert lines[0] == "train  5,500/10,000, 1 h 15 min left, loss 0.5"


def test_a_slow_step_shows_that_it_lives(console, clock):
    with console.step("train", total=1_000_000) as step:
        for done in range(1, 41):
            clock.now += 60.0
            step.update(done)
    assert len(console.out.getvalue().splitlines()) == 4 + 1


def test_warnings_once_and_to_the_error_stream(console):
    for _ in range(3):
        console.warn("c.png is all black")
    assert console._err.getvalue() == "warning: c.png is all black\n"
    assert console.out.getvalue() == ""


def test_control_characters_are_escaped(console):
    console.print("a\x1b[2Jb\nc")
    console.warn("a\rb")
    assert console.out.getvalue() == "a\\x1b[2Jb\nc\n"
    assert console._err.getvalue() == "warning: a\\rb\n"


def test_header_and_table(console):
    console.header("train", {"device": "cpu", "output": "out/"})
    console.table(["", "mIoU", "pixels"], [["seen", "79.0", "9.0"], ["unseen classes", "6.9", ""]])
    assert console.out.getvalue().splitlines() == [
        "train",
        "  device  cpu",
        "  output  out/",
        "                  mIoU  pixels",
        "  seen            79.0     9.0",
        "  unseen classes   6.9",
    ]


def test_a_silent_console_prints_nothing(clock):
    console = Console(io.StringIO(), io.StringIO(), silent=True, clock=clock)
    console.header("train", {"device": "cpu"})
    console.warn("x")
    with console.step("train", total=2) as step:
        clock.now = 1000.0
        step.update()
    assert console.out.getvalue() == console._err.getvalue() == ""


def test_a_failed_step_prints_no_result(console):
    with pytest.raises(KeyError), console.step("train"):
        raise KeyError
    assert console.out.getvalue() == ""
    console.print("after it")
    assert console.out.getvalue() == "after it\n"


def test_a_terminal_shows_a_bar_and_removes_it(clock):
    console = Console(stream := Terminal(), stream, clock=clock)
    with console.step("train", total=4) as step:
        step.update(2, "loss 0.5")
        with console.step("evaluate", total=1) as inner:
            inner.update()
        console.warn("blank image")
        step.update(4)
    shown = [re.sub(r"\x1b\[\w", "", part) for part in re.split(r"[\r\n]", stream.getvalue())]
    assert any(part.startswith("train |") and "2/4" in part for part in shown)
    lines = [part.strip() for part in stream.getvalue().split("\n")]
    ends = [line.rpartition("\r")[2].strip() for line in lines]
    assert [end for end in ends if end] == [
        "evaluate  (0 s)",
        "warning: blank image",
        "train  (0 s)",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.fixture
def loggers():
    """Loggers without the handlers of an earlier set-up; all that a set-up changes is restored."""
    named = [logging.getLogger(name) for name in (None, "detectron2", "fvcore", "quiet.test")]
    before = [(logger, [*logger.handlers], logger.level, logger.propagate) for logger in named]
    logging.captureWarnings(False)
    for logger in named:
        for handler in [*logger.handlers]:
            if isinstance(handler, WarningHandler):
                logger.removeHandler(handler)
    yield
    logging.captureWarnings(False)
    for logger, handlers, level, propagate in before:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


def test_loggers_write_files_and_print_warnings_once(loggers, tmp_path, console, capsys):
    def set_up() -> None:
        setup_logger(str(tmp_path), name="quiet.test", enable_propagation=True)
        logging.getLogger("quiet.test").info("a config of many lines")

    set_up_quietly(set_up, console)
    for _ in range(2):
        logging.getLogger("quiet.test").warning("odd %s", "weights")
        logging.getLogger("quiet.test").info("iteration")
        warnings.warn("a loader has many workers", UserWarning, stacklevel=1)
    printed = capsys.readouterr()
    assert printed.out == printed.err == console.out.getvalue() == ""
    assert console._err.getvalue().splitlines() == [
        "warning: odd weights",
        "warning: a loader has many workers",
    ]
    log = (tmp_path / "log.txt").read_text()
    assert "a config of many lines" in log and log.count("iteration") == 2
    assert log.count("odd weights") == 2


def test_a_second_set_up_adds_no_handler(loggers, console):
    for _ in range(2):
        set_up_quietly(lambda: None, console)
    handlers = logging.getLogger("fvcore").handlers
    assert sum(isinstance(handler, WarningHandler) for handler in handlers) == 1
