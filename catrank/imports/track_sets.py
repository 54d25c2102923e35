"""Write imported videos: frames, and a JSON of tracks for each split."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from catrank.imports.describing import Datasets
from catrank.imports.export import Export, ExportClass
from catrank.imports.image_sets import copy_image
from catrank.imports.plan import Plan
from catrank.imports.splitting import TRAIN, VAL, split_names
from segcore.annotations.json_file import read_annotations
from segcore.errors import UserError
from segcore.runtime.files import write_json


def write_track_sets(
    exports: Sequence[Export], classes: Sequence[ExportClass], plan: Plan
) -> tuple[Datasets, tuple[str, ...]]:
    """Write everything but the description; a video is in training or in validation as a whole.

    The frames of the reader's export are known to be inside of its folder.

    Returns:
        the entries of ``datasets`` in the description, and lines that report numbers.

    Raises:
        UserError: a frame is missing, or something cannot be written.
    """
    kept = {each.value for each in classes}
    datasets: dict[str, dict[str, str]] = {}
    lines = []
    for split, export, content in _splits(exports, plan):
        assert export.image_dir is not None
        ids = {video["id"] for video in content["videos"]}
        tracks = [
            track
            for track in content["annotations"]
            if track["video_id"] in ids and track["category_id"] in kept
        ]
        names = [name for video in content["videos"] for name in video["file_names"]]
        _copy_frames(export.image_dir, plan, names)
        file = f"tracks_{split}.json"
        table = {
            "videos": content["videos"],
            "annotations": tracks,
            "categories": [{"id": each.value, "name": each.name} for each in classes],
        }
        write_json(plan.output / file, table)
        datasets[f"{plan.name}_{split}"] = {"images": "frames", "track_json": file}
        lines.append(
            f"{plan.name}_{split}: {len(ids)} videos, {len(names)} frames, {len(tracks)} objects"
        )
    return datasets, tuple(lines)


def _splits(exports: Sequence[Export], plan: Plan) -> list[tuple[str, Export, Mapping[str, Any]]]:
    """Return the splits that have videos, with the content of their JSON files."""
    contents: list[Mapping[str, Any]] = [read_annotations(each.source) for each in exports]
    if len(exports) > 1:
        return list(zip((TRAIN, VAL), exports, contents, strict=True))
    videos = contents[0]["videos"]
    drawn = split_names([str(video["id"]) for video in videos], plan.fraction, plan.seed)
    found: list[tuple[str, Export, Mapping[str, Any]]] = []
    for split in (TRAIN, VAL):
        chosen = [video for video in videos if drawn[str(video["id"])] == split]
        if chosen:
            found.append((split, exports[0], {**contents[0], "videos": chosen}))
    return found


def _copy_frames(folder: Path, plan: Plan, names: Sequence[str]) -> None:
    for name in names:
        source, target = folder / name, plan.output / "frames" / name
        if not source.is_file():
            raise UserError(f"there is no frame {source}: give the folder with --images")
        if target.exists() and target.stat().st_size != source.stat().st_size:
            raise UserError(f"training and validation have different frames {name}: rename them")
        copy_image(source, target, link=plan.link)
