"""The published benchmarks: the table is the folder of vocabularies, this is the loop over it."""

import os
from pathlib import Path

from segcore.datasets.semantic import register_semantic_dataset
from segcore.vocabulary import Vocabulary, registered_names, vocabulary_table


def data_root() -> Path:
    """The folder that holds all data sets."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()


def register_builtin_datasets(root: Path) -> None:
    """Register every data set that a semantic vocabulary lists, with its files under ``root``."""
    for name in registered_names():
        table = vocabulary_table(name)
        if table["task"] != "semantic":
            continue
        vocabulary = Vocabulary.registered(name)
        for dataset, files in table.get("datasets", {}).items():
            register_semantic_dataset(
                dataset,
                root / files["images"],
                root / files["labels"],
                vocabulary,
                image_suffix=files["image_suffix"],
                label_suffix=files["label_suffix"],
                evaluator_type=table["evaluator_type"],
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
