"""Config keys of CAT-Seg, and what is built from them. The published yaml files merge."""

from pathlib import Path

from detectron2.config import CfgNode

from segcore.backbones import add_swin_config
from segcore.config import add_shared_keys, register_config_keys
from segcore.errors import UserError
from segcore.memory import memory_budget
from segcore.text import prompt_templates
from segcore.text.siglip import FILES as TOKENIZER_FILES

from .aggregator import CostAggregator
from .category import ATTENTION_TYPES
from .encoders import EncoderOptions, ImageTextEncoder, build_encoders, own_tokenizer
from .patches import PatchGeometry
from .rank_config import add_ranking_keys


@register_config_keys
def _add_keys_of_load_config(cfg: CfgNode) -> None:
    """Add the same keys, with floats where fractions make sense; as Mask2Former's."""
    add_catseg_config(cfg)
    cfg.MODEL.RANKSEG.LOSS_WEIGHT = 0.0


def add_catseg_config(cfg: CfgNode) -> None:
    """Add every key of CAT-Seg's configs, with the defaults of the published code.

    Call nothing else before :meth:`merge_from_file`; a second call changes nothing.
    """
    add_shared_keys(cfg)
    _add_head_keys(cfg.MODEL.SEM_SEG_HEAD)
    _add_patch_inference_keys(cfg.TEST)
    add_ranking_keys(cfg)

    # Mean and standard deviation of CLIP's training images, RGB, 0..255.
    cfg.MODEL.CLIP_PIXEL_MEAN = [122.7709383, 116.7460125, 104.09373615]
    cfg.MODEL.CLIP_PIXEL_STD = [68.5005327, 66.6321579, 70.3231630]
    # Initial weights of the CLIP encoders when MODEL.WEIGHTS is empty: "" (random), a file, or a
    # tag of open_clip such as "openai", which it downloads.
    cfg.MODEL.CLIP_WEIGHTS = ""
    # File of SigLIP's tokenizer, tokenizer.json or spiece.model, which comes with its weights; "":
    # the one beside CLIP_WEIGHTS or WEIGHTS.
    cfg.MODEL.CLIP_TOKENIZER = ""
    # Prompt templates: "single", "photo", "imagenet" (80 prompts a class), "imagenet_subset" (7).
    cfg.MODEL.PROMPT_ENSEMBLE_TYPE = "single"

    # Score of the background, the vocabulary's first class, in zero-shot evaluation: pixels whose
    # best other class has a lower score are background. 0: the class is a name like the others.
    zero_shot = cfg.MODEL.setdefault("ZERO_SHOT", CfgNode())
    zero_shot.setdefault("BACKGROUND_THRESHOLD", 0.0)

    # Declared by the published code; nothing here reads them.
    cfg.MODEL.PROMPT_ENSEMBLE = False
    cfg.MODEL.setdefault("MASK_FORMER", CfgNode()).setdefault("SIZE_DIVISIBILITY", 32)
    add_swin_config(cfg)


# The published scripts import it under this name.
add_cat_seg_config = add_catseg_config


def check_open_vocabulary(cfg: CfgNode, config_file: str) -> None:
    """Refuse the config of a model other than CAT-Seg, whose classes are fixed.

    Raises:
        UserError: it is one; the message names ``config_file``.
    """
    if cfg.MODEL.META_ARCHITECTURE != "CATSeg":
        raise UserError(
            f"{config_file} is of a model with a fixed vocabulary: name a config of CAT-Seg"
        )


