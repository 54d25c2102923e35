"""Check all pairs of a data set, and compare two data sets."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from tqdm import tqdm

from segcore.datasets.checking.findings import Finding
from segcore.datasets.checking.pair import Examined, Pair, examine
from segcore.datasets.registering import check_paths, check_registered
from segcore.datasets.semantic import list_files, semantic_metadata
from segcore.errors import UserError
from segcore.runtime.processes import process_map
from segcore.vocabulary import Color, Vocabulary

VIDEO_KINDS = ("video_semantic", "ytvis")  # evaluator_type of data sets of videos


@dataclass(frozen=True)
class Source:
    """A data set to check.

    Attributes:
        name: of the data set in the report.
        image_dir, label_dir: its two folders; of objects the latter is their JSON file.
        image_suffix, label_suffix: ends of its files' names; None takes every image.
        classes, colors: one a class, in the order of the label values.
        ignore_label: label value of pixels without a class.
        may_be_partial: whether images without a label map are allowed.
        first_label: stored value of class 0; smaller values are pixels without a class.
        records: dataset dicts of segments or objects, which replace the files in the two folders.
        fault: the error of reading the file that lists them.
    """

    name: str
    image_dir: Path
    label_dir: Path
    image_suffix: str | None
    label_suffix: str | None
    classes: tuple[str, ...]
    colors: tuple[Color, ...]
    ignore_label: int
    may_be_partial: bool = False
    first_label: int = 0
    records: tuple[dict, ...] | None = None
    fault: str | None = None

    @classmethod
    def from_folders(
        cls,
        image_dir: Path,
        label_dir: Path,
        vocabulary: Vocabulary,
        *,
        ignore_label: int | None = None,
        image_suffix: str | None = None,
        label_suffix: str | None = None,
    ) -> "Source":
        """Build from two folders; ``ignore_label`` is the vocabulary's unless given."""
        ignored = vocabulary.ignore_label if ignore_label is None else ignore_label
        if ignored is None:
            raise UserError(
                f"vocabulary {vocabulary.name} has no ignore label: give --ignore-label"
            )
        return cls(
            str(image_dir),
            image_dir,
            label_dir,
            image_suffix,
            label_suffix,
            vocabulary.names,
            vocabulary.colors,
            ignored,
        )

    @classmethod
    def registered(cls, name: str, may_be_partial: bool = True) -> "Source":
        """Build from a data set that this project has registered: label maps, segments, objects."""
        check_registered([name])
        metadata = MetadataCatalog.get(name)
        if metadata.get("evaluator_type") in VIDEO_KINDS:
            raise UserError(
                f"dataset {name!r} holds videos, not images: datasets/prepare_vspw.py and "
                "datasets/prepare_youtubevis.py check those of the benchmarks"
            )
        if metadata.get("panoptic_json") or metadata.get("json_file"):
            return cls._of_records(name, metadata)
        metadata = semantic_metadata(name)
        if metadata.get("sem_seg_root") is None or not hasattr(metadata, "label_suffix"):
            raise UserError(f"dataset {name!r} is not read from two folders: it cannot be checked")
        return cls(
            name,
            Path(metadata.image_root),
            Path(metadata.sem_seg_root),
            metadata.image_suffix,
            metadata.label_suffix,
            tuple(metadata.stuff_classes),
            tuple(metadata.stuff_colors),
            metadata.ignore_label,
            may_be_partial,
            metadata.get("first_label", 0),
        )

    @classmethod
    def _of_records(cls, name: str, metadata: Metadata) -> "Source":
        stuff = bool(metadata.get("panoptic_json"))
        images = Path(metadata.image_root)
        labels = Path(metadata.panoptic_root if stuff else metadata.json_file)
        check_paths(name, images, labels, Path(metadata.panoptic_json if stuff else labels))
        try:
            records, fault = tuple(DatasetCatalog.get(name)), None
        except UserError as error:
            records, fault = (), str(error)
        return cls(
            name,
            images,
            labels,
            None,
            None,
            tuple(metadata.stuff_classes if stuff else metadata.thing_classes),
            tuple(map(tuple, metadata.stuff_colors if stuff else metadata.thing_colors)),
            metadata.ignore_label if stuff else len(metadata.thing_classes),
            records=records,
            fault=fault,
        )

    def find_pairs(self) -> tuple[list[Pair], tuple[int, int], list[Finding]]:
        """Return the pairs in order, the numbers of images and label maps, and unpaired files.

        Raises:
            UserError: a folder is missing.
        """
        if self.records is not None:
            labels = str(self.label_dir)
            pairs = [
                Pair(record["file_name"], record.get("pan_seg_file_name", labels), record=record)
                for record in self.records
            ]
            fault = [Finding("objects", self.fault, (labels,))] if self.fault else []
            return pairs, (len(pairs), len(pairs)), fault
        images = list_files(self.name, self.image_dir, self.image_suffix)
        labels = list_files(self.name, self.label_dir, self.label_suffix)
        shared = sorted(images.keys() & labels.keys())
        pairs = [Pair(images[key][0], labels[key][0], self.first_label) for key in shared]
        numbers = sum(map(len, images.values())), sum(map(len, labels.values()))
        return pairs, numbers, _find_partners(self, images, labels)


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


def _find_partners(source: Source, images: dict, labels: dict) -> list[Finding]:
    no_labels = "unlabelled" if source.may_be_partial else "no_label_map"
    found = []
    for kind, files, others in ((no_labels, images, labels), ("no_picture", labels, images)):
        unpaired = sorted(files.keys() - others.keys())
        found += [Finding(kind, path, (path,)) for key in unpaired for path in files[key]]
    for files in (*images.values(), *labels.values()):
        if len(files) > 1:
            found.append(Finding("ambiguous", " and ".join(files), tuple(files)))
    if not images.keys() & labels.keys():
        text = (
            f"no image in {source.image_dir} has a label map of the same name in "
            f"{source.label_dir}: if the names differ in their ends (a_rgb.jpg, a_mask.png), give "
            "these as suffixes"
        )
        found.append(Finding("no_pairs", text))
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
