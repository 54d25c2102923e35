"""Pack images with captions into tar shards, which a training reads one after the other.

The source is one of

    pairs.tsv           a table with a header line and the columns file and caption, or filepath and
                        title; images are relative to its folder, or to --images
    captions.json       captions in COCO's format; images are in --images
    a folder            images, each with its caption beside it: a.jpg and a.txt

and <root>/<name>/<name>-000000.tar, <name>-000001.tar ... are written (<root> is
$DETECTRON2_DATASETS or "datasets"), in the layout of webdataset and img2dataset: 000000000.jpg and
000000000.txt. JPEG, PNG and WebP files are copied as they are; other images become PNG. An image
with several captions is a pair for each. Pairs that cannot be used are left out, with one line for
each of the first ten. Complete shards are kept, so that the same command continues.
"""

import hashlib
import io
import os
import sys
import tarfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from segcore.annotations import fields, read_annotations
from segcore.datasets.captions import read_captions
from segcore.datasets.preparing import for_all
from segcore.datasets.shards import MAGIC, MAX_CAPTION, MAX_IMAGE, index_shard
from segcore.errors import UserError, printable
from segcore.images import decode_image, read_image
from segcore.images.folders import list_images
from segcore.runtime.files import check_file_name, join_inside, user_path, writing

MOST_LINES = 10  # about pairs that are left out
SETTINGS = "settings.txt"


class Pair(NamedTuple):
    """An image file and its caption; None: it is in the file beside it."""

    image: str
    caption: str | None


class Shard(NamedTuple):
    """A tar file to write: its pairs, and the number of the first one."""

    path: Path
    first: int
    pairs: Sequence[Pair]


def prepare(
    root: Path, *, source: str, name: str | None, images: str | None, per_shard: int, workers: int
) -> None:
    """Write the missing shards, and print their number.

    Args:
        root: of the data sets.
        source: a table, a JSON file or a folder.
        name: of the data set; None: that of the source.
        images: the folder of the images of a table or a JSON file.
        per_shard: pairs in a shard.
        workers: processes.

    Raises:
        UserError: the source is wrong or without pairs, or the shards are those of another source.
    """
    if per_shard < 1:
        raise UserError(f"--per-shard {per_shard}: a shard has at least one pair")
    path = user_path(source)
    own_name = path.resolve().name if path.is_dir() else path.stem
    name = check_file_name(name or own_name, "--name")
    pairs = _find_pairs(path, user_path(images) if images else None)
    folder = root / name
    _check_settings(folder / SETTINGS, pairs, per_shard)
    shards = [
        Shard(folder / f"{name}-{number:06}.tar", first, pairs[first : first + per_shard])
        for number, first in enumerate(range(0, len(pairs), per_shard))
    ]
    results = for_all(_write_shard, shards, workers, name)
    problems = [problem for _, of_shard in results for problem in of_shard]
    for problem in islice(problems, MOST_LINES):
        print(f"warning: left out: {printable(problem, 400)}", file=sys.stderr)
    if len(problems) > MOST_LINES:
        print(f"warning: left out: {len(problems) - MOST_LINES} more pairs", file=sys.stderr)
    pattern = folder / f"{name}-{{000000..{len(shards) - 1:06}}}.tar"
    number = sum(number for number, _ in results)
    print(f"{name}: {number} pairs in {len(shards)} shards. To train on them:")
    print(f"""DATASETS.OWN '("{pattern}",)' DATASETS.TRAIN '("{name}",)'""")


def _find_pairs(path: Path, images: Path | None) -> list[Pair]:
    if path.is_dir():
        pairs = [Pair(str(image), None) for image in list_images(path, below=True)]
    elif path.suffix == ".tsv":
        records = read_captions(str(path), path, images or path.parent)
        pairs = [Pair(record["file_name"], record["caption"]) for record in records]
    elif path.suffix == ".json":
        if images is None:
            raise UserError(f"{printable(path)}: name the folder of its images with --images")
        pairs = list(_coco_pairs(path, images))
    else:
        raise UserError(
            f"{printable(path)} is no folder, no .tsv file and no .json file: name one of these"
        )
    if not pairs:
        raise UserError(f"{printable(path)} holds no image with a caption")
    return pairs


