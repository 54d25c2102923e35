"""YouTube-VIS's JSON of tracks."""

from pathlib import Path

from catrank.imports.export import TRACKS, Export, ExportClass
from segcore.annotations import read_track_file
from segcore.datasets.categories import read_categories
from segcore.errors import UserError


def read_tracks(source: Path, image_dir: Path) -> Export:
    """Check a file of tracks, whose entries stay as they are; classes are in the order of ids.

    Raises:
        UserError: the file is wrong, or has no tracks.
    """
    _, tracks = read_track_file(source, image_dir)
    if tracks is None:
        raise UserError(f"{source} has no 'annotations': there is nothing to train on")
    categories = read_categories(source)
    classes = tuple(ExportClass(name, value=id) for id, (name, _) in categories.items())
    return Export("youtube-vis", TRACKS, classes, (), source, image_dir=image_dir)
