"""Write the vocabulary file of a catalogue.

    python -m segcore.scenes.vocabulary

writes ``segcore/vocabularies/scenes_*.json`` anew; a test checks that they are up to date.
"""

import colorsys
import json
from pathlib import Path

from segcore.scenes.catalogue import CATALOGUES, Catalogue, SceneClass
from segcore.scenes.grounds import GROUNDS
from segcore.scenes.textures import COLOURS

IGNORE_LABEL = 65535
SPLITS = ("train", "test", "demo")
CAPTIONED_SPLITS = VIDEO_SPLITS = ("train", "test")
VIDEO_PIECES = {"test": {"piece_frames": 20}}  # as those of VSPW


def describe(catalogue: Catalogue) -> dict:
    """Return the content of the vocabulary file, ready for ``json.dumps``."""
    name = catalogue.name.replace("-", "_")
    return {
        "name": name,
        "title": f"Scenes, {len(catalogue.classes)} classes",
        "source": "drawn by datasets/prepare_scenes.py",
        "task": "semantic",
        "ignore_label": IGNORE_LABEL,
        "evaluator_type": "sem_seg",
        "metrics": ["mIoU", "mIoU seen", "mIoU unseen", "harmonic mean of the two"],
        "label_encoding": "uint16 png, class ids; every pixel has one, 65535 (ignore) is not used",
        "datasets": {
            **{f"{name}_{split}": _describe_split(catalogue, split) for split in SPLITS},
            **{
                f"{name}_{split}_captions": _describe_captions(catalogue, split)
                for split in CAPTIONED_SPLITS
            },
            **{
                f"{name}_{split}_crops": _describe_crops(catalogue, split)
                for split in CAPTIONED_SPLITS
            },
            **{
                f"{name}_{split}_panoptic": _describe_panoptic(catalogue, split) for split in SPLITS
            },
            **{
                f"{name}_{split}_instance": _describe_instance(catalogue, split) for split in SPLITS
            },
            **{
                f"{name}_video_{split}": _describe_video(catalogue, split) for split in VIDEO_SPLITS
            },
            **{
                f"{name}_video_{split}_instance": _describe_tracks(catalogue, split)
                for split in VIDEO_SPLITS
            },
        },
        "classes": [
            _describe_class(entry, colour)
            for entry, colour in zip(catalogue.classes, _legend_colours(catalogue), strict=True)
        ],
    }


def _describe_split(catalogue: Catalogue, split: str) -> dict:
    return {
        "split": split,
        "images": f"{catalogue.name}/{split}/images",
        "labels": f"{catalogue.name}/{split}/labels",
        "image_suffix": ".png",
        "label_suffix": ".png",
    }


def _describe_captions(catalogue: Catalogue, split: str) -> dict:
    return {
        "split": split,
        "images": f"{catalogue.name}/{split}/images",
        "captions": f"{catalogue.name}/{split}/captions.tsv",
    }


def _describe_crops(catalogue: Catalogue, split: str) -> dict:
    return {
        "split": split,
        "images": f"{catalogue.name}/{split}/crops",
        "captions": f"{catalogue.name}/{split}/crops.tsv",
    }


def _describe_panoptic(catalogue: Catalogue, split: str) -> dict:
    folder = f"{catalogue.name}/{split}"
    return {
        "split": split,
        "images": f"{folder}/images",
        "labels": f"{folder}/panoptic",
        "panoptic_json": f"{folder}/panoptic.json",
        "semantic_labels": f"{folder}/labels",
        "instance_json": f"{folder}/instances.json",
    }


def _describe_instance(catalogue: Catalogue, split: str) -> dict:
    return {
        "split": split,
        "images": f"{catalogue.name}/{split}/images",
        "instance_json": f"{catalogue.name}/{split}/instances.json",
    }


def _describe_video(catalogue: Catalogue, split: str) -> dict:
    folder = f"{catalogue.name}/videos"
    return {
        "split": split,
        "video_list": f"{folder}/{split}.txt",
        "images": f"{folder}/data/<video>/origin",
        "labels": f"{folder}/data/<video>/mask",
    } | VIDEO_PIECES.get(split, {})


def _describe_tracks(catalogue: Catalogue, split: str) -> dict:
    return {
        "split": split,
        "images": f"{catalogue.name}/videos/data",
        "track_json": f"{catalogue.name}/videos/{split}.json",
        "category_offset": 1,
    }


def _describe_class(entry: SceneClass, colour: tuple[int, ...]) -> dict:
    return {
        "id": entry.id,
        "name": entry.name,
        "synonyms": [],
        "color": list(colour),
        "isthing": entry.is_object,
        "dataset_id": entry.id,
        "seen": entry.seen,
    }


def _legend_colours(catalogue: Catalogue) -> list[tuple[int, ...]]:
    """Return a colour similar to each class, different for every class, 0 to 255."""
    chosen: dict[tuple[int, ...], None] = {}
    for entry in catalogue.classes:
        red, green, blue = colour = _legend_colour(catalogue, entry)
        while colour in chosen:
            blue += 1 if blue < 128 else -1
            colour = (red, green, blue)
        chosen[colour] = None
    return list(chosen)


def _legend_colour(catalogue: Catalogue, entry: SceneClass) -> tuple[int, ...]:
    """Return the colour of a class: the texture changes its lightness, the shape its hue."""
    if entry.is_object:
        hue, saturation, value = COLOURS[entry.colour]
        hue += 24 * _position(catalogue.shapes, entry.shape) - 12
        lightness = 1 - 2 * _position(catalogue.textures, entry.texture)
        saturation *= 1 - 0.55 * max(lightness, 0)
        value *= 1 + 0.4 * min(lightness, 0)
    else:
        dark, light = GROUNDS[entry.name].dark, GROUNDS[entry.name].light
        hue, saturation, value = (0.35 * a + 0.65 * b for a, b in zip(dark, light, strict=True))
    rgb = colorsys.hsv_to_rgb(hue / 360, saturation, value)
    return tuple(round(255 * channel) for channel in rgb)


def _position(names: tuple[str, ...], name: str) -> float:
    """Return 0 for the first name, 1 for the last."""
    return names.index(name) / (len(names) - 1)


def vocabulary_path(catalogue: Catalogue) -> Path:
    """Return the path of the vocabulary file of ``catalogue``."""
    folder = Path(__file__).parents[1] / "vocabularies"
    return folder / f"{catalogue.name.replace('-', '_')}.json"


def dumps(catalogue: Catalogue) -> str:
    """Return the vocabulary file's text, one class a line."""
    content = describe(catalogue)
    classes = ",\n".join("    " + json.dumps(entry) for entry in content.pop("classes"))
    head = json.dumps(content, indent=2).removesuffix("\n}")
    return f'{head},\n  "classes": [\n{classes}\n  ]\n}}\n'


if __name__ == "__main__":
    for each in CATALOGUES.values():
        vocabulary_path(each).write_text(dumps(each), "utf-8")
