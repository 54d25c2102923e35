"""Segment images into a folder; the same command resumes a run that was interrupted."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from catrank.exports.folder import ResultFolder
from catrank.inputs import name_outputs
from catrank.model import Model
from catrank.results import Result
from catrank.runs.checks import ResultChecks, blank_color
from catrank.runs.exports import ExportFolder
from catrank.runs.progress import Progress, settings_hash
from segcore.errors import UserError, printable
from segcore.images import read_image
from segcore.runtime.lock import hold

MAX_CATEGORIES = 8  # categories that are printed for an image


def segment_images(
    model: Model,
    images: Sequence[Path],
    output: Path,
    *,
    formats: Sequence[str] = (),
    alpha: float = 0.55,
    overwrite: bool = False,
) -> list[str]:
    """Segment images and write the results of each as soon as it is predicted.

    Args:
        model: of images.
        images: files.
        output: folder, held until ``segcore.runtime.lock.release``.
        formats: names in ``catrank.exports.saving.FORMATS``; none: what ``ResultFolder`` writes.
        alpha: weight of the colours in the overlay of ``ResultFolder``, 0 to 1.
        overwrite: whether files of an earlier run may be replaced.

    Returns:
        an error message for each image that could not be read.

    Raises:
        UserError: results are there already, another run holds the folder, or it cannot be
            written.
    """
    names = name_outputs(images)
    hold(output, "--output")
    write: Callable[[str, Result], None]
    results: ExportFolder | ResultFolder
    if formats:
        results = ExportFolder(output, formats, overwrite)
        write = results.write
    else:
        results = ResultFolder(output, model.vocabulary, overwrite)
        write = partial(results.write, alpha=alpha)
    progress = Progress(output, settings_hash(model, alpha, formats))
    if overwrite:
        progress.forget()
    results.prepare([name for name in names.values() if name not in progress.names])
    progress.begin(names)

    failures, checks = [], ResultChecks(model.vocabulary)
    for path, name in tqdm(names.items(), desc="segmenting", unit="image"):
        if progress.holds(name, path) and results.hold(name):
            continue
        try:
            image = read_image(path)
        except UserError as error:
            failures.append(str(error))
            continue
        if color := blank_color(image):
            tqdm.write(f"warning: {printable(path)} is all {color}", file=sys.stderr)
        result = replace(model.segment(image), name=str(path))
        checks.add(result)
        write(name, result)
        progress.add(name, path)
        if result.category_scores is not None:
            tqdm.write(f"{printable(name)}: {top_categories(result)}")
    progress.finish()
    for line in checks.warnings():
        print(f"warning: {line}", file=sys.stderr)
    count = f"{len(names) - len(failures)} of {len(names)}"
    print(f"{count} images segmented, see {printable(output)}")
    return failures


def top_categories(result: Result) -> str:
    """Return the categories that RankSeg scores at least 0.5, in the order of their ranks."""
    ranked = result.top_categories(len(result.vocabulary))
    present = [(name, score) for name, score in ranked if score >= 0.5]
    names = [f"{name} {score:.0%}" for name, score in present[:MAX_CATEGORIES]]
    more = f" and {len(present) - MAX_CATEGORIES} more" if len(present) > MAX_CATEGORIES else ""
    ranks = f"RankSeg ranks {', '.join(names) or 'no category above 50%'}{more}"
    return f"{ranks}; {kept_classes(result)}"


def kept_classes(result: Result) -> str:
    """Return how many classes were kept, and the probability of the last one."""
    count, last = result.classes_kept, result.last_probability
    if count is None or last is None:
        return "all classes are kept"
    of = f"{count:,} of {len(result.vocabulary):,} classes kept"
    return f"{of}, the last one has {last:.2%}"
