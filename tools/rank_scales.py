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
from pathlib import Path

from segcore.checkpoint import read_checkpoint
from segcore.drawing.curves import curves_svg
from segcore.errors import UserError, exit_on_user_error
from segcore.runtime.files import path_argument, writing

# Our names and the published one; their prefix depends on the model.
NAMES = ("scores.weight", "scores.inverse_temperature", "ml_norm.weight")


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
    return curves_svg({name: [*enumerate(of, 1)] for name, of in scales.items()}, "rank")


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
