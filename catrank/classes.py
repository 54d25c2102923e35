"""The classes that a model predicts: its own, or class names that a user gives."""

from typing import Any

from detectron2.config import CfgNode

from segcore.datasets.class_names import compare_names, names_of
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary


def settle_vocabulary(model: Any, cfg: CfgNode, vocabulary: Vocabulary | None = None) -> Vocabulary:
    """Return the vocabulary of the predictions; an open-vocabulary model is set to it.

    Raises:
        UserError: nothing names the classes, or their number or order is not that of the model.
    """
    if hasattr(model, "set_vocabulary"):
        if vocabulary is not None:
            model.set_vocabulary(vocabulary)
        if model.vocabulary is None:
            raise UserError("the config names no classes: give some by --vocabulary")
        return model.vocabulary
    known, number = model.vocabulary, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    if vocabulary is None and known is None:
        raise UserError(
            "nothing names the classes of this model: set MODEL.SEM_SEG_HEAD.CLASSES to its "
            f"vocabulary, or give --vocabulary with its {number} names in their order"
        )
    if vocabulary is None:
        return known
    if len(vocabulary) != number:
        raise UserError(
            f"{vocabulary.name!r} has {len(vocabulary)} names, but MODEL.SEM_SEG_HEAD.NUM_CLASSES "
            f"is {number}: this model knows only the classes of its training set, so leave out "
            "--vocabulary or name them in their order"
        )
    if known is not None:
        compare_names(names_of(vocabulary.names), names_of(known.names), "--vocabulary")
    return vocabulary
