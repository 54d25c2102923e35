"""A trained model as a function from a picture to its label map."""

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling import build_model

from segcore.checkpoint import Checkpointer
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary


class Segmenter:
    """Segments pictures with the words of a vocabulary.

    Args:
        cfg: a whole config; MODEL.WEIGHTS names the checkpoint, every parameter of which must fit.
        vocabulary: the classes; None: those of the config.

    Raises:
        UserError: no checkpoint is named, or it is not of this model.
    """

    def __init__(self, cfg: CfgNode, vocabulary: Vocabulary | None = None):
        if not cfg.MODEL.WEIGHTS:
            raise UserError(
                "MODEL.WEIGHTS is empty: name a checkpoint by `--opts MODEL.WEIGHTS model.pth`; "
                "an untrained model knows nothing"
            )
        cfg = cfg.clone()
        cfg.merge_from_list(["TEST.SEM_SEG_OUTPUT", "labels"])  # of the scores only the best count
        self.model = build_model(cfg).eval()
        Checkpointer(self.model).load(cfg.MODEL.WEIGHTS)
        if vocabulary is not None:
            self.model.set_vocabulary(vocabulary)
        if self.model.vocabulary is None:
            raise UserError("the config names no classes: give some by --vocabulary")
        self.resize = ResizeShortestEdge(
            [cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST], cfg.INPUT.MAX_SIZE_TEST
        )

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes that label maps speak of."""
        return self.model.vocabulary

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Labels a picture.

        Args:
            image: (H, W, 3) uint8, RGB.

        Returns:
            (H, W) int64 class ids.
        """
        height, width = image.shape[:2]
        transform = self.resize.get_transform(image)
        # The limit on the longer side takes the shorter one of a very thin picture below a pixel.
        transform.new_h, transform.new_w = max(1, transform.new_h), max(1, transform.new_w)
        resized = np.ascontiguousarray(transform.apply_image(image).transpose(2, 0, 1))
        request = {"image": torch.from_numpy(resized), "height": height, "width": width}
        return self.model([request])[0]["sem_seg_labels"].cpu().numpy()
