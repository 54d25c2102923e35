"""Write the page of a check: its findings, and overlays of sample pairs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segcore.datasets.checking.findings import KINDS, Finding, by_kind, has_errors
from segcore.datasets.checking.pair import Examined, read_pair_labels
from segcore.datasets.checking.source import Source
from segcore.datasets.checking.survey import Survey
from segcore.drawing import overlays
from segcore.drawing.page import Card, LegendEntry, Page
from segcore.errors import UserError
from segcore.images import read_image

SIDE = 384  # pixels of an image on the page
MOST_LINES = 50  # findings of one kind
MOST_SIZES = 10


def write_check_page(
    surveys: Sequence[Survey], between: Sequence[Finding], folder: Path, samples: int = 12
) -> Path:
    """Write index.html: findings, class frequencies, sizes, overlays of some pairs.

    Args:
        surveys: one a data set.
        between: findings that concern several data sets.
        folder: of the page; created if missing.
        samples: number of shown pairs of each data set.

    Returns:
        the path of the page.

    Raises:
        UserError: the folder cannot be written.
    """
    page = Page(folder, "Check of data sets")
    findings = [*between, *(finding for known in surveys for finding in known.findings)]
    page.note("There are errors to fix." if has_errors(findings) else "No errors.")
    try:
        if between:
            page.heading("Between the data sets")
            _write_findings(page, between)
        for known in surveys:
            _write_survey(page, known, samples)
        return page.write()
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error


def choose_pairs(known: Survey, number: int) -> list[Examined]:
    """Choose pairs without errors: the rarest classes first, then evenly from the whole set."""
    sound = [pair for pair in known.pairs if pair.pixels and pair.size and not _faulty(pair)]
    chosen: dict[str, Examined] = {}
    for class_id in np.argsort(known.class_pixels, kind="stable").tolist():
        if len(chosen) < number and not any(class_id in pair.pixels for pair in chosen.values()):
            showing = [pair for pair in sound if class_id in pair.pixels]
            if showing:
                best = max(showing, key=lambda pair: pair.pixels[class_id])
                chosen[best.pair.image] = best
    left = [pair for pair in sound if pair.pair.image not in chosen]
    lacking = min(number - len(chosen), len(left))
    indices = np.linspace(0, len(left) - 1, lacking).round().astype(int)
    return [*chosen.values(), *(left[index] for index in indices)]


def _faulty(pair: Examined) -> bool:
    return has_errors(pair.findings)


def _write_survey(page: Page, known: Survey, samples: int) -> None:
    page.heading(known.source.name)
    page.text(
        f"{known.num_images} images in {known.source.image_dir}, {known.num_labels} label maps "
        f"in {known.source.label_dir}, {len(known.pairs)} pairs."
    )
    _write_findings(page, known.findings)
    if known.wrong_values:
        rows = [[str(number) for number in row] for row in known.wrong_values[:MOST_LINES]]
        page.table(["invalid label value", "pixels", "label maps"], rows)
    page.cards([_card(pair, known.source) for pair in choose_pairs(known, samples)])
    order = np.argsort(-known.class_pixels, kind="stable").tolist()
    page.table(
        ["class", "id", "of the labelled pixels", "images"],
        [
            [
                known.source.classes[i],
                str(i),
                f"{known.class_fractions[i]:.3%}",
                str(known.class_images[i]),
            ]
            for i in order
        ],
    )
    sizes = [[f"{w} x {h}", str(n)] for (w, h), n in known.sizes[:MOST_SIZES]]
    page.table(["width x height", "images"], sizes)
    if len(known.sizes) > MOST_SIZES:
        page.text(f"and {len(known.sizes) - MOST_SIZES} other sizes.")


def _write_findings(page: Page, findings: Sequence[Finding]) -> None:
    for kind, group in by_kind(findings).items():
        severity = "error" if KINDS[kind].is_error else "note"
        page.note(f"{severity}: {KINDS[kind].title} ({len(group)})")
        more = [f"and {len(group) - MOST_LINES} more"] if len(group) > MOST_LINES else []
        page.commands([finding.text for finding in group[:MOST_LINES]] + more)


def _card(pair: Examined, source: Source) -> Card:
    image = overlays.fit(read_image(pair.pair.image), SIDE)
    labels = overlays.fit(read_pair_labels(pair.pair, source.ignore_label), SIDE)
    drawn = overlays.overlay(image, labels, source.colors, ignore_label=source.ignore_label)
    entries = [
        LegendEntry(source.classes[class_id], source.colors[class_id], fraction)
        for class_id, fraction in overlays.present_classes(labels, source.ignore_label)
    ]
    images = [("image", image), ("label map", drawn)]
    return Card(Path(pair.pair.image).name, images, [("classes:", entries)], side=SIDE)
