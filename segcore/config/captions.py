"""Config keys of images with captions."""

from detectron2.config import CfgNode


def add_caption_keys(node: CfgNode) -> None:
    """Add the section ``CAPTION``, which the mapper ``image_caption`` reads, to ``INPUT``."""
    node.CAPTION = CfgNode()
    # Of training images: "crop" (INPUT.CROP), after which captions stay true, or "deit", which also
    # flips images and changes colours.
    node.CAPTION.AUGMENTATION = "crop"
    # Keys of "deit": fraction of the area that is kept, probability of a flip, RandAugment in the
    # notation of timm, brightness, contrast and saturation by factors from 1 - x to 1 + x where
    # RAND_AUGMENT is "", probability that a rectangle is erased.
    node.CAPTION.SCALE = [0.08, 1.0]
    node.CAPTION.FLIP = 0.5
    node.CAPTION.RAND_AUGMENT = "rand-m9-mstd0.5-inc1"
    node.CAPTION.COLOR_JITTER = 0.4
    node.CAPTION.ERASING = 0.25
    # Words of a caption: "nltk" (nouns and verbs), "vocabulary" (its names), "none", or "auto":
    # nltk where it is installed, else vocabulary.
    node.CAPTION.WORDS = "auto"
    # The vocabulary whose names are words; "": that of the training data, if it has one.
    node.CAPTION.VOCABULARY = ""
