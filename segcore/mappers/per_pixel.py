"""Map semantic data sets for per-pixel models: label maps, and padding that normalises to zero."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T
from torch import Tensor

from segcore.datasets.category_scores import ImageScores
from segcore.mappers.augmentations import resized_crop
from segcore.mappers.registry import MAPPER_REGISTRY
from segcore.mappers.segmentation import to_tensor
from segcore.mappers.semantic import SemanticMapper


class PerPixelMapper(SemanticMapper):
    """Training adds ``sem_seg`` (h, w) int64, and no objects.

    The image (3, h, w) is float32 in training: it is padded with the mean of the channels, which is
    no whole number.
    """

    @configurable
    def __init__(
        self,
        *,
        pixel_mean: Sequence[float],
        image_scores: ImageScores | None = None,
        **arguments: object,
    ) -> None:
        """
        Args:
            pixel_mean: what the model subtracts from the channels, in the order of the image.
            image_scores: of the whole images, added as ``category_logits`` (K,); None adds none.
            arguments: those of :class:`SegmentationMapper`.
        """
        super().__init__(**arguments)
        self.image_scores = image_scores
        self.pixel_mean = torch.tensor(pixel_mean, dtype=torch.float32)[:, None, None]

    @classmethod
    def from_config(
        cls, cfg: CfgNode, is_train: bool, augment: Callable[[CfgNode], list[T.Augmentation]]
    ) -> dict:
        arguments = super().from_config(cfg, is_train, augment)
        return arguments | {
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "image_scores": _scores(cfg, is_train),
        }

    def __call__(self, dataset_dict: dict) -> dict:
        output = super().__call__(dataset_dict)
        if self.image_scores is not None:
            output["category_logits"] = self.image_scores[dataset_dict["file_name"]]
        return output

    def augment(self, dataset_dict: dict, image: np.ndarray) -> dict:
        return self.augment_labels(dataset_dict, image)

    def pad_image(self, image: np.ndarray) -> Tensor:
        """Turn an image (h, w, 3) into a float32 tensor (3, h, w), padded with the mean."""
        height, width = image.shape[:2]
        padded = self.pad(to_tensor(image).float(), 0)
        padded[:, height:] = self.pixel_mean
        padded[:, :, width:] = self.pixel_mean
        return padded


def _scores(cfg: CfgNode, is_train: bool) -> ImageScores | None:
    """Return the scores that RankSeg's independent scheme selects classes by, if it is on."""
    rankseg = cfg.MODEL.get("RANKSEG", {})
    independent = rankseg.get("INDEPENDENT", {})
    if not (rankseg.get("FLAG") and independent.get("FLAG")):
        return None
    return ImageScores(independent.SCORES, cfg.DATASETS.TRAIN if is_train else cfg.DATASETS.TEST)


@MAPPER_REGISTRY.register()
def per_pixel_semantic(cfg: CfgNode, is_train: bool) -> PerPixelMapper:
    """Build the mapper of Segmenter, DeepLabv3, UPerNet and ESSNet."""
    return PerPixelMapper(cfg, is_train, resized_crop)
