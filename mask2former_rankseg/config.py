"""Config keys of MaskFormer, Mask2Former and RankSeg, and what is built from them.

The published yaml files merge. Those of both models name the meta-architecture ``MaskFormer``:
``TRANSFORMER_IN_FEATURE`` makes the difference.
"""

from detectron2.config import CfgNode
from detectron2.modeling import Backbone

from segcore.backbones import add_backbone_config
from segcore.config import add_shared_keys, register_config_keys
from segcore.config.rankseg import add_rankseg_keys, ranks_from_config, start_ranker
from segcore.errors import UserError
from segcore.inference.sliding import Sliding
from segcore.rankseg.heads import build_multilabel_head

from .criterion import Criterion
from .matcher import Weights
from .points import RandomPoints
from .ranking import QueryRanking, check_layers, pooled_pixels, third_queries
from .tasks import Tasks
from .whole_masks import WholeMaskCriterion

# Values of TRANSFORMER_IN_FEATURE: the queries attend to several levels of the pixel decoder, as in
# Mask2Former, or to the output of its transformer encoder. Any other is a map of the backbone.
MULTI_SCALE, ENCODED_TOP = "multi_scale_pixel_decoder", "transformer_encoder"


def add_maskformer_config(cfg: CfgNode) -> None:
    """Add every key of this family's configs, with the published names and defaults.

    Call nothing else before :meth:`merge_from_file`; a second call changes nothing.
    """
    add_shared_keys(cfg)
    add_backbone_config(cfg)
    _add_head_keys(cfg.MODEL.SEM_SEG_HEAD)
    _add_maskformer_keys(cfg.MODEL.setdefault("MASK_FORMER", CfgNode()))
    add_rankseg_keys(cfg)
    # Declared by the published code; nothing here reads it.
    cfg.LOG_OUTPUT = None
    # Large-scale jittering: side of the crop, and range of the scale relative to it.
    cfg.INPUT.IMAGE_SIZE = 1024
    cfg.INPUT.MIN_SCALE = 0.1
    cfg.INPUT.MAX_SCALE = 2.0
    _add_video_keys(cfg.INPUT)


@register_config_keys
def _add_keys_of_load_config(cfg: CfgNode) -> None:
    """Add the same keys, with floats where fractions make sense.

    ``load_config`` converts integers to them; Detectron2's ``merge_from_file`` accepts a value of
    the default's type only, and the published configs hold integers.
    """
    add_maskformer_config(cfg)
    cfg.MODEL.RANKSEG.LOSS_WEIGHT = 0.0


# The published scripts import it under these names.
add_maskformer2_config = add_mask_former_config = add_maskformer_config


def add_maskformer2_video_config(cfg: CfgNode) -> None:
    """Add the keys of videos and ask for the published form of the output (``PUBLISHED_OUTPUT``).

    The published scripts call it after :func:`add_maskformer2_config`.
    """
    _add_video_keys(cfg.INPUT)
    cfg.MODEL.MASK_FORMER.TEST.PUBLISHED_OUTPUT = True


def _add_head_keys(head: CfgNode) -> None:
    head.MASK_DIM = 256  # channels of the map that masks are products with
    head.TRANSFORMER_ENC_LAYERS = 0  # encoder layers of the pixel decoder
    # "": the one of TRANSFORMER_IN_FEATURE, see decoder_names.
    head.PIXEL_DECODER_NAME = ""
    head.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES = ["res3", "res4", "res5"]
    head.DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS = 4
    head.DEFORMABLE_TRANSFORMER_ENCODER_N_HEADS = 8
    # Not in the published code, which has no other width.
    head.DEFORMABLE_TRANSFORMER_ENCODER_DIM_FEEDFORWARD = 1024
    # Class logits are cosines between query and class embeddings: the published name misleads.
    head.USE_LAYERNORM = False


