"""The config keys of Detectron2 that d2lite leaves out: those of detectors."""

from collections.abc import Mapping

ABSENT = (
    "MODEL.RPN",
    "MODEL.RETINANET",
    "MODEL.FPN",
    "MODEL.PANOPTIC_FPN",
    "MODEL.ANCHOR_GENERATOR",
    "MODEL.PROPOSAL_GENERATOR",
    "MODEL.ROI_HEADS",
    "MODEL.ROI_BOX_HEAD",
    "MODEL.ROI_BOX_CASCADE_HEAD",
    "MODEL.ROI_MASK_HEAD",
    "MODEL.ROI_KEYPOINT_HEAD.NAME",
    "MODEL.ROI_KEYPOINT_HEAD.POOLER_RESOLUTION",
    "MODEL.ROI_KEYPOINT_HEAD.POOLER_SAMPLING_RATIO",
    "MODEL.ROI_KEYPOINT_HEAD.POOLER_TYPE",
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS",
    "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS",
    "MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS",
    "MODEL.ROI_KEYPOINT_HEAD.LOSS_WEIGHT",
)


def has(tree: Mapping, path: str) -> bool:
    """Whether a dotted key leads to something in nested mappings."""
    for part in path.split("."):
        if not isinstance(tree, Mapping) or part not in tree:
            return False
        tree = tree[part]
    return True


def absent_key(other: Mapping, cfg: Mapping) -> str | None:
    """Return the first key of a detector that ``other`` sets and ``cfg`` lacks; None if none."""
    return next((key for key in ABSENT if has(other, key) and not has(cfg, key)), None)
