"""Draw the figures of the methods.

PYTHONPATH=tools python -m docs_site.figures     # writes docs/images/*.svg
"""

import math
from collections.abc import Callable
from pathlib import Path

from docs_site.svg import Diagram

IMAGES = Path(__file__).resolve().parents[2] / "docs/images"
SKY, TREE, DOG = "#7fb2e5", "#6aa84f", "#c98a4b"
COLORS, NAMES = (SKY, TREE, DOG), ("sky", "tree", "my dog")
GREY, ACCENT = "#d5dae1", "#ffe9b8"
GRID = 8


def scene(row: int, column: int) -> int:
    """Return the class of a cell of the example image: sky, tree or dog."""
    if (row - 5) ** 2 + (column - 5) ** 2 <= 4:
        return 2
    return 1 if row >= 5 or (column <= 1 and row >= 2) else 0


def noise(*numbers: int) -> float:
    """Return a number in 0..1 that looks random and is always the same."""
    value = math.sin(sum(n * f for n, f in zip(numbers, (12.9898, 78.233, 37.719), strict=False)))
    return value * 43758.5453 % 1


def blend(color: str, weight: float) -> str:
    """Return a colour mixed with white, by its weight in 0..1."""
    channels = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 + (c - 255) * weight):02x}" for c in channels)


def _score(index: int, spread: float) -> Callable[[int, int], str]:
    """Return the colours of a map of scores of a class, with noise of that spread."""

    def color(row: int, column: int) -> str:
        clean = 0.95 if scene(row, column) == index else 0.08
        value = clean * (1 - spread) + spread * noise(row, column, index)
        return blend(COLORS[index], max(0.05, value))

    return color


def _labels(row: int, column: int) -> str:
    return COLORS[scene(row, column)]


def _image(row: int, column: int) -> str:
    return blend(COLORS[scene(row, column)], 0.55 + 0.4 * noise(row, column))


def catseg() -> Diagram:
    """Return the figure of CAT-Seg: cost volume and its aggregation."""
    figure = Diagram(760, 430, "CAT-Seg: similarities of patches and class names, then aggregation")
    figure.text(65, 22, "image", bold=True)
    figure.cells(17, 40, 12, (GRID, GRID), _image)
    figure.text(65, 232, "class names", bold=True)
    for index, name in enumerate(NAMES):
        figure.box(15, 250 + 34 * index, 100, 28, name, blend(COLORS[index], 0.4))
    figure.box(145, 58, 120, 60, "CLIP's image\nencoder")
    figure.box(145, 270, 120, 60, "CLIP's text\nencoder")
    figure.arrow((115, 88), (143, 88))
    figure.arrow((117, 300), (143, 300))
    figure.text(335, 22, "cost volume", bold=True)
    for index in range(3):
        figure.cells(290, 40 + 112 * index, 11, (GRID, GRID), _score(index, 0.75))
    figure.text(335, 385, "cosine of every patch\nand every class: noisy", size=14)
    figure.arrow((265, 88), (288, 88))
    figure.arrow((265, 300), (288, 300))
    figure.box(410, 70, 170, 92, "spatial aggregation\nover the positions\nof each class", ACCENT)
    figure.box(410, 200, 170, 92, "class aggregation\nover the classes\nat each position", ACCENT)
    figure.arrow((380, 116), (408, 116))
    figure.arrow((480, 162), (480, 198))
    figure.arrow((515, 198), (515, 164))
    figure.text(495, 316, "alternating layers", size=14)
    figure.arrow((580, 246), (606, 246))
    figure.box(608, 220, 132, 52, "decoder, guided\nby the image")
    figure.arrow((674, 220), (674, 168))
    figure.text(674, 22, "prediction", bold=True)
    figure.cells(610, 40, 16, (GRID, GRID), _labels)
    return figure


def rankseg() -> Diagram:
    """Return the figure of RankSeg: multi-label head, selection, scores by rank."""
    figure = Diagram(760, 380, "RankSeg: rank the classes of the image, then classify pixels")
    figure.text(65, 22, "image", bold=True)
    figure.cells(17, 40, 12, (GRID, GRID), _image)
    figure.box(145, 58, 100, 60, "model")
    figure.arrow((115, 88), (143, 88))
    figure.box(145, 180, 100, 60, "multi-label\nhead", ACCENT)
    figure.arrow((195, 118), (195, 178))
    figure.text(195, 148, "features", size=14)
    figure.text(380, 155, "probable classes, ranked", bold=True)
    names = ("1  sky", "2  tree", "3  my dog", "4  car", "5  sofa", "150  ship")
    fills = (*COLORS, GREY, GREY, GREY)
    figure.bars(360, 174, (0.97, 0.86, 0.7, 0.2, 0.12, 0.03), names, fills)
    figure.arrow((245, 210), (288, 210))
    figure.text(420, 345, "the top \u03ba are selected,\nthe others are not scored", size=14)
    figure.box(
        290,
        50,
        190,
        76,
        "classify pixels or regions\namong the selected,\na scale per rank",
        ACCENT,
    )
    figure.arrow((245, 88), (288, 88))
    figure.arrow((500, 210), (520, 210), (520, 108), (482, 108))
    figure.arrow((480, 76), (592, 76))
    figure.text(660, 22, "prediction", bold=True)
    figure.cells(596, 40, 16, (GRID, GRID), _labels)
    return figure


