"""A demo of images like Mask2Former's and CAT-Seg's; only its import of a family is ours.

``tests/test_published_scripts.py`` runs it, with the import of either family.
"""

import argparse
import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog
from detectron2.data.detection_utils import read_image
from detectron2.engine import DefaultPredictor
from detectron2.projects.deeplab import add_deeplab_config
from detectron2.utils.logger import setup_logger
from detectron2.utils.video_visualizer import VideoVisualizer
from detectron2.utils.visualizer import ColorMode, VisImage, Visualizer

from mask2former_rankseg import add_maskformer2_config as add_family_config


def setup_cfg(args: argparse.Namespace) -> CfgNode:
    cfg = get_cfg()
    add_deeplab_config(cfg)
    add_family_config(cfg)
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    return cfg


class ParallelPredictor:
    """``DefaultPredictor`` in processes of their own, as a demo of many images or a video uses it;
    predictions come in the order of the images."""

    class Worker(multiprocessing.Process):
        def __init__(self, cfg: CfgNode, tasks, results) -> None:
            super().__init__(daemon=True)
            self.cfg, self.tasks, self.results = cfg, tasks, results

        def run(self) -> None:
            predictor = DefaultPredictor(self.cfg)
            for number, image in iter(self.tasks.get, None):
                self.results.put((number, predictor(image)))

    def __init__(self, cfg: CfgNode, count: int) -> None:
        self.tasks, self.results = multiprocessing.Queue(), multiprocessing.Queue()
        self.workers = []
        for number in range(count):
            own = cfg.clone()
            own.defrost()
            own.MODEL.DEVICE = f"cuda:{number}" if torch.cuda.is_available() else "cpu"
            own.freeze()
            self.workers.append(self.Worker(own, self.tasks, self.results))
            self.workers[-1].start()

    def __call__(self, images: list) -> Iterator[dict]:
        for task in enumerate(images):
            self.tasks.put(task)
        waiting: dict[int, dict] = {}
        for wanted in range(len(images)):
            while wanted not in waiting:
                number, prediction = self.results.get(timeout=300)
                waiting[number] = prediction
            yield waiting.pop(wanted)

    def close(self) -> None:
        for _ in self.workers:
            self.tasks.put(None)
        for worker in self.workers:
            worker.join()


class VisualizationDemo:
    def __init__(self, cfg: CfgNode) -> None:
        self.metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        self.predictor = DefaultPredictor(cfg)
        self.video_visualizer = VideoVisualizer(self.metadata, ColorMode.IMAGE)

    def run_on_image(self, image) -> tuple[dict, dict[str, VisImage]]:
        """Return the prediction for a BGR image (H, W, 3), and an overlay for each task."""
        prediction = self.predictor(image)
        drawings = {}
        if "panoptic_seg" in prediction:
            segments, about = prediction["panoptic_seg"]
            drawings["panoptic"] = self.canvas(image).draw_panoptic_seg_predictions(
                segments.to("cpu"), about
            )
        if "sem_seg" in prediction:
            labels = prediction["sem_seg"].argmax(dim=0).to("cpu")
            drawings["semantic"] = self.canvas(image).draw_sem_seg(labels, alpha=0.4)
        if "instances" in prediction:
            instances = prediction["instances"].to("cpu")
            drawings["instances"] = self.canvas(image).draw_instance_predictions(
                predictions=instances
            )
        return prediction, drawings

    def run_on_frame(self, frame) -> VisImage:
        """Return the overlay of a frame, with colours that follow the objects."""
        prediction, rgb = self.predictor(frame), frame[:, :, ::-1]
        if "panoptic_seg" in prediction:
            segments, about = prediction["panoptic_seg"]
            return self.video_visualizer.draw_panoptic_seg_predictions(
                rgb, segments.to("cpu"), about
            )
        labels = prediction["sem_seg"].argmax(dim=0).to("cpu")
        return self.video_visualizer.draw_sem_seg(rgb, labels)

    def canvas(self, image) -> Visualizer:
        return Visualizer(image[:, :, ::-1], self.metadata, instance_mode=ColorMode.IMAGE)


def name_segments(prediction: dict, metadata) -> dict[str, int]:
    """Return the areas of panoptic segments by class name."""
    segments, about = prediction["panoptic_seg"]
    areas: dict[str, int] = {}
    for entry in about:
        names = metadata.thing_classes if entry["isthing"] else metadata.stuff_classes
        name = names[entry["category_id"]]
        areas[name] = areas.get(name, 0) + int((segments == entry["id"]).sum())
    return areas


def name_labels(prediction: dict, metadata) -> dict[str, int]:
    """Return the areas of classes by name."""
    ids, areas = prediction["sem_seg"].argmax(dim=0).unique(return_counts=True)
    return {metadata.stuff_classes[i]: n for i, n in zip(ids.tolist(), areas.tolist(), strict=True)}


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--input", nargs="+", required=True)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--parallel", type=int, default=0, help="processes that predict")
    parser.add_argument("--opts", default=[], nargs=argparse.REMAINDER)
    return parser


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn", force=True)
    args = get_parser().parse_args()
    setup_logger(name="fvcore")
    setup_logger()
    demo = VisualizationDemo(setup_cfg(args))
    if args.parallel:
        predictor = ParallelPredictor(setup_cfg(args), args.parallel)
        images = [read_image(path, format="BGR") for path in args.input]
        for image, prediction in zip(images, predictor(images), strict=True):
            alone = demo.predictor(image)
            assert torch.equal(prediction["sem_seg"].cpu(), alone["sem_seg"].cpu())
        predictor.close()
    for path in args.input:
        image = read_image(path, format="BGR")
        prediction, drawings = demo.run_on_image(image)
        drawings["frame"] = demo.run_on_frame(image)
        found = {"semantic": name_labels(prediction, demo.metadata)}
        if "panoptic_seg" in prediction:
            found["panoptic"] = name_segments(prediction, demo.metadata)
        if "instances" in prediction:
            instances = prediction["instances"]
            best = instances[instances.scores > 0.5]
            boxes = best.pred_boxes.tensor
            found["boxes"] = boxes.tolist()
            found["instances"] = [demo.metadata.thing_classes[i] for i in best.pred_classes]
            assert torch.isfinite(boxes).all()
        for kind, drawing in drawings.items():
            drawing.save(str(args.output / f"{Path(path).stem}_{kind}.png"))
        (args.output / f"{Path(path).stem}.json").write_text(json.dumps(found))
