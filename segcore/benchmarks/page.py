"""Write the results of an evaluation as a page with images."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from detectron2.data import MetadataCatalog
from PIL import Image

from segcore.benchmarks.examples import NONE, Regions
from segcore.benchmarks.published import also_published
from segcore.benchmarks.report import Report, Row, missing_line, remarks
from segcore.benchmarks.runs import read_regions
from segcore.benchmarks.tables import (
    class_table,
    mess_tables,
    number,
    passport_table,
    score_table,
    summary_table,
)
from segcore.drawing import overlays
from segcore.drawing.overlays import Color
from segcore.drawing.page import Card, LegendEntry, Page
from segcore.errors import UserError
from segcore.images import read_image
from segcore.vocabulary import Vocabulary, distinct_colors

ALPHA = 0.6


def write_page(report: Report, folder: Path) -> Path:
    """Write ``index.html`` with its images; return its path."""
    page = Page(folder, report.title)
    page.text(
        "Scores in percent. The passport below each data set is the run manifest of its scores: "
        "versions, settings, files."
    )
    page.table(*summary_table(report))
    _write_mess(page, report)
    for name, rows in report.by_dataset():
        _write_dataset(page, report, name, rows)
    if report.missing:
        page.heading("Not evaluated")
        for status, how in report.missing:
            page.text(missing_line(status, how))
    return page.write()


def _write_mess(page: Page, report: Report) -> None:
    tables = mess_tables(report)
    if tables is None:
        return
    page.heading("MESS by domain")
    page.text(
        "mIoU_union: MESS counts a class that is only predicted as 0. The mean is over data sets, "
        "not over domains."
    )
    for title, each in report.mess().items():
        if each.missing:
            page.note(
                f"{title}: {len(each.missing)} data sets have no score, so means are over the "
                f"others and not comparable with published ones: {', '.join(each.missing)}."
            )
    by_domain, by_set = tables
    page.table(*by_domain)
    with page.folded("MESS by data set"):
        page.table(*by_set)


def _write_dataset(page: Page, report: Report, name: str, rows: Sequence[Row]) -> None:
    page.heading(name)
    for remark in remarks(report, rows):
        page.text(remark)
    page.table(*score_table(rows))
    others = also_published(name)
    if others:
        with page.folded("Published on this data set"):
            page.table(
                ["method", "score", "", "source"],
                [
                    [
                        f"{each.method}{', ' if each.note else ''}{each.note}",
                        each.metric,
                        number(each.score_on(name)),
                        each.source,
                    ]
                    for each in others
                ],
            )
    if rows[0].result.classes:
        with page.folded(f"Classes: {len(rows[0].result.classes)}"):
            page.table(*class_table(rows))
    for row in rows:
        cards = list(_cards(row))
        if cards:
            page.text(f"{row.run.title}: the images with the worst and the best scores.")
            page.cards(cards)
    with page.folded("Passport"):
        page.table(*passport_table(rows))


def _cards(row: Row) -> Iterator[Card]:
    """Yield the cards of the worst and the best images; deleted images are left out."""
    names, colors = _classes(row.dataset)
    for kind, entries in (("worst", row.result.worst), ("best", row.result.best)):
        for entry in entries:
            maps = {
                key.replace("_", " "): read_regions(row.result.folder, entry[key])
                for key in ("ground_truth", "prediction")
            }
            try:
                image = read_image(entry["image"])
            except UserError:
                continue
            height, width = maps["ground truth"].numbers.shape
            image = np.asarray(Image.fromarray(image).resize((width, height)))
            drawn = [("image", image)]
            legends = []
            for title, regions in maps.items():
                drawn.append((title, draw(image, regions, colors)))
                legends.append((f"{title}:", legend(regions, names, colors)))
            title = f"{kind}, {entry['score']:.1f}: {'/'.join(Path(entry['image']).parts[-3:])}"
            yield Card(title, drawn, legends, side=max(height, width))


def _classes(dataset: str) -> tuple[Sequence[str], Sequence[Color]]:
    """Return names and colours by class id: the vocabulary's unless the labels have fewer."""
    metadata = MetadataCatalog.get(dataset)
    if metadata.evaluator_type in ("coco", "ytvis"):  # things alone
        names = metadata.thing_classes
        return names, metadata.get("thing_colors") or distinct_colors(len(names))
    vocabulary = metadata.get("vocabulary")
    if vocabulary is not None and metadata.get("background_from") is None:
        vocabulary = Vocabulary.load(vocabulary)
        return vocabulary.names, vocabulary.colors
    names = metadata.stuff_classes
    return names, metadata.get("stuff_colors") or distinct_colors(len(names))


def draw(image: np.ndarray, regions: Regions, colors: Sequence[Color]) -> np.ndarray:
    """Draw regions on an image (H, W, 3) in the colours of their classes."""
    if regions.classes:
        colors = [colors[each] for each in regions.classes]
    return overlays.overlay(image, regions.numbers, colors, alpha=ALPHA, ignore_label=NONE)


def legend(regions: Regions, names: Sequence[str], colors: Sequence[Color]) -> list[LegendEntry]:
    """Return the legend of the classes of the regions."""
    labels = regions.numbers
    if regions.classes:
        known = np.array([*regions.classes, NONE])
        labels = known[np.minimum(labels, len(regions.classes))]
    present = overlays.present_classes(labels, NONE)
    return [LegendEntry(names[each], tuple(colors[each]), fraction) for each, fraction in present]
