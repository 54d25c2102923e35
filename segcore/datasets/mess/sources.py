"""The files of a download: which of them are evaluated, and which belong together."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segcore.annotations import read_annotations
from segcore.errors import UserError

# The 21 of the 60 pictures of CWFID that its authors test on.
CWFID_TEST = (1, 3, 4, 9, 10, 13, 15, 21, 22, 26, 28, 29, 30, 32, 35, 39, 44, 47, 48, 54, 60)
# Rows and columns of the 14 of the 38 pictures of Potsdam whose labels the contest held back.
POTSDAM_TEST = {
    2: (13, 14),
    3: (13, 14),
    4: (13, 14, 15),
    5: (13, 14, 15),
    6: (13, 14, 15),
    7: (13,),
}
CHASE_TRAINING = 8  # of 28 pictures in the order of their names


@dataclass(frozen=True)
class Source:
    """A downloaded picture.

    Attributes:
        stem: how the names of the files begin that it becomes.
        image: its file.
        labels: the files that its labels are made of; most sets have one.
    """

    stem: str
    image: Path
    labels: tuple[Path, ...]


def by_pattern(
    folder: Path, images: str, labels: Sequence[str] = (), stem: str = "{name}"
) -> list[Source]:
    """The pictures that a pattern finds, in order.

    Args:
        folder: of the set.
        images: a pattern as for :meth:`pathlib.Path.glob`.
        labels: for each label file a template of its place. It may use ``{name}``, that of the
            picture without what follows the last ``*`` of the pattern, ``{below}``, the folders
            between that before the first ``*`` and the picture, ``{parent}`` and ``{grandparent}``,
            the names of the folders that it is in.
        stem: a template too.

    Raises:
        UserError: no picture is there.
    """
    base, ending = folder / images.partition("*")[0].rpartition("/")[0], images.rpartition("*")[2]
    sources = []
    for path in sorted(folder.glob(images)):
        if path.name.startswith("."):  # some systems add these
            continue
        fields = {
            "name": path.name.removesuffix(ending),
            "below": path.parent.relative_to(base).as_posix(),
            "parent": path.parent.name,
            "grandparent": path.parent.parent.name,
        }
        places = tuple(folder / template.format(**fields) for template in labels)
        sources.append(Source(stem.format(**fields), path, places))
    if not sources:
        raise UserError(f"there is no {folder / images}: unpack the download there")
    return sources


def chase_db1(folder: Path) -> list[Source]:
    """All but the first pictures; the labels are the first observer's."""
    return by_pattern(folder, "*.jpg", ["{name}_1stHO.png"])[CHASE_TRAINING:]


def cub_200(folder: Path) -> list[Source]:
    """``images.txt`` and ``train_test_split.txt`` have lines of a number and a value."""
    names, training = _numbered(folder / "images.txt"), _numbered(folder / "train_test_split.txt")
    sources = []
    for number, name in names.items():
        if training.get(number) == "0":
            image = _listed(folder, f"images/{name}", "images.txt")
            labels = folder / "segmentations" / PurePosixPath(name).with_suffix(".png")
            sources.append(Source(image.stem, image, (labels,)))
    return sources


def cwfid(folder: Path) -> list[Source]:
    """The pictures of the test."""
    names = {f"{number:03}_" for number in CWFID_TEST}
    sources = by_pattern(folder, "images/*image.png", ["annotations/{name}annotation.png"])
    return [source for source in sources if source.stem in names]


def isaid(folder: Path) -> list[Source]:
    """Listed by their masks, ``<picture>_instance_color_RGB.png``."""
    masks = by_pattern(folder, "raw_val/images/*.png")
    stems = [mask.stem.partition("_")[0] for mask in masks]
    return [
        Source(stem, folder / "val/images" / f"{stem}.png", (mask.image,))
        for stem, mask in zip(stems, masks, strict=True)
    ]


def isprs_potsdam(folder: Path) -> list[Source]:
    """The pictures of the test, in infrared, red and green."""
    names = {f"top_potsdam_{row}_{column}" for row in POTSDAM_TEST for column in POTSDAM_TEST[row]}
    sources = by_pattern(folder, "3_Ortho_IRRG/*_IRRG.tif", ["Labels/{name}_label.tif"])
    return [source for source in sources if source.stem in names]


def kvasir_instrument(folder: Path) -> list[Source]:
    """``test.txt`` lists names without endings."""
    names = _lines(folder / "test.txt")
    images = [_listed(folder, f"images/{name}.jpg", "test.txt") for name in names]
    return [Source(i.stem, i, (folder / "masks" / f"{i.stem}.png",)) for i in images]


def mhp_v1(folder: Path) -> list[Source]:
    """``test_list.txt`` lists names; a picture has a mask for each person on it."""
    masks = defaultdict(list)
    for path in sorted((folder / "annotations").glob("*_*.png")):
        masks[path.name.partition("_")[0]].append(path)
    images = [
        _listed(folder, f"images/{name}", "test_list.txt")
        for name in _lines(folder / "test_list.txt")
    ]
    for image in images:
        if image.stem not in masks:
            raise UserError(f"{image} has no {folder}/annotations/{image.stem}_*.png: unpack all")
    return [Source(image.stem, image, tuple(masks[image.stem])) for image in images]


def paxray(folder: Path) -> list[Source]:
    """``paxray.json`` lists the pictures of the test with their stacks of masks."""
    path = folder / "paxray.json"
    try:
        places = [(entry["image"], entry["target"]) for entry in read_annotations(path)["test"]]
        images = [_listed(folder, image, path.name) for image, _ in places]
        labels = [_listed(folder, target, path.name) for _, target in places]
    except (KeyError, TypeError) as error:
        raise UserError(f'{path} lists no "test" of "image" and "target": {error!r}') from error
    return [Source(i.stem, i, (target,)) for i, target in zip(images, labels, strict=True)]


def check_stems(sources: Sequence[Source]) -> None:
    """Do all sources become files of their own?

    Raises:
        UserError: two would become the same.
    """
    seen: dict[str, Path] = {}
    for source in sources:
        if source.stem in seen:
            raise UserError(f"{seen[source.stem]} and {source.image} have one name: remove one")
        seen[source.stem] = source.image


def _listed(folder: Path, place: str, file_name: str) -> Path:
    """A file that a list of the download names; it must not lead out of the folder."""
    parts = PurePosixPath(place)
    if parts.is_absolute() or ".." in parts.parts or "\\" in place:
        raise UserError(f"{folder / file_name} lists {place}, which is outside of {folder}")
    return folder / parts


def _lines(path: Path) -> list[str]:
    """The lines of a list that are not empty, at least one.

    Raises:
        UserError: the file cannot be read, or is empty.
    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): unpack the download") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no list of names: {error}") from error
    if not lines:
        raise UserError(f"{path} is empty: unpack the download again")
    return lines


def _numbered(path: Path) -> dict[str, str]:
    """Lines of a number and a value, as a table."""
    pairs = [line.split(" ", 1) for line in _lines(path)]
    for pair in pairs:
        if len(pair) != 2:
            raise UserError(f"{path} has the line {pair[0]!r}: it needs a number and a value")
    return dict(pairs)
