"""Find the format of an export, and read it."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from catrank.imports.coco import find_images, read_instances, read_segments
from catrank.imports.cvat import read_cvat
from catrank.imports.export import Export
from catrank.imports.label_studio import read_label_studio
from catrank.imports.labelme import read_labelme
from catrank.imports.masks import LABEL_MAP, read_masks
from catrank.imports.videos import read_tracks
from catrank.imports.xml_tree import read_xml
from segcore.annotations import fields
from segcore.annotations.json_file import read_json_value
from segcore.errors import UserError, printable
from segcore.runtime.files import join_inside

FORMATS = {
    "coco": "COCO's JSON of objects (CVAT, Roboflow, Label Studio and others write it too)",
    "coco-panoptic": "COCO's panoptic JSON and PNG files",
    "labelme": "a folder of LabelMe's JSON files",
    "cvat": "CVAT's XML, 'CVAT for images 1.1'",
    "label-studio": "Label Studio's 'JSON'",
    "masks": "a folder of masks in colours or integers; CVAT's 'Segmentation mask 1.1'",
    "youtube-vis": "YouTube-VIS's JSON of videos",
}


def read_export(
    source: Path,
    *,
    format: str | None = None,
    images: Path | None = None,
    masks: Path | None = None,
    table: str | None = None,
    workers: int = 1,
) -> Export:
    """Read an export.

    Args:
        source: a file or folder.
        format: a key of :data:`FORMATS`; None finds it by the content.
        images: the folder of the images; None looks around the source.
        masks: the folder of panoptic PNG files; None: that with the name of the JSON file.
        table: the classes of masks, see :mod:`catrank.imports.masks`.
        workers: processes.

    Raises:
        UserError: the format is unknown, or something in the export is missing or wrong.
    """
    if not source.exists():
        raise UserError(f"there is no file or folder {printable(source)}")
    format = format or find_format(source)
    if table is not None and format != "masks":
        raise UserError(f"--table goes with masks, but {printable(source)} is of {format}")
    if format in ("labelme", "masks"):
        if not source.is_dir():
            raise UserError(f"{printable(source)} is no folder: {format} is {FORMATS[format]}")
        if format == "labelme":
            return read_labelme(source, images, workers)
        return read_masks(source, images, table)
    if not source.is_file():
        raise UserError(f"{printable(source)} is a folder: {format} is {FORMATS[format]}: name it")
    if format == "cvat":
        return read_cvat(source, images or _around(source, _cvat_names(source)))
    if format == "label-studio":
        return read_label_studio(source, images or _around(source, []))
    images = images or find_images(source, _json_names(source, format))
    if format == "coco":
        return read_instances(source, images)
    if format == "coco-panoptic":
        return read_segments(source, images, masks or source.with_suffix(""))
    return read_tracks(source, images)


def find_format(source: Path) -> str:
    """Return the format of an export, by what the file or folder holds.

    Raises:
        UserError: it is none of :data:`FORMATS`.
    """
    if source.is_dir():
        if (source / LABEL_MAP).is_file() or (source / "SegmentationClass").is_dir():
            return "masks"
        has_json = next(source.rglob("*.json"), None) is not None
        return "labelme" if has_json else "masks"
    suffix = source.suffix.lower()
    if suffix == ".xml":
        return "cvat"
    if suffix == ".zip":
        raise UserError(f"{printable(source)} is an archive: unpack it, and name what is in it")
    if suffix == ".json":
        content = read_json_value(source)
        if isinstance(content, list):
            return "label-studio"
        if isinstance(content, dict):
            if "videos" in content:
                return "youtube-vis"
            if "annotations" in content:
                listed = content["annotations"]
                first = listed[0] if isinstance(listed, list) and listed else None
                panoptic = isinstance(first, dict) and "segments_info" in first
                return "coco-panoptic" if panoptic else "coco"
    raise UserError(
        f"{printable(source)} is of no known format; --format may be {', '.join(FORMATS)}"
    )


def _around(source: Path, names: list[str]) -> Path:
    """Return the folder of images around a file; without their names, ``images`` beside it."""
    if names:
        return find_images(source, names)
    beside = source.parent / "images"
    return beside if beside.is_dir() else source.parent


def _json_names(source: Path, format: str) -> list[str]:
    """Return the first names of images, or of frames, that a JSON file lists."""
    content = read_json_value(source)
    entry = content if isinstance(content, dict) else {}
    key = "videos" if format == "youtube-vis" else "images"
    listed = islice(fields.entries(entry, key, str(source)), 20)
    names = (each.get("file_name" if key == "images" else "file_names") for each in listed)
    return _checked(
        (name[0] if isinstance(name, list) and name else name for name in names), source
    )


def _cvat_names(source: Path) -> list[str]:
    images = (child for child in read_xml(source).children if child.tag == "image")
    return _checked((image.attributes.get("name") for image in islice(images, 20)), source)


def _checked(names: Iterable[object], source: Path) -> list[str]:
    """Return names; raise UserError for one that leads out of its folder."""
    where = f"{printable(source)}: the name of an image"
    return [join_inside("", name, where).as_posix() for name in names]
