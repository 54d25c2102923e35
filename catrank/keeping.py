"""How many classes of its vocabulary a model predicts in an image: the keys of each family."""

from typing import Any

from detectron2.config import CfgNode

from segcore.errors import UserError
from segcore.rankseg.dial import MOST, ClassesKept


def keep_classes(cfg: CfgNode, kept: ClassesKept) -> None:
    """Set how many classes a model selects, in place.

    CAT-Seg selects by its ranking, or without one by cosine similarity; other models by RankSeg.

    Raises:
        UserError: the model does not rank classes, or predicts no probabilities for a threshold.
    """
    rankseg = cfg.MODEL.get("RANKSEG")
    ranked = rankseg is not None and (rankseg.FLAG or bool(rankseg.get("WEIGHTS")))
    if ranked:
        is_open = cfg.MODEL.META_ARCHITECTURE == "CATSeg"
        limit = MOST if is_open else int(cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES)
        top = min(kept.top or limit, limit)
        _set(cfg, {"MODEL.RANKSEG.TEST_TOPK": top, "MODEL.RANKSEG.CONFIDENCE": kept.threshold})
    elif cfg.MODEL.META_ARCHITECTURE != "CATSeg":
        raise UserError(
            f"{cfg.MODEL.META_ARCHITECTURE} predicts all its classes in every image: leave out "
            "--keep (classes_kept), or load a model with RankSeg or CAT-Seg"
        )
    elif kept.threshold:
        raise UserError(
            f"this model has no probabilities of classes to compare with {kept.threshold}: keep a "
            "number of classes or all, or name a rank adapter in MODEL.RANKSEG.WEIGHTS"
        )
    else:
        _set(cfg, {"MODEL.SEM_SEG_HEAD.MAX_CLASSES": kept.top})


def _set(cfg: CfgNode, values: dict[str, Any]) -> None:
    frozen = cfg.is_frozen()
    cfg.defrost()
    cfg.merge_from_list([item for pair in values.items() for item in pair])
    if frozen:
        cfg.freeze()
