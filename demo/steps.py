"""Commands that run one after the other; finished and unchanged ones are skipped."""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segcore.errors import UserError
from segcore.runtime.console import Console
from segcore.runtime.files import write_text

LINES_OF_FAILURE = 15  # of the output of a command that failed


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: short, unique.
        title: what the step does, for people.
        command: arguments of the Python interpreter, a script first.
        sources: glob patterns, relative to the repository, of the files that determine the result.
        output: the folder that the command fills, if any, relative to the repository; emptied
            before it runs.
        result: returns the result in a few words; it is given the output folder, or the folder of
            the whole run where there is none.
    """

    name: str
    title: str
    command: Sequence[str]
    sources: Sequence[str]
    output: Path | None = None
    result: Callable[[Path], str] = lambda folder: ""

    @property
    def line(self) -> str:
        """The command as typed in a terminal."""
        return shlex.join(["python", *self.command])


class Steps:
    """Runs steps in order and remembers them in a file, ``steps.json``.

    A step is skipped where its command, its sources and all steps before it are as they were when
    it last succeeded, and its output exists. What a command prints goes to ``logs/NAME.txt``; the
    console shows one line for each step, and each warning once.

    Args:
        folder: of the run; holds ``steps.json`` and ``logs``.
        repository: commands run here.
        environment: variables added to those of this process.
        console: shows the steps.
    """

    def __init__(
        self, folder: Path, repository: Path, environment: Mapping[str, str], console: Console
    ) -> None:
        self.folder, self.repository, self.console = folder, repository, console
        # Unbuffered, so that the console shows at once what a command prints.
        self.environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        self.seconds: dict[str, float] = {}
        self._record = folder / "steps.json"
        self._state = sys.executable

    def run(self, step: Step, title: str = "") -> None:
        """Run a step, or skip it.

        Args:
            step: to run.
            title: shown on the console; the step's by default.

        Raises:
            UserError: the command failed.
        """
        self._state = self._fingerprint(step)
        done = self._read().get(step.name, {})
        output = None if step.output is None else self.repository / step.output
        complete = output is None or output.exists()
        title = title or step.title
        if done.get("state") == self._state and complete:
            self.seconds[step.name] = done["seconds"]
            result = step.result(output or self.folder)
            self.console.print(f"{title}  {result or 'done'}  (unchanged)")
            return
        if output is not None:
            shutil.rmtree(output, ignore_errors=True)
        with self.console.step(title) as shown:
            self._run(step, shown.update)
            shown.result = step.result(output or self.folder) or "done"
        self.seconds[step.name] = shown.seconds
        self._write(step.name, {"state": self._state, "seconds": self.seconds[step.name]})

    def log(self, name: str) -> Path:
        """Return the file that holds the output of the step of that name."""
        return self.folder / "logs" / f"{name}.txt"

    def _run(self, step: Step, show: Callable[..., None]) -> None:
        """Run a command with its output in its log; `show` is given the last line as a note."""
        log = self.log(step.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        last: deque[str] = deque(maxlen=LINES_OF_FAILURE)
        with (
            log.open("w") as file,
            subprocess.Popen(
                [sys.executable, *step.command],
                cwd=self.repository,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="backslashreplace",
            ) as process,
        ):
            for line in process.stdout:
                file.write(line)
                if text := line.strip():
                    last.append(text)
                    show(note=text)
                if text.startswith("warning: "):
                    self.console.warn(text.removeprefix("warning: "))
        if process.returncode != 0:
            self.console.print("\n".join(last))
            raise UserError(
                f"step {step.name!r} failed with exit code {process.returncode}; its output is in "
                f"{log}"
            )

    def _fingerprint(self, step: Step) -> str:
        """Return a hash that changes with the step and all steps before it."""
        total = hashlib.sha256(json.dumps([self._state, step.name, *step.command]).encode())
        for pattern in step.sources:
            for path in sorted(self.repository.glob(pattern)):
                total.update(path.read_bytes())
        return total.hexdigest()

    def _read(self) -> dict[str, dict]:
        try:
            return dict(json.loads(self._record.read_text()))
        except (FileNotFoundError, ValueError, TypeError):  # absent or damaged: no step is done
            return {}

    def _write(self, name: str, entry: dict) -> None:
        record = {**self._read(), name: entry}
        self._record.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._record, json.dumps(record, indent=1) + "\n")
