"""Draw diagrams as SVG: boxes, arrows, grids of cells, text. The same calls give the same bytes."""

from collections.abc import Callable, Sequence
from html import escape

INK, PALE, LINE = "#1f2933", "#eef1f6", "#7b8794"
STYLE = f'font-family="Helvetica, Arial, sans-serif" fill="{INK}"'


class Diagram:
    """A drawing of fixed size on white; coordinates are pixels from the top left."""

    def __init__(self, width: int, height: int, title: str) -> None:
        """Begin an empty drawing; the title is for readers who do not see it."""
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z" fill="{LINE}"/></marker>'
            "</defs>",
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        ]

    def text(
        self,
        x: float,
        y: float,
        lines: str,
        *,
        size: int = 15,
        anchor: str = "middle",
        bold: bool = False,
    ) -> None:
        """Write lines of text, vertically centred at y."""
        rows = lines.split("\n")
        weight = ' font-weight="bold"' if bold else ""
        for index, row in enumerate(rows):
            baseline = y + size * (0.35 + 1.25 * (index - (len(rows) - 1) / 2))
            self._parts.append(
                f'<text x="{x:g}" y="{baseline:g}" font-size="{size}" text-anchor="{anchor}"'
                f"{weight} {STYLE}>{escape(row)}</text>"
            )

    def box(
        self, x: float, y: float, width: float, height: float, lines: str, fill: str = PALE
    ) -> None:
        """Draw a box with rounded corners and centred text."""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8" '
            f'fill="{fill}" stroke="{LINE}"/>'
        )
        self.text(x + width / 2, y + height / 2, lines)

    def arrow(self, *points: tuple[float, float]) -> None:
        """Draw a line through points, with a tip at its end."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="2" '
            'marker-end="url(#tip)"/>'
        )

    def cells(
        self,
        x: float,
        y: float,
        size: float,
        counts: tuple[int, int],
        color: Callable[[int, int], str],
    ) -> None:
        """Draw a grid.

        Args:
            x, y: its top left corner.
            size: side of a cell.
            counts: rows and columns.
            color: (row, column) -> fill colour.
        """
        for row in range(counts[0]):
            for column in range(counts[1]):
                self._parts.append(
                    f'<rect x="{x + column * size:g}" y="{y + row * size:g}" width="{size:g}" '
                    f'height="{size:g}" fill="{color(row, column)}" stroke="#ffffff"/>'
                )

    def dot(self, x: float, y: float, radius: float, fill: str, outlined: bool = False) -> None:
        """Draw a disc."""
        edge = f' stroke="{INK}" stroke-width="2"' if outlined else ""
        self._parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{fill}"{edge}/>')

    def bars(
        self, x: float, y: float, values: Sequence[float], names: Sequence[str], fills: Sequence
    ) -> None:
        """Draw horizontal bars of values in 0..1 with names at their left."""
        for index, (value, name, fill) in enumerate(zip(values, names, fills, strict=True)):
            top = y + 24 * index
            self.text(x - 6, top + 8, name, size=14, anchor="end")
            self._parts.append(
                f'<rect x="{x:g}" y="{top:g}" width="{110 * value:g}" height="16" rx="3" '
                f'fill="{fill}"/>'
            )

    def __str__(self) -> str:
        return "\n".join([*self._parts, "</svg>", ""])
