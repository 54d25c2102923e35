#!/usr/bin/env python3
"""Check a data set before a model is trained on it: files, sizes, label values, class balance.

Check two folders whose files have the same names except for their suffixes:

    python datasets/check.py --images photos/ --labels masks/ --vocabulary "grass, cat, dog"

Check training and test data, and find images that are in both:

    python datasets/check.py --images train/images test/images \
        --labels train/labels test/labels --vocabulary pets.json --output out/check

Check the data sets of a file for DATASETS.OWN (docs/your_data.md), or registered data sets, also
panoptic and instance ones:

    python datasets/check.py --own pets.json --output out/check
    python datasets/check.py --dataset ade20k_150_test_sem_seg
    python datasets/check.py --dataset scenes_60_train_panoptic scenes_60_test_panoptic

With --output the script writes a page with overlays and class frequencies (index.html), and all
findings as report.json. The exit code is 0 without errors in the data, 1 with errors, 2 for an
error in the command line.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segcore.datasets.checking import (
    KINDS,
    Finding,
    Source,
    Survey,
    find_shared_images,
    has_errors,
    survey,
    write_check_page,
)
from segcore.datasets.checking.findings import by_kind
from segcore.datasets.custom import register_custom_file
from segcore.errors import MESSAGE_CHARACTERS, UserError, exit_on_user_error, printable
from segcore.runtime.files import path_argument, write_text
from segcore.vocabulary import Vocabulary

MOST_LINES, MOST_CLASSES = 5, 20  # on the screen; the page and report.json list all


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--images", nargs="+", type=path_argument, metavar="DIR", help="one or two folders"
    )
    what.add_argument("--own", type=path_argument, metavar="FILE", help="a file for DATASETS.OWN")
    what.add_argument("--dataset", nargs="+", metavar="NAME", help="registered data sets")
    add(
        "--labels",
        nargs="+",
        type=path_argument,
        default=[],
        metavar="DIR",
        help="as many as --images",
    )
    add("--vocabulary", help='a JSON file, a registered name, or class names: "grass, cat, dog"')
    add("--ignore-label", type=int, help="value of pixels without a class (default: vocabulary's)")
    add("--image-suffix", help='end of image names, such as "_rgb.jpg" (default: any image)')
    add("--label-suffix", help='end of label map names, such as "_mask.png" (default: any image)')
    add("--rare", type=float, default=0.1, help="report classes below so many %% (default: 0.1)")
    add("--output", type=path_argument, metavar="DIR", help="write index.html and report.json here")
    add("--samples", type=int, default=12, help="pairs to show on the page (default: 12)")
    add("--workers", type=int, default=os.cpu_count(), help="processes (default: one per core)")
    return parser.parse_args(arguments)


def find_sources(args: argparse.Namespace) -> list[Source]:
    """Return the data sets that the command line names."""
    folder_options = ("labels", "vocabulary", "ignore_label", "image_suffix", "label_suffix")
    if args.images is None:
        for option in folder_options:
            if getattr(args, option) not in (None, []):
                raise UserError(f"--{option.replace('_', '-')} goes with --images only")
        if args.own is not None:
            names = register_custom_file(args.own)
            return [Source.registered(name, may_be_partial=False) for name in names]
        return [Source.registered(name) for name in args.dataset]
    if len(args.labels) != len(args.images) or not args.vocabulary:
        raise UserError("--images needs as many folders of --labels, and a --vocabulary")
    vocabulary = Vocabulary.load(args.vocabulary)
    return [
        Source.from_folders(
            *folders,
            vocabulary,
            ignore_label=args.ignore_label,
            image_suffix=args.image_suffix,
            label_suffix=args.label_suffix,
        )
        for folders in zip(args.images, args.labels, strict=True)
    ]


def run(args: argparse.Namespace) -> bool:
    """Check, print, write; return whether the data have no errors."""
    sources = find_sources(args)
    if args.output:
        _make_folder(args.output)  # fail now, not after an hour of reading
    surveys = [survey(s, workers=args.workers, rare=args.rare / 100) for s in sources]
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
    if args.output:
        page = write_check_page(surveys, between, args.output, args.samples)
        write_report(surveys, between, args.output / "report.json")
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


def main() -> None:
    with exit_on_user_error(": nothing was written"):
        sound = run(parse_arguments())
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
