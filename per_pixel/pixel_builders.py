"""Build from configs the heads that classify the pixels of a convolutional decoder's map."""

from functools import partial
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec, get_norm
from torch import nn

from segcore.errors import UserError

from .aspp import ASPP
from .builders import criterion_from_config, loss_options, ranking_from_config
from .classifier import LinearClassifier, PixelHead, RankedClassifier
from .config import DECODE_HEAD_REGISTRY, check_features, variant
from .criterion import Criterion
from .deeplabv3plus import DeepLabV3Plus
from .embeddings import Comparison, EmbeddingHead
from .fcn import FCN
from .layers import Norm
from .search import Search
from .upernet import UPerNet


@DECODE_HEAD_REGISTRY.register()
def aspp(cfg: CfgNode, shapes: dict[str, ShapeSpec]) -> PixelHead | EmbeddingHead:
    """Build DeepLabv3's head: plain, with RankSeg, or with the embeddings of ESSNet.

    Raises:
        UserError: keys contradict each other.
    """
    node = cfg.MODEL.PER_PIXEL
    if len(node.IN_FEATURES) != 1:
        raise UserError(
            f"MODEL.PER_PIXEL.IN_FEATURES has {len(node.IN_FEATURES)} maps; the decoder 'aspp' "
            "reads one"
        )
    decoder = ASPP(
        shapes[node.IN_FEATURES[0]].channels,
        node.CHANNELS,
        dilations=node.DILATIONS,
        projection_size=node.PROJECTION_SIZE,
        norm=norm_from_config(cfg),
    )
    return _pixel_head(cfg, decoder, shapes)


@DECODE_HEAD_REGISTRY.register()
def upernet(cfg: CfgNode, shapes: dict[str, ShapeSpec]) -> PixelHead | EmbeddingHead:
    """Build UPerNet's head: plain, with RankSeg, or with the embeddings of ESSNet.

    Raises:
        UserError: keys contradict each other.
    """
    node = cfg.MODEL.PER_PIXEL
    decoder = UPerNet(
        [shapes[name].channels for name in node.IN_FEATURES],
        node.CHANNELS,
        pool_scales=node.POOL_SCALES,
        norm=norm_from_config(cfg),
        align_corners=node.ALIGN_CORNERS,
    )
    return _pixel_head(cfg, decoder, shapes)


@DECODE_HEAD_REGISTRY.register()
def deeplabv3plus(cfg: CfgNode, shapes: dict[str, ShapeSpec]) -> PixelHead | EmbeddingHead:
    """Build DeepLabV3+'s head: plain, with RankSeg, or with the embeddings of ESSNet.

    Raises:
        UserError: keys contradict each other.
    """
    node = cfg.MODEL.PER_PIXEL
    if len(node.IN_FEATURES) != 2:
        raise UserError(
            f"MODEL.PER_PIXEL.IN_FEATURES has {len(node.IN_FEATURES)} maps; the decoder "
            "'deeplabv3plus' reads a finer and a coarser one"
        )
    decoder = DeepLabV3Plus(
        [shapes[name].channels for name in node.IN_FEATURES],
        node.CHANNELS,
        dilations=node.DILATIONS,
        dropout=node.DROPOUT,
        norm=norm_from_config(cfg),
        align_corners=node.ALIGN_CORNERS,
    )
    return _pixel_head(cfg, decoder, shapes, dropout=0.0)