def _add_maskformer_keys(node: CfgNode) -> None:
    node.DEEP_SUPERVISION = True  # the output of every decoder layer has a loss
    node.NO_OBJECT_WEIGHT = 0.1  # weight of queries without an object in the class loss
    node.CLASS_WEIGHT = 1.0  # weight of the class loss
    node.DICE_WEIGHT = 1.0  # weight of the Dice loss of masks
    node.MASK_WEIGHT = 20.0  # weight of the cross-entropy (MaskFormer: focal loss) of masks
    # Of the pixels' cross-entropy, where the backbone returns semantic logits, as SeMask's does.
    node.CATE_WEIGHT = 0.4
    node.NHEADS = 8
    node.DROPOUT = 0.1
    node.DIM_FEEDFORWARD = 2048
    node.ENC_LAYERS = 0
    node.DEC_LAYERS = 6
    node.PRE_NORM = False
    node.HIDDEN_DIM = 256
    node.NUM_OBJECT_QUERIES = 100
    node.TRANSFORMER_IN_FEATURE = MULTI_SCALE
    node.ENFORCE_INPUT_PROJ = False
    # "": the one of TRANSFORMER_IN_FEATURE, see decoder_names.
    node.TRANSFORMER_DECODER_NAME = ""
    # Batches are padded to multiples of it; 0: to their largest image; -1: as the backbone asks.
    node.SIZE_DIVISIBILITY = 32
    node.TRAIN_NUM_POINTS = 12544
    node.OVERSAMPLE_RATIO = 3.0
    node.IMPORTANCE_SAMPLE_RATIO = 0.75
    node.TEST = CfgNode()
    node.TEST.SEMANTIC_ON = True
    node.TEST.INSTANCE_ON = False
    node.TEST.PANOPTIC_ON = False
    # Panoptic: score that a segment must exceed, and fraction of its mask that must remain visible.
    node.TEST.OBJECT_MASK_THRESHOLD = 0.0
    node.TEST.OVERLAP_THRESHOLD = 0.0
    # Not in the published code: frames per clip of a video (0 = the whole video), and how many of
    # them a clip shares with the next one.
    node.TEST.CLIP_FRAMES = 0
    node.TEST.CLIP_OVERLAP = 2
    # Return the published form of the output where ours differs: boxes of instances are zeros
    # instead of the boxes of the masks; the output of a video is one dict, whose tracks are
    # tensors (T, H, W), instead of a list of dicts with RLE.
    node.TEST.PUBLISHED_OUTPUT = False
    # Not in the published code: height and width of sliding windows, and the distance from one to
    # the next, of the semantic task; [0, 0]: the whole image.
    node.TEST.WINDOW = [0, 0]
    node.TEST.STRIDE = [0, 0]
    # MaskFormer: resize mask logits to the size of the output before the semantic scores are
    # computed, instead of the scores after. Mask2Former and panoptic models always do.
    node.TEST.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE = False


def _add_video_keys(node: CfgNode) -> None:
    # Sampling of a training clip: number of frames, largest distance to the first sampled frame,
    # and whether to shuffle them. Without SAMPLING_RANDOM: every SAMPLING_INTERVAL-th frame.
    node.SAMPLING_FRAME_NUM = 2
    node.SAMPLING_FRAME_RANGE = 20
    node.SAMPLING_FRAME_SHUFFLE = False
    node.SAMPLING_RANDOM = True
    node.SAMPLING_INTERVAL = 5
    # Same for all frames of a clip: "brightness", "contrast", "saturation", "rotation".
    node.AUGMENTATIONS = []


def is_mask2former(cfg: CfgNode) -> bool:
    """Whether the config describes Mask2Former, and not MaskFormer."""
    return cfg.MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE == MULTI_SCALE


def decoder_names(cfg: CfgNode) -> tuple[str, str]:
    """Return the registered names of the pixel decoder and of the transformer decoder.

    Where their keys are empty, as in published configs of MaskFormer, TRANSFORMER_IN_FEATURE
    determines them.
    """
    pixel, transformer = "BasePixelDecoder", "StandardTransformerDecoder"
    if is_mask2former(cfg):
        pixel, transformer = "MSDeformAttnPixelDecoder", "MultiScaleMaskedTransformerDecoder"
    elif cfg.MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE == ENCODED_TOP:
        pixel = "TransformerEncoderPixelDecoder"
    return (
        cfg.MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME or pixel,
        cfg.MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME or transformer,
    )


def size_divisibility(cfg: CfgNode, backbone: Backbone) -> int:
    """Return the number that both sides of a batch are padded to a multiple of; 0: any size."""
    chosen = cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY
    return backbone.size_divisibility if chosen < 0 else chosen


def tasks_from_config(cfg: CfgNode) -> Tasks:
    """Read the tasks of ``MODEL.MASK_FORMER.TEST``."""
    node = cfg.MODEL.MASK_FORMER.TEST
    return Tasks(
        semantic=node.SEMANTIC_ON,
        panoptic=node.PANOPTIC_ON,
        instance=node.INSTANCE_ON,
        score_threshold=node.OBJECT_MASK_THRESHOLD,
        overlap_threshold=node.OVERLAP_THRESHOLD,
        num_instances=cfg.TEST.DETECTIONS_PER_IMAGE,
        whole_areas=not is_mask2former(cfg),
        resize_scores=not (
            is_mask2former(cfg)
            or node.PANOPTIC_ON
            or node.INSTANCE_ON
            or node.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE
        ),
    )