def _coco_pairs(path: Path, folder: Path) -> Iterator[Pair]:
    """Yield the pairs of a file with captions in COCO's format, in its order."""
    content = read_annotations(path)
    files: dict[object, str] = {}
    for number, image in enumerate(fields.entries(content, "images", str(path))):
        where = f"{path}: images[{number}]"
        name = image.get("file_name") if isinstance(image, dict) else None
        files[_id(image, "id", where)] = str(join_inside(folder, name, where))
    for number, entry in enumerate(fields.entries(content, "annotations", str(path))):
        where = f"{path}: annotations[{number}]"
        image = _id(entry, "image_id", where)
        if image not in files:
            raise UserError(f"{where}: no image has the id {printable(image)}")
        if not isinstance(entry.get("caption"), str):
            raise UserError(f"{where} has no 'caption': name one of COCO's captions_*.json")
        yield Pair(files[image], entry["caption"])


def _id(entry: object, key: str, where: str) -> int | str:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, int | str):
        raise UserError(f"{where}: {key!r} has to be a whole number or a text")
    return value


def _check_settings(path: Path, pairs: Sequence[Pair], per_shard: int) -> None:
    """Keep a hash of the list of pairs beside the shards; refuse another one."""
    digest = hashlib.sha256(str(per_shard).encode())
    for pair in pairs:
        digest.update(repr(tuple(pair)).encode("utf-8", "surrogatepass"))
    text = f"{per_shard} pairs a shard, list of pairs {digest.hexdigest()}\n"
    if path.is_file():
        if path.read_text("utf-8", "replace") != text:
            raise UserError(
                f"{path.parent} holds shards of other pairs or of another --per-shard: remove it, "
                "or choose another --name"
            )
        return
    with writing(path) as file:
        file.write(text.encode())


def _write_shard(shard: Shard) -> tuple[int, list[str]]:
    """Write a shard if it is missing; return its number of pairs, and why others were left out."""
    if shard.path.is_file():
        return len(index_shard(shard.path).pairs), []
    problems = []
    with writing(shard.path) as file, tarfile.open(fileobj=file, mode="w") as archive:
        for number, pair in enumerate(shard.pairs, start=shard.first):
            try:
                extension, data, caption = _read(pair)
            except UserError as error:
                problems.append(str(error))
                continue
            _add(archive, f"{number:09}.{extension}", data)
            _add(archive, f"{number:09}.txt", caption.encode("utf-8", "replace"))
    return len(shard.pairs) - len(problems), problems


def _read(pair: Pair) -> tuple[str, bytes, str]:
    """Return the extension and the bytes of an image that can be decoded, and its caption."""
    caption = _caption_beside(Path(pair.image)) if pair.caption is None else pair.caption
    caption = " ".join(caption.split())
    if not caption:
        raise UserError(f"{pair.image} has an empty caption")
    if len(caption.encode("utf-8", "replace")) > MAX_CAPTION:
        raise UserError(f"{pair.image} has a caption of over {MAX_CAPTION} bytes")
    try:
        size = os.stat(pair.image).st_size  # noqa: PTH116  millions of files
        if size > MAX_IMAGE:
            raise UserError(f"{pair.image} has over {MAX_IMAGE >> 20} MiB")
        data = Path(pair.image).read_bytes()
    except OSError as error:
        raise UserError(f"{pair.image} cannot be read: {error.strerror}") from error
    if MAGIC.match(data):
        decode_image(data, pair.image)
        return {b"\xff": "jpg", b"\x89": "png", b"R": "webp"}[data[:1]], data, caption
    file = io.BytesIO()
    Image.fromarray(read_image(pair.image)).save(file, "PNG")
    return "png", file.getvalue(), caption


def _caption_beside(image: Path) -> str:
    """Return the text of the file beside an image that has its name and the ending .txt."""
    path = image.with_suffix(".txt")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CAPTION + 1)
        if len(data) > MAX_CAPTION:
            raise UserError(f"{path} has over {MAX_CAPTION} bytes")
        return data.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{image} has no caption beside it, {path.name}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} cannot be decoded: store it as UTF-8") from error


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
