"""Write the images of a Scenes data set.

::

    <root>/scenes-60/scenes.json                the settings, and the hash of every split
    <root>/scenes-60/train/images/000000.png    RGB
    <root>/scenes-60/train/labels/000000.png    uint16: class ids
    <root>/scenes-60/train/captions.tsv         file, caption
    <root>/scenes-60/train/crops/000000-1.png   on request: crops of one object each
    <root>/scenes-60/train/crops.tsv            on request: file, caption
    <root>/scenes-60/train/panoptic/000000.png  on request: segment ids as COCO has them
    <root>/scenes-60/train/panoptic.json        on request: COCO panoptic
    <root>/scenes-60/train/instances.json       on request: COCO instances
    <root>/scenes-60/test/...                   the same
    <root>/scenes-60/demo/...                   the same: twelve images to show, not to measure on
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from segcore.errors import UserError
from segcore.runtime.files import write_json
from segcore.runtime.processes import process_map
from segcore.scenes import coco, files
from segcore.scenes.catalogue import Catalogue
from segcore.scenes.crops import write_crops
from segcore.scenes.plan import caption, plan_scene

GENERATOR = 2  # version, increased whenever the same settings render other images
NUM_DEMO = 12
SMALLEST_SIZE, LARGEST_SIZE = 32, 2048


@dataclass(frozen=True)
class Settings:
    """The settings of a folder of images.

    Args:
        num_train: images in the split "train", which have seen classes alone.
        num_test: images in the split "test".
        size: their width and height in pixels, 32 to 2048.
        seed: 0 to 2**64 - 1.
    """

    num_train: int
    num_test: int
    size: int = 96
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.num_train, self.num_test) < 0:
            raise UserError("--num-images: the numbers of images must not be negative.")
        check_size_and_seed(self.size, self.seed)

    @property
    def images(self) -> dict[str, int]:
        """Number of images of every split."""
        return {"train": self.num_train, "test": self.num_test, "demo": NUM_DEMO}

    @property
    def fixed(self) -> dict[str, int]:
        """The settings that all images of a folder have in common; their number may grow."""
        return {"generator": GENERATOR, "seed": self.seed, "size": self.size}


def check_size_and_seed(size: int, seed: int) -> None:
    """Raise UserError unless images of this size and seed can be rendered."""
    if not SMALLEST_SIZE <= size <= LARGEST_SIZE:
        raise UserError(
            f"--size {size}: choose a size from {SMALLEST_SIZE} to {LARGEST_SIZE} pixels."
        )
    if not 0 <= seed < 2**64:
        raise UserError(f"--seed {seed}: choose a seed from 0 to 2**64 - 1.")


def write_scenes(
    root: Path,
    catalogue: Catalogue,
    settings: Settings,
    *,
    panoptic: bool = False,
    crops: bool = False,
    workers: int = 1,
) -> dict[str, str]:
    """Write the missing images of the data set in ``root / catalogue.name``.

    Args:
        panoptic: write segments and instances in COCO's formats too.
        crops: write crops of single objects with captions too.

    Returns: for every split the SHA-256 of the pixels and labels of all its images, which depends
        on the settings alone.

    Raises:
        UserError: the folder holds images of other settings, or cannot be written.
    """
    folder = Path(root) / catalogue.name
    record = partial(files.write_record, folder, settings.fixed, "pictures", settings.images)
    with files.writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        files.check_record(folder, settings.fixed, "pictures", settings.images)
        record({})
        hashes = {
            split: _write_split(
                folder / split, catalogue, settings, split, panoptic, crops, workers
            )
            for split in settings.images
        }
        record(hashes)
    return hashes


def _write_split(
    folder: Path,
    catalogue: Catalogue,
    settings: Settings,
    split: str,
    panoptic: bool,
    crops: bool,
    workers: int,
) -> str:
    number, names = settings.images[split], ["images", "labels"] + ["panoptic"] * panoptic
    files.prepare(folder, names + ["crops"] * crops)
    finish = partial(_finish_image, folder, catalogue, settings, split, names, crops)
    total = hashlib.sha256()
    captions, segments, objects, crop_rows = [], [], [], []
    with process_map(workers, items_at_once=16) as parallel_map:
        results = parallel_map(finish, range(number))
        for digest, text, its_segments, its_objects, its_crops in tqdm(
            results, desc=split, total=number
        ):
            total.update(digest)
            captions.append(text)
            segments.append(its_segments)
            objects.append(its_objects)
            crop_rows += its_crops
    file_names = [_file_name(index) for index in range(number)]
    rows = list(zip(file_names, captions, strict=True))
    files.write_table(folder / "captions.tsv", ("file", "caption"), rows)
    if crops:
        files.write_table(folder / "crops.tsv", ("file", "caption"), crop_rows)
    if panoptic:
        images = [
            {"id": index, "file_name": name, "width": settings.size, "height": settings.size}
            for index, name in enumerate(file_names)
        ]
        for name, document in (
            ("panoptic.json", coco.panoptic_document(catalogue, images, segments)),
            ("instances.json", coco.instances_document(catalogue, images, objects)),
        ):
            write_json(folder / name, document)
    return total.hexdigest()


_PARTS = {
    "images": lambda image: image.image,
    "labels": lambda image: image.labels,
    "panoptic": coco.panoptic_image,
}


def _finish_image(
    folder: Path,
    catalogue: Catalogue,
    settings: Settings,
    split: str,
    names: list[str],
    crops: bool,
    index: int,
) -> tuple[bytes, str, list[dict], list[dict], list[tuple[str, str]]]:
    """Write the missing files of an image; return its hash, its caption and, if it has a panoptic
    map, its segments and objects, and files and captions of its crops."""
    scene = plan_scene(catalogue, settings.seed, split, index)
    parts = {folder / name / _file_name(index): _PARTS[name] for name in names}
    with files.writing_to(folder):
        image, labels, *panoptic = files.finish(scene, settings.size, parts)
        stem = Path(_file_name(index)).stem
        rows = write_crops(folder / "crops", stem, scene, image, labels) if crops else []
    digest = hashlib.sha256(image.tobytes() + labels.astype("<u2").tobytes()).digest()
    if not panoptic:
        return digest, caption(scene), [], [], rows
    ids = coco.segment_ids(panoptic[0])
    segments = coco.describe_segments(ids)
    return digest, caption(scene), segments, coco.describe_objects(ids, segments), rows


def _file_name(index: int) -> str:
    return f"{index:06d}.png"
