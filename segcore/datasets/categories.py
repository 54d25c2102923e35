"""Classes of custom datasets whose files in COCO's or YouTube-VIS's format list categories."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from segcore.annotations import fields
from segcore.annotations.json_file import read_annotations
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary, clean, short

Categories = Mapping[int, tuple[str, bool]]


def read_categories(path: str | Path) -> dict[int, tuple[str, bool]]:
    """Return the categories of a file by their ids, ascending: the name, and whether it is a thing.

    Categories without ``isthing``, which only the panoptic format has, are things.

    Raises:
        UserError: the file cannot be read, or a category is wrong.
    """
    listed = fields.categories(read_annotations(path), path)
    if not listed:
        raise UserError(f"{path} has no categories: list the classes in 'categories'")
    return {
        id: (entry["name"], fields.flag(entry, "isthing", f"{path}: category {id}", default=1))
        for id, entry in sorted(listed.items())
    }


def vocabulary_of(categories: Categories, name: str, where: object) -> Vocabulary:
    """Return the vocabulary of a file's categories, in the order of their ids.

    Raises:
        UserError: a name is wrong, or two are equal; the message begins with ``where``.
    """
    classes = [
        {"name": class_name, "isthing": thing, "dataset_id": id}
        for id, (class_name, thing) in categories.items()
    ]
    return Vocabulary.from_table({"name": name, "classes": classes}, where)


def with_category_ids(vocabulary: Vocabulary, categories: Categories, where: object) -> Vocabulary:
    """Return a vocabulary with the category ids of a file, found by name, and with ``isthing``.

    A class is a category if one of its names, its prompt or its synonyms is the category's name.
    Classes that the file lacks, such as a background, are stuff and have no id.

    Raises:
        UserError: a category is no class; the message begins with ``where``.
    """
    known: dict[str, int] = {}
    for class_id, name in enumerate(vocabulary.names):
        for text in (name, vocabulary.prompts[class_id], *vocabulary.synonyms[class_id]):
            known.setdefault(clean(text), class_id)
    ids: list[int | None] = [None] * len(vocabulary)
    things = [False] * len(vocabulary)
    for id, (name, thing) in categories.items():
        class_id = known.get(clean(name))
        if class_id is None or ids[class_id] is not None:
            fault = "is none of the classes" if class_id is None else "stands for a class twice"
            raise UserError(
                f"{where}: the category {short(name)} {fault}: give every category a class, or "
                "leave 'classes' out, which takes them from the file"
            )
        ids[class_id], things[class_id] = id, thing
    isthing = vocabulary.isthing or tuple(things)
    return replace(vocabulary, dataset_ids=tuple(ids), isthing=isthing)
