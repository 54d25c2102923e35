"""Run GPU tests and benchmarks in parts, each with a time limit; bench/gpu.sh calls it.

    python bench/gpu.py --parts catseg-b --scale 2
    python bench/gpu.py --dry-run

Weights and images are random, as in the other benchmarks. "baseline" is bench/baseline_catseg.py,
"transformers" the same Mask2Former, UPerNet or GroupViT in that library. Every line is written as
soon as it is measured, so that a part that exceeds its time keeps its lines. Times are medians of
repeated calls after two warm-up calls; "GB" is the peak above the loaded model; "other labels" is
the fraction of pixels whose label differs from that of float32.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Part:
    """A command that runs in a separate process.

    Attributes:
        command: arguments of the interpreter; ``{log}`` stands for the file of its lines.
        seconds: its time limit.
        tiny: additional arguments of a dry run.
    """

    command: Sequence[str]
    seconds: float
    tiny: Sequence[str] = ()


def _measured(*arguments: str, seconds: float) -> Part:
    return Part([str(BENCH / "gpu_lines.py"), "{log}", *arguments], seconds, ["--tiny"])


PARTS = {
    "tests": Part(
        ["-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/test_gpu.py"],
        130,
        ["-k", "counts or (scores and CAT)"],
    ),
    "catseg-b": _measured("catseg", "catseg_d2/vitb_384.yaml", "--compile", seconds=95),
    "catseg-l": _measured("catseg", "catseg_d2/vitl_336.yaml", seconds=55),
    "encoders": _measured("encoders", seconds=45),
    "mask2former": _measured("mask2former", seconds=60),
    "per-pixel": _measured("per_pixel", seconds=45),
    "groupvit": _measured("groupvit", seconds=30),
}


@dataclass(frozen=True)
class Done:
    """The outcome of a part, and its lines."""

    outcome: str
    seconds: float
    lines: list[dict]


def run(name: str, out: Path, scale: float, dry: bool) -> Done:
    """Run a part; its output goes to ``out``/NAME.log, its lines to NAME.jsonl."""
    part, log = PARTS[name], out / f"{name}.jsonl"
    log.unlink(missing_ok=True)
    command = [sys.executable, *(text.replace("{log}", str(log)) for text in part.command)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    if dry:
        command += part.tiny
        environment |= {"CATRANK_GPU_TESTS_ON": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        environment["OMP_NUM_THREADS"] = "1"
    start = time.monotonic()
    with (out / f"{name}.log").open("w", encoding="utf-8") as printed:
        try:
            status = subprocess.run(
                command,
                stdout=printed,
                stderr=subprocess.STDOUT,
                timeout=part.seconds * scale,
                env=environment,
                cwd=BENCH.parent,
                check=False,
            ).returncode
            outcome = "done" if status == 0 else f"FAILED (exit status {status})"
        except subprocess.TimeoutExpired:
            outcome = f"OUT OF TIME ({part.seconds * scale:.0f} s)"
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    return Done(outcome, time.monotonic() - start, [json.loads(line) for line in lines])


def table(name: str, done: Done, printed: str) -> str:
    """Return the part as Markdown: outcome, lines, and after a failure the end of its output."""
    text = [f"## {name}: {done.outcome}, {done.seconds:.0f} s", ""]
    if done.lines:
        columns = list(done.lines[0])
        text += ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
        text += ["| " + " | ".join(str(line[c]) for c in columns) + " |" for line in done.lines]
        text.append("")
    if not done.lines or done.outcome != "done":
        text += ["```", *printed.splitlines()[-15:], "```", ""]
    return "\n".join(text)


def where() -> str:
    """Return the device and the versions."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"# {device}, torch {torch.__version__}, Python {sys.version.split()[0]}\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    add("--scale", type=float, default=1.0, help="factor on the time limits (default: 1)")
    add("--dry-run", action="store_true", help="tiny sizes on the CPU")
    default = BENCH.parent / "output" / "bench" / "gpu"
    add(
        "--out",
        type=Path,
        default=Path(os.environ.get("OUT", default)),
        help="default: %(default)s",
    )
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    report, status = args.out / "table.md", 0
    report.write_text(where(), encoding="utf-8")
    for name in args.parts:
        done = run(name, args.out, args.scale, args.dry_run)
        printed = (args.out / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        with report.open("a", encoding="utf-8") as file:
            file.write("\n" + table(name, done, printed))
        print(table(name, done, printed), flush=True)
        status |= done.outcome != "done"
    print(f"written to {report}")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
