"""Draw curves as an SVG image, without a plotting library."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, MARGIN, LINE = 640, 360, 48, 15  # HEIGHT: without the legend
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf")

Curve = Sequence[tuple[float, float]]


def curves_svg(curves: Mapping[str, Curve], x_label: str, *, logarithmic: bool = False) -> str:
    """Return an SVG image of curves, with a legend below them; the y axis contains 0.

    Args:
        curves: name -> points (x, y) in the order of x; at least one point in all.
        x_label: name of the x axis.
        logarithmic: doubling x is a step of the same length everywhere; all x are above 0.
    """
    position = math.log2 if logarithmic else float
    xs = sorted({x for curve in curves.values() for x, _ in curve})
    ys = [y for curve in curves.values() for _, y in curve]
    low, high = min(0.0, *ys), max(0.0, *ys)
    first, last = position(xs[0]), position(xs[-1])

    def column(x: float) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * (position(x) - first) / ((last - first) or 1.0)

    def row(y: float) -> float:
        return HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (y - low) / ((high - low) or 1.0)

    height = HEIGHT + LINE * (len(curves) + 1)
    parts = [f'<rect width="{WIDTH}" height="{height}" fill="white"/>']
    for y in (low, (low + high) / 2, high):
        line = f'x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{row(y):.1f}" y2="{row(y):.1f}"'
        parts.append(f'<line {line} stroke="#ccc"/>')
        parts.append(_text(MARGIN - 6, row(y) + 4, f"{y:.2f}", "end"))
    for x in xs if logarithmic else sorted({xs[0], xs[len(xs) // 2], xs[-1]}):
        parts.append(_text(column(x), HEIGHT - MARGIN + 18, f"{x:g}", "middle"))
    parts.append(_text(WIDTH / 2, HEIGHT - 10, x_label, "middle"))
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{column(x):.1f},{row(y):.1f}" for x, y in curve)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(_text(MARGIN, HEIGHT + LINE * (number + 1), name, "start", colour))
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n' + "\n".join(parts) + "\n</svg>\n"


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#333") -> str:
    attributes = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"'
    return f'<text {attributes} font-family="sans-serif" font-size="12">{escape(text)}</text>'
