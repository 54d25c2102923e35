"""Check all pairs of a data set, and compare two data sets."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from tqdm import tqdm

from segcore.datasets.checking.findings import Finding
from segcore.datasets.checking.pair import Examined, examine
from segcore.datasets.checking.source import Source
from segcore.runtime.processes import process_map


@dataclass(frozen=True)
class Survey:
    """The result of checking a data set.

    Attributes:
        source: the checked data set.
        num_images, num_labels: numbers of files in the two folders.
        pairs: the result of each pair, in order of name.
        findings: those of all pairs and of the whole data set.
    """

    source: Source
    num_images: int
    num_labels: int
    pairs: Sequence[Examined]
    findings: Sequence[Finding]

    @cached_property
    def class_pixels(self) -> np.ndarray:
        """(K,) pixels of each class."""
        counts = np.zeros(len(self.source.classes), dtype=np.int64)
        for pair in self.pairs:
            for class_id, pixels in (pair.pixels or {}).items():
                counts[class_id] += pixels
        return counts

    @cached_property
    def class_images(self) -> np.ndarray:
        """(K,) images that contain each class."""
        shown = [class_id for pair in self.pairs for class_id in pair.pixels or ()]
        return np.bincount(np.array(shown, dtype=np.int64), minlength=len(self.source.classes))

    @property
    def class_fractions(self) -> np.ndarray:
        """(K,) fraction of each class in the labelled pixels."""
        return self.class_pixels / max(1, self.class_pixels.sum())

    @cached_property
    def wrong_values(self) -> list[tuple[int, int, int]]:
        """(label value, pixels, label maps) of values that are no class, most pixels first."""
        pixels, maps = Counter(), Counter()
        for pair in self.pairs:
            pixels.update(pair.wrong)
            maps.update(pair.wrong.keys())
        return [(value, count, maps[value]) for value, count in pixels.most_common()]

    @property
    def sizes(self) -> list[tuple[tuple[int, int], int]]:
        """((width, height), images), the most frequent size first."""
        return Counter(pair.size for pair in self.pairs if pair.size).most_common()


def survey(source: Source, *, workers: int = 1, rare: float = 0.0) -> Survey:
    """Examine every pair of a data set, with a progress bar.

    Args:
        source: the data set.
        workers: processes.
        rare: classes with a smaller fraction of the labelled pixels are reported.

    Raises:
        UserError: a folder is missing.
    """
    pairs, numbers, findings = source.find_pairs()
    check = partial(examine, num_classes=len(source.classes), ignore_label=source.ignore_label)
    with process_map(workers) as parallel_map:
        results = parallel_map(check, pairs)
        examined = list(tqdm(results, desc=source.name, total=len(pairs), unit="pair"))
    known = Survey(source, *numbers, examined, findings)
    findings += [finding for pair in examined for finding in pair.findings]
    findings += _find_duplicates(examined) + _judge_classes(known, rare)
    return known


def find_shared_images(first: Survey, second: Survey) -> list[Finding]:
    """Find images that two data sets have in common, such as training and test."""
    known = {pair.digest: pair.pair.image for pair in first.pairs if pair.digest}
    found = []
    for pair in second.pairs:
        if pair.digest in known:
            files = (known[pair.digest], pair.pair.image)
            found.append(Finding("shared", f"{files[1]} is the same image as {files[0]}", files))
    return found


def _find_duplicates(examined: Sequence[Examined]) -> list[Finding]:
    files = defaultdict(list)
    for pair in examined:
        if pair.digest:
            files[pair.digest].append(pair.pair.image)
    return [
        Finding("duplicate", " = ".join(same), tuple(same))
        for same in files.values()
        if len(same) > 1
    ]


def _judge_classes(known: Survey, rare: float) -> list[Finding]:
    source, found = known.source, []
    if not known.class_pixels.any() and not known.wrong_values:
        return found  # nothing could be read, which other findings report
    for class_id, fraction in enumerate(known.class_fractions):
        name = f"{class_id} {source.classes[class_id]}"
        if fraction == 0:
            found.append(Finding("absent", name))
        elif fraction < rare:
            images = known.class_images[class_id]
            found.append(Finding("rare", f"{name}: {fraction:.3%} of the pixels, {images} images"))
    return found + _judge_numbering(known)


def _judge_numbering(known: Survey) -> list[Finding]:
    """Detect two conventions of other projects: class ids from 1, and 255 as the second class."""
    num_classes, ignored = len(known.source.classes), known.source.ignore_label
    wrong = {value for value, _, _ in known.wrong_values}
    present = set(np.flatnonzero(known.class_pixels).tolist())
    if wrong == {num_classes} and 0 not in present:
        text = f"values are 1..{num_classes}, but class ids count from 0: subtract 1"
        return [Finding("numbering", text)]
    some_ignored = any(pair.ignored for pair in known.pairs)
    if num_classes > 1 and present == {0} and not wrong and some_ignored and ignored == 255:
        text = "values are 0 and 255 only, and 255 is the ignore label: write 1 for the other class"
        return [Finding("numbering", text)]
    return []
