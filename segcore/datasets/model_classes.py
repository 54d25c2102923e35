"""The classes of a closed-vocabulary model: their names, and which of them are things.

They belong to the model. They come from the config, from the checkpoint
(:mod:`segcore.checkpoint.vocabulary`), or, where neither holds them, from the data set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog

from segcore.datasets.custom import custom_files, register_custom_file
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary, distinct_colors

KEY = "MODEL.SEM_SEG_HEAD.CLASSES"


@dataclass(frozen=True)
class ModelClasses:
    """The classes of a model, index = class id.

    Attributes:
        vocabulary: names, colours, and which are things; None: not known.
        thing_ids: ids of the thing classes that a data set lists, for a vocabulary that does not
            divide its classes into things and stuff; None: not known.
        fixed: the config names them; a checkpoint does not replace them.
    """

    vocabulary: Vocabulary | None = None
    thing_ids: frozenset[int] | None = None
    fixed: bool = False

    @property
    def things(self) -> frozenset[int]:
        """Ids of the thing classes.

        Raises:
            UserError: nothing divides the classes into things and stuff.
        """
        if self.vocabulary is not None and self.vocabulary.isthing is not None:
            return frozenset(i for i, thing in enumerate(self.vocabulary.isthing) if thing)
        if self.thing_ids is None:
            raise UserError(
                "nothing divides the classes of this model into things and stuff, which panoptic "
                f'segmentation needs: set {KEY} to a vocabulary whose classes have "isthing", '
                "or DATASETS.TEST to a panoptic data set of NUM_CLASSES classes"
            )
        return self.thing_ids

    @property
    def metadata(self) -> Metadata:
        """What Detectron2's ``Visualizer`` reads: names and colours of all classes by their ids, as
        metadata of a panoptic data set has them; none where the vocabulary is not known."""
        if self.vocabulary is None:
            return Metadata()
        names, colors = list(self.vocabulary.names), list(self.vocabulary.colors)
        return Metadata(
            name=self.vocabulary.name,
            thing_classes=names,
            thing_colors=colors,
            stuff_classes=names,
            stuff_colors=colors,
        )

    def of_checkpoint(self, vocabulary: Vocabulary, count: int) -> "ModelClasses":
        """Return the classes once a checkpoint with this vocabulary is loaded into a model of
        ``count`` classes."""
        if self.fixed or len(vocabulary) != count:
            return self
        return replace(self, vocabulary=vocabulary)


class HasClasses:
    """Of a closed-vocabulary model with ``classes`` and ``num_classes``: what applications read.

    The model calls :func:`segcore.checkpoint.vocabulary.carry_vocabulary`.
    """

    classes: ModelClasses
    num_classes: int

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The classes: those of the config, the checkpoint or the data set; None: not known."""
        return self.classes.vocabulary

    @property
    def metadata(self) -> Metadata:
        """Names and colours of the classes, for Detectron2's ``Visualizer``."""
        return self.classes.metadata

    def take_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Take the classes that a checkpoint carries, unless the config names them."""
        self.classes = self.classes.of_checkpoint(vocabulary, self.num_classes)


class HasVocabulary:
    """Of an open-vocabulary model with ``_vocabulary``: what applications read and set."""

    _vocabulary: Vocabulary | None

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The vocabulary of the predictions."""
        return self._vocabulary

    @property
    def metadata(self) -> Metadata:
        """Names and colours of the vocabulary, for Detectron2's ``Visualizer``."""
        return ModelClasses(self._vocabulary).metadata

    def set_vocabulary(self, vocabulary: Vocabulary | str | Sequence[str]) -> Vocabulary:
        """Set the default vocabulary of predictions.

        A call that is running in another thread keeps the old one. Threads that share a model pass
        a vocabulary with each image instead: see the model's ``forward``.

        Args:
            vocabulary: a vocabulary, the name of a registered one, a path to a JSON file, a list of
                class names, or one string of class names separated by commas.
        Returns:
            The vocabulary.
        Raises:
            UserError: the vocabulary is invalid, a class name is too long for the text encoder, or
                the background is needed and is not its first class.
        """
        vocabulary = Vocabulary.load(vocabulary)
        self._check_vocabulary(vocabulary)
        self._vocabulary = vocabulary
        return vocabulary

    def _check_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Raise UserError unless the model can predict with this vocabulary."""
        raise NotImplementedError


def classes_from_config(cfg: CfgNode) -> ModelClasses:
    """Return the classes of a closed-vocabulary model before its checkpoint is loaded.

    Raises:
        UserError: see :func:`config_vocabulary`; or a file of ``DATASETS.CUSTOM`` is wrong.
    """
    named = config_vocabulary(cfg)
    vocabulary = named if named is not None else data_set_vocabulary(cfg)
    return ModelClasses(vocabulary, _listed_things(cfg), fixed=named is not None)


def config_vocabulary(cfg: CfgNode) -> Vocabulary | None:
    """Return the classes that ``MODEL.SEM_SEG_HEAD.CLASSES`` names; None where it is empty.

    Raises:
        UserError: it names no vocabulary, or one of another number of classes than the model's.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    if not head.CLASSES:
        return None
    vocabulary = Vocabulary.load(head.CLASSES)
    if len(vocabulary) != head.NUM_CLASSES:
        raise UserError(
            f"{KEY} {vocabulary.name} has {len(vocabulary)} classes, but "
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {head.NUM_CLASSES}: set one to fit the other"
        )
    return vocabulary


def data_set_vocabulary(cfg: CfgNode) -> Vocabulary | None:
    """Return the classes of the first data set of ``DATASETS.TRAIN`` and ``DATASETS.TEST`` that has
    as many as the model; None where none has.

    The files of ``DATASETS.CUSTOM`` that are here are registered.
    """
    for path in custom_files(cfg):
        if Path(path).is_file():
            register_custom_file(path)
    for name in dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)):
        metadata = MetadataCatalog.get(name).as_dict()
        if vocabulary := _described(name, metadata, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES):
            return vocabulary
    return None


def _listed_things(cfg: CfgNode) -> frozenset[int] | None:
    """The ids of the thing classes, of the first data set that lists ids of this model."""
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        ids = MetadataCatalog.get(name).get("thing_dataset_id_to_contiguous_id")
        if ids and max(ids.values()) < cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES:
            return frozenset(ids.values())
    return None


def _described(name: str, metadata: Mapping[str, Any], count: int) -> Vocabulary | None:
    """The classes of a data set, if there are ``count``."""
    kinds = [k for k in ("stuff", "thing") if len(metadata.get(f"{k}_classes") or ()) == count]
    if not kinds:
        return None
    names = tuple(metadata[f"{kinds[0]}_classes"])
    known = metadata.get("vocabulary")  # see vocabulary_reference
    known = Vocabulary.registered(known) if isinstance(known, str) else known
    if known is not None and known.names == names:
        return known
    colors = metadata.get(f"{kinds[0]}_colors")
    things = metadata.get("thing_dataset_id_to_contiguous_id")
    things = things and set(things.values())
    return Vocabulary(
        name=name,
        names=names,
        synonyms=((),) * count,
        prompts=names,
        colors=tuple(tuple(color) for color in colors or distinct_colors(count)),
        colored=(bool(colors),) * count,
        isthing=things and tuple(number in things for number in range(count)),
    )
