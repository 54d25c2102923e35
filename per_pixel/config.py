"""Config keys of the per-pixel family, and what is built from them."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry

from segcore.backbones import add_backbone_config
from segcore.config import add_shared_keys, register_config_keys
from segcore.config.rankseg import add_rankseg_keys, start_ranker
from segcore.errors import UserError

from .heads import DecodeHead

# Entries are functions (cfg, shapes of the backbone's maps by name) -> DecodeHead; their names are
# the values of MODEL.PER_PIXEL.DECODER.
DECODE_HEAD_REGISTRY = Registry("DECODE_HEAD")

VARIANTS = ("RANKSEG", "ENCNET", "ESSNET")


def add_per_pixel_config(cfg: CfgNode) -> None:
    """Add every key of this family's configs.

    Call nothing else before :meth:`merge_from_file`; a second call changes nothing.
    """
    add_shared_keys(cfg)
    add_backbone_config(cfg)
    add_rankseg_keys(cfg)
    cfg.MODEL.RANKSEG.INDEPENDENT = _independent_keys()
    cfg.MODEL.PER_PIXEL = _per_pixel_keys()
    cfg.MODEL.ENCNET = _encnet_keys()
    cfg.MODEL.ESSNET = _essnet_keys()
    cfg.MODEL.QUERY2LABEL = _query2label_keys()
    cfg.INPUT.IMAGE_CLASSES = _image_classes_keys()


@register_config_keys
def _add_keys_of_load_config(cfg: CfgNode) -> None:
    """Add the same keys, with floats where fractions make sense; as Mask2Former's."""
    add_per_pixel_config(cfg)
    cfg.MODEL.RANKSEG.LOSS_WEIGHT = 0.0


def _per_pixel_keys() -> CfgNode:
    node = CfgNode()
    # The decode head: a name of DECODE_HEAD_REGISTRY ("mask_transformer", "aspp", "upernet",
    # "deeplabv3plus"), and the maps of the backbone that it reads, finest first.
    node.DECODER = "mask_transformer"
    node.IN_FEATURES = ["tokens"]
    # Width of its maps or tokens, and the probability of dropout before the classifier.
    node.CHANNELS = 768
    node.DROPOUT = 0.1
    # Norm of its convolutions: "SyncBN", "BN", ... as of Detectron2's get_norm; "": biases instead.
    node.NORM = "SyncBN"
    # Resize maps with aligned corners.
    node.ALIGN_CORNERS = False
    # "aspp", "deeplabv3plus": the branches; 1 is a 1x1 convolution.
    node.DILATIONS = [1, 12, 24, 36]
    # "aspp": side of the kernel of the convolution behind the branches; 1 in DeepLab's release.
    node.PROJECTION_SIZE = 3
    # "upernet": sides of the pooled grids.
    node.POOL_SCALES = [1, 2, 3, 6]
    # "mask_transformer": number of layers behind the selection, and attention heads.
    node.NUM_LAYERS = 2
    node.NUM_HEADS = 12
    # The pixel loss is a mean over "all" pixels, ignored ones included, as published, or over the
    # "valid" ones.
    node.PIXELS = "all"
    # Share of the pixels, drawn at random, that the pixel loss is estimated from; 1.0: all, as
    # published. Time and memory of the loss shrink with it.
    node.SAMPLED_PIXELS = 1.0
    # A second, convolutional head in training, its map and width; weight 0: none.
    node.AUXILIARY = CfgNode()
    node.AUXILIARY.WEIGHT = 0.0
    node.AUXILIARY.IN_FEATURE = "res4"
    node.AUXILIARY.CHANNELS = 256
    # Sides (height, width). WINDOW: of the windows that an image is divided into, which begin every
    # STRIDE pixels; 0, 0: the whole image at once. CANVAS: smaller images are padded to it at the
    # right and the bottom; 0, 0: no padding.
    node.TEST = CfgNode()
    node.TEST.WINDOW = [0, 0]
    node.TEST.STRIDE = [0, 0]
    node.TEST.CANVAS = [0, 0]
    return node


def _encnet_keys() -> CfgNode:
    """Context encoding: number of codewords, and weight of the loss of the image's classes."""
    node = CfgNode()
    node.FLAG = False  # EncNet's context encoding
    node.NUM_CODES = 64  # codewords
    node.LOSS_WEIGHT = 0.2  # of the loss of the classes of an image
    return node


