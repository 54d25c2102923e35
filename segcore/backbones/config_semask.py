"""SeMask in Detectron2's registry; its keys are in ``MODEL.SWIN``."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from torch import Tensor

from .auxiliary import SEMANTIC_LOGITS
from .config import NamedStages, demand, swin_arguments
from .semask import WHOLE_MAP_CLASSES, SeMaskSwin, merge_semantic_maps


@BACKBONE_REGISTRY.register()
class D2SeMaskSwinTransformer(SeMaskSwin, NamedStages):
    """SeMask-Swin as a Detectron2 backbone: "res2", ..., and in training ``SEMANTIC_LOGITS``."""

    def __init__(self, cfg: CfgNode, input_shape: ShapeSpec) -> None:
        swin, num_classes = cfg.MODEL.SWIN, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        last_stages = {
            "published": num_classes == WHOLE_MAP_CLASSES,
            "map": True,
            "windows": False,
        }
        rules = {
            "SEM_WINDOW_SIZE": (swin.SEM_WINDOW_SIZE > 0, "1 or more"),
            "NUM_SEM_BLOCKS": (swin.NUM_SEM_BLOCKS == 1, "1: more blocks are not built"),
            "SEM_LAST_STAGE": (
                swin.SEM_LAST_STAGE in last_stages,
                f"one of {', '.join(last_stages)}",
            ),
        }
        demand("SWIN", swin, rules)
        super().__init__(
            **swin_arguments(swin, input_shape),
            num_classes=num_classes,
            semantic_window=swin.SEM_WINDOW_SIZE,
            whole_last_map=last_stages[swin.SEM_LAST_STAGE],
        )
        self.set_features(swin)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images (B, 3, H, W) -> the maps of ``MODEL.SWIN.OUT_FEATURES``, (B, C, H / s, W / s).

        In training also ``SEMANTIC_LOGITS``, (B, K, H, W) for H and W multiples of 4.
        """
        maps, semantic = self.semantic_maps(images)
        features = self.named(maps)
        if self.training:
            features[SEMANTIC_LOGITS] = merge_semantic_maps(semantic)
        return features