def _add_head_keys(head: CfgNode) -> None:
    head.CLIP_PRETRAINED = "ViT-B/16"  # the image and text encoders
    # A registered vocabulary, a JSON file, or (test only) "": the class names of the dataset.
    head.TRAIN_CLASS_JSON = "ade20k_847"
    head.TEST_CLASS_JSON = "ade20k_847"
    # Which CLIP parameters are trained: attention, full, all, prompt or frozen.
    head.CLIP_FINETUNE = "attention"
    head.PROMPT_DEPTH = 0
    head.PROMPT_LENGTH = 0
    # Residual of a patch in the last block for dense embeddings: "class", that of the class token,
    # as published, or "own".
    head.DENSE_RESIDUAL = "class"

    head.NUM_LAYERS = 4  # aggregation layers, each over positions and then over classes
    head.NUM_HEADS = 4  # attention heads of a layer
    head.HIDDEN_DIMS = 128  # channels of the embedded cost volume
    head.FEATURE_RESOLUTION = [24, 24]  # grid of patches that the cost volume has
    head.WINDOW_SIZES = 12  # side of a window of the spatial aggregation
    head.POOLING_SIZES = [6, 6]  # pooling of positions before the class aggregation; [1, 1]: none
    head.ATTENTION_TYPE = "linear"  # of the class aggregation
    # Channels of the guidance by text embeddings and by image features, and of their projections.
    head.TEXT_GUIDANCE_DIM = 512
    head.TEXT_GUIDANCE_PROJ_DIM = 128
    head.APPEARANCE_GUIDANCE_DIM = 512
    head.APPEARANCE_GUIDANCE_PROJ_DIM = 128
    # Channels of the decoder's stages, of the image features that guide them, and of projections.
    head.DECODER_DIMS = [64, 32]
    head.DECODER_GUIDANCE_DIMS = [256, 128]
    head.DECODER_GUIDANCE_PROJ_DIMS = [32, 16]
    # Classes that enter the aggregation of a crop; the others score 0.
    head.MAX_CLASSES = 256
    # Classes per chunk of a per-class layer where no activations are kept for a gradient; 0 = as
    # many as CHUNK_MEMORY holds.
    head.CLASS_CHUNK = 0
    # Megabytes of the temporaries of a chunk of classes, crops or prompts; 0 = 64 on the CPU, an
    # eighth of the free memory of a GPU.
    head.CHUNK_MEMORY = 0
    # Training: recompute the activations of the per-class layers in the backward pass.
    head.ACTIVATION_CHECKPOINTING = False

    # Training. In the published loss, ignored pixels are negatives of every class.
    head.MASK_IGNORED_PIXELS = False
    head.MASK_LOSS_WEIGHT = 1.0
    # Weight of the cross-entropy of the cost volume, for training from scratch (0 = off, as
    # published), and number of candidate classes of an image (0 = all).
    head.COST_LOSS_WEIGHT = 0.0
    head.TRAIN_CANDIDATES = 0

    # Declared by the published code, read by nothing.
    head.TRAIN_CLASS_INDEXES = ""
    head.TEST_CLASS_INDEXES = ""


def _add_patch_inference_keys(test: CfgNode) -> None:
    test.SLIDING_WINDOW = False  # tiles of the image and a global view, merged
    test.PATCH_INFERENCE = CfgNode()
    # OUTPUT_SIZE: side of the resized image, its shorter side where the aspect ratio is kept; 0 =
    # do not resize. TILE: side of a tile in its pixels. OVERLAP: fraction of a tile that the next
    # one covers too.
    test.PATCH_INFERENCE.OUTPUT_SIZE = 640
    test.PATCH_INFERENCE.TILE = 384
    test.PATCH_INFERENCE.OVERLAP = 0.333
    test.PATCH_INFERENCE.KEEP_ASPECT_RATIO = False
    # Average the tiles with the whole image, resized to one tile.
    test.PATCH_INFERENCE.GLOBAL_VIEW = True


