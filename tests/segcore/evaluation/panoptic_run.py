"""Evaluate stored predictions in one process or in two; see test_panoptic.py.

python panoptic_run.py FOLDER STORE RANK
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from segcore.annotations.panoptic_png import read_segment_ids
from segcore.evaluation import PanopticEvaluator


def register(name: str, json_file: Path, folder: Path) -> str:
    """Register a data set whose contiguous ids are in the order of the file's categories."""
    categories = json.loads(json_file.read_text("utf-8"))["categories"]
    DatasetCatalog.register(name, list)
    MetadataCatalog.get(name).set(
        panoptic_json=str(json_file),
        panoptic_root=str(folder),
        evaluator_type="coco_panoptic_seg",
        **{
            f"{kind}_dataset_id_to_contiguous_id": {
                entry["id"]: i for i, entry in enumerate(categories) if entry["isthing"] == isthing
            }
            for kind, isthing in (("thing", 1), ("stuff", 0))
        },
    )
    return name


def predictions(folder: Path) -> Iterator[tuple[dict, dict]]:
    """Return the stored inputs and outputs of a model."""
    categories = json.loads((folder / "gt.json").read_text("utf-8"))["categories"]
    ours = {entry["id"]: i for i, entry in enumerate(categories)}
    isthing = {entry["id"]: bool(entry["isthing"]) for entry in categories}
    for entry in json.loads((folder / "pred.json").read_text("utf-8"))["annotations"]:
        segments = [
            {"id": each["id"], "category_id": ours[id], "isthing": isthing[id]}
            for each in entry["segments_info"]
            for id in (each["category_id"],)
        ]
        ids = torch.from_numpy(read_segment_ids(folder / "pred" / entry["file_name"]))
        yield {"image_id": entry["image_id"]}, {"panoptic_seg": (ids.int(), segments)}


def scores(folder: Path, rank: int = 0, world_size: int = 1) -> dict | None:
    name = register(f"panoptic_run_{world_size}", folder / "gt.json", folder / "gt")
    evaluator = PanopticEvaluator(name)
    for i, (item, output) in enumerate(predictions(folder)):
        if i % world_size == rank:
            evaluator.process([item], [output])
    return evaluator.evaluate()


def main(folder: Path, store: Path, rank: int) -> None:
    torch.distributed.init_process_group("gloo", f"file://{store}/store", rank=rank, world_size=2)
    print(json.dumps(scores(folder, rank, 2)))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