def _pixel_head(
    cfg: CfgNode, decoder: nn.Module, shapes: dict[str, ShapeSpec], dropout: float | None = None
) -> PixelHead | EmbeddingHead:
    """Put the classifier of the config behind a decoder; RankSeg selects by the last map.

    The probability of ``dropout`` before the classifier is that of the config if it is None.
    """
    node, rankseg, chosen = cfg.MODEL.PER_PIXEL, cfg.MODEL.RANKSEG, variant(cfg)
    num_classes = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    options = {
        "in_features": node.IN_FEATURES,
        "dropout": node.DROPOUT if dropout is None else dropout,
    }
    if chosen == "ENCNET":
        raise UserError(
            f"MODEL.ENCNET.FLAG is True, but the decoder {node.DECODER!r} has no context "
            "encoding: set it False, or MODEL.PER_PIXEL.DECODER 'mask_transformer'"
        )
    if chosen == "ESSNET":
        return _embedding_head(cfg, decoder, options)
    if chosen == "RANKSEG":
        if rankseg.CLASS_ROWS == "refined" and rankseg.HIDDEN_DIM != node.CHANNELS:
            raise UserError(
                f"MODEL.RANKSEG.CLASS_ROWS is 'refined', whose rows have width "
                f"{rankseg.HIDDEN_DIM}: set MODEL.RANKSEG.HIDDEN_DIM to {node.CHANNELS}, the "
                "CHANNELS of MODEL.PER_PIXEL"
            )
        ranking = ranking_from_config(
            cfg,
            shapes[node.IN_FEATURES[-1]].channels,
            node.CHANNELS,
            projection="separable" if rankseg.HEAD == "encoder" else "linear",
            class_rows=rankseg.CLASS_ROWS,
        )
        classifier = RankedClassifier(node.CHANNELS, num_classes, ranking)
    else:
        classifier = LinearClassifier(node.CHANNELS, num_classes)
    return PixelHead(decoder, classifier, criterion_from_config(cfg), **options)


def _embedding_head(cfg: CfgNode, decoder: nn.Module, options: dict[str, Any]) -> EmbeddingHead:
    node = cfg.MODEL.ESSNET
    comparison = Comparison(
        node.NEIGHBOURS,
        scale=node.SCALE,
        margin=node.MARGIN,
        margin_weight=node.MARGIN_WEIGHT,
        own_class=node.OWN_CLASS,
        negatives=node.NEGATIVES,
        search=Search(node.SEARCH, node.CLUSTERS, node.PROBES),
        search_fraction=node.SEARCH_FRACTION,
        sampled=loss_options(cfg)["sampled"],
    )
    return EmbeddingHead(
        *(decoder, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, node.DIM, comparison),
        normalise=node.NORMALISE,
        align_corners=cfg.MODEL.PER_PIXEL.ALIGN_CORNERS,
        test_search=Search(
            node.TEST_SEARCH, node.CLUSTERS, node.PROBES, key="MODEL.ESSNET.TEST_SEARCH"
        ),
        **options,
    )


def build_auxiliary_head(cfg: CfgNode, shapes: dict[str, ShapeSpec]) -> PixelHead | None:
    """Build the convolutional head that adds a loss in training; None where its weight is 0.

    Raises:
        UserError: the backbone has no such map.
    """
    node, auxiliary = cfg.MODEL.PER_PIXEL, cfg.MODEL.PER_PIXEL.AUXILIARY
    if not auxiliary.WEIGHT:
        return None
    check_features(shapes, [auxiliary.IN_FEATURE], "AUXILIARY.IN_FEATURE")
    width = shapes[auxiliary.IN_FEATURE].channels
    return PixelHead(
        FCN(width, auxiliary.CHANNELS, norm=norm_from_config(cfg)),
        LinearClassifier(auxiliary.CHANNELS, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES),
        Criterion(**loss_options(cfg)),
        in_features=[auxiliary.IN_FEATURE],
        dropout=node.DROPOUT,
    )


def norm_from_config(cfg: CfgNode) -> Norm:
    """Return the norm of a decoder's convolutions as a function of their channels; None: none."""
    norm = cfg.MODEL.PER_PIXEL.NORM
    if not norm:
        return None
    try:
        get_norm(norm, 32)
    except KeyError as error:
        raise UserError(
            f"MODEL.PER_PIXEL.NORM is {norm!r}; use SyncBN, BN, FrozenBN, GN, or an empty text for "
            "biases without a norm."
        ) from error
    return partial(get_norm, norm)
