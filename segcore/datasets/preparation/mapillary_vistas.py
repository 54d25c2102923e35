"""Check Mapillary Vistas v1.2.

Checks, below <root>/mapillary_vistas (<root> is $DETECTRON2_DATASETS or "datasets"),

    {training,validation}/images/*.jpg                  images
    {training,validation}/labels/*.png                  0..64 in the order of the classes, 65 = none
    {training,validation}/panoptic/*.png                segments
    {training,validation}/panoptic/panoptic_2018.json   their list

Nothing is converted. The archive of v2.0 holds v1.2 in {training,validation}/v1.2: labels and
panoptic become links to the folders there. Then every label map is read, and the segments of every
image are compared with the list. A missing split is skipped, and so are missing segments.
"""

from pathlib import Path

from segcore.annotations.panoptic_png import segments_of_record
from segcore.datasets.instance import category_ids
from segcore.datasets.label_maps import LabelMaps, make_label_maps, stems
from segcore.datasets.panoptic import read_panoptic_records
from segcore.datasets.preparing import for_all, link
from segcore.errors import UserError
from segcore.images import read_labels
from segcore.vocabulary import Vocabulary, vocabulary_table

VOCABULARY = Vocabulary.registered("mapillary_vistas_65")
ENTRIES = vocabulary_table(VOCABULARY.name)["datasets"]
SPLITS = {"train": "training", "val": "validation"}


def prepare(root: Path, *, workers: int) -> None:
    """Link and check the splits that are there.

    Raises:
        UserError: there is none, or a file is missing or wrong.
    """
    folders = {split: root / "mapillary_vistas" / name for split, name in SPLITS.items()}
    there = {split: folder for split, folder in folders.items() if folder.is_dir()}
    if not there:
        raise UserError(f"there is no {folders['val']}: unpack the download there")
    for split, folder in there.items():
        for kind in ("labels", "panoptic"):
            link(folder / "v1.2" / kind, folder / kind)
        check_label_maps(f"mapillary_vistas_sem_seg_{split}", root, workers)
        if (folder / "panoptic").is_dir():
            check_segments(f"mapillary_vistas_panoptic_{split}", root, workers)


def check_label_maps(name: str, root: Path, workers: int) -> None:
    """Read every label map of a data set, and print their number.

    Raises:
        UserError: there is none, or one is damaged or holds a value that is no class.
    """
    maps = LabelMaps.of(name, root)
    files = {stem: maps.path(stem) for stem in sorted(stems(maps.folder, maps.suffix))}
    if not files:
        raise UserError(f"{maps.folder} holds no file *{maps.suffix}: unpack the download there")
    make_label_maps(maps, files, read_labels, workers)


def check_segments(name: str, root: Path, workers: int) -> None:
    """Compare the segments of every image with their list, and print the number of images.

    Raises:
        UserError: the list is wrong, or a PNG is missing, damaged, or does not agree with it.
    """
    entry, ids = ENTRIES[name], category_ids(VOCABULARY)
    things, stuff = (
        {theirs: ours for theirs, ours in ids.items() if VOCABULARY.isthing[ours] is kind}
        for kind in (True, False)
    )
    listing, folder = root / entry["panoptic_json"], root / entry["labels"]
    records = read_panoptic_records(name, root / entry["images"], listing, folder, things, stuff)
    for_all(check_image, records, workers, f"check {name}")
    print(f"{name}: segments of {len(records)} images in {listing}")


def check_image(record: dict) -> None:
    """Raise UserError unless the PNG of an image has its size and its listed segments."""
    segments = segments_of_record(record)
    segments.index()
    size = record["height"], record["width"]
    if segments.ids.shape != size:
        raise UserError(
            f"{segments.source} has (height, width) {segments.ids.shape}, but its list says {size}:"
            " unpack the download again"
        )
