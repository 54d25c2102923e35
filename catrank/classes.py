"""The classes that a model predicts: its own, or class names that a user gives."""

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from torch import nn

import segcore.datasets  # noqa: F401  names of the classes of the benchmarks
from segcore.datasets.class_names import compare_names, names_of
from segcore.datasets.custom import register_custom_datasets
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary, distinct_colors


def settle_vocabulary(
    model: nn.Module, cfg: CfgNode, vocabulary: Vocabulary | None = None
) -> Vocabulary:
    """Return the vocabulary of the predictions; an open-vocabulary model is set to it.

    Raises:
        UserError: nothing names the classes, or their number is not that of the model.
    """
    if hasattr(model, "set_vocabulary"):
        if vocabulary is not None:
            model.set_vocabulary(vocabulary)
        if model.vocabulary is None:
            raise UserError("the config names no classes: give some by --vocabulary")
        return model.vocabulary
    given = vocabulary is not None
    vocabulary = vocabulary or _data_set_vocabulary(cfg)
    if len(vocabulary) != (number := cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES):
        raise UserError(
            f"{vocabulary.name!r} has {len(vocabulary)} names, but MODEL.SEM_SEG_HEAD.NUM_CLASSES "
            f"is {number}: this model knows only the classes of its training set, so leave out "
            "--vocabulary or name them in their order"
        )
    if given:
        _check_order(vocabulary, cfg)
    return vocabulary


def _check_order(vocabulary: Vocabulary, cfg: CfgNode) -> None:
    """Compare the names given for a closed vocabulary with those of the data set, if it has any.

    Raises:
        UserError: they are in another order.
    """
    try:
        known = _data_set_vocabulary(cfg)
    except UserError:  # the user's names are the only ones
        return
    if len(known) == len(vocabulary):
        compare_names(names_of(vocabulary.names), names_of(known.names), "--vocabulary")


def _data_set_vocabulary(cfg: CfgNode) -> Vocabulary:
    """Return the classes of the first test data set: those of a closed-vocabulary model."""
    register_custom_datasets(cfg)
    for name in cfg.DATASETS.TEST[:1]:
        metadata = MetadataCatalog.get(name)
        kinds = [kind for kind in ("stuff", "thing") if metadata.get(f"{kind}_classes")]
        if not kinds:
            break
        # The metadata of a panoptic data set may list things and stuff apart, or all of them.
        count = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        kind = max(kinds, key=lambda kind: len(metadata.get(f"{kind}_classes")) == count)
        names = tuple(metadata.get(f"{kind}_classes"))
        colors = metadata.get(f"{kind}_colors") or distinct_colors(len(names))
        return Vocabulary(
            name=name,
            names=names,
            synonyms=((),) * len(names),
            prompts=names,
            colors=tuple(tuple(color) for color in colors),
        )
    raise UserError(
        "nothing names the classes of this model: set DATASETS.TEST to its data set, or give "
        f"--vocabulary with its {cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES} names in their order"
    )
