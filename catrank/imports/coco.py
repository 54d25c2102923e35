"""COCO's instance and panoptic JSON."""

from collections.abc import Mapping
from pathlib import Path

from catrank.imports.export import (
    OBJECTS,
    SEGMENTS,
    Export,
    ExportClass,
    LabelledImage,
    Shape,
)
from segcore.annotations import AnnotatedImage, read_instance_file
from segcore.annotations.panoptic_png import PanopticFile
from segcore.datasets.instance import describe_image
from segcore.errors import UserError, printable


def read_instances(source: Path, image_dir: Path) -> Export:
    """Read objects; larger ones are painted first, so that smaller ones lie on top.

    Raises:
        UserError: as :func:`segcore.annotations.read_instance_file`.
    """
    names, images = read_instance_file(source, image_dir)
    found = []
    for image in images:
        objects = sorted(image.objects, key=lambda each: -each.area)
        shapes = (Shape(names[each.category_id], each.outline, each.is_crowd) for each in objects)
        found.append(_labelled(image, image_dir, shapes=tuple(shapes)))
    classes = tuple(ExportClass(names[id]) for id in sorted(names))
    return Export("coco", OBJECTS, _unique(classes), tuple(found), source)


def read_segments(source: Path, image_dir: Path, png_dir: Path) -> Export:
    """Read the segments of panoptic PNG files.

    Raises:
        UserError: as :class:`segcore.annotations.panoptic_png.PanopticFile`.
    """
    file = PanopticFile(source, png_dir, image_dir)
    order = {id: number for number, id in enumerate(sorted(file.categories))}
    classes = tuple(
        ExportClass(file.categories[id].name, is_thing=file.categories[id].isthing) for id in order
    )
    found = []
    for image in file.images:
        if image.id not in file:
            continue
        entry = file.entry(image.id)
        segments = [
            {
                "id": each.id,
                "category_id": order[each.category_id],
                "isthing": file.categories[each.category_id].isthing,
                "iscrowd": int(each.is_crowd),
            }
            for each in entry.segments
        ]
        record: Mapping = describe_image(image) | {
            "pan_seg_file_name": str(png_dir / entry.file_name),
            "segments_info": segments,
        }
        found.append(_labelled(image, image_dir, record=record))
    lacking = len(file.images) - len(found)
    notes = (f"{lacking} images have no segments",) if lacking else ()
    return Export("coco-panoptic", SEGMENTS, classes, tuple(found), source, notes)


def find_images(source: Path, names: list[str]) -> Path:
    """Return the folder of a JSON file's images: the first of those around it that has one of the
    first names.

    Raises:
        UserError: there is none.
    """
    above = source.parent.parent
    stem = source.stem.rpartition("_")[2]  # instances_train2017.json
    folders = [source.parent, source.parent / "images", above / "images", above / stem]
    folders += [above / "images" / stem, above]
    for folder in folders:
        if any((folder / name).is_file() for name in names[:20]):
            return folder
    raise UserError(
        f"{printable(source)}: its images, such as {printable(names[0]) if names else 'none'}, are "
        "not beside it: give their folder with --images"
    )


def _labelled(image: AnnotatedImage, image_dir: Path, **labels: object) -> LabelledImage:
    assert image.path is not None
    name = image.path.relative_to(image_dir).as_posix()
    return LabelledImage(name, image.path, (image.height, image.width), **labels)  # type: ignore[arg-type]


def _unique(classes: tuple[ExportClass, ...]) -> tuple[ExportClass, ...]:
    return tuple({each.name: each for each in classes}.values())
