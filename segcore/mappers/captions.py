"""Map images with captions: the image becomes a square, the caption gets its words."""

from collections.abc import Callable

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T

from segcore.datasets.pairs import read_at
from segcore.errors import UserError, printable
from segcore.images import decode_image, read_image
from segcore.mappers.caption_augmentations import DeitAugmentation
from segcore.mappers.registry import MAPPER_REGISTRY
from segcore.text.nouns import WordFinder, build_word_finder, no_words
from segcore.vocabulary import Vocabulary

AUGMENTATIONS = ("crop", "deit")
IN_ARCHIVE = ("archive", "offset", "size")


class BrokenPairError(UserError):
    """An image with a caption cannot be read; a training skips it."""


class CaptionMapper:
    """Read an image and make a square of it; its caption is kept, and its words are found."""

    @configurable
    def __init__(
        self,
        *,
        augment: Callable[[np.ndarray], torch.Tensor],
        image_format: str,
        find_words: WordFinder = no_words,
    ) -> None:
        """
        Args:
            augment: returns an image (3, h, w) uint8 for one of (H, W, 3) uint8.
            image_format: ``"RGB"`` or ``"BGR"``.
            find_words: returns the words of a caption.
        """
        self.augment = augment
        self.image_format = image_format
        self.find_words = find_words

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        """Return the constructor's arguments: squares of ``INPUT.MIN_SIZE_TRAIN[0]`` or
        ``INPUT.MIN_SIZE_TEST``, in training augmented as ``INPUT.CAPTION`` says.

        Raises:
            UserError: a key of it is wrong.
        """
        return {
            "augment": _augmentation(cfg, is_train),
            "image_format": cfg.INPUT.FORMAT,
            "find_words": build_word_finder(cfg.INPUT.CAPTION.WORDS, _vocabulary(cfg)),
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Args:
            dataset_dict: has ``caption`` and ``file_name``, or the position of the image in an
                archive as :class:`segcore.datasets.pairs.PairDataset` gives it.

        Returns:
            all entries of ``dataset_dict`` but that position, with ``image`` (3, h, w) uint8,
            ``words``, a list of str, and ``height`` and ``width`` of the image as stored.

        Raises:
            BrokenPairError: the image cannot be read.
            UserError: it has no caption.
        """
        if "caption" not in dataset_dict:
            raise UserError(
                f"{dataset_dict['file_name']} has no caption: the mapper image_caption needs data "
                "sets of captions, such as scenes_60_train_captions"
            )
        image = self._read(dataset_dict)
        height, width = image.shape[:2]
        item = {key: value for key, value in dataset_dict.items() if key not in IN_ARCHIVE}
        return item | {
            "image": self.augment(image),
            "words": self.find_words(dataset_dict["caption"]),
            "height": height,
            "width": width,
        }

    def _read(self, item: dict) -> np.ndarray:
        """Return the image (H, W, 3) uint8 of a dataset dict."""
        data = read_at(*(item[key] for key in IN_ARCHIVE)) if "archive" in item else None
        try:
            if data is None:
                return read_image(item["file_name"], self.image_format)
            return decode_image(data, item["file_name"], self.image_format)
        except UserError as error:
            raise BrokenPairError(str(error)) from error


def _augmentation(cfg: CfgNode, is_train: bool) -> Callable[[np.ndarray], torch.Tensor]:
    name = cfg.INPUT.CAPTION.AUGMENTATION
    if name not in AUGMENTATIONS:
        raise UserError(
            f"INPUT.CAPTION.AUGMENTATION is {printable(name)!r}: use {' or '.join(AUGMENTATIONS)}"
        )
    side = cfg.INPUT.MIN_SIZE_TRAIN[0] if is_train else cfg.INPUT.MIN_SIZE_TEST
    if is_train and name == "deit":
        if cfg.INPUT.FORMAT != "RGB":
            raise UserError("INPUT.CAPTION.AUGMENTATION deit needs INPUT.FORMAT RGB")
        return DeitAugmentation(cfg.INPUT.CAPTION, side)
    augmentations = [T.Resize((side, side))]
    if is_train and cfg.INPUT.CROP.ENABLED:
        augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
    return Detectron2Augmentation(augmentations)


class Detectron2Augmentation:
    """Augmentations of Detectron2, after which captions stay true: no flip, no colours."""

    def __init__(self, augmentations: list[T.Augmentation]) -> None:
        self.augmentations = T.AugmentationList(augmentations)

    def __call__(self, image: np.ndarray) -> torch.Tensor:
        """Return the augmented image (3, h, w) uint8 of an image (H, W, 3) uint8."""
        inputs = T.AugInput(image)
        self.augmentations(inputs)
        return torch.from_numpy(np.ascontiguousarray(inputs.image.transpose(2, 0, 1)))


def _vocabulary(cfg: CfgNode) -> Vocabulary | None:
    """Return the vocabulary whose names are words: the config's, or that of the training data."""
    if cfg.INPUT.CAPTION.VOCABULARY:
        return Vocabulary.load(cfg.INPUT.CAPTION.VOCABULARY)
    for name in cfg.DATASETS.TRAIN:
        source = MetadataCatalog.get(name).get("caption_vocabulary")
        if source:
            return Vocabulary.load(source)
    return None


@MAPPER_REGISTRY.register()
def image_caption(cfg: CfgNode, is_train: bool) -> CaptionMapper:
    """Build the mapper for contrastive training on image-text pairs."""
    return CaptionMapper(cfg, is_train)
