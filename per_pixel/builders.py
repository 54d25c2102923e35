"""Build from configs Segmenter's head, and what all decode heads share."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec

from segcore.config.rankseg import ranks_from_config
from segcore.errors import UserError
from segcore.rankseg.heads import build_multilabel_head

from .config import DECODE_HEAD_REGISTRY, variant
from .criterion import Criterion
from .encnet import ContextEncoding, EncNetSegmenterHead
from .losses import check_pixels
from .ranking import PixelRanking
from .segmenter import MaskTransformer, SegmenterHead
from .segmenter_essnet import EssnetSegmenterHead


@DECODE_HEAD_REGISTRY.register()
def mask_transformer(cfg: CfgNode, shapes: dict[str, ShapeSpec]) -> SegmenterHead:
    """Build Segmenter's head: plain, or with RankSeg, EncNet or ESSNet.

    With ``MODEL.RANKSEG.CLASS_ROWS`` "backbone" the class tokens are the backbone's.

    Raises:
        UserError: keys contradict each other.
    """
    node, chosen = cfg.MODEL.PER_PIXEL, variant(cfg)
    _check_mask_transformer(cfg, shapes)
    feature, num_classes = node.IN_FEATURES[0], cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    width = shapes[feature].channels
    transformer = MaskTransformer(
        node.CHANNELS,
        num_layers=node.NUM_LAYERS,
        num_heads=node.NUM_HEADS,
        dropout=node.DROPOUT,
        similarity_dim=cfg.MODEL.ESSNET.DIM if chosen == "ESSNET" else None,
    )
    args = (num_classes, transformer, criterion_from_config(cfg))
    options = {"own_classes": cfg.MODEL.RANKSEG.CLASS_ROWS != "backbone", "feature": feature}
    match chosen:
        case "ENCNET":
            encnet = cfg.MODEL.ENCNET
            context = ContextEncoding(width, node.CHANNELS, encnet.NUM_CODES, num_classes)
            options["context_weight"] = encnet.LOSS_WEIGHT
            return EncNetSegmenterHead(context, node.CHANNELS, *args, **options)
        case "ESSNET":
            essnet = cfg.MODEL.ESSNET
            _check_no_search(essnet)
            options |= {"neighbours": essnet.NEIGHBOURS, "own_class": essnet.OWN_CLASS}
            return EssnetSegmenterHead(width, *args, **options)
        case "RANKSEG":
            # The layer of the encoder is one of the mask transformer's: it reads projected pixels.
            rankseg = cfg.MODEL.RANKSEG
            projected = rankseg.HEAD == "encoder" and rankseg.SHARE_EMBEDDING
            options |= {
                "ranking": _ranking_of_tokens(cfg, width, projected),
                "rank_projected": projected,
            }
    return SegmenterHead(width, *args, **options)


def _check_mask_transformer(cfg: CfgNode, shapes: dict[str, ShapeSpec]) -> None:
    node = cfg.MODEL.PER_PIXEL
    if len(node.IN_FEATURES) != 1:
        raise UserError(
            f"MODEL.PER_PIXEL.IN_FEATURES is {list(node.IN_FEATURES)}, but the mask transformer "
            "reads one map: name it alone"
        )
    if node.CHANNELS % node.NUM_HEADS:
        raise UserError(
            f"MODEL.PER_PIXEL.CHANNELS is {node.CHANNELS}; it has to be a multiple of the "
            f"{node.NUM_HEADS} attention heads of NUM_HEADS"
        )
    width = shapes[node.IN_FEATURES[0]].channels
    if cfg.MODEL.RANKSEG.CLASS_ROWS == "backbone" and width != node.CHANNELS:
        raise UserError(
            f"MODEL.RANKSEG.CLASS_ROWS is 'backbone', whose class tokens have width {width}: set "
            f"MODEL.PER_PIXEL.CHANNELS to it instead of {node.CHANNELS}"
        )


def _check_no_search(essnet: CfgNode) -> None:
    searches = {"SEARCH": "exact", "TEST_SEARCH": "exact", "SEARCH_FRACTION": 1.0}
    for key, value in searches.items():
        if essnet[key] != value:
            raise UserError(
                f"MODEL.ESSNET.{key} is {essnet[key]!r}, but the mask transformer scores all "
                f"classes and searches for none: set it to {value}"
            )


def _ranking_of_tokens(cfg: CfgNode, width: int, projected: bool) -> PixelRanking:
    """Build the ranking in front of the mask transformer; it reads tokens of ``width``, or
    ``projected`` ones."""
    rankseg, channels = cfg.MODEL.RANKSEG, cfg.MODEL.PER_PIXEL.CHANNELS
    rows = rankseg.CLASS_ROWS
    if rows == "refined" and rankseg.HEAD != "gap" and not rankseg.SHARE_EMBEDDING:
        raise UserError(
            "MODEL.RANKSEG.CLASS_ROWS is 'refined', so that the mask transformer goes on with the "
            "class tokens of the multi-label head: set MODEL.RANKSEG.SHARE_EMBEDDING True"
        )
    if rows == "backbone":  # the encoder refines them once more, as in the published code
        rows = "refined" if projected else "original"
    return ranking_from_config(
        cfg,
        channels if projected else width,
        channels,
        projection="none" if projected else "linear",
        class_rows=rows,
    )


def loss_options(cfg: CfgNode) -> dict:
    """Return the options of :class:`Criterion` that all heads of a model share.

    Raises:
        UserError: a wrong value of ``MODEL.PER_PIXEL.PIXELS`` or ``SAMPLED_PIXELS``.
    """
    node = cfg.MODEL.PER_PIXEL
    check_pixels(node.PIXELS)
    if not 0 < node.SAMPLED_PIXELS <= 1:
        raise UserError(
            f"MODEL.PER_PIXEL.SAMPLED_PIXELS is {node.SAMPLED_PIXELS}: use a share of the pixels "
            "above 0, at most 1"
        )
    return {
        "pixels": node.PIXELS,
        "align_corners": node.ALIGN_CORNERS,
        "sampled": node.SAMPLED_PIXELS,
    }


def criterion_from_config(cfg: CfgNode) -> Criterion:
    """Build the losses of a decode head."""
    rankseg = cfg.MODEL.RANKSEG
    trains_head = rankseg.FLAG and not (rankseg.ORACLE or rankseg.INDEPENDENT.FLAG)
    return Criterion(
        **loss_options(cfg),
        multilabel_weight=rankseg.LOSS_WEIGHT if trains_head else 0.0,
        gammas=tuple(rankseg.GAMMAS),
    )


def ranking_from_config(
    cfg: CfgNode, width: int, table_width: int, *, projection: str, class_rows: str
) -> PixelRanking:
    """Build the ranking that ``MODEL.RANKSEG`` describes.

    Args:
        cfg: with the keys of :func:`add_per_pixel_config`.
        width: of the map that the multi-label head reads.
        table_width: of the classifier's class table.
        projection: of that map, see :func:`build_multilabel_head`.
        class_rows: see :class:`PixelRanking`; without a multi-label head they are the original.

    Raises:
        UserError: keys contradict each other.
    """
    node = cfg.MODEL.RANKSEG
    if node.ORACLE and node.INDEPENDENT.FLAG:
        raise UserError(
            "MODEL.RANKSEG.ORACLE and INDEPENDENT.FLAG are True: the ground truth selects classes, "
            "or a classifier's scores do; set one alone"
        )
    head, has_head = None, not (node.ORACLE or node.INDEPENDENT.FLAG)
    if has_head:
        if node.HEAD == "decoder" and not node.POOL:
            raise UserError(
                "MODEL.RANKSEG.HEAD 'decoder' adds positions of a grid: set MODEL.RANKSEG.POOL to "
                "the side of the grid that maps are averaged to"
            )
        head = build_multilabel_head(
            node.HEAD,
            width,
            cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            hidden_dim=node.HIDDEN_DIM,
            shared_width=table_width if node.SHARE_EMBEDDING else None,
            num_heads=node.NUM_HEADS or None,
            feedforward_dim=node.FEEDFORWARD_DIM or None,
            dropout=cfg.MODEL.PER_PIXEL.DROPOUT,
            grid=(node.POOL, node.POOL) if node.POOL else None,
            projection=projection,
            project_tokens=node.CLASS_TOKEN_PROJECTION,
        )
    return PixelRanking(
        head,
        **ranks_from_config(cfg, no_object=False, unbiased=node.ORACLE)._asdict(),
        independent=node.INDEPENDENT.FLAG,
        pool=node.POOL,
        share_classes=node.SHARE_EMBEDDING,
        class_rows=class_rows if has_head else "original",
    )
