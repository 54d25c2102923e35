"""Suites of data sets, and the choice of those that a model supports."""

from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY

from segcore.datasets import check_registered
from segcore.evaluation.mess import mess_datasets

# The six of the open-vocabulary papers: A-847, PC-459, A-150, PC-59, PAS-20 and PAS-20b.
OVSS = (
    "ade20k_full_sem_seg_freq_val_all",
    "context_459_test_sem_seg",
    "ade20k_150_test_sem_seg",
    "context_59_test_sem_seg",
    "voc_2012_test_sem_seg",
    "voc_2012_test_background_sem_seg",
)
# Those of models that learn from captions: the first three have background as their first class.
ZEROSHOT = (
    "voc_2012_21_val",
    "pascal_context_60_val",
    "coco_object_81_val",
    "ade20k_150_test_sem_seg",
)
# Data sets of models with a fixed list of classes.
CLOSED = (
    "ade20k_sem_seg_val",
    "ade20k_full_sem_seg_val",
    "ade20k_panoptic_val",
    "ade20k_instance_val",
    "coco_2017_val_panoptic_with_sem_seg",
    "coco_2017_val",
    "coco_2017_test_stuff_all_sem_seg",
    "coco_2017_test_stuff_10k_sem_seg",
    "coco_lvis_val",
    "cityscapes_fine_sem_seg_val",
    "mapillary_vistas_sem_seg_val",
    "mapillary_vistas_panoptic_val",
    "context_59_test_sem_seg",
    "pascal_context_60_val",
)
VIDEO = ("vspw_val", "ytvis_2019_val", "ytvis_2021_val")
SCENES = tuple(
    f"{catalogue}_{kind}"
    for catalogue in ("scenes_60", "scenes_1k")
    for kind in ("test", "test_panoptic", "test_instance", "video_test", "video_test_instance")
)
MESS = tuple(
    name for members in mess_datasets().values() for parts in members.values() for name in parts
)
SUITES = {
    "ovss": OVSS,
    "mess": MESS,
    "closed": CLOSED,
    "video": VIDEO,
    "scenes": SCENES,
    "zeroshot": ZEROSHOT,
}
THRESHOLD = "MODEL.ZERO_SHOT.BACKGROUND_THRESHOLD"

SEMANTIC_TYPES = ("sem_seg", "sem_seg_background", "cityscapes_sem_seg")


def is_open_vocabulary(cfg: CfgNode) -> bool:
    """Return whether the model of a config takes any vocabulary."""
    return hasattr(META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE), "set_vocabulary")


def supported_datasets(cfg: CfgNode, names: Sequence[str]) -> tuple[str, ...]:
    """Return the data sets that the model of a config can be evaluated on.

    An open-vocabulary model supports every semantic one. Others support those with the classes and
    the evaluator of the first of ``DATASETS.TEST``.
    """
    check_registered(names)
    if is_open_vocabulary(cfg):
        chosen = [n for n in names if MetadataCatalog.get(n).evaluator_type in SEMANTIC_TYPES]
        return tuple(chosen)
    supported = [_evaluator_and_classes(name) for name in cfg.DATASETS.TEST[:1]]
    return tuple(name for name in names if _evaluator_and_classes(name) in supported)


def by_threshold(cfg: CfgNode, names: Sequence[str]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return the data sets of a zero-shot evaluation by keys and values that set their threshold.

    Models of the meta-architecture ``GroupViT`` get the published thresholds of the background, 0
    on data sets without one, unless the config sets another than 0. The scores of other models are
    on another scale: they keep that of their config.
    """
    if cfg.MODEL.META_ARCHITECTURE != "GroupViT" or cfg.MODEL.ZERO_SHOT.BACKGROUND_THRESHOLD:
        return {(): tuple(names)}
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    for name in names:
        threshold = MetadataCatalog.get(name).get("background_threshold", 0.0)
        options = (THRESHOLD, str(threshold)) if threshold else ()
        found[options] = (*found.get(options, ()), name)
    return found


def _evaluator_and_classes(name: str) -> tuple[str, tuple[str, ...]]:
    """Return the evaluator type and the classes of a data set."""
    metadata = MetadataCatalog.get(name)
    classes = metadata.get("stuff_classes") or metadata.get("thing_classes")
    return metadata.evaluator_type, tuple(classes)
