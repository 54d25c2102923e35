"""``catrank data prepare``: a word a benchmark, over segcore.datasets.preparation."""

import argparse
import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import ModuleType

from catrank.cli.word import Group, Word

NEEDS_SOURCE = ("captions",)
AddOptions = Callable[[argparse.ArgumentParser], None]


def _module(name: str) -> ModuleType:
    return import_module(f"segcore.datasets.preparation.{name}")


def _describe(name: str) -> str:
    return (_module(name).__doc__ or "").strip()


def _common_arguments(add_options: AddOptions, parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    add = parser.add_argument
    add("--workers", type=int, default=os.cpu_count(), metavar="N", help="processes (one a core)")
    add("--root", metavar="DIR", help='default: $DETECTRON2_DATASETS or "datasets"')


def _run(name: str, args: argparse.Namespace) -> int:
    from segcore.datasets import data_root
    from segcore.runtime.files import user_path

    options = vars(args)
    given = options.pop("root")
    _module(name).prepare(user_path(given) if given else data_root(), **options)
    return 0


def _word(name: str, title: str, add_options: AddOptions, more: str = "") -> Word:
    alone = "" if name in NEEDS_SOURCE else f"catrank data prepare {name}\n"
    return Word(
        title=title,
        run=partial(_run, name),
        add_arguments=partial(_common_arguments, add_options),
        description=partial(_describe, name),
        examples=f"{alone}{more}",
        interrupted=": the same command goes on from here",
    )


def _no_options(parser: argparse.ArgumentParser) -> None:
    pass


def _ade20k(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--task", choices=("all", "semantic"), default="all", help="label maps alone, or all"
    )


def _ade20k_full(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--split", choices=("all", "training", "validation"), default="all", help="(all)"
    )


def _captions(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", help="a .tsv table, captions of COCO (.json), or a folder")
    add("--name", metavar="NAME", help="of the data set (that of the source)")
    add("--images", metavar="DIR", help="the folder of the images of a table or of COCO")
    add("--per-shard", type=int, default=10000, metavar="N", help="pairs in a shard (10000)")


def _coco_lvis(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--published", action="store_true", help="with the published fault")


def _mess(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="name", help="default: all that are there")


def _scenes(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    two = ("TRAIN", "TEST")
    add("--catalogue", choices=("scenes-60", "scenes-1k"), default="scenes-60", help="(scenes-60)")
    add("--num-images", type=int, nargs=2, default=(2000, 500), metavar=two, help="(2000 500)")
    add("--panoptic", action="store_true", help="segments and instances too, in COCO's formats")
    add("--crops", action="store_true", help="crops of single objects too, with captions")
    add("--num-videos", type=int, nargs=2, default=(0, 0), metavar=two, help="(none)")
    add("--num-frames", type=int, default=16, metavar="N", help="of a video (16)")
    add("--size", type=int, default=96, metavar="N", help="pixels a side (96)")
    add("--seed", type=int, default=0, metavar="N", help="(0)")


_TABLE = (
    ("ade20k", "ADE20K, 150 classes: semantic, panoptic, instance", _ade20k, "--task semantic"),
    ("ade20k_full", "ADE20K, 847 classes: semantic", _ade20k_full, "--split validation"),
    ("captions", "pack images with captions into tar shards", _captions, "pairs.tsv"),
    ("cityscapes", "Cityscapes: semantic", _no_options, ""),
    ("coco_lvis", "COCO+LVIS, 1,284 classes: semantic", _coco_lvis, ""),
    ("coco_object", "COCO-Object, 80 things and background: semantic", _no_options, ""),
    ("coco_panoptic", "label maps of COCO panoptic", _no_options, ""),
    ("coco_stuff", "COCO-Stuff 164k: semantic", _no_options, ""),
    ("coco_stuff_10k", "COCO-Stuff 10k: semantic", _no_options, ""),
    ("mapillary_vistas", "Mapillary Vistas: semantic, panoptic", _no_options, ""),
    ("mess", "the 22 data sets of MESS: semantic", _mess, "suim deepcrack"),
    ("pascal_context_59", "PASCAL-Context, 59 classes: semantic", _no_options, ""),
    ("pascal_context_60", "PASCAL-Context, with background: semantic", _no_options, ""),
    ("pascal_context_459", "PASCAL-Context, 459 classes: semantic", _no_options, ""),
    ("scenes", "draw Scenes, synthetic images and videos of any number", _scenes, ""),
    ("voc", "PASCAL VOC 2012 without and with background: semantic", _no_options, ""),
    ("vspw", "VSPW: semantic segmentation of videos", _no_options, ""),
    ("youtubevis", "YouTube-VIS 2019 and 2021: instances in videos", _no_options, ""),
)

PREPARE = Group(
    title="convert downloads of benchmarks to what the registered data sets read",
    words={
        name: _word(name, title, add, f"catrank data prepare {name} {more}" if more else "")
        for name, title, add, more in _TABLE
    },
    examples="catrank data prepare ade20k --task semantic\ncatrank data prepare scenes --size 128",
)
