"""Results as files by the names of their formats, for :meth:`Result.save` and the command line."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from catrank.exports.files import make_folder, save_image
from segcore.errors import UserError, printable
from segcore.runtime.files import short_name, user_path

if TYPE_CHECKING:
    from catrank.results import Result

Write = Callable[["Result", Path], Any]

# For each format: how the file's name goes on behind that of the image, and what writes it.
FORMATS: dict[str, tuple[str, Write]] = {
    "overlay": ("_overlay.png", lambda it, path: save_image(np.asarray(it.overlay()), path)),
    "legend": ("_legend.png", lambda it, path: save_image(np.asarray(it.legend()), path)),
    "labels": ("_labels.png", lambda it, path: it.to_label_png(path)),
    "coco": ("_coco.json", lambda it, path: it.to_coco(path)),
    "coco-panoptic": ("_panoptic.json", lambda it, path: it.to_coco_panoptic(path)),
    "labelme": ("_labelme.json", lambda it, path: it.to_labelme(path)),
    "label-studio": ("_label_studio.json", lambda it, path: it.to_label_studio(path)),
    "geojson": (".geojson", lambda it, path: it.to_geojson(path)),
}


def save_result(
    result: "Result",
    folder: str | os.PathLike[str],
    formats: Sequence[str],
    name: str | None = None,
) -> list[Path]:
    """Write a result in several formats and return the paths of the files.

    Args:
        result: of an image.
        folder: made if absent; files of the same names are replaced.
        formats: names in ``FORMATS``.
        name: base name of the files; None: that of the image.

    Raises:
        UserError: there is no such format, or a file cannot be written.
    """
    for each in formats:
        if each not in FORMATS:
            known = ", ".join(FORMATS)
            raise UserError(f"no format {printable(repr(each))}: there are {known}")
    where = user_path(folder)
    make_folder(where)
    stem = name or short_name(PurePath(result.file_name).stem)
    paths = []
    for each in formats:
        ending, write = FORMATS[each]
        paths.append(where / f"{stem}{ending}")
        write(result, paths[-1])
    return paths
