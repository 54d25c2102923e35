"""Semantic data sets: a folder of images and one of label maps."""

import logging
import os

from detectron2.utils.file_io import PathManager


def _files(root: str, suffix: str) -> list[str]:
    """Return the files of a folder (not of its subfolders) with a suffix, by name without it."""
    names = [name for name in PathManager.ls(root) if name.endswith(suffix)]
    return [os.path.join(root, n) for n in sorted(names, key=lambda n: os.path.splitext(n)[0])]  # noqa: PTH118, PTH122


def _stems(paths: list[str], suffix: str) -> list[str]:
    return [os.path.basename(path)[: -len(suffix)] for path in paths]  # noqa: PTH119


def load_sem_seg(
    gt_root: str, image_root: str, gt_ext: str = "png", image_ext: str = "jpg"
) -> list[dict]:
    """Pair the images of one folder with the label maps of another.

    Equal numbers of files are paired in the order of their names, whatever they are; otherwise
    those are kept that both folders have, with a warning.

    Returns:
        Records with "file_name" and "sem_seg_file_name"; no sizes.

    Raises:
        AssertionError: there is no label map.
    """
    images, labels = _files(image_root, image_ext), _files(gt_root, gt_ext)
    if not labels:
        raise AssertionError(f"no label map ending in {gt_ext} in {gt_root}")
    if len(images) != len(labels):
        logger = logging.getLogger(__name__)
        logger.warning(
            "%d images in %s but %d label maps in %s",
            len(images),
            image_root,
            len(labels),
            gt_root,
        )
        stems = sorted({*_stems(images, image_ext)} & {*_stems(labels, gt_ext)})
        logger.warning("The %d that both have are used", len(stems))
        images = [os.path.join(image_root, stem + image_ext) for stem in stems]  # noqa: PTH118
        labels = [os.path.join(gt_root, stem + gt_ext) for stem in stems]  # noqa: PTH118
    return [
        {"file_name": image, "sem_seg_file_name": label}
        for image, label in zip(images, labels, strict=True)
    ]
