"""What a command prints: a header, one line for each step with its result, warnings once, tables.

On a terminal the running step shows a progress bar, which its line replaces. Elsewhere (a pipe, the
log of a CI job) all output is plain lines without control characters, at most about twenty for a
step.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

from tqdm import tqdm

from segcore.errors import MESSAGE_CHARACTERS, printable

# Between two plain lines of a step: both a part of the step and some seconds, or many seconds.
LINE_PART, LINE_SECONDS, LINE_SECONDS_AT_MOST = 0.05, 10.0, 600.0


class Console:
    """The output of a command.

    Args:
        out: receives all but warnings; None: ``sys.stdout`` at the time of printing.
        err: receives warnings; None: ``sys.stderr``.
        silent: prints nothing, as in all but the main process.
        clock: seconds, for durations and rates.
    """

    def __init__(
        self,
        out: TextIO | None = None,
        err: TextIO | None = None,
        *,
        silent: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out, self._err, self.clock = out, err, clock
        self.silent = silent
        self._warned: set[str] = set()
        self._steps: list[Step] = []

    @property
    def out(self) -> TextIO:
        """The stream of all output but warnings."""
        return sys.stdout if self._out is None else self._out

    @property
    def interactive(self) -> bool:
        """Whether the output is a terminal that can replace a line."""
        return self.out.isatty() and os.environ.get("TERM") != "dumb"

    def print(self, text: str = "") -> None:
        """Print lines, above the progress bar if one is shown; control characters are escaped."""
        if not self.silent:
            self._write(text, self.out)

    def warn(self, text: str) -> None:
        """Print a warning, the same one only once."""
        if text not in self._warned and not self.silent:
            self._warned.add(text)
            self._write(f"warning: {text}", sys.stderr if self._err is None else self._err)

    def header(self, title: str, facts: Mapping[str, object]) -> None:
        """Print what runs, and a line for each of the `facts` (device, output folder ...)."""
        width = max(map(len, facts), default=0)
        self.print("\n".join([title, *(f"  {key:{width}}  {facts[key]}" for key in facts)]))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table: first column to the left, the others to the right."""
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        for row in (header, *rows):
            cells = [f"{row[0]:{widths[0]}}"]
            cells += [f"{cell:>{w}}" for cell, w in zip(row[1:], widths[1:], strict=True)]
            self.print(f"  {'  '.join(cells).rstrip()}")

    def step(self, title: str, total: int | None = None, done: int = 0) -> "Step":
        """Return a step, to be used as a context manager or with ``begin`` and ``end``.

        Args:
            title: what the step does.
            total: number of its items; None: unknown.
            done: items that were done before.
        """
        return Step(self, title, total, done)

    def begin(self, step: "Step") -> None:
        """Show the progress bar of a step in place of that of the step around it."""
        self._hide_bar()
        self._steps.append(step)
        step.show()

    def end(self, step: "Step") -> None:
        """Hide the progress bar of a step."""
        step.hide()
        self._steps.remove(step)

    def _hide_bar(self) -> None:
        if self._steps:
            self._steps[-1].hide()

    def _write(self, text: str, stream: TextIO) -> None:
        lines = (printable(line, MESSAGE_CHARACTERS) for line in text.split("\n"))
        self._hide_bar()
        print(*lines, sep="\n", file=stream, flush=True)
        if self._steps:
            self._steps[-1].show()


class Step:
    """A step of a :class:`Console`: a progress bar, then one line with title, result, duration.

    An exception that ends the step prints no line.

    Attributes:
        result: what the line at the end says, set by the caller.
        done: number of items that are done.
    """

    def __init__(self, console: Console, title: str, total: int | None, done: int) -> None:
        self._console, self._title, self._total = console, title, total
        self.result = ""
        self.done = self._first = self._printed = done
        self._note = ""
        self._start = self._line = console.clock()
        self._bar: tqdm | None = None

    def begin(self) -> None:
        """Start the clock and show the step."""
        self._start = self._line = self._console.clock()
        self._console.begin(self)

    def end(self, *, failed: bool = False) -> None:
        """Print the line of the step, unless it `failed`."""
        self._console.end(self)
        if not failed:
            result = f"  {self.result}" if self.result else ""
            self._console.print(f"{self._title}{result}  ({duration(self.seconds)})")

    def __enter__(self) -> "Step":
        self.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.end(failed=kind is not None)

    @property
    def seconds(self) -> float:
        """Seconds since the step began."""
        return self._console.clock() - self._start

    def update(self, done: int | None = None, note: str = "") -> None:
        """Report progress.

        Args:
            done: number of items that are done by now; None: one more.
            note: numbers to show beside it, such as a loss.
        """
        self.done = self.done + 1 if done is None else done
        self._note = printable(note)
        if self._console.silent:
            return
        if self._console.interactive:
            self.show()
            self._bar.set_postfix_str(self._note, refresh=False)
            self._bar.update(self.done - self._bar.n)
            if self._total is None:
                self._bar.refresh()
        else:
            self._print_rarely()

    def show(self) -> None:
        """Show the progress bar, on a terminal."""
        if self._bar is None and self._console.interactive and not self._console.silent:
            counts = "{n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
            form = "{desc} {elapsed}{postfix}"
            self._bar = _Bar(
                desc=printable(self._title),
                total=self._total,
                initial=self.done,
                file=self._console.out,
                leave=False,
                dynamic_ncols=True,
                bar_format=form if self._total is None else f"{{desc}} |{{bar}}| {counts}",
            )
            self._bar.start_t -= self.seconds  # tqdm's clock: the step may have begun before

    def hide(self) -> None:
        """Remove the progress bar, until the next update."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _print_rarely(self) -> None:
        now = self._console.clock()
        part = (self.done - self._printed) / self._total if self._total else 0.0
        seconds = now - self._line
        due = (seconds >= LINE_SECONDS and part >= LINE_PART) or seconds >= LINE_SECONDS_AT_MOST
        if not due or self.done == self._total:
            return
        self._line, self._printed = now, self.done
        parts = [f"{self.done:,}" if self._total is None else f"{self.done:,}/{self._total:,}"]
        if self._total and self.done > self._first:
            rate = self.seconds / (self.done - self._first)
            parts.append(f"{duration(rate * (self._total - self.done))} left")
        self._console.print(f"{self._title}  {', '.join([*parts, self._note]).rstrip(', ')}")


class _Bar(tqdm):
    """A bar without tqdm's thread: data loaders fork while it is shown."""

    monitor_interval = 0


def duration(seconds: float) -> str:
    """Return a duration for people: "12 s", "3 min 20 s", "2 h 5 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


_terminal = Console(silent=True)


def terminal() -> Console:
    """Return the console of this process; it prints nothing before :func:`open_terminal`."""
    return _terminal


def open_terminal() -> Console:
    """Let :func:`terminal` print: for entry points, in their main process."""
    _terminal.silent = False
    return _terminal
