"""Videos with predictions, evaluated in one process or several.

python video_run.py FOLDER RANK SIZE prints the results of both video evaluators as JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from segcore.engine.sharding import Shard
from segcore.evaluation import VideoInstanceEvaluator, VideoSemanticEvaluator
from segcore.outlines import encode_masks

CLASSES, SIZE, PIECE = ["a", "b", "c"], (12, 16), 5
LENGTHS = {"v1": 21, "v0": 10, "v2": 17, "v3": 1}


def blobs(seed: int, length: int, jitter: int) -> np.ndarray:
    """(T, H, W) values 0 ... 4 in areas that move slowly."""
    rng = np.random.default_rng(seed)
    seeds, values = rng.integers(0, 16, (9, 2)), rng.integers(0, 5, 9)
    grid = np.stack(np.mgrid[: SIZE[0], : SIZE[1]], axis=-1)[:, :, None]
    moves = np.random.default_rng(jitter).random((length, 9, 2)) < 0.07
    centres = seeds + moves.cumsum(axis=0)
    return np.stack([values[((grid - p) ** 2).sum(-1).argmin(-1)] for p in centres])


def write(folder: Path) -> None:
    """Label maps with values of VSPW (4 becomes 255), and a file of tracks, both of the blobs."""
    videos, tracks = [], []
    for number, (name, length) in enumerate(LENGTHS.items()):
        (folder / name).mkdir()
        ground_truth = blobs(number, length, jitter=number)
        files = [f"{name}/{t:04}.png" for t in range(length)]
        for file, labels in zip(files, ground_truth, strict=True):
            Image.fromarray(np.where(labels == 4, 255, labels).astype(np.uint8)).save(folder / file)
        size = {"height": SIZE[0], "width": SIZE[1], "length": length}
        videos.append({"id": 7 - number, "file_names": files, **size})
        tracks += [
            {"id": 10 * number + c, "video_id": 7 - number, "category_id": c, "segmentations": runs}
            for c in (1, 2, 3)
            if any(runs := encoded(ground_truth == c))
        ]
    categories = [{"id": c, "name": name} for c, name in enumerate(CLASSES, 1)]
    content = {"videos": videos, "annotations": tracks, "categories": categories}
    (folder / "gt.json").write_text(json.dumps(content))


def encoded(masks: np.ndarray) -> list[dict | None]:
    runs = encode_masks(torch.from_numpy(masks))
    return [run if mask.any() else None for run, mask in zip(runs, masks, strict=True)]


def register(folder: Path) -> list[dict]:
    """Register ``labelled``, in pieces, and ``tracked``; returns the dicts of the latter."""
    videos = json.loads((folder / "gt.json").read_text())["videos"]
    for video in videos:
        video["file_names"] = [str(folder / file) for file in video["file_names"]]
        video["video_id"] = video.pop("id")
    pieces = []
    for video in videos:
        for first in range(0, video["length"], PIECE):
            files = video["file_names"][first : first + PIECE]
            lists = {"file_names": files, "sem_seg_file_names": files, "length": len(files)}
            pieces.append(video | lists | {"first_frame": first})
    DatasetCatalog.register("labelled", lambda: pieces)
    MetadataCatalog.get("labelled").set(stuff_classes=CLASSES, ignore_label=255)
    DatasetCatalog.register("tracked", lambda: videos)
    MetadataCatalog.get("tracked").set(
        json_file=str(folder / "gt.json"),
        thing_classes=CLASSES,
        thing_dataset_id_to_contiguous_id={1: 0, 2: 1, 3: 2},
    )
    return videos


def predicted(item: dict) -> np.ndarray:
    """(T, H, W) class ids of a video or piece."""
    number = 7 - item["video_id"]
    length = list(LENGTHS.values())[number]
    first = item.get("first_frame", 0)
    stored = blobs(number, length, jitter=number + 50)[first : first + item["length"]]
    return np.clip(stored - 1, 0, 2)


def prediction(item: dict) -> dict:
    """Tracks of each class, whole and cut in two, with scores some of which are equal."""
    masks = [predicted(item) == c for c in range(3)]
    parts = [(c, score, mask) for c, mask in enumerate(masks) for score in (0.9, 0.5)]
    tracks = [(c, s, m if s > 0.6 else m & (np.arange(SIZE[1]) < 9)) for c, s, m in parts]
    return {
        "pred_labels": [c for c, _, _ in tracks],
        "pred_scores": [score - 0.1 * (item["video_id"] % 2) for _, score, _ in tracks],
        "pred_masks": [encode_masks(torch.from_numpy(mask)) for _, _, mask in tracks],
    }


def main(folder: Path, rank: int, size: int) -> None:
    if size > 1:
        store = f"file://{folder}/store"
        torch.distributed.init_process_group("gloo", store, rank=rank, world_size=size)
    register(folder)
    out = folder / f"out{size}"
    semantic = VideoSemanticEvaluator("labelled", output_dir=out, submission=True)
    pieces = DatasetCatalog.get("labelled")
    for index in Shard(pieces):
        labels = torch.from_numpy(predicted(pieces[index]))
        semantic.process([pieces[index]], [{"sem_seg_labels": labels}])
    instances = VideoInstanceEvaluator("tracked", output_dir=out, submission=True)
    videos = DatasetCatalog.get("tracked")
    for index in Shard(videos):
        instances.process([videos[index]], [prediction(videos[index])])
    print(json.dumps([semantic.evaluate(), instances.evaluate()]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