def sliding_from_config(cfg: CfgNode) -> Sliding:
    """Read the sliding windows of ``MODEL.MASK_FORMER.TEST``.

    Raises:
        UserError: windows of other tasks than the semantic one, or impossible ones.
    """
    node = cfg.MODEL.MASK_FORMER.TEST
    section = "MODEL.MASK_FORMER.TEST"
    sliding = Sliding(tuple(node.WINDOW), tuple(node.STRIDE), section=section)
    if sliding.is_on and (node.PANOPTIC_ON or node.INSTANCE_ON or not node.SEMANTIC_ON):
        raise UserError(
            f"{section}.WINDOW is {list(node.WINDOW)}, but windows are for the semantic task "
            "alone: set it to [0, 0], or PANOPTIC_ON and INSTANCE_ON to False."
        )
    return sliding


def criterion_from_config(cfg: CfgNode) -> Criterion:
    """Build the training losses that ``cfg`` describes."""
    node = cfg.MODEL.MASK_FORMER
    build = Criterion if is_mask2former(cfg) else WholeMaskCriterion
    return build(
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
        weights=Weights(node.CLASS_WEIGHT, node.MASK_WEIGHT, node.DICE_WEIGHT),
        no_object_weight=node.NO_OBJECT_WEIGHT,
        multilabel_weight=cfg.MODEL.RANKSEG.LOSS_WEIGHT,
        gammas=tuple(cfg.MODEL.RANKSEG.GAMMAS),
        points=RandomPoints(
            node.TRAIN_NUM_POINTS, node.OVERSAMPLE_RATIO, node.IMPORTANCE_SAMPLE_RATIO
        ),
    )


def ranking_from_config(cfg: CfgNode) -> QueryRanking | None:
    """Build the ranking that ``MODEL.RANKSEG`` describes; None where FLAG is off.

    Raises:
        UserError: its keys contradict each other.
    """
    node, width = cfg.MODEL.RANKSEG, cfg.MODEL.MASK_FORMER.HIDDEN_DIM
    num_classes = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    if not node.FLAG:
        return None
    of_queries = is_mask2former(cfg)
    if of_queries:
        check_layers(cfg.MODEL.MASK_FORMER.DEC_LAYERS - 1)
    _check_queries(node)
    settings = ranks_from_config(cfg, no_object=True)
    head = build_multilabel_head(
        node.HEAD,
        width if of_queries else cfg.MODEL.SEM_SEG_HEAD.MASK_DIM,
        num_classes,
        hidden_dim=node.HIDDEN_DIM,
        shared_width=width if node.SHARE_EMBEDDING else None,
        num_heads=node.NUM_HEADS or None,
        feedforward_dim=node.FEEDFORWARD_DIM or None,
    )
    ranking = QueryRanking(
        None if node.ORACLE else head,
        **settings._asdict(),
        share_classes=node.SHARE_EMBEDDING,
        features=third_queries if of_queries else pooled_pixels,
    )
    start_ranker(cfg, ranking)
    return ranking


def _check_queries(rankseg: CfgNode) -> None:
    """Refuse settings for models that classify pixels."""
    settings = {"CLASS_ROWS": "original", "POOL": 0, "CLASS_TOKEN_PROJECTION": False}
    for key, only in settings.items():
        if rankseg[key] != only:
            raise UserError(
                f"MODEL.RANKSEG.{key} is {rankseg[key]!r}, which is for models that classify "
                f"pixels: set it to {only!r} for MaskFormer and Mask2Former."
            )


def check_video(cfg: CfgNode) -> None:
    """Refuse settings that a video model does not support."""
    node = cfg.MODEL.MASK_FORMER
    tasks, frames, overlap = node.TEST, node.TEST.CLIP_FRAMES, node.TEST.CLIP_OVERLAP
    finds_tracks = tasks.INSTANCE_ON or tasks.PUBLISHED_OUTPUT
    rules = {
        "TRANSFORMER_DECODER_NAME": (
            decoder_names(cfg)[1]
            not in ("MultiScaleMaskedTransformerDecoder", "StandardTransformerDecoder"),
            "a decoder of clips for a video model, VideoMultiScaleMaskedTransformerDecoder",
        ),
        "TEST.PANOPTIC_ON": (not tasks.PANOPTIC_ON, "False for a video model"),
        "TEST.WINDOW": (not any(tasks.WINDOW), "[0, 0] for a video model"),
        "TEST.INSTANCE_ON": (
            tasks.INSTANCE_ON or tasks.SEMANTIC_ON,
            "True where SEMANTIC_ON is False",
        ),
        "TEST.CLIP_FRAMES": (frames >= 0, "a number of frames, 0 for whole videos"),
        "TEST.CLIP_OVERLAP": (
            not frames or int(finds_tracks) <= overlap < frames,
            f"a number of frames below CLIP_FRAMES, {frames}, and for tracks 1 or more",
        ),
    }
    for key, (kept, demand) in rules.items():
        if not kept:
            value = node.TEST[key[5:]] if key.startswith("TEST.") else node[key]
            raise UserError(f"MODEL.MASK_FORMER.{key} is {value!r}; it has to be {demand}.")
