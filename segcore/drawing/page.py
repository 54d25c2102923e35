"""Write an HTML page: index.html and a folder of images beside it, to be opened from disk.

The page loads nothing from elsewhere and runs no script. All text from outside (class names, file
names, commands) is escaped. Colours follow the reader's light or dark setting.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from segcore.drawing.animation import write_animation
from segcore.drawing.overlays import Color, fit
from segcore.runtime.files import replace, write_text

_STYLE = """
:root { color-scheme: light dark; --paper: #fbfbfa; --ink: #1c1e21; --soft: #5c636b;
  --line: #dcdedf; --card: #ffffff; --code: #f1f2f3; --good: #dff3e3; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15171a; --ink: #e7e9ea; --soft: #a0a7ae; --line: #33383d;
    --card: #1e2125; --code: #22262a; --good: #1d3a26; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; }
p { max-width: 46rem; margin: .5rem 0; }
.note { border-left: 4px solid #d08a1d; padding: .25rem .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .75rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .9rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; }
th { color: var(--soft); font-weight: 600; }
td.best { background: var(--good); font-weight: 600; }
pre { background: var(--code); padding: .7rem .9rem; border-radius: 6px; white-space: pre-wrap;
  overflow-wrap: anywhere; font: 13px/1.5 ui-monospace, monospace; }
nav ol { margin: .25rem 0 0; padding-left: 1.4rem; }
nav a { color: inherit; }
.cards { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .8rem;
  min-width: 0; }
.card h3 { margin: 0 0 .5rem; font-size: 1rem; overflow-wrap: anywhere; }
.images { display: grid; gap: .5rem;
  grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); }
.images.four { grid-template-columns: repeat(2, minmax(0, 1fr)); }
figure { margin: 0; }
figure.film { max-width: 46rem; margin: .75rem 0; }
img { display: block; width: 100%; height: auto; border-radius: 4px; }
figcaption { color: var(--soft); font-size: .8rem; margin-top: .15rem; }
ul.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem .9rem; margin: .6rem 0 0;
  padding: 0; font-size: .85rem; }
ul.legend li { overflow-wrap: anywhere; }
.swatch { display: inline-block; width: .85rem; height: .85rem; border-radius: 3px;
  border: 1px solid var(--line); margin-right: .35rem; vertical-align: -.1rem; }
