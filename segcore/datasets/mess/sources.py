"""List the evaluated images of a download, with the files of their labels."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segcore.annotations import read_annotations
from segcore.datasets.preparing import check_name, read_names
from segcore.errors import UserError

# The 21 of the 60 images of CWFID that its authors test on.
CWFID_TEST = (1, 3, 4, 9, 10, 13, 15, 21, 22, 26, 28, 29, 30, 32, 35, 39, 44, 47, 48, 54, 60)
# Rows and columns of the 14 of the 38 images of Potsdam whose labels the contest withheld.
POTSDAM_TEST = {
    2: (13, 14),
    3: (13, 14),
    4: (13, 14, 15),
    5: (13, 14, 15),
    6: (13, 14, 15),
    7: (13,),
}
CHASE_TRAINING = 8  # of 28 images in the order of their names


@dataclass(frozen=True)
class Source:
    """A downloaded image.

    Attributes:
        stem: beginning of the names of the prepared files.
        image: its file.
        labels: the files of its labels; most sets have one.
    """

    stem: str
    image: Path
    labels: tuple[Path, ...]


def by_pattern(
    folder: Path, images: str, labels: Sequence[str] = (), stem: str = "{name}"
) -> list[Source]:
    """Return the images that match a pattern, in order.

    Args:
        folder: of the set.
        images: a pattern as for :meth:`pathlib.Path.glob`.
        labels: for each label file a template of its path. It may use ``{name}``, the image's name
            without the end that follows the last ``*`` of the pattern, ``{below}``, the folders
            between the one before the first ``*`` and the image, ``{parent}`` and
            ``{grandparent}``, the names of the image's folders.
        stem: a template of the stem.

    Raises:
        UserError: no image matches.
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
        paths = tuple(folder / template.format(**fields) for template in labels)
        sources.append(Source(stem.format(**fields), path, paths))
    if not sources:
        raise UserError(f"there is no {folder / images}: unpack the download there")
    return sources


def chase_db1(folder: Path) -> list[Source]:
    """Return all but the first images; the labels are the first observer's."""
    return by_pattern(folder, "*.jpg", ["{name}_1stHO.png"])[CHASE_TRAINING:]


def cub_200(folder: Path) -> list[Source]:
    """Return the images of the test: ``images.txt`` and ``train_test_split.txt`` list them.

    Both have lines of a number and a value.
    """
    path = folder / "images.txt"
    training = _numbered(folder / "train_test_split.txt")
    sources = []
    for number, name in _numbered(path).items():
        if training.get(number) == "0":
            image = _listed(folder / "images", name, path)
            labels = _listed(folder / "segmentations", name, path).with_suffix(".png")
            sources.append(Source(image.stem, image, (labels,)))
    return sources


def cwfid(folder: Path) -> list[Source]:
    """Return the images of the test."""
    names = {f"{number:03}_" for number in CWFID_TEST}
    sources = by_pattern(folder, "images/*image.png", ["annotations/{name}annotation.png"])
    return [source for source in sources if source.stem in names]


def isaid(folder: Path) -> list[Source]:
    """Return the images that have a mask, ``<image>_instance_color_RGB.png``."""
    masks = by_pattern(folder, "raw_val/images/*.png")
    stems = [mask.stem.partition("_")[0] for mask in masks]
    return [
        Source(stem, folder / "val/images" / f"{stem}.png", (mask.image,))
        for stem, mask in zip(stems, masks, strict=True)
    ]


def isprs_potsdam(folder: Path) -> list[Source]:
    """Return the images of the test, in infrared, red and green."""
    names = {f"top_potsdam_{row}_{column}" for row in POTSDAM_TEST for column in POTSDAM_TEST[row]}
    sources = by_pattern(folder, "3_Ortho_IRRG/*_IRRG.tif", ["Labels/{name}_label.tif"])
    return [source for source in sources if source.stem in names]


def kvasir_instrument(folder: Path) -> list[Source]:
    """Return the images of ``test.txt``, which lists names without endings."""
    return [
        Source(name, folder / "images" / f"{name}.jpg", (folder / "masks" / f"{name}.png",))
        for name in read_names(folder / "test.txt")
    ]


def mhp_v1(folder: Path) -> list[Source]:
    """Return the images of ``test_list.txt``; each has a mask for each person."""
    masks = defaultdict(list)
    for path in sorted((folder / "annotations").glob("*_*.png")):
        masks[path.name.partition("_")[0]].append(path)
    images = [folder / "images" / name for name in read_names(folder / "test_list.txt")]
    for image in images:
        if image.stem not in masks:
            raise UserError(f"{image} has no {folder}/annotations/{image.stem}_*.png: unpack all")
    return [Source(image.stem, image, tuple(masks[image.stem])) for image in images]


def paxray(folder: Path) -> list[Source]:
    """Return the images of the test in ``paxray.json``, with their stacks of masks."""
    path = folder / "paxray.json"
    try:
        entries = read_annotations(path)["test"]
        paths = [(str(entry["image"]), str(entry["target"])) for entry in entries]
    except (KeyError, TypeError) as error:
        raise UserError(f'{path} lists no "test" of "image" and "target": {error!r}') from error
    pairs = [[_listed(folder, name, path) for name in pair] for pair in paths]
    return [Source(image.stem, image, (stack,)) for image, stack in pairs]


def check_stems(sources: Sequence[Source]) -> None:
    """Raise UserError if two sources have the same stem."""
    seen: dict[str, Path] = {}
    for source in sources:
        if source.stem in seen:
            raise UserError(f"{seen[source.stem]} and {source.image} have one name: remove one")
        seen[source.stem] = source.image


def _listed(folder: Path, name: str, source: Path) -> Path:
    """Return the path of a listed file; raise UserError if it leads out of the folder."""
    return folder.joinpath(*(check_name(part, source) for part in name.split("/")))


def _numbered(path: Path) -> dict[str, str]:
    """Read lines of a number and a value as a table.

    Raises:
        UserError: the file cannot be read, or a line is of another kind.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a list: unpack the download") from error
    pairs = [line.split() for line in lines if line.strip()]
    for pair in pairs:
        if len(pair) != 2:
            raise UserError(f"{path} has the line {' '.join(pair)!r}: it needs a number and a name")
    return dict(pairs)
