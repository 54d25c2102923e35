"""Register the data sets of a vocabulary's JSON file, whose entry ``datasets`` lists their folders
and files."""

from pathlib import Path

from segcore.datasets.captions import register_caption_dataset
from segcore.datasets.instance import register_instance_dataset
from segcore.datasets.panoptic import register_panoptic_dataset
from segcore.datasets.registering import vocabulary_reference
from segcore.datasets.semantic import register_semantic_dataset
from segcore.datasets.tracks import register_track_dataset
from segcore.datasets.video_semantic import register_video_semantic_dataset
from segcore.vocabulary import Vocabulary

PANOPTIC = "coco_panoptic_seg"


def register_table(
    table: dict, vocabulary: Vocabulary, root: Path, *, colored: bool = False
) -> None:
    """Register every data set of a table.

    Args:
        table: ``datasets`` maps a name to its folders and files; ``evaluator_type``,
            ``background`` and ``background_threshold`` are those of all of them. Their entries
            determine the kind:

            - ``captions``, a table: images with captions;
            - ``panoptic_json`` and ``labels``, optionally ``semantic_labels``,
              ``instance_json`` and an ``evaluator_type`` of its own: panoptic;
            - ``instance_json`` alone: instances;
            - ``track_json``, optionally ``category_offset``: videos with objects;
            - ``video_list``, optionally ``labels`` and ``piece_frames``: videos with label maps;
              in the folders ``<video>`` stands for a video's name;
            - ``labels``, optionally ``image_suffix``, ``label_suffix``, ``first_label``: semantic.

            All have ``images``.
        vocabulary: the classes of the same table.
        root: the folder that all paths are relative to.
        colored: label maps of images may hold the colours of the classes.

    Raises:
        UserError: as the functions that register one data set.
    """
    for name, files in table.get("datasets", {}).items():
        images = root / files["images"]
        if "captions" in files:
            source = vocabulary_reference(vocabulary)
            table_file = root / files["captions"]
            register_caption_dataset(name, table_file, images, caption_vocabulary=source)
        elif "panoptic_json" in files:
            _register_panoptic(name, table, files, vocabulary, root)
        elif "instance_json" in files:
            register_instance_dataset(name, images, root / files["instance_json"], vocabulary)
        elif "track_json" in files:
            offset = files.get("category_offset", 0)
            tracks = root / files["track_json"]
            register_track_dataset(name, images, tracks, vocabulary, category_offset=offset)
        elif "video_list" in files:
            register_video_semantic_dataset(
                name,
                root / files["video_list"],
                images,
                root / files["labels"] if "labels" in files else None,
                vocabulary,
                piece_frames=files.get("piece_frames"),
            )
        else:
            register_semantic_dataset(
                name,
                images,
                root / files["labels"],
                vocabulary,
                image_suffix=files.get("image_suffix"),
                label_suffix=files.get("label_suffix"),
                first_label=files.get("first_label", 0),
                label_colors=colored,
                evaluator_type=table.get("evaluator_type", "sem_seg"),
                **_background(vocabulary),
                **{key: table[key] for key in ("background_threshold",) if key in table},
            )


def _register_panoptic(
    name: str, table: dict, files: dict, vocabulary: Vocabulary, root: Path
) -> None:
    semantic, instances = files.get("semantic_labels"), files.get("instance_json")
    of_table = table["evaluator_type"] if table.get("task") == "panoptic" else PANOPTIC
    register_panoptic_dataset(
        name,
        root / files["images"],
        root / files["panoptic_json"],
        root / files["labels"],
        vocabulary,
        semantic_dir=None if semantic is None else root / semantic,
        instance_json=None if instances is None else root / instances,
        evaluator_type=files.get("evaluator_type", of_table),
    )


def _background(vocabulary: Vocabulary) -> dict:
    """Return the metadata of labels with fewer classes than the model's prompts."""
    background = vocabulary.background
    if background is None:
        return {}
    return {
        "stuff_classes": list(vocabulary.label_names),
        "stuff_colors": list(vocabulary.label_colors),
        "background_from": background.first,
    }
