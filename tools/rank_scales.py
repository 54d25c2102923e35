#!/usr/bin/env python3
"""Print and plot the per-rank scales that a model with RankSeg has learned.

    python tools/rank_scales.py output/scenes_1k_rankseg/model_final.pth --plot scales.svg

Figure 7 of the paper (ECCV 2022): the model amplifies the scores of the top ranks. Several
checkpoints give several curves; published checkpoints and those of training both work. The scales
are the weight of the layer norm (``MODEL.RANKSEG.SCORES norm``), the inverse temperatures of
``temperature``, or the one factor of ``shared``. In models with queries the last scale is that of
"no object".
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

# Our names and the published one; their prefix depends on the model.
NAMES = ("scores.weight", "scores.inverse_temperature", "ml_norm.weight")
WIDTH, HEIGHT, MARGIN = 640, 360, 48
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf")


def read_scales(checkpoint: Path) -> list[float]:
    """Return the scale of every rank, that of the most probable class first.

    Raises:
        UserError: the file cannot be read, or its model has no RankSeg.
    """
    weights = read_checkpoint(checkpoint)["model"]
    for name, value in weights.items():
        if f".{name}".endswith(tuple(f".{known}" for known in NAMES)) and value.ndim == 1:
            return value.tolist()
    raise UserError(f"{checkpoint} holds no per-rank scales: its model was trained without RankSeg")


def as_table(scales: Mapping[str, Sequence[float]]) -> str:
    """Return a table with a line per rank and a column per checkpoint."""
    width = max(8, *map(len, scales))
    lines = ["rank " + " ".join(f"{name:>{width}}" for name in scales)]
    for rank in range(max(map(len, scales.values()))):
        cells = (f"{of[rank]:.4f}" if rank < len(of) else "" for of in scales.values())
        lines.append(f"{rank + 1:4} " + " ".join(f"{cell:>{width}}" for cell in cells))
    return "\n".join(line.rstrip() for line in lines)


def as_svg(scales: Mapping[str, Sequence[float]]) -> str:
    """Return an SVG image with the curves of the scales over the ranks."""
    every = [scale for of in scales.values() for scale in of]
    low, high = min(0.0, *every), max(0.0, *every)
    last = max(len(of) for of in scales.values())

    def x(rank: int) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * (rank - 1) / max(last - 1, 1)

    def y(scale: float) -> float:
        return HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (scale - low) / ((high - low) or 1.0)

    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for scale in (low, (low + high) / 2, high):
        line = f'x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y(scale):.1f}" y2="{y(scale):.1f}"'
        parts.append(f'<line {line} stroke="#ccc"/>')
        parts.append(_text(MARGIN - 6, y(scale) + 4, f"{scale:.2f}", "end"))
    for rank in sorted({1, (last + 1) // 2, last}):
        parts.append(_text(x(rank), HEIGHT - MARGIN + 18, str(rank), "middle"))
    parts.append(_text(WIDTH / 2, HEIGHT - 10, "rank", "middle"))
    for number, (name, of) in enumerate(scales.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{x(rank):.1f},{y(scale):.1f}" for rank, scale in enumerate(of, 1))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(_text(WIDTH - MARGIN, 16 + 15 * number, name, "end", colour))
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n' + "\n".join(parts) + "\n</svg>\n"


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#333") -> str:
    attributes = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"'
    return f'<text {attributes} font-family="sans-serif" font-size="12">{escape(text)}</text>'


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
        scales = {str(path): read_scales(path) for path in arguments.checkpoints}
        print(as_table(scales))
        if arguments.plot is not None:
            with writing(arguments.plot) as file:
                file.write(as_svg(scales).encode())


if __name__ == "__main__":
    main()
