"""Prepare ADE20K with 150 classes for semantic, panoptic and instance segmentation.

Reads, below <root>/ADEChallengeData2016 (<root> is $DETECTRON2_DATASETS or "datasets"),

    images/{training,validation}/*.jpg                 ADEChallengeData2016.zip
    annotations/{training,validation}/*.png            the same
    annotations_instance/{training,validation}/*.png   annotations_instance.tar

and writes

    annotations_detectron2/{training,validation}/*.png   label maps: 0..149, 255 = no class
    ade20k_panoptic_{train,val}/*.png and .json          segments in COCO's format
    ade20k_instance_{train,val}.json                     objects in COCO's format

--task semantic writes the label maps alone, which need no annotations_instance. Complete files are
kept; a split of segments and objects is complete when its two JSON files exist.
"""

import shutil
from functools import partial
from pathlib import Path

import numpy as np

from segcore.annotations import read_annotations
from segcore.annotations.panoptic_png import encode_ids
from segcore.datasets.label_maps import LabelMaps, make_label_maps, stems
from segcore.datasets.preparing import (
    describe_mask,
    find_files,
    for_all,
    label_table,
    relabel,
    write_image,
)
from segcore.errors import UserError
from segcore.images import read_image, read_labels
from segcore.runtime.files import write_json
from segcore.scenes.coco import encode_mask
from segcore.vocabulary import Vocabulary, vocabulary_table

FOLDER = "ADEChallengeData2016"
SPLITS = {"training": "train", "validation": "val"}
IGNORED = 255
LABELS = label_table(
    {theirs: ours for ours, theirs in enumerate(Vocabulary.registered("ade20k_150").dataset_ids)},
    IGNORED,
)
CLASSES = vocabulary_table("ade20k_panoptic_150")["classes"]
THINGS = {entry["instance_id"]: id for id, entry in enumerate(CLASSES) if entry["isthing"]}


def prepare(root: Path, *, task: str, workers: int) -> None:
    """Write everything for both splits.

    Raises:
        UserError: a file is missing or wrong, or cannot be written.
    """
    folder = root / FOLDER
    for split, short in SPLITS.items():
        files = {path.stem: path for path in find_files(folder / "annotations" / split, ".png")}
        make_label_maps(LabelMaps.of(f"ade20k_sem_seg_{short}", root), files, convert, workers)
        if task == "all":
            prepare_segments(folder, split, list(files), workers)


def convert(path: Path) -> np.ndarray:
    """Return the label map (H, W) uint8; 0, other, becomes ignored."""
    return relabel(read_labels(path), LABELS, path)


def prepare_segments(folder: Path, split: str, names: list[str], workers: int) -> None:
    """Write the segments and objects of a split, unless all are there."""
    short = SPLITS[split]
    target = folder / f"ade20k_panoptic_{short}"
    documents = {
        folder / f"ade20k_panoptic_{short}.json": panoptic_document,
        folder / f"ade20k_instance_{short}.json": instance_document,
    }
    if stems(target, ".png") == {*names} and all(path.is_file() for path in documents):
        return
    parts = folder / f"{target.name}.parts"  # descriptions, kept for a run that resumes
    parts.mkdir(exist_ok=True)
    work = partial(prepare_image, folder, split, target, parts)
    described = for_all(work, names, workers, target.name)
    for path, document in documents.items():
        write_json(path, document(described))
    shutil.rmtree(parts)


def prepare_image(folder: Path, split: str, target: Path, parts: Path, name: str) -> dict:
    """Write the PNG of an image's segments to ``target``, and their description to ``parts``.

    Returns:
        ``image``, ``segments`` and ``objects`` as COCO's files describe them.
    """
    part = parts / f"{name}.json"
    if part.is_file():
        return read_annotations(part)
    labels = read_labels(folder / "annotations_detectron2" / split / f"{name}.png")
    instance_path = folder / "annotations_instance" / split / f"{name}.png"
    ids, segments, objects = merge(labels, read_image(instance_path), instance_path)
    write_image(target / f"{name}.png", encode_ids(ids))
    height, width = labels.shape
    image = {"id": name, "file_name": f"{name}.jpg", "height": height, "width": width}
    described = {"image": image, "segments": segments, "objects": objects}
    write_json(part, described)
    return described


def merge(
    labels: np.ndarray, instances: np.ndarray, path: Path
) -> tuple[np.ndarray, list[dict], list[dict]]:
    """Merge the stuff of the label map with the objects of the instance annotations.

    Things of the label map that no object covers belong to no segment. As in the published
    preparation, a stuff segment is described before objects are painted over it, and stays listed
    if nothing of it is left: panoptic quality uses these areas.

    Args:
        labels: (H, W), class ids and 255.
        instances: (H, W, 3); red is the class from 1, green the number of the object from 1.
        path: of the instances, for messages.

    Returns:
        segment ids (H, W), 0 = none; the list of segments; the list of objects with their masks.

    Raises:
        UserError: the sizes differ, or an object has no class or several.
    """
    if instances.shape[:2] != labels.shape:
        raise UserError(
            f"{path} has (height, width) {instances.shape[:2]}, but the label map of the same name "
            f"has {labels.shape}: the two must agree"
        )
    ids, segments, objects = np.zeros(labels.shape, dtype=np.int64), [], []

    def paint(mask: np.ndarray, category: int) -> dict:
        segment = {"id": len(segments) + 1, "category_id": category, "iscrowd": 0}
        segments.append(segment | describe_mask(mask))
        ids[mask] = segment["id"]
        return segments[-1]

    for label in np.setdiff1d(labels, IGNORED).tolist():
        if not CLASSES[label]["isthing"]:
            paint(labels == label, label)
    for number in np.setdiff1d(instances[..., 1], 0).tolist():
        mask = instances[..., 1] == number
        painted = paint(mask, _thing(np.unique(instances[mask][:, 0]).tolist(), number, path))
        objects.append(painted | {"segmentation": encode_mask(mask)})
    return ids, segments, objects


def _thing(values: list[int], number: int, path: Path) -> int:
    """Return the class id of an object by the values of the red channel."""
    if len(values) > 1 or values[0] not in THINGS:
        raise UserError(
            f"object {number} of {path} has the classes {values}: it needs one of 1..{len(THINGS)}"
        )
    return THINGS[values[0]]


def panoptic_document(described: list[dict]) -> dict:
    """Return the content of COCO's panoptic JSON."""
    return {
        "images": [each["image"] for each in described],
        "annotations": [
            {
                "image_id": each["image"]["id"],
                "file_name": f"{each['image']['id']}.png",
                "segments_info": each["segments"],
            }
            for each in described
        ],
        "categories": [
            _category(id) | {"isthing": int(entry["isthing"]), "color": entry["color"]}
            for id, entry in enumerate(CLASSES)
        ],
    }


def instance_document(described: list[dict]) -> dict:
    """Return the content of COCO's instance JSON, with the image ids of the panoptic file."""
    objects = [(each["image"]["id"], entry) for each in described for entry in each["objects"]]
    return {
        "images": [each["image"] for each in described],
        "annotations": [
            entry | {"id": number, "image_id": image_id}
            for number, (image_id, entry) in enumerate(objects, start=1)
        ],
        "categories": [_category(id) for id in THINGS.values()],
    }


def _category(id: int) -> dict:
    return {"id": id, "name": CLASSES[id]["name"]}
