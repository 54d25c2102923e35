"""Config keys of GroupViT and MixReorg, and what is built from them."""

from detectron2.config import CfgNode

from segcore.config import add_shared_keys, register_config_keys
from segcore.errors import UserError

from .image_encoder import ImageEncoder
from .inference import ZeroShot
from .mixreorg import PROGRESSIVE, MixReorg
from .model import GroupViTModel
from .objective import NEGATIVES, Weights
from .projector import Projector
from .text_encoder import TextEncoder


@register_config_keys
def add_groupvit_config(cfg: CfgNode) -> None:
    """Add every key of this family's configs, with the defaults of the published code.

    Call nothing else before :meth:`merge_from_file`; a second call changes nothing.
    """
    add_shared_keys(cfg)
    cfg.MODEL.GROUPVIT = _groupvit_keys()
    cfg.MODEL.MIXREORG = _mixreorg_keys()
    cfg.MODEL.ZERO_SHOT = _zero_shot_keys()
    # CAT-Seg's keys: the vocabulary of predictions, "" for that of the data set, and the prompt
    # templates of its classes.
    cfg.MODEL.SEM_SEG_HEAD.setdefault("TEST_CLASS_JSON", "")
    cfg.MODEL.setdefault("PROMPT_ENSEMBLE_TYPE", "single")


def _groupvit_keys() -> CfgNode:
    node = CfgNode()
    # Images of training, for the size of the position table.
    node.IMAGE_SIZE = 224
    node.PATCH_SIZE = 16
    node.WIDTH = 384
    node.NUM_HEADS = 6
    # Of each stage: transformer blocks, group tokens (0 in the last one), and segments behind it.
    node.DEPTHS = [6, 3, 3]
    node.GROUP_TOKENS = [64, 8, 0]
    node.OUTPUT_GROUPS = [64, 8]
    node.DROP_PATH_RATE = 0.1
    node.TEXT = CfgNode()
    node.TEXT.WIDTH = 256
    node.TEXT.NUM_LAYERS = 12
    node.TEXT.NUM_HEADS = 4
    node.TEXT.CONTEXT_LENGTH = 77
    # The projections to the joint space of DIM dimensions.
    node.PROJECTION = CfgNode()
    node.PROJECTION.HIDDEN_DIM = 4096
    node.PROJECTION.DIM = 256
    # Prompts with words of the caption, each image has so many; 0: no multi-label loss.
    node.MULTI_LABEL = 3
    # Training: compute the transformer blocks again in the backward pass.
    node.ACTIVATION_CHECKPOINTING = False
    return node


def _mixreorg_keys() -> CfgNode:
    node = CfgNode()
    node.FLAG = False  # train with mixed and restored images
    # Images that are mixed with each other; a process's batch is a multiple.
    node.GROUP_SIZE = 2
    # Behind how many layers of the first stage tokens are mixed, and the side, in patches, of the
    # squares that stay together.
    node.LAYER = 3
    node.CELL = 1
    # How mixed tokens read the original ones: "attention" behind the last three layers of the
    # stage, "block", with an MLP, behind the layer that follows the mixing, or "none".
    node.PROGRESSIVE = "attention"
    # Weights of the contrastive loss of restored images and of the segmentation of mixed ones.
    node.RESTORE_WEIGHT = 1.0
    node.MIX_WEIGHT = 1.0
    # The captions that a patch of a mixed image chooses from: of its "group" or the whole "batch".
    node.NEGATIVES = "group"
    return node


def _zero_shot_keys() -> CfgNode:
    node = CfgNode()
    # Segments whose best class has a lower score are background, the first class of the
    # vocabulary; 0.0: there is none.
    node.BACKGROUND_THRESHOLD = 0.0
    # An image has at most so many classes, those that it is most similar to; 0: all.
    node.KEEP_CLASSES = 5
    # Side of the sliding windows and pixels between them; STRIDE 0 resizes the image to one window.
    node.WINDOW = 448
    node.STRIDE = 224
    # Predict the segments themselves, before they have classes.
    node.SEGMENTS = False
    return node


def model_from_config(cfg: CfgNode) -> GroupViTModel:
    """Build the encoders and projections that ``MODEL.GROUPVIT`` describes.

    Raises:
        UserError: its keys contradict each other.
    """
    node = cfg.MODEL.GROUPVIT
    _check_groupvit(node)
    side = node.IMAGE_SIZE // node.PATCH_SIZE
    recompute = node.ACTIVATION_CHECKPOINTING
    return GroupViTModel(
        ImageEncoder(
            grid=(side, side),
            patch_size=node.PATCH_SIZE,
            width=node.WIDTH,
            num_heads=node.NUM_HEADS,
            depths=node.DEPTHS,
            group_tokens=node.GROUP_TOKENS,
            output_groups=node.OUTPUT_GROUPS,
            drop_path=node.DROP_PATH_RATE,
            checkpointing=recompute,
        ),
        TextEncoder(
            width=node.TEXT.WIDTH,
            num_layers=node.TEXT.NUM_LAYERS,
            num_heads=node.TEXT.NUM_HEADS,
            context_length=node.TEXT.CONTEXT_LENGTH,
            checkpointing=recompute,
        ),
        Projector(node.WIDTH, node.PROJECTION.HIDDEN_DIM, node.PROJECTION.DIM),
        Projector(node.TEXT.WIDTH, node.PROJECTION.HIDDEN_DIM, node.PROJECTION.DIM),
        multi_label=node.MULTI_LABEL > 0,
    )