.fraction { color: var(--soft); }
summary { cursor: pointer; margin: .75rem 0 .25rem; font-weight: 600; }
@media (max-width: 30rem) { th, td { padding: .3rem .4rem; } table { font-size: .85rem; } }
"""


SMALLEST_FRACTION = 0.01  # of an image; classes that cover less are only counted


@dataclass(frozen=True)
class LegendEntry:
    """One class in a legend: name, colour (RGB, 0..255), fraction of the image (0..1) if known."""

    name: str
    color: Color
    fraction: float | None = None


@dataclass(frozen=True)
class Card:
    """One subject of the page: captioned images beside each other, legends below them.

    `images` are (caption, (H, W, 3) uint8), `legends` (heading, entries); `side` is the longer
    side in pixels that the images are saved with.
    """

    title: str
    images: Sequence[tuple[str, np.ndarray]]
    legends: Sequence[tuple[str, Sequence[LegendEntry]]] = ()
    side: int = 480


class Page:
    """Collect headings, texts, tables, commands and images, then write one folder.

    Args:
        folder: of index.html and its images; created if absent.
        title: heading of the page and title of the window.
    """

    def __init__(self, folder: Path, title: str):
        self.folder = Path(folder)
        self.title = title
        self._body: list[str] = []
        self._headings: list[str] = []
        self._contents: int | None = None  # index in the body
        self._images = 0

    def heading(self, text: str) -> None:
        """Add a heading of a section, which the contents list links to."""
        self._headings.append(text)
        self._body.append(f'<h2 id="section-{len(self._headings)}">{escape(text)}</h2>')

    def contents(self) -> None:
        """Add a list of all sections of the page, of those that follow too."""
        self._contents = len(self._body)

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._body.append(f"<p>{escape(text)}</p>")

    def note(self, text: str) -> None:
        """Add a highlighted paragraph."""
        self._body.append(f'<p class="note">{escape(text)}</p>')

    @contextmanager
    def folded(self, title: str) -> Iterator[None]:
        """Fold everything that is added inside the block under a title, closed at first."""
        self._body.append(f"<details><summary>{escape(title)}</summary>")
        yield
        self._body.append("</details>")

    def commands(self, lines: Sequence[str]) -> None:
        """Add lines that are typed in a terminal."""
        self._body.append(f"<pre>{escape(chr(10).join(lines))}</pre>")

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        best: Collection[tuple[int, int]] = (),
    ) -> None:
        """Add a table; the cells `best`, each the index of a row and of a column, are marked."""
        lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in header) + "</tr>"]
        for i, row in enumerate(rows):
            marks = [' class="best"' if (i, j) in best else "" for j in range(len(row))]
            cells = map("<td{}>{}</td>".format, marks, map(escape, row))
            lines.append(f"<tr>{''.join(cells)}</tr>")
        self._body.append('<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>")

    def cards(self, cards: Sequence[Card]) -> None:
        """Add cards in a grid; their images are written to the folder."""
        self._body.append('<div class="cards">')
        self._body.extend(self._card(card) for card in cards)
        self._body.append("</div>")

    def animation(
        self,
        caption: str,
        frames: Iterable[np.ndarray],
        fps: float = 8,
        legends: Sequence[tuple[str, Sequence[LegendEntry]]] = (),
    ) -> None:
        """Add an animated image, of frames (H, W, 3) uint8 of one size, with legends below it."""
        name = self._next_image(".webp")
        write_animation(frames, self.folder / name, fps)
        text = escape(caption)
        self._body.append(
            f'<figure class="film"><img src="{name}" alt="{text}"><figcaption>{text}</figcaption>'
            "</figure>"
        )
        self._body.extend(_legend(heading, entries) for heading, entries in legends)

    def write(self) -> Path:
        """Write index.html and return its path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        page = self.folder / "index.html"
        title, body = escape(self.title), [*self._body]
        if self._contents is not None:
            body.insert(self._contents, self._contents_list())
        write_text(
            page,
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
            f"<h1>{title}</h1>\n" + "\n".join(body) + "\n</body>\n</html>\n",
        )
        return page

    def _contents_list(self) -> str:
        items = "".join(
            f'<li><a href="#section-{number}">{escape(heading)}</a></li>'
            for number, heading in enumerate(self._headings, 1)
        )
        return f'<nav aria-label="Contents"><ol>{items}</ol></nav>'

    def _card(self, card: Card) -> str:
        figures = "".join(
            self._figure(caption, fit(image, card.side), card.title)
            for caption, image in card.images
        )
        four = " four" if len(card.images) == 4 else ""
        parts = [f'<h3>{escape(card.title)}</h3><div class="images{four}">{figures}</div>']
        parts.extend(_legend(heading, entries) for heading, entries in card.legends)
        return '<div class="card">' + "\n".join(parts) + "</div>"

    def _figure(self, caption: str, image: np.ndarray, title: str) -> str:
        name = self._next_image(".png")
        replace(self.folder / name, Image.fromarray(image).save)
        height, width = image.shape[:2]
        return (
            f'<figure><img src="{name}" width="{width}" height="{height}"'
            f' alt="{escape(f"{title}: {caption}")}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )

    def _next_image(self, suffix: str) -> str:
        self._images += 1
        (self.folder / "images").mkdir(parents=True, exist_ok=True)
        return f"images/{self._images:03d}{suffix}"


def _legend(heading: str, entries: Sequence[LegendEntry]) -> str:
    """Return a legend of the visible entries, and the number of entries that are too small."""
    shown = [e for e in entries if e.fraction is None or e.fraction >= SMALLEST_FRACTION]
    items = [_legend_item(entry) for entry in shown]
    if len(shown) < len(entries):
        items.append(
            f'<li class="fraction">{len(entries) - len(shown)} below {SMALLEST_FRACTION:.0%}</li>'
        )
    return f'<ul class="legend"><li class="fraction">{escape(heading)}</li>{"".join(items)}</ul>'


def _legend_item(entry: LegendEntry) -> str:
    red, green, blue = (int(value) for value in entry.color)
    fraction = (
        "" if entry.fraction is None else f' <span class="fraction">{entry.fraction:.0%}</span>'
    )
    return (
        f'<li><span class="swatch" style="background:rgb({red},{green},{blue})"></span>'
        f"{escape(entry.name)}{fraction}</li>"
    )