def _essnet_keys() -> CfgNode:
    """Embeddings of pixels and classes, and the loss that compares a pixel with its neighbours."""
    node = CfgNode()
    node.FLAG = False  # ESSNet's embeddings
    # Dimensions of an embedding, and classes that a pixel is compared with besides its own.
    node.DIM = 12
    node.NEIGHBOURS = 7
    # Factor on distances, least distance between two classes, and weight of that condition.
    node.SCALE = 20.0
    node.MARGIN = 0.2
    node.MARGIN_WEIGHT = 1.0
    # When a pixel's own class is among its neighbours: "released" takes the class before it instead
    # as the published code, "strict" the next neighbour.
    node.OWN_CLASS = "released"
    # Embeddings of length 1; and which classes a pixel is compared with: "nearest" or "random".
    node.NORMALISE = True
    node.NEGATIVES = "nearest"
    # Search of the nearest classes in training, and of the nearest class in label maps: "exact";
    # "faiss", the same by that library's flat index; "clusters", approximate: among the classes of
    # the PROBES nearest of CLUSTERS clusters (0: about the square root of the number of classes).
    node.SEARCH = "exact"
    node.TEST_SEARCH = "exact"
    node.CLUSTERS = 0
    node.PROBES = 4
    # Share of the training pixels that are searched for: 0.25 is every fourth one, whose nearest
    # classes the next three are compared with, too.
    node.SEARCH_FRACTION = 1.0
    return node


def _independent_keys() -> CfgNode:
    """RankSeg's independent scheme: another model, which is trained before, selects classes."""
    node = CfgNode()
    node.FLAG = False  # classes are selected by another model
    # A file of its scores (see TEST.WRITE_SCORES), or a folder with files for all data sets.
    node.SCORES = ""
    return node


def _query2label_keys() -> CfgNode:
    """Query2Label: a head that classifies which classes are in an image."""
    node = CfgNode()
    # The map of the backbone, and the width that it is projected to; 0: none, as published.
    node.IN_FEATURE = "res5"
    node.HIDDEN_DIM = 0
    # Of the layers: attention heads, inner width, probability of dropout, and their numbers.
    node.NUM_HEADS = 4
    node.FEEDFORWARD_DIM = 8192
    node.DROPOUT = 0.1
    node.ENCODER_LAYERS = 1
    node.DECODER_LAYERS = 2
    # The asymmetric loss: focusing exponents of absent and of present classes, the probability up
    # to which an absent class costs nothing, whether gradients flow through the focusing weights,
    # and the factor on the mean (the published code sums over classes, and divides by their number
    # and 1/1000).
    node.GAMMAS = [2.0, 0.0]
    node.CLIP = 0.0
    node.FOCUS_GRADIENT = False
    node.LOSS_WEIGHT = 1000.0
    return node


def _image_classes_keys() -> CfgNode:
    """The mapper "image_classes": a square image, and the classes that are present in it."""
    node = CfgNode()
    # Side of the square that images are resized to.
    node.SIZE = 448
    # Side of the square hole of cutout over that of the image; 0: none.
    node.CUTOUT = 0.5
    # RandAugment: number of operations, 0 for none, and their magnitude of 31.
    node.RAND_AUGMENT = [2, 9]
    return node


def variant(cfg: CfgNode) -> str | None:
    """Return which of ``VARIANTS`` the config switches on; None for the plain classifier.

    Raises:
        UserError: it switches on several.
    """
    chosen = [name for name in VARIANTS if cfg.MODEL[name].FLAG]
    if len(chosen) > 1:
        keys = " and ".join(f"MODEL.{name}.FLAG" for name in chosen)
        raise UserError(f"{keys} are True: a model classifies pixels in one way, set one alone")
    return chosen[0] if chosen else None


def build_decode_head(cfg: CfgNode, shapes: dict[str, ShapeSpec]) -> DecodeHead:
    """Build the decode head that ``MODEL.PER_PIXEL`` describes.

    Args:
        cfg: with the keys of :func:`add_per_pixel_config`.
        shapes: of the backbone's maps by name.

    Raises:
        UserError: keys contradict each other, or the backbone has no such map.
    """
    node = cfg.MODEL.PER_PIXEL
    if node.DECODER not in DECODE_HEAD_REGISTRY:
        known = ", ".join(name for name, _ in DECODE_HEAD_REGISTRY)
        raise UserError(f"MODEL.PER_PIXEL.DECODER is {node.DECODER!r}; there are {known}.")
    check_features(shapes, node.IN_FEATURES, "IN_FEATURES")
    variant(cfg)
    head = DECODE_HEAD_REGISTRY.get(node.DECODER)(cfg, shapes)
    if getattr(head, "ranking", None) is not None:
        start_ranker(cfg, head.ranking)  # here, because a head initialises its parts
    return head


def check_features(shapes: dict[str, ShapeSpec], names: list[str], key: str) -> None:
    """Raise UserError unless the backbone has all maps that ``MODEL.PER_PIXEL.<key>`` names."""
    if missing := [name for name in names if name not in shapes]:
        raise UserError(
            f"MODEL.PER_PIXEL.{key} names {', '.join(missing)}, but the maps of the backbone are "
            f"{', '.join(shapes)}."
        )
