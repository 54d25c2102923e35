"""The ``datasets`` entry of a vocabulary's JSON file: which folders hold its classes' labels, and
which tables hold captions of its pictures."""

from pathlib import Path

from segcore.datasets.captions import register_caption_dataset
from segcore.datasets.semantic import register_semantic_dataset
from segcore.vocabulary import Vocabulary


def register_table(table: dict, vocabulary: Vocabulary, root: Path) -> None:
    """Register every data set of a table.

    Args:
        table: ``datasets`` maps a name to its folders ``images`` and ``labels``, and where given
            ``image_suffix`` and ``label_suffix``; ``evaluator_type`` and ``background`` are those
            of all of them. With ``captions``, a table, instead of ``labels`` it is one of captions.
        vocabulary: the classes of the same table.
        root: the folder that the others are relative to.

    Raises:
        UserError: as :func:`register_semantic_dataset`.
    """
    for name, files in table.get("datasets", {}).items():
        if "captions" in files:
            register_caption_dataset(name, root / files["captions"], root / files["images"])
            continue
        register_semantic_dataset(
            name,
            root / files["images"],
            root / files["labels"],
            vocabulary,
            image_suffix=files.get("image_suffix"),
            label_suffix=files.get("label_suffix"),
            evaluator_type=table.get("evaluator_type", "sem_seg"),
            **_background(vocabulary, table.get("background")),
        )


def _background(vocabulary: Vocabulary, background: dict | None) -> dict:
    """Metadata where the labels know fewer classes than the model is prompted with: everything
    from class ``first`` on is one class, the background."""
    if background is None:
        return {}
    first = background["first"]
    return {
        "stuff_classes": [*vocabulary.names[:first], background["name"]],
        "stuff_colors": [*vocabulary.colors[:first], tuple(background["color"])],
        "background_from": first,
    }