def mixreorg_from_config(cfg: CfgNode) -> MixReorg | None:
    """Build what ``MODEL.MIXREORG`` adds in training; None where its FLAG is False.

    Raises:
        UserError: its keys contradict each other.
    """
    node, groupvit = cfg.MODEL.MIXREORG, cfg.MODEL.GROUPVIT
    if not node.FLAG:
        return None
    _check_mixreorg(node, groupvit.DEPTHS[0])
    return MixReorg(
        groupvit.WIDTH,
        groupvit.NUM_HEADS,
        groupvit.DEPTHS[0],
        group_size=node.GROUP_SIZE,
        layer=node.LAYER,
        cell=node.CELL,
        progressive=node.PROGRESSIVE,
        with_mixed=node.MIX_WEIGHT > 0,
        with_restored=node.RESTORE_WEIGHT > 0,
    )


def weights_from_config(cfg: CfgNode) -> Weights:
    """Read the weights of MixReorg's losses."""
    node = cfg.MODEL.MIXREORG
    return Weights(node.RESTORE_WEIGHT, node.MIX_WEIGHT, node.NEGATIVES)


def zero_shot_from_config(cfg: CfgNode) -> ZeroShot:
    """Read the settings of zero-shot segmentation.

    Raises:
        UserError: a key is out of range.
    """
    node = cfg.MODEL.ZERO_SHOT
    return ZeroShot(node.BACKGROUND_THRESHOLD, node.KEEP_CLASSES, node.WINDOW, node.STRIDE)


def _check_groupvit(node: CfgNode) -> None:
    stages, groups, outputs = len(node.DEPTHS), node.GROUP_TOKENS, node.OUTPUT_GROUPS
    rules = {
        "PATCH_SIZE": (
            node.PATCH_SIZE > 0 and node.IMAGE_SIZE > 0 and node.IMAGE_SIZE % node.PATCH_SIZE == 0,
            f"a divisor of IMAGE_SIZE, {node.IMAGE_SIZE}",
        ),
        "NUM_HEADS": (
            node.NUM_HEADS > 0 and node.WIDTH % node.NUM_HEADS == 0,
            f"a divisor of WIDTH, {node.WIDTH}",
        ),
        "DEPTHS": (stages > 1 and min(node.DEPTHS) > 0, "two or more numbers of blocks"),
        "GROUP_TOKENS": (
            len(groups) == stages and min(groups[:-1], default=0) > 0 and groups[-1] == 0,
            f"{stages} numbers, as DEPTHS, the last one 0 and no other",
        ),
        "OUTPUT_GROUPS": (
            len(outputs) == stages - 1 and min(outputs) > 0 and max(outputs) <= 255,
            f"{stages - 1} numbers from 1 to 255, one less than DEPTHS has",
        ),
        "DROP_PATH_RATE": (0 <= node.DROP_PATH_RATE < 1, "a probability below 1"),
        "MULTI_LABEL": (node.MULTI_LABEL >= 0, "a number of prompts, 0 for none"),
    }
    _check("MODEL.GROUPVIT", node, rules)
    text = node.TEXT
    heads = text.NUM_HEADS > 0 and text.WIDTH % text.NUM_HEADS == 0
    _check(
        "MODEL.GROUPVIT.TEXT",
        text,
        {
            "NUM_HEADS": (heads, f"a divisor of WIDTH, {text.WIDTH}"),
            "CONTEXT_LENGTH": (text.CONTEXT_LENGTH > 2, "3 or more tokens"),
        },
    )


def _check_mixreorg(node: CfgNode, depth: int) -> None:
    rules = {
        "GROUP_SIZE": (node.GROUP_SIZE > 1, "2 or more images"),
        "LAYER": (0 <= node.LAYER < depth, f"below the {depth} blocks of the first stage"),
        "CELL": (node.CELL > 0, "a number of patches, 1 or more"),
        "PROGRESSIVE": (node.PROGRESSIVE in PROGRESSIVE, f"one of {', '.join(PROGRESSIVE)}"),
        "NEGATIVES": (node.NEGATIVES in NEGATIVES, f"one of {', '.join(NEGATIVES)}"),
        "RESTORE_WEIGHT": (node.RESTORE_WEIGHT >= 0, "0 or more"),
        "MIX_WEIGHT": (node.MIX_WEIGHT >= 0, "0 or more"),
        "FLAG": (
            node.MIX_WEIGHT > 0 or node.RESTORE_WEIGHT > 0,
            "False where MIX_WEIGHT and RESTORE_WEIGHT are 0: that is GroupViT",
        ),
    }
    _check("MODEL.MIXREORG", node, rules)


def _check(section: str, node: CfgNode, rules: dict[str, tuple[bool, str]]) -> None:
    for key, (kept, demand) in rules.items():
        if not kept:
            raise UserError(f"{section}.{key} is {node[key]!r}; it has to be {demand}.")
