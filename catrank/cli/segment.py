"""``catrank segment``: images."""

import argparse

from catrank.cli.options import add_model_options, add_overlay_options, load_model, report_failures
from catrank.cli.word import Word

SEGMENT = """\
Segment images (files, folders, quoted patterns) with class names of your choice, or a model's.

Without --save the output holds of each image NAME_overlay.png, _labels.png (16 bits), _legend.png,
_segments.json and, with RankSeg, _categories.json. Unreadable images are reported (exit code 1)."""

FORMATS = (
    *("overlay", "legend", "labels", "coco", "coco-panoptic"),
    *("labelme", "label-studio", "geojson"),
)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", nargs="+", metavar="INPUT", help="images, folders, patterns")
    parser.add_argument("--output", default="segmented", metavar="DIR", help="(segmented)")
    parser.add_argument("--save", default="", metavar="F,G", help=", ".join(FORMATS))
    add_overlay_options(parser)
    add_model_options(parser)


def _run(args: argparse.Namespace) -> int:
    from catrank.inputs import find_images
    from catrank.runs.exports import ExportFolder
    from catrank.runs.images import segment_images
    from segcore.runtime.files import user_path
    from segcore.runtime.lock import release

    formats = [name.strip() for name in args.save.split(",") if name.strip()]
    output, images = user_path(args.output), find_images(args.input)
    ExportFolder(output, formats)  # a wrong format is found before a model is loaded
    try:
        failures = segment_images(
            load_model(args),
            images,
            output,
            formats=formats,
            alpha=args.alpha,
            overwrite=args.overwrite,
        )
    finally:
        release()
    return report_failures(failures)


WORD = Word(
    title="segment images",
    run=_run,
    add_arguments=_arguments,
    usage="INPUT [INPUT ...] [options] [--opts KEY VALUE ...]",
    description=SEGMENT,
    examples="""
catrank segment photo.jpg
catrank segment photo.jpg --classes "sky, tree, my dog"
catrank segment photos/ --model scenes-60-panoptic --output out --save overlay,coco,labelme
""",
    interrupted=": the same command resumes, without --overwrite",
)