def essnet() -> Diagram:
    """Return the figure of ESSNet: pixels and classes as points of one small space."""
    figure = Diagram(760, 340, "ESSNet: pixels have the class of the nearest class embedding")
    figure.text(65, 22, "image", bold=True)
    figure.cells(17, 40, 12, (GRID, GRID), _image)
    figure.box(145, 58, 120, 60, "network")
    figure.arrow((115, 88), (143, 88))
    figure.text(205, 150, "12 numbers per pixel,\nhowever many classes", size=14)
    figure.arrow((265, 88), (298, 88))
    figure.box(300, 40, 270, 250, "", "#f7f8fa")
    figure.text(435, 22, "space of embeddings", bold=True)
    centers = ((370, 110), (490, 100), (420, 225))
    for index, (x, y) in enumerate(centers):
        for k in range(9):
            angle, radius = 2 * math.pi * noise(index, k), 12 + 26 * noise(k, index, 5)
            point = (x + radius * math.cos(angle), y + radius * math.sin(angle))
            figure.dot(*point, 4, COLORS[index])
        figure.dot(x, y, 9, COLORS[index], outlined=True)
        figure.text(x, y - 52, NAMES[index], size=14)
    for k in range(7):
        figure.dot(530 + 24 * noise(k, 3), 160 + 110 * noise(k, 8), 6, GREY, outlined=True)
    figure.dot(320, 307, 4, TREE)
    figure.text(330, 307, "pixel", size=14, anchor="start")
    figure.dot(400, 307, 8, TREE, outlined=True)
    figure.text(414, 307, "class, a row of a trained table", size=14, anchor="start")
    figure.arrow((570, 104), (596, 104))
    figure.text(666, 22, "prediction", bold=True)
    figure.cells(602, 40, 16, (GRID, GRID), _labels)
    figure.text(666, 196, "the nearest class", size=14)
    return figure


def mixreorg() -> Diagram:
    """Return the figure of MixReorg: mixed patches, each of which belongs to a caption."""
    figure = Diagram(760, 360, "MixReorg: mixed images, whose patches belong to known captions")
    first, second = "#5b8def", "#f0a04b"

    def shaded(color: str, seed: int) -> Callable[[int, int], str]:
        return lambda row, column: blend(color, 0.45 + 0.5 * noise(row, column, seed))

    def mixed(row: int, column: int) -> str:
        own = noise(row, column, 3) < 0.5
        return shaded(first, 1)(row, column) if own else shaded(second, 2)(row, column)

    def mask(row: int, column: int) -> str:
        return first if noise(row, column, 3) < 0.5 else second

    figure.text(80, 22, "images, captions", bold=True)
    figure.cells(32, 40, 12, (GRID, GRID), shaded(first, 1))
    figure.box(10, 144, 140, 28, '"a dog on grass"', blend(first, 0.3))
    figure.cells(32, 196, 12, (GRID, GRID), shaded(second, 2))
    figure.box(10, 300, 140, 28, '"boats at sea"', blend(second, 0.3))
    figure.arrow((150, 100), (198, 140))
    figure.arrow((150, 244), (198, 204))
    figure.text(254, 84, "mixed image", bold=True)
    figure.cells(202, 116, 13, (GRID, GRID), mixed)
    figure.text(254, 244, "tokens swapped\nat each position", size=14)
    figure.arrow((308, 168), (338, 168))
    figure.box(340, 132, 130, 72, "GroupViT:\npatches form\nsegments", ACCENT)
    figure.arrow((470, 150), (518, 110))
    figure.arrow((470, 186), (518, 250))
    figure.text(640, 22, "segmentation loss", bold=True)
    figure.cells(522, 50, 13, (GRID, GRID), mask)
    figure.text(692, 102, "each patch\nbelongs to\na known\ncaption", size=14)
    figure.text(640, 186, "contrastive loss", bold=True)
    figure.cells(522, 206, 13, (GRID, GRID), shaded(first, 1))
    figure.text(692, 258, "restored\nimage and\nits caption", size=14)
    return figure


FIGURES = {"catseg": catseg, "rankseg": rankseg, "essnet": essnet, "mixreorg": mixreorg}


def main() -> None:
    """Write all figures."""
    for name, draw in FIGURES.items():
        (IMAGES / f"{name}.svg").write_text(str(draw()), "utf-8")


if __name__ == "__main__":
    main()