def encoders_from_config(cfg: CfgNode) -> ImageTextEncoder:
    """Build the image and text encoder that ``cfg`` describes, with random weights.

    Raises:
        UserError: there are no such encoders, or images would not be normalised as they need it.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    options = EncoderOptions(
        prompt_length=head.PROMPT_LENGTH,
        prompt_depth=head.PROMPT_DEPTH,
        checkpointing=head.ACTIVATION_CHECKPOINTING,
        dense_residual=head.DENSE_RESIDUAL,
        tokenizer=_tokenizer_file(cfg),
    )
    encoders = build_encoders(head.CLIP_PRETRAINED, options)
    for key, expected in (("MEAN", encoders.PIXEL_MEAN), ("STD", encoders.PIXEL_STD)):
        values = cfg.MODEL[f"CLIP_PIXEL_{key}"]
        if len(values) != 3 or any(abs(a - b) > 0.1 for a, b in zip(values, expected, strict=True)):
            raise UserError(
                f"MODEL.CLIP_PIXEL_{key} is {values}, but {head.CLIP_PRETRAINED} was trained with "
                f"{list(expected)}: set it to that"
            )
    return encoders


def _tokenizer_file(cfg: CfgNode) -> Path | None:
    """Return the file of the tokenizer that ``cfg`` names, or that lies beside the weights."""
    if cfg.MODEL.CLIP_TOKENIZER:
        return Path(cfg.MODEL.CLIP_TOKENIZER)
    folders = [Path(each).parent for each in (cfg.MODEL.CLIP_WEIGHTS, cfg.MODEL.WEIGHTS) if each]
    beside = (folder / name for folder in folders for name in TOKENIZER_FILES)
    own = own_tokenizer(cfg.MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED)
    return own or next((path for path in beside if path.is_file()), None)


def aggregator_from_config(cfg: CfgNode, clip: ImageTextEncoder) -> CostAggregator:
    """Build the aggregator that ``cfg`` describes, for the CLIP encoders ``clip``."""
    head = cfg.MODEL.SEM_SEG_HEAD
    _check_head(head)
    for key in ("TEXT_GUIDANCE_DIM", "APPEARANCE_GUIDANCE_DIM"):
        if head[key] != clip.joint_width:
            raise UserError(
                f"MODEL.SEM_SEG_HEAD.{key} is {head[key]}, but the embeddings of "
                f"{head.CLIP_PRETRAINED} have {clip.joint_width} dimensions: set it to that."
            )
    return CostAggregator(
        joint_width=clip.joint_width,
        vision_width=clip.vision_width,
        num_prompts=len(prompt_templates(cfg.MODEL.PROMPT_ENSEMBLE_TYPE)),
        width=head.HIDDEN_DIMS,
        num_layers=head.NUM_LAYERS,
        num_heads=head.NUM_HEADS,
        resolution=tuple(head.FEATURE_RESOLUTION),
        window=head.WINDOW_SIZES,
        pooling=tuple(head.POOLING_SIZES),
        attention=head.ATTENTION_TYPE,
        appearance_width=head.APPEARANCE_GUIDANCE_PROJ_DIM,
        text_width=head.TEXT_GUIDANCE_PROJ_DIM,
        decoder_widths=head.DECODER_DIMS,
        upsampled_widths=head.DECODER_GUIDANCE_DIMS,
        decoder_guidance_widths=head.DECODER_GUIDANCE_PROJ_DIMS,
        class_chunk=head.CLASS_CHUNK,
        chunk_memory=chunk_memory(cfg),
        checkpointing=head.ACTIVATION_CHECKPOINTING,
    )


def _check_head(head: CfgNode) -> None:
    """Refuse settings that the layers would not notice or would refuse less clearly."""
    side, window, pooling = head.FEATURE_RESOLUTION, head.WINDOW_SIZES, head.POOLING_SIZES
    whole_windows = len(side) == 2 and window > 0 and all(s % min(window, *side) == 0 for s in side)
    rules = {
        "FEATURE_RESOLUTION": (
            len(side) == 2 and min(side) > 0,
            "two positive numbers, rows and columns",
        ),
        "WINDOW_SIZES": (whole_windows, f"a divisor of FEATURE_RESOLUTION, {side}"),
        "POOLING_SIZES": (
            len(pooling) == 2 and all(0 < p <= s for p, s in zip(pooling, side, strict=False)),
            f"two numbers from 1 to those of FEATURE_RESOLUTION, {side}",
        ),
        "NUM_HEADS": (
            head.NUM_HEADS > 0 and head.HIDDEN_DIMS % head.NUM_HEADS == 0,
            f"a divisor of HIDDEN_DIMS, {head.HIDDEN_DIMS}",
        ),
        "ATTENTION_TYPE": (
            head.ATTENTION_TYPE in ATTENTION_TYPES,
            f"one of {', '.join(ATTENTION_TYPES)}",
        ),
        **{
            key: (len(head[key]) == 2 and min(head[key]) > 0, "two positive numbers")
            for key in ("DECODER_DIMS", "DECODER_GUIDANCE_DIMS", "DECODER_GUIDANCE_PROJ_DIMS")
        },
        "CLASS_CHUNK": (head.CLASS_CHUNK >= 0, "a number of classes, 0 to choose it by memory"),
        "CHUNK_MEMORY": (head.CHUNK_MEMORY >= 0, "a number of megabytes, 0 to choose it"),
        "MAX_CLASSES": (head.MAX_CLASSES >= 0, "a number of classes, 0 for no limit"),
        "TRAIN_CANDIDATES": (head.TRAIN_CANDIDATES >= 0, "a number of classes, 0 for all"),
        "MASK_LOSS_WEIGHT": (
            head.MASK_LOSS_WEIGHT > 0 or head.COST_LOSS_WEIGHT > 0,
            "positive where COST_LOSS_WEIGHT is not: nothing would be trained",
        ),
    }
    for key, (kept, demand) in rules.items():
        if not kept:
            raise UserError(f"MODEL.SEM_SEG_HEAD.{key} is {head[key]!r}; it has to be {demand}.")


def background_threshold(cfg: CfgNode) -> float:
    """Return the score of the background, 0 to 1; 0 for none.

    Raises:
        UserError: it is out of range.
    """
    threshold = cfg.MODEL.ZERO_SHOT.BACKGROUND_THRESHOLD
    if not 0 <= threshold < 1:
        raise UserError(
            f"MODEL.ZERO_SHOT.BACKGROUND_THRESHOLD is {threshold}; it has to be a score from 0 to "
            "1, 0 for no background"
        )
    return threshold


def chunk_memory(cfg: CfgNode) -> int:
    """Return the bytes that the temporaries of a chunk may take."""
    return (cfg.MODEL.SEM_SEG_HEAD.CHUNK_MEMORY << 20) or memory_budget(cfg.MODEL.DEVICE)


def patches_from_config(cfg: CfgNode) -> PatchGeometry:
    """Build the geometry of patch inference that ``cfg`` describes."""
    node = cfg.TEST.PATCH_INFERENCE
    return PatchGeometry(
        output_size=node.OUTPUT_SIZE,
        tile=node.TILE,
        overlap=node.OVERLAP,
        keep_aspect_ratio=node.KEEP_ASPECT_RATIO,
        global_view=node.GLOBAL_VIEW,
    )
