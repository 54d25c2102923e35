"""Import exports: choose the classes, and write images, label maps, objects and a description."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from catrank.imports.describing import ignore_label_of, write_description
from catrank.imports.export import OBJECTS, PIXELS, TRACKS, Export, ExportClass
from catrank.imports.image_sets import write_image_sets
from catrank.imports.painting import Palette
from catrank.imports.plan import Plan
from catrank.imports.track_sets import write_track_sets
from segcore.errors import UserError, printable
from segcore.runtime.files import check_file_name
from segcore.vocabulary import clean

BACKGROUND = "background"
BACKGROUND_NAMES = (BACKGROUND, "_background_", "__background__")


@dataclass(frozen=True)
class Written:
    """The result: the description, and lines for the user."""

    description: Path
    lines: tuple[str, ...]


def import_exports(exports: Sequence[Export], plan: Plan) -> Written:
    """Write an export, or two of the same format: training and validation.

    Raises:
        UserError: the output exists, the classes do not fit, or something cannot be read or
            written.
    """
    check_file_name(plan.name, "--name")
    plan.check_output()
    kinds = {export.kind for export in exports}
    if len(kinds) > 1:
        raise UserError(f"the two exports are of {' and '.join(e.format for e in exports)}")
    classes = _classes(exports, plan)
    description = plan.output / f"{plan.name}.json"
    if kinds == {TRACKS}:
        datasets, lines = write_track_sets(exports, classes, plan)
    else:
        palettes = [_palette(export, classes, plan) for export in exports]
        datasets, lines = write_image_sets(exports, classes, palettes, plan)
    write_description(description, plan.name, classes, datasets)
    notes = [f"note: {note}" for export in exports for note in export.notes]
    return Written(description, (*lines, *notes))


def _classes(exports: Sequence[Export], plan: Plan) -> tuple[ExportClass, ...]:
    """Return the classes in the order of their ids."""
    found = {each.name: each for export in exports for each in export.classes}
    lacking = [name for name in (*(plan.classes or ()), *plan.ignore) if name not in found]
    if lacking:
        raise UserError(
            f"the export has no class {printable(repr(lacking[0]))}; it has "
            f"{printable(', '.join(found), 500)}"
        )
    kept = [found[name] for name in plan.classes or found if name not in plan.ignore]
    if not kept:
        raise UserError("no class is left: the export has no shape, or all are ignored")
    kind = exports[0].kind
    if kind == OBJECTS:
        named = [each for each in kept if clean(each.name) in BACKGROUND_NAMES]
        if plan.background and not named:
            named = [ExportClass(BACKGROUND, is_thing=False)]
            kept = [*named, *kept]
        kept = [replace(each, is_thing=each not in named) for each in kept]
    elif kind == PIXELS:
        kept = [replace(each, is_thing=False) for each in kept]
    return tuple(kept)


def _palette(export: Export, classes: Sequence[ExportClass], plan: Plan) -> Palette:
    ignore_label = ignore_label_of(classes)
    ids = {each.name: number for number, each in enumerate(classes)}
    ignored = dict.fromkeys(plan.ignore, ignore_label)
    named = [i for i, each in enumerate(classes) if clean(each.name) in BACKGROUND_NAMES]
    covers = export.kind == OBJECTS and plan.background
    return Palette(
        ids=ids | ignored,
        values={
            each.value: ids.get(each.name, ignore_label)
            for each in export.classes
            if each.value is not None
        },
        numbers=tuple(ids.get(each.name, ignore_label) for each in export.classes),
        uncovered=named[0] if covers else ignore_label,
        ignore_label=ignore_label,
        things=frozenset(i for i, each in enumerate(classes) if each.is_thing),
    )
