"""``catrank data import``: exports of annotation tools, over catrank.imports."""

import argparse
import os
from pathlib import Path

from catrank.cli.options import fraction
from catrank.cli.word import Word

FORMATS = ("coco", "coco-panoptic", "labelme", "cvat", "label-studio", "masks", "youtube-vis")
IMPORT = """\
Convert an export of an annotation tool to images, label maps and their description.

SOURCE is JSON of COCO, Label Studio or YouTube-VIS, CVAT's XML, or a folder of LabelMe or of masks.
Pixels that no shape covers become the class "background", with id 0."""


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", metavar="SOURCE", help="a file or folder")
    add("--output", required=True, metavar="DIR", help="a new folder")
    add("--format", choices=FORMATS, metavar="F", help=", ".join(FORMATS))
    add("--images", metavar="DIR", help="of the images (found around SOURCE)")
    add("--masks", metavar="DIR", help="of panoptic PNG files (the name of SOURCE without .json)")
    add("--table", metavar="T", help='of masks: "background=0, crack=255" or a file')
    add("--name", metavar="N", help="of the data sets (that of the output)")
    add("--classes", type=_names, metavar="A,B", help="the classes, in this order (all)")
    add("--ignore", type=_names, default=(), metavar="A,B", help="classes without a label")
    add("--no-background", action="store_true", help="uncovered pixels have no label instead")
    split = parser.add_mutually_exclusive_group()
    split.add_argument("--val", metavar="SOURCE", help="validation, of the same format")
    split.add_argument("--val-fraction", type=fraction, default=0.2, metavar="X", help="(0.2)")
    add("--val-images", metavar="DIR", help="as --images, of --val")
    add("--seed", type=int, default=0, metavar="N", help="of the split by --val-fraction (0)")
    add("--link", action="store_true", help="make symbolic links to images instead of copies")
    add("--workers", type=int, default=os.cpu_count(), metavar="N", help="processes (one a core)")


def _run(args: argparse.Namespace) -> int:
    from catrank.imports import Plan, import_exports, read_export
    from segcore.errors import MESSAGE_CHARACTERS, UserError, printable
    from segcore.runtime.files import user_path

    def path(text: str | None) -> Path | None:
        return None if text is None else user_path(text)

    if args.val_images is not None and args.val is None:
        raise UserError("--val-images goes with --val")
    sources = [(args.source, args.images, args.masks)]
    if args.val is not None:
        sources.append((args.val, args.val_images, None))
    exports = [
        read_export(
            user_path(source),
            format=args.format,
            images=path(images),
            masks=path(masks),
            table=args.table,
            workers=args.workers,
        )
        for source, images, masks in sources
    ]
    output = user_path(args.output)
    plan = Plan(
        output,
        args.name or output.resolve().name,
        args.classes,
        args.ignore,
        not args.no_background,
        args.val_fraction,
        args.seed,
        args.link,
        args.workers,
    )
    written = import_exports(exports, plan)
    for line in (f"{exports[0].format}: {args.source}", *written.lines):
        print(printable(line, MESSAGE_CHARACTERS))
    print(f"wrote {written.description}; see what is in it: catrank data check --custom "
          f"{written.description}")  # fmt: skip
    return 0


IMPORT_WORD = Word(
    title="convert an export of an annotation tool",
    run=_run,
    add_arguments=_arguments,
    usage="SOURCE --output DIR [options]",
    description=IMPORT,
    examples="""
catrank data import instances.json --output datasets/pets
catrank data import masks --images photos --table "background=0, crack=255" --output datasets/c
""",
    interrupted=": remove the output",
)
