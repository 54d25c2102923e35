"""A demo of videos like Mask2Former's; only its import of a family is ours.

``tests/test_published_scripts.py`` runs it.
"""

import argparse
import json
from pathlib import Path

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog
from detectron2.data.detection_utils import read_image
from detectron2.engine import DefaultPredictor
from detectron2.projects.deeplab import add_deeplab_config
from detectron2.structures import Instances
from detectron2.utils.logger import setup_logger
from detectron2.utils.visualizer import VisImage, Visualizer

from mask2former_rankseg import add_maskformer2_config, add_maskformer2_video_config


def setup_cfg(args: argparse.Namespace) -> CfgNode:
    cfg = get_cfg()
    for add_keys in (add_deeplab_config, add_maskformer2_config, add_maskformer2_video_config):
        add_keys(cfg)
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    return cfg


class VideoPredictor(DefaultPredictor):
    """Runs the model on all frames at once; loading and resizing are inherited."""

    def __call__(self, frames: list) -> dict:
        inputs = []
        for frame in frames:
            height, width = frame.shape[:2]
            if self.input_format == "RGB":
                frame = frame[:, :, ::-1]
            resized = self.aug.get_transform(frame).apply_image(frame)
            inputs.append(torch.as_tensor(resized.astype("float32").transpose(2, 0, 1)))
        with torch.no_grad():
            return self.model([{"image": inputs, "height": height, "width": width}])


class VisualizationDemo:
    def __init__(self, cfg: CfgNode) -> None:
        self.metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        self.predictor = VideoPredictor(cfg)

    def run_on_video(self, frames: list) -> tuple[dict, list[VisImage]]:
        """Return the prediction for BGR frames (H, W, 3), and an overlay for each frame."""
        prediction = self.predictor(frames)
        masks_by_frame = list(zip(*prediction["pred_masks"], strict=True))
        drawings = []
        for frame, masks in zip(frames, masks_by_frame, strict=True):
            instances = Instances(prediction["image_size"])
            instances.scores = prediction["pred_scores"]
            instances.pred_classes = torch.tensor(prediction["pred_labels"])
            instances.pred_masks = torch.stack(masks, dim=0)
            canvas = Visualizer(frame[:, :, ::-1], self.metadata)
            drawings.append(canvas.draw_instance_predictions(predictions=instances))
        return prediction, drawings


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--input", nargs="+", required=True, help="the frames of one video")
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--opts", default=[], nargs=argparse.REMAINDER)
    return parser


if __name__ == "__main__":
    args = get_parser().parse_args()
    setup_logger(name="fvcore")
    setup_logger()
    demo = VisualizationDemo(setup_cfg(args))
    frames = [read_image(path, format="BGR") for path in args.input]
    prediction, drawings = demo.run_on_video(frames)
    for path, drawing in zip(args.input, drawings, strict=True):
        drawing.save(str(args.output / f"{Path(path).stem}_video.png"))
    classes = [demo.metadata.thing_classes[label] for label in prediction["pred_labels"]]
    areas = [masks.sum(dim=(1, 2)).tolist() for masks in prediction["pred_masks"]]
    found = {"scores": [float(score) for score in prediction["pred_scores"]]}
    found |= {"classes": classes, "areas": areas, "image_size": list(prediction["image_size"])}
    (args.output / "video.json").write_text(json.dumps(found))
