"""Write imported images with label maps, and objects or segments in COCO's formats."""

import functools
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from catrank.imports.describing import Datasets
from catrank.imports.export import OBJECTS, SEGMENTS, Export, ExportClass, LabelledImage
from catrank.imports.painting import Painted, Palette, paint
from catrank.imports.plan import Plan
from catrank.imports.splitting import TRAIN, VAL, split_names
from segcore.annotations.panoptic_png import encode_ids
from segcore.datasets.preparing import for_all, write_image
from segcore.errors import UserError, printable
from segcore.images import read_header
from segcore.runtime.files import write_json

Item = tuple[str, LabelledImage, Palette]  # the split first
Result = dict[str, Any]  # height, width, objects, segments, and the classes that occur


def write_image_sets(
    exports: Sequence[Export],
    classes: Sequence[ExportClass],
    palettes: Sequence[Palette],
    plan: Plan,
) -> tuple[Datasets, tuple[str, ...]]:
    """Write everything but the description.

    Returns:
        the entries of ``datasets`` in the description, and lines that report numbers.

    Raises:
        UserError: an image is missing or of another size, or something cannot be read.
    """
    items, lines = _items(exports, palettes, plan)
    kind = exports[0].kind
    results = for_all(functools.partial(_write, plan), items, plan.workers, plan.name)
    datasets: dict[str, dict[str, str]] = {}
    shown: Counter[int] = Counter()
    for split in (TRAIN, VAL):
        pairs = [
            (item[1], result) for item, result in zip(items, results, strict=True)
            if item[0] == split
        ]  # fmt: skip
        if not pairs:
            continue
        shown.update(number for _, result in pairs for number in result["classes"])
        folders = {"images": f"images/{split}", "labels": f"labels/{split}"}
        datasets[f"{plan.name}_{split}"] = folders
        lines += (f"{plan.name}_{split}: {len(pairs)} images",)
        if kind == OBJECTS:
            file = f"instances_{split}.json"
            write_json(plan.output / file, _instances(pairs, classes))
            datasets[f"{plan.name}_{split}_instance"] = {
                "images": folders["images"],
                "instance_json": file,
            }
        elif kind == SEGMENTS:
            file = f"panoptic_{split}.json"
            write_json(plan.output / file, _panoptic(pairs, classes))
            datasets[f"{plan.name}_{split}_panoptic"] = {
                "images": folders["images"],
                "panoptic_json": file,
                "labels": f"panoptic/{split}",
            }
    numbers = (f"{each.name} ({shown[number]})" for number, each in enumerate(classes))
    return datasets, (*lines, f"classes (images that show them): {', '.join(numbers)}")


def _items(
    exports: Sequence[Export], palettes: Sequence[Palette], plan: Plan
) -> tuple[list[Item], tuple[str, ...]]:
    """Return the images with their splits, and notes on missing ones."""
    images = [
        (number, image)
        for number, export in enumerate(exports)
        for image in export.images
        if image.path.is_file()
    ]
    missing = [
        image.path for export in exports for image in export.images if not image.path.is_file()
    ]
    if not images:
        first = missing[0] if missing else exports[0].source
        raise UserError(f"no image of the export is there, such as {first}: give --images")
    given = len(exports) > 1 or any(image.split for _, image in images)
    drawn = split_names([image.name for _, image in images], plan.fraction, plan.seed)
    items: list[Item] = []
    labels: dict[tuple[str, str], str] = {}
    for number, image in images:
        split = (VAL if number else image.split or TRAIN) if given else drawn[image.name]
        key = (split, str(PurePosixPath(image.name).with_suffix("")))
        if key in labels:
            raise UserError(
                f"{printable(labels[key])} and {printable(image.name)} would have one label map: "
                "rename one of the images, or remove the double entry"
            )
        labels[key] = image.name
        items.append((split, image, palettes[number]))
    if not missing:
        return items, ()
    return items, (f"note: {len(missing)} images are missing and left out, such as {missing[0]}",)


def _write(plan: Plan, item: Item) -> Result:
    """Write an image and its label map; return what the JSON files list."""
    split, image, palette = item
    header = read_header(image.path)
    painted = paint(image, header, palette)
    largest = max(palette.ignore_label, int(painted.labels.max()))
    stem = str(PurePosixPath(image.name).with_suffix(""))
    labels = painted.labels.astype(np.min_scalar_type(largest))
    write_image(plan.output / "labels" / split / f"{stem}.png", labels)
    if painted.ids is not None:
        png = plan.output / "panoptic" / split / f"{stem}.png"
        write_image(png, encode_ids(painted.ids))
    copy_image(image.path, plan.output / "images" / split / image.name, link=plan.link)
    return _describe(painted, palette)


def _describe(painted: Painted, palette: Palette) -> Result:
    found = np.unique(painted.labels)
    height, width = painted.labels.shape
    return {
        "size": {"height": height, "width": width},
        "objects": painted.objects,
        "classes": found[found != palette.ignore_label].tolist(),
    }


def copy_image(source: Path, target: Path, *, link: bool) -> None:
    """Copy a file, or make a symbolic link to it; nothing is done where there is one already.

    Raises:
        UserError: it cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            return
        if link:
            target.symlink_to(os.path.relpath(source.resolve(), target.parent.resolve()))
        else:
            shutil.copyfile(source, target)
    except OSError as error:
        raise UserError(f"cannot write {printable(target)}: {error.strerror}") from error


Pairs = Sequence[tuple[LabelledImage, Result]]


def _images(pairs: Pairs) -> list[dict[str, Any]]:
    return [
        {"id": id, "file_name": image.name, **result["size"]}
        for id, (image, result) in enumerate(pairs, 1)
    ]


def _instances(pairs: Pairs, classes: Sequence[ExportClass]) -> dict[str, Any]:
    """Return COCO's JSON of objects; category ids are class ids."""
    objects = [
        entry | {"image_id": id}
        for id, (_, result) in enumerate(pairs, 1)
        for entry in result["objects"]
    ]
    return {
        "images": _images(pairs),
        "annotations": [entry | {"id": id} for id, entry in enumerate(objects, 1)],
        "categories": [
            {"id": id, "name": each.name} for id, each in enumerate(classes) if each.is_thing
        ],
    }


def _panoptic(pairs: Pairs, classes: Sequence[ExportClass]) -> dict[str, Any]:
    """Return COCO's panoptic JSON; category ids are class ids."""
    return {
        "images": _images(pairs),
        "annotations": [
            {
                "image_id": id,
                "file_name": str(PurePosixPath(image.name).with_suffix(".png")),
                "segments_info": result["objects"],
            }
            for id, (image, result) in enumerate(pairs, 1)
        ],
        "categories": [
            {"id": id, "name": each.name, "isthing": int(each.is_thing)}
            for id, each in enumerate(classes)
        ],
    }
