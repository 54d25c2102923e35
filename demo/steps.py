"""Commands run one after the other; what is done and unchanged is not done again."""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segcore.errors import UserError
from segcore.runtime.files import write_text


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: short, unique.
        title: what the step does, for people.
        command: arguments of the Python interpreter, a script first.
        sources: glob patterns, relative to the repository, of the files that decide the result.
        output: the folder that the command fills, if any, relative to the repository; emptied
            before it runs.
    """

    name: str
    title: str
    command: Sequence[str]
    sources: Sequence[str]
    output: Path | None = None

    @property
    def line(self) -> str:
        """The command as it is typed."""
        return shlex.join(["python", *self.command])


class Steps:
    """Runs steps in order and remembers them in a file, ``steps.json``.

    A step is left out where its command, its sources and all steps before it are as they were when
    it last succeeded, and its output is there.

    Args:
        folder: where ``steps.json`` is kept.
        repository: commands run here.
        environment: variables added to those of this process.
    """

    def __init__(self, folder: Path, repository: Path, environment: Mapping[str, str]):
        self.repository = repository
        # Unbuffered, because what a command prints is shown while it works.
        self.environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        self.seconds: dict[str, float] = {}
        self._record = folder / "steps.json"
        self._state = sys.executable

    def run(self, step: Step, number: str) -> None:
        """Runs a step, or finds it done; its output goes to the terminal.

        Raises:
            UserError: the command failed.
        """
        self._state = self._fingerprint(step)
        done = self._read().get(step.name, {})
        output = None if step.output is None else self.repository / step.output
        complete = output is None or output.exists()
        if done.get("state") == self._state and complete:
            self.seconds[step.name] = done["seconds"]
            print(f"[{number}] {step.title}: done before ({done['seconds']:.0f} s)", flush=True)
            return
        print(f"\n[{number}] {step.title}\n$ {step.line}", flush=True)
        if output is not None:
            shutil.rmtree(output, ignore_errors=True)
        start = time.monotonic()
        code = self._tee([sys.executable, *step.command], self.log(step.name))
        if code != 0:
            raise UserError(f"step {step.name!r} ended with exit code {code}; see what it said")
        self.seconds[step.name] = time.monotonic() - start
        self._write(step.name, {"state": self._state, "seconds": self.seconds[step.name]})

    def log(self, name: str) -> Path:
        """The file that keeps what the step of that name printed."""
        return self._record.parent / "logs" / f"{name}.txt"

    def _tee(self, command: Sequence[str], log: Path) -> int:
        """Runs a command, copies what it prints to a file, returns its exit code."""
        log.parent.mkdir(parents=True, exist_ok=True)
        pipe = {"stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        with (
            log.open("w") as file,
            subprocess.Popen(command, cwd=self.repository, env=self.environment, **pipe) as process,
        ):
            for line in process.stdout:
                print(line, end="", flush=True)
                file.write(line)
        return process.returncode

    def _fingerprint(self, step: Step) -> str:
        """Changes when the step, or anything before it, changes."""
        total = hashlib.sha256(json.dumps([self._state, step.name, *step.command]).encode())
        for pattern in step.sources:
            for path in sorted(self.repository.glob(pattern)):
                total.update(path.read_bytes())
        return total.hexdigest()

    def _read(self) -> dict[str, dict]:
        try:
            return dict(json.loads(self._record.read_text()))
        except (FileNotFoundError, ValueError, TypeError):  # absent, or damaged: nothing is done
            return {}

    def _write(self, name: str, entry: dict) -> None:
        record = {**self._read(), name: entry}
        self._record.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._record, json.dumps(record, indent=1) + "\n")
