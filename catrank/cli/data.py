"""``catrank data``: what is on the disk, whether it is sound, and how it becomes that."""

import argparse
import os

from catrank.cli.configuring import CONFIG_WORD
from catrank.cli.importing import IMPORT_WORD
from catrank.cli.prepare import PREPARE
from catrank.cli.word import Group, Word

CHECK = """\
Find what is wrong with a data set before a model is trained on it.

Folders of images and of label maps are paired by file names; segments, objects and videos are
checked as their files list them. Of two data sets, images that both have are found too. With
--output a page with overlays and class frequencies (index.html) and all findings (report.json)
are written. The exit code is 0 if there is nothing to fix, 1 if there is."""

STATUS = """\
Report which data sets are ready, which are not, and how to get these.

Files are counted below $DETECTRON2_DATASETS (or "datasets", or --root); no image is opened.

  ready      all images or videos of the benchmark are there, with all that belongs to them
  other      there are fewer, or more: scores are not comparable with published ones
  missing    there are none, or a file or folder is not there"""


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--images", nargs="+", metavar="DIR", help="one or two folders")
    what.add_argument(
        "--custom", "--own", dest="own", metavar="FILE", help="a description of custom datasets"
    )
    what.add_argument("--dataset", nargs="+", metavar="NAME", help="registered data sets")
    add("--labels", nargs="+", default=[], metavar="DIR", help="as many as --images")
    add("--vocabulary", metavar="V", help='a file, a registered name, or "grass, cat, dog"')
    add("--ignore-label", type=int, metavar="N", help="of pixels without a class")
    add("--image-suffix", metavar="END", help='such as "_rgb.jpg" (default: any image)')
    add("--label-suffix", metavar="END", help='such as "_mask.png" (default: any image)')
    add("--rare", type=float, default=0.1, metavar="P", help="note classes below P %% (0.1)")
    add("--output", metavar="DIR", help="write index.html and report.json here")
    add("--samples", type=int, default=12, metavar="N", help="pairs on the page (12)")
    add("--workers", type=int, default=os.cpu_count(), metavar="N", help="processes (one a core)")


def _check(args: argparse.Namespace) -> int:
    from segcore.datasets.checking import check
    from segcore.runtime.files import user_path

    sources = find_sources(args)
    sound = check(
        sources,
        user_path(args.output) if args.output else None,
        rare=args.rare / 100,
        samples=args.samples,
        workers=args.workers,
    )
    return 0 if sound else 1


def find_sources(args: argparse.Namespace) -> list:
    """Return the ``segcore.datasets.checking.Source`` of each data set that is named.

    Raises:
        UserError: options do not go together, or a data set is not there.
    """
    from segcore.datasets.checking import Source
    from segcore.datasets.custom import register_custom_file
    from segcore.errors import UserError
    from segcore.runtime.files import user_path
    from segcore.vocabulary import Vocabulary

    if args.images is None:
        for option in ("labels", "vocabulary", "ignore_label", "image_suffix", "label_suffix"):
            if getattr(args, option) not in (None, []):
                raise UserError(f"--{option.replace('_', '-')} goes with --images only")
        if args.own is not None:
            names = register_custom_file(user_path(args.own))
            return [Source.registered(name, may_be_partial=False) for name in names]
        return [Source.registered(name) for name in args.dataset]
    if len(args.labels) != len(args.images) or not args.vocabulary:
        raise UserError("--images needs as many folders of --labels, and a --vocabulary")
    vocabulary = Vocabulary.load(args.vocabulary)
    return [
        Source.from_folders(
            user_path(images),
            user_path(labels),
            vocabulary,
            ignore_label=args.ignore_label,
            image_suffix=args.image_suffix,
            label_suffix=args.label_suffix,
        )
        for images, labels in zip(args.images, args.labels, strict=True)
    ]


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", metavar="DIR", help="of the data sets")


def _status(args: argparse.Namespace) -> int:
    from segcore.datasets import data_root
    from segcore.datasets.downloads import report
    from segcore.runtime.files import user_path

    for line in report(user_path(args.root) if args.root else data_root()):
        print(line)
    return 0


GROUP = Group(
    title="import, check, prepare and list data sets",
    words={
        "check": Word(
            title="find what is wrong with a data set",
            run=_check,
            add_arguments=_check_arguments,
            usage="(--images DIR ... | --custom FILE | --dataset NAME ...) [options]",
            description=CHECK,
            examples="""
catrank data check --images photos --labels masks --vocabulary "grass, cat, dog"
catrank data check --custom pets.json --output out/check
catrank data check --dataset scenes_60_train_panoptic scenes_60_test_panoptic
""",
            interrupted=": nothing was written",
        ),
        "config": CONFIG_WORD,
        "import": IMPORT_WORD,
        "prepare": PREPARE,
        "status": Word(
            title="list the data sets that are ready, and how to get the others",
            run=_status,
            add_arguments=_status_arguments,
            description=STATUS,
            examples="catrank data status --root /data",
        ),
    },
    examples="""
catrank data import instances.json --output datasets/pets
catrank data status
catrank data prepare ade20k --task semantic
catrank data check --dataset ade20k_150_test_sem_seg
""",
)
