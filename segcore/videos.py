"""Read videos as sequences of image files that are decoded on access.

A video of any length takes the memory of the frames in use.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from segcore.errors import UserError
from segcore.images import read_header, read_image, read_labels
from segcore.images.folders import list_images

VOID = (0, 254, 255, 65535)  # stored label values of pixels without a class; classes count from 1


class Frames(Sequence[Tensor]):
    """The frames of a video as image files of one size: element t is (3, h, w) uint8.

    A slice is a shorter sequence of the same kind; slicing decodes nothing.

    Attributes:
        paths: the files, in order.
        size: (H, W) of every frame as stored.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        image_format: str = "RGB",
        size: tuple[int, int] | None = None,
        resize: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        """
        Args:
            paths: at least one image.
            image_format: ``"RGB"`` or ``"BGR"``.
            size: required (H, W) of the frames; None takes that of the first one.
            resize: maps a frame (H, W, 3) to (h, w, 3); None keeps its size.

        Raises:
            UserError: there are no frames, or the first one cannot be read.
        """
        if not paths:
            raise UserError("a video has no frames: it needs at least one")
        self.paths, self.image_format, self.resize = [*map(str, paths)], image_format, resize
        self.size = frame_size(paths[0]) if size is None else tuple(size)

    @classmethod
    def of_folder(cls, folder: str | Path, *, image_format: str = "RGB") -> "Frames":
        """Return the images of a folder in natural order, so that 9 is before 10.

        Raises:
            UserError: there is no such folder, or no image in it.
        """
        folder = Path(folder)
        try:
            paths = list_images(folder)
        except OSError as error:
            raise UserError(f"no folder of frames at {folder}: {error.strerror}") from error
        if not paths:
            raise UserError(f"{folder} holds no image: a video needs at least one frame")
        return cls(paths, image_format=image_format)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int | slice) -> "Tensor | Sequence[Tensor]":
        """
        Raises:
            UserError: a frame is missing, damaged, or of another size than the video.
        """
        if isinstance(index, slice):
            paths = self.paths[index]
            return paths and Frames(
                paths, image_format=self.image_format, size=self.size, resize=self.resize
            )
        image = read_frame(self.paths[index], self.size, self.image_format)
        image = image if self.resize is None else self.resize(image)
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def frame_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) of an upright image from its header.

    Raises:
        UserError: the file is missing or no image.
    """
    header = read_header(path)
    turned = header.orientation > 4
    return (header.width, header.height) if turned else (header.height, header.width)


def read_frame(path: str | Path, size: tuple[int, int], image_format: str = "RGB") -> np.ndarray:
    """Read a frame (H, W, 3) uint8 of a video of that ``size``.

    Raises:
        UserError: the file is missing, damaged, or of another size.
    """
    image = read_image(path, image_format)
    check_frame_size(path, image.shape[:2], size)
    return image


def read_frame_labels(
    path: str | Path, size: tuple[int, int], num_classes: int, ignore_label: int
) -> np.ndarray:
    """Read a frame's label map in VSPW's format: class id + 1, and 0 for no class.

    Args:
        path: 8 or 16 bits a pixel; 254, 255 and 65535 mean no class too, unless they are ids of
            classes.
        size: (H, W) of the video.
        num_classes: C.
        ignore_label: value of pixels without a class in the result.

    Returns:
        (H, W) int64, class ids 0 ... C - 1 and ``ignore_label``.

    Raises:
        UserError: the file is missing, damaged, of another size, or holds another value.
    """
    stored = read_labels(path).astype(np.int64)
    check_frame_size(path, stored.shape, size)
    is_class = (stored > 0) & (stored <= num_classes)
    if not (is_class | np.isin(stored, VOID)).all():
        wrong = stored[~is_class & ~np.isin(stored, VOID)][0]
        raise UserError(
            f"the label map {path} holds the value {wrong}, but a video's labels are 1 to "
            f"{num_classes} for the classes, and 0 or 255 for none: convert it as "
            "datasets/README.md says"
        )
    return np.where(is_class, stored - 1, ignore_label)


def check_frame_size(path: str | Path, found: tuple[int, int], wanted: tuple[int, int]) -> None:
    """Refuse a frame, or its ground truth, whose (height, width) differs from its video's."""
    if tuple(found) != tuple(wanted):
        raise UserError(
            f"{path} has (height, width) {tuple(found)}, but its video has {tuple(wanted)}: all "
            "frames need to be of one size"
        )
