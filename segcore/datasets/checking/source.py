"""A data set to check: its pairs of an image and a label map."""

from dataclasses import dataclass
from pathlib import Path

from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from segcore.datasets.checking.findings import Finding
from segcore.datasets.checking.pair import Pair
from segcore.datasets.registering import check_paths, check_registered
from segcore.datasets.semantic import list_files, semantic_metadata
from segcore.errors import UserError
from segcore.videos import VOID
from segcore.vocabulary import Color, Vocabulary


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
        records: dataset dicts of segments, objects or videos, which replace the files in the two
            folders.
        fault: the error of reading the file that lists them.
        label_colors: those of label maps that hold no integers.
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
    label_colors: bytes | None = None

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
        if metadata.get("video_list"):
            return cls._of_videos(name, metadata)
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
            label_colors=metadata.get("label_colors"),
        )

    @classmethod
    def _of_records(cls, name: str, metadata: Metadata) -> "Source":
        stuff = bool(metadata.get("panoptic_json"))
        images = Path(metadata.image_root)
        labels = Path(metadata.panoptic_root if stuff else metadata.json_file)
        check_paths(name, images, labels, Path(metadata.panoptic_json if stuff else labels))
        records, fault = _read_records(name)
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

    @classmethod
    def _of_videos(cls, name: str, metadata: Metadata) -> "Source":
        """Build from videos with label maps, in which the stored value of class 0 is 1."""
        records, fault = _read_records(name)
        return cls(
            name,
            Path(metadata.image_root),
            Path(metadata.video_list),
            None,
            None,
            tuple(metadata.stuff_classes),
            tuple(map(tuple, metadata.stuff_colors)),
            metadata.ignore_label,
            first_label=1,
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
            pairs = [pair for each in self.records for pair in self._pairs_of(each)]
            fault = [Finding("objects", self.fault, (labels,))] if self.fault else []
            if not pairs and not fault:
                fault = [
                    Finding("no_pairs", f"{labels} lists no label map and no object", (labels,))
                ]
            return pairs, (len(pairs), len(pairs)), fault
        images = list_files(self.name, self.image_dir, self.image_suffix)
        labels = list_files(self.name, self.label_dir, self.label_suffix)
        shared = sorted(images.keys() & labels.keys())
        pairs = [
            Pair(images[key][0], labels[key][0], self.first_label, colors=self.label_colors)
            for key in shared
        ]
        numbers = sum(map(len, images.values())), sum(map(len, labels.values()))
        return pairs, numbers, _find_partners(self, images, labels)

    def _pairs_of(self, record: dict) -> list[Pair]:
        """Return the pairs of a dataset dict: of an image one, of a video those of its frames."""
        if "file_name" in record:
            labels = record.get("pan_seg_file_name", str(self.label_dir))
            return [Pair(record["file_name"], labels, record=record)]
        frames = record["file_names"]
        if "sem_seg_file_names" in record:
            void = tuple(value for value in VOID if value > len(self.classes))
            maps = zip(frames, record["sem_seg_file_names"], strict=True)
            return [Pair(*each, self.first_label, void=void) for each in maps]
        size = {key: record[key] for key in ("height", "width")}
        objects = zip(frames, record.get("frame_annotations", ()), strict=False)
        return [
            Pair(
                frame,
                str(self.label_dir),
                record=size | {"file_name": frame, "annotations": annotations},
            )
            for frame, annotations in objects
        ]


def _read_records(name: str) -> tuple[tuple[dict, ...], str | None]:
    """Return the dataset dicts of a data set, or none and the error of reading them."""
    try:
        return tuple(DatasetCatalog.get(name)), None
    except UserError as error:
        return (), str(error)


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
