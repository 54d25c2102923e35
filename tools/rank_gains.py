#!/usr/bin/env python3
"""The gains that a model with RankSeg has learned for its ranks, as numbers and as an image.

    python tools/rank_gains.py output/scenes_1k_rankseg/model_final.pth --plot gains.svg

Figure 7 of the paper (ECCV 2022): scores of the likeliest classes are amplified, those of further
ranks are not. Several checkpoints become several curves. Any published or own file will do: the
gains are those of the layer norm (``MODEL.RANKSEG.SCORES norm``), the inverse temperatures of the
form ``temperature``, or the one factor of ``shared``. In models with queries the last gain is that
of "no object".
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from segcore.checkpoint import read_checkpoint
from segcore.errors import UserError, exit_on_user_error
from segcore.runtime.files import path_argument, writing

# Ours and the published name; what stands in front of them depends on the model.
NAMES = ("scores.weight", "scores.inverse_temperature", "ml_norm.weight")
WIDTH, HEIGHT, MARGIN = 640, 360, 48
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf")


def read_gains(checkpoint: Path) -> list[float]:
    """The gain of every rank, the likeliest first.

    Raises:
        UserError: the file cannot be read, or its model has no RankSeg.
    """
    weights = read_checkpoint(checkpoint)["model"]
    for name, value in weights.items():
        if f".{name}".endswith(tuple(f".{known}" for known in NAMES)) and value.ndim == 1:
            return value.tolist()
    raise UserError(f"{checkpoint} holds no gains of ranks: its model was trained without RankSeg")


def as_table(gains: Mapping[str, Sequence[float]]) -> str:
    """A line a rank, a column a checkpoint."""
    width = max(8, *map(len, gains))
    lines = ["rank " + " ".join(f"{name:>{width}}" for name in gains)]
    for rank in range(max(map(len, gains.values()))):
        cells = (f"{of[rank]:.4f}" if rank < len(of) else "" for of in gains.values())
        lines.append(f"{rank + 1:4} " + " ".join(f"{cell:>{width}}" for cell in cells))
    return "\n".join(line.rstrip() for line in lines)


def as_svg(gains: Mapping[str, Sequence[float]]) -> str:
    """Curves of the gains over the ranks."""
    every = [gain for of in gains.values() for gain in of]
    low, high = min(0.0, *every), max(0.0, *every)
    last = max(len(of) for of in gains.values())

    def x(rank: int) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * (rank - 1) / max(last - 1, 1)

    def y(gain: float) -> float:
        return HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (gain - low) / ((high - low) or 1.0)

    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for gain in (low, (low + high) / 2, high):
        line = f'x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y(gain):.1f}" y2="{y(gain):.1f}"'
        parts.append(f'<line {line} stroke="#ccc"/>')
        parts.append(_text(MARGIN - 6, y(gain) + 4, f"{gain:.2f}", "end"))
    for rank in sorted({1, (last + 1) // 2, last}):
        parts.append(_text(x(rank), HEIGHT - MARGIN + 18, str(rank), "middle"))
    parts.append(_text(WIDTH / 2, HEIGHT - 10, "rank", "middle"))
    for number, (name, of) in enumerate(gains.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{x(rank):.1f},{y(gain):.1f}" for rank, gain in enumerate(of, 1))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(_text(WIDTH - MARGIN, 16 + 15 * number, name, "end", colour))
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n' + "\n".join(parts) + "\n</svg>\n"


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#333") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"'
    return f'<text {place} font-family="sans-serif" font-size="12">{escape(text)}</text>'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", nargs="+", type=path_argument)
    parser.add_argument("--plot", type=path_argument, help="write the curves to this .svg file")
    arguments = parser.parse_args()
    with exit_on_user_error():
        if arguments.plot is not None and arguments.plot.suffix != ".svg":
            raise UserError(f"--plot {arguments.plot} must end in .svg")
        gains = {str(path): read_gains(path) for path in arguments.checkpoints}
        print(as_table(gains))
        if arguments.plot is not None:
            with writing(arguments.plot) as file:
                file.write(as_svg(gains).encode())


if __name__ == "__main__":
    main()
