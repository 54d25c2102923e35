"""``catrank models``: the model zoo, its downloads and the cache."""

import argparse
from typing import TYPE_CHECKING

from catrank.cli.word import Group, Word

if TYPE_CHECKING:
    from catrank.models import ModelEntry

LIST = """\
List the models by name: published checkpoints, and the small models that come with CatRank.

With words, models whose name, title or task holds all of them."""

DOWNLOAD = """\
Download models into the cache.

A download is resumed where it was interrupted, and its size and hash are checked. Commands that
take a name of the model zoo download it themselves: this is for machines that are offline later."""

CLEAN = """\
Delete the files of the cache: downloads, and converted copies of checkpoints.

What is needed again is downloaded or converted again."""

KINDS = ("checkpoints", "downloads", "shards")


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="TEXT", help="such as panoptic, swin, ade20k")


def _list(args: argparse.Namespace) -> int:
    from catrank.models import list_models

    words = [word.lower() for word in args.words]
    models = [
        model
        for model in list_models()
        if all(word in f"{model.name} {model.title} {model.task}".lower() for word in words)
    ]
    rows = [(model.name, model.task, _size(model), model.title) for model in models]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    for name, task, size, title in rows:
        print(f"{name:{widths[0]}}  {task:{widths[1]}}  {size:>{widths[2]}}  {title}")
    print(f"{len(models)} models; `catrank models info NAME` says more of one")
    return 0


def _size(model: "ModelEntry") -> str:
    """The size of a model's file and where that is."""
    size = "" if model.size is None else f"{model.size / 1e6:.0f} MB"
    return f"{size} included".strip() if model.kind == "shipped" else size or "?"


def _name_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME", help="of catrank models list")


def _download(args: argparse.Namespace) -> int:
    from catrank.models import find, resolve

    entries = [find(name) for name in args.names]  # a wrong name is found before any download
    for entry in entries:
        print(f"{entry.name}: {resolve(entry.name).path}")
    return 0


def _info(args: argparse.Namespace) -> int:
    from catrank.models import find

    for number, name in enumerate(args.names):
        model = find(name)
        rows = {
            "name": model.name,
            "title": model.title,
            "task": model.task,
            "config": model.config,
            "classes": model.vocabulary or "those of its data set",
            "weights": model.weights,
            "size": _size(model),
            "sha256": model.sha256 or "recorded at the first download",
            "licence": model.licence,
            "from": model.release.repository or "this project",
            "compared": ", ".join(model.verified) or "not with the authors' model",
        }
        print(
            "\n" * bool(number) + "\n".join(f"{key + ':':9} {text}" for key, text in rows.items())
        )
    return 0


def _clean_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)} (all)")


def _clean(args: argparse.Namespace) -> int:
    from catrank.models import clean

    for part in clean(args.kinds or KINDS):
        print(f"{part.kind}: {part.files} files deleted, {part.bytes / 1e6:.1f} MB")
    return 0


GROUP = Group(
    title="list, download and describe trained models",
    words={
        "list": Word(
            title="list the models by name",
            run=_list,
            add_arguments=_list_arguments,
            usage="[TEXT ...]",
            description=LIST,
            examples="catrank models list\ncatrank models list panoptic swin",
        ),
        "download": Word(
            title="download models into the cache",
            run=_download,
            add_arguments=_name_arguments,
            usage="NAME [NAME ...]",
            description=DOWNLOAD,
            examples="catrank models download catseg-vitb",
            interrupted=": the same command continues",
        ),
        "info": Word(
            title="say where a model comes from, its config, classes and licence",
            run=_info,
            add_arguments=_name_arguments,
            usage="NAME [NAME ...]",
            description="Say where models come from, their configs, classes, hashes and licences.",
            examples="catrank models info catseg-vitb",
        ),
        "clean": Word(
            title="empty the cache",
            run=_clean,
            add_arguments=_clean_arguments,
            usage="[KIND ...]",
            description=CLEAN,
            examples="catrank models clean\ncatrank models clean checkpoints",
        ),
    },
    examples="catrank models list open\ncatrank models download catseg-vitb",
)
