"""Files that hold many images: results of a folder or of a video, in COCO's formats.

Results are taken one by one, as ``Model.segment`` yields them; only their RLEs stay in memory.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catrank.exports.coco import coco_annotations, coco_categories, coco_dataset, coco_image
from catrank.exports.coco_panoptic import panoptic_annotation, panoptic_png, things_of
from catrank.exports.files import make_folder, save_image, save_json
from segcore.errors import UserError, printable

if TYPE_CHECKING:
    from catrank.results import Result


def coco_of(results: "Iterable[Result]", *, shapes: str = "rle") -> dict[str, Any]:
    """Return results in COCO's format of objects.

    Args:
        results: of one list of classes.
        shapes: "rle" or "polygons", see :func:`.coco.coco_annotations`.

    Raises:
        UserError: there is no result, or two have different classes.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    names: tuple[str, ...] | None = None
    for image_id, result in enumerate(results, 1):
        names = _same_names(names, result)
        images.append(coco_image(image_id, result.file_name, result.size))
        entries = coco_annotations(result.annotations(), image_id, len(annotations) + 1, shapes)
        if result.tracked:
            for entry, segment in zip(entries, result.segments, strict=True):
                entry["track_id"] = segment.number
        annotations += entries
    return coco_dataset(images, annotations, coco_categories(_required(names)))


def write_coco(results: "Iterable[Result]", path: str | Path, *, shapes: str = "rle") -> None:
    """Write :func:`coco_of` results as a file.

    Raises:
        UserError: as :func:`coco_of`, or it cannot be written.
    """
    save_json(coco_of(results, shapes=shapes), Path(path), compact=True)


def coco_panoptic_of(results: "Iterable[Result]", png_folder: Path | None = None) -> dict[str, Any]:
    """Return results in COCO's panoptic format.

    Args:
        results: of one list of classes, with different file names.
        png_folder: where the PNG file of each result is written; None writes none.

    Raises:
        UserError: there is no result, two have different classes or the same file name, or a file
            cannot be written.
    """
    images, annotations, things, names = [], [], [], None
    taken: set[str] = set()
    for image_id, result in enumerate(results, 1):
        names = _same_names(names, result)
        png = f"{Path(result.file_name).stem}.png"
        if png in taken:
            raise UserError(
                f"two images are named {printable(png)}: their PNG files would be the same"
            )
        taken.add(png)
        if png_folder is not None:
            save_image(panoptic_png(result.segment_ids), png_folder / png)
        images.append(coco_image(image_id, result.file_name, result.size))
        annotations.append(
            panoptic_annotation(result.segment_ids, result.annotations(), image_id, png)
        )
        things.append(things_of(result.class_names, result.isthing, result.segments))
    isthing = [any(column) for column in zip(*things, strict=True)]
    return coco_dataset(images, annotations, coco_categories(_required(names), isthing))


def write_coco_panoptic(results: "Iterable[Result]", path: str | Path) -> None:
    """Write the JSON, and the PNG files into the folder of its name without the ending.

    Raises:
        UserError: as :func:`coco_panoptic_of`.
    """
    path = Path(path)
    folder = path.with_suffix("")
    make_folder(folder)
    save_json(coco_panoptic_of(results, folder), path, compact=True)


def _same_names(names: tuple[str, ...] | None, result: "Result") -> tuple[str, ...]:
    if names not in (None, result.class_names):
        raise UserError(
            f"{printable(result.name)} has other classes than the results before: one file has one "
            "list of classes"
        )
    return result.class_names


def _required(names: Sequence[str] | None) -> Sequence[str]:
    if names is None:
        raise UserError("there is no result to write")
    return names
