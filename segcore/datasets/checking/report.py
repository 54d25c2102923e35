"""The result of checking as text on the screen, and as report.json for programs."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segcore.datasets.checking.findings import KINDS, Finding, by_kind, has_errors
from segcore.datasets.checking.sample import write_check_page
from segcore.datasets.checking.source import Source
from segcore.datasets.checking.survey import Survey, find_shared_images, survey
from segcore.errors import MESSAGE_CHARACTERS, UserError, printable
from segcore.runtime.files import write_text

MOST_LINES, MOST_CLASSES = 5, 20  # on the screen; the page and report.json list all


def check(
    sources: Sequence[Source],
    output: Path | None = None,
    *,
    rare: float = 0.001,
    samples: int = 12,
    workers: int = 1,
) -> bool:
    """Check data sets, print the findings, and write the page and report.json.

    Args:
        sources: the data sets; images that two of them have in common are found too.
        output: folder for index.html and report.json; None writes nothing.
        rare: fraction of the pixels, 0 to 1, below which a class is reported.
        samples: pairs to show on the page.
        workers: processes.

    Returns:
        whether the data have no errors.

    Raises:
        UserError: a folder is missing, or the output cannot be written.
    """
    if output:
        _make_folder(output)  # fail now, not after an hour of reading
    surveys = [survey(source, workers=workers, rare=rare) for source in sources]
    between = [
        finding
        for index, second in enumerate(surveys)
        for first in surveys[:index]
        for finding in find_shared_images(first, second)
    ]
    for known in surveys:
        print_survey(known)
    print_findings(between)
    findings = [*between, *(finding for known in surveys for finding in known.findings)]
    errors = sum(finding.is_error for finding in findings)
    if output:
        page = write_check_page(surveys, between, output, samples)
        write_report(surveys, between, output / "report.json")
        print(f"\nsee {page}")
    print(f"\n{errors} errors to fix, {len(findings) - errors} notes")
    return not has_errors(findings)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {folder} cannot be created: {error.strerror}") from error


def print_survey(known: Survey) -> None:
    """Print numbers, class frequencies and findings of one data set."""
    sizes = [f"{w} x {h} ({n})" for (w, h), n in known.sizes]
    more = f" and {len(sizes) - 3} other sizes" if len(sizes) > 3 else ""
    print(f"\n{printable(known.source.name)}")
    print(f"  {known.num_images} images, {known.num_labels} label maps, {len(known.pairs)} pairs")
    print(f"  width x height: {', '.join(sizes[:3])}{more}")
    order = np.argsort(-known.class_pixels, kind="stable")
    for class_id in order[:MOST_CLASSES]:
        name, fraction = known.source.classes[class_id], known.class_fractions[class_id]
        images = known.class_images[class_id]
        print(f"  {fraction:8.3%} {name:.40} (id {class_id}, in {images} images)")
    if len(order) > MOST_CLASSES:
        print(f"           and {len(order) - MOST_CLASSES} classes more")
    print_findings(known.findings)
    for value, pixels, maps in known.wrong_values[:MOST_LINES]:
        print(f"    in all: {value} ({pixels} pixels, {maps} label maps)")


def print_findings(findings: Sequence[Finding]) -> None:
    """Print a heading for each kind of finding, and its first files."""
    for kind, group in by_kind(findings).items():
        severity = "ERROR" if KINDS[kind].is_error else "note"
        print(f"  {severity}: {KINDS[kind].title}: {len(group)}")
        for finding in group[:MOST_LINES]:
            print(f"    {printable(finding.text, MESSAGE_CHARACTERS)}")
        if len(group) > MOST_LINES:
            print(f"    and {len(group) - MOST_LINES} more")


def write_report(surveys: Sequence[Survey], between: Sequence[Finding], path: Path) -> None:
    """Write all findings as JSON."""
    report = {
        "datasets": [_survey_as_json(known) for known in surveys],
        "between": [_finding_as_json(finding) for finding in between],
    }
    try:
        write_text(path, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _survey_as_json(known: Survey) -> dict:
    source = known.source
    classes = zip(source.classes, known.class_pixels, known.class_images, strict=True)
    return {
        "name": source.name,
        "images": str(source.image_dir),
        "labels": str(source.label_dir),
        "ignore_label": source.ignore_label,
        "num_images": known.num_images,
        "num_labels": known.num_labels,
        "num_pairs": len(known.pairs),
        "ignored_pixels": sum(pair.ignored for pair in known.pairs),
        "classes": [
            {"id": i, "name": name, "pixels": int(pixels), "pictures": int(images)}
            for i, (name, pixels, images) in enumerate(classes)
        ],
        "wrong_values": [
            {"value": value, "pixels": pixels, "label_maps": maps}
            for value, pixels, maps in known.wrong_values
        ],
        "sizes": [{"width": w, "height": h, "pictures": n} for (w, h), n in known.sizes],
        "findings": [_finding_as_json(finding) for finding in known.findings],
    }


def _finding_as_json(finding: Finding) -> dict:
    severity = "error" if finding.is_error else "note"
    return {
        "severity": severity,
        "kind": finding.kind,
        "text": finding.text,
        "files": list(finding.files),
    }
