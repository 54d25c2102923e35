"""Semantic data sets of videos in VSPW's format: a list of videos, folders of frames and of label
maps."""

import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from segcore.datasets.registering import check_paths, register, vocabulary_reference
from segcore.errors import UserError
from segcore.images.folders import list_images, natural_order
from segcore.runtime.files import join_inside
from segcore.videos import frame_size
from segcore.vocabulary import Vocabulary

VIDEO = "<video>"  # placeholder of a video's name in the pattern of its folder
MAX_LIST_BYTES = 16 * 2**20
logger = logging.getLogger(__name__)


def register_video_semantic_dataset(
    name: str,
    video_list: str | Path,
    frame_dirs: str | Path,
    label_dirs: str | Path | None,
    vocabulary: Vocabulary | str | Path,
    *,
    piece_frames: int | None = None,
    evaluator_type: str = "video_semantic",
    **metadata: object,
) -> None:
    """Register videos with label maps under a name; they are read on first use.

    Args:
        name: the name for ``DATASETS.TRAIN`` and ``DATASETS.TEST``.
        video_list: a text file, the name of a video a line.
        frame_dirs: the folder of a video's frames, with ``VIDEO`` for its name.
        label_dirs: the folder of its label maps, likewise; they hold class id + 1, and 0 or 255 for
            no class. None if they are not public.
        vocabulary: the classes; anything that :meth:`Vocabulary.load` takes.
        piece_frames: longer videos are cut into pieces of this many frames, the last one shorter;
            None keeps them whole.
        evaluator_type: the evaluator that :func:`segcore.evaluation.build_evaluator` builds.
        metadata: further entries for ``MetadataCatalog``.

    Raises:
        UserError: the name is registered with other classes or another ignore label.
    """
    vocabulary = Vocabulary.load(vocabulary)
    fields = {
        "stuff_classes": list(vocabulary.names),
        "stuff_colors": list(vocabulary.colors),
        "ignore_label": vocabulary.ignore_label,
        "evaluator_type": evaluator_type,
        "video_list": str(video_list),
        "image_root": str(frame_dirs).partition(VIDEO)[0].rstrip("/"),
        "vocabulary": vocabulary_reference(vocabulary),
    } | metadata
    read = functools.partial(
        read_videos, name, Path(video_list), str(frame_dirs), label_dirs and str(label_dirs)
    )
    if piece_frames is not None:
        read = functools.partial(_read_pieces, read, piece_frames)
    register(name, read, vocabulary, fields)


def read_videos(name: str, video_list: Path, frame_dirs: str, label_dirs: str | None) -> list[dict]:
    """Return dataset dicts of videos, in the order of the list.

    Args:
        name: of the data set, for messages.
        video_list, frame_dirs, label_dirs: as :func:`register_video_semantic_dataset` takes them.

    Returns:
        dicts with ``video_id`` (the name of the video), ``file_names`` in the order of
        :func:`segcore.images.folders.list_images`, ``height`` and ``width`` of the first frame,
        ``length``, ``first_frame`` 0, and with ``label_dirs`` ``sem_seg_file_names``: frames
        without a label map are then left out.

    Raises:
        UserError: the list or a folder is missing, a video has no frames, or none with a label map.
    """
    check_paths(name, Path(frame_dirs.partition(VIDEO)[0]))
    videos = read_video_list(name, video_list)
    return [_describe_video(name, video, frame_dirs, label_dirs) for video in videos]


def read_video_list(name: str, path: Path) -> list[str]:
    """Read the names of videos in a text file, one a line; empty lines are skipped.

    Raises:
        UserError: the file is missing or no text, it names no video, one twice, or one outside of
            the data set.
    """
    try:
        if path.stat().st_size > MAX_LIST_BYTES or not path.is_file():
            raise UserError(f"{path} is no list of videos of at most {MAX_LIST_BYTES >> 20} MiB")
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise UserError(
            f"dataset {name!r} has no list of videos {path} ({error.strerror}): prepare it as "
            "datasets/README.md says, or set DETECTRON2_DATASETS to the folder that holds the data "
            "sets"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no list of videos: it is not UTF-8 text") from error
    videos = [line.strip() for line in lines if line.strip()]
    if not videos:
        raise UserError(f"{path} names no video: a line needs the name of one")
    for number, (video, times) in enumerate(Counter(videos).items(), 1):
        join_inside(path.parent, video, f"{path}: video {number}")
        if times > 1:
            raise UserError(f"{path} names the video {video} twice: remove one of the lines")
    return videos


def cut(video: dict, piece_frames: int) -> Iterator[dict]:
    """Yield dataset dicts of consecutive pieces of a video, of at most ``piece_frames`` frames.

    ``first_frame`` is the index in the video of a piece's first frame; ``length`` is the piece's.
    """
    for start in range(0, video["length"], piece_frames):
        lists = {
            key: video[key][start : start + piece_frames]
            for key in ("file_names", "sem_seg_file_names")
            if key in video
        }
        yield video | lists | {"first_frame": start, "length": len(lists["file_names"])}


def _read_pieces(read: Callable[[], list[dict]], piece_frames: int) -> list[dict]:
    return [piece for video in read() for piece in cut(video, piece_frames)]


def _describe_video(name: str, video: str, frame_dirs: str, label_dirs: str | None) -> dict:
    frames = _files_by_stem(name, Path(frame_dirs.replace(VIDEO, video)))
    described = {"video_id": video, "first_frame": 0}
    if label_dirs is not None:
        folder = Path(label_dirs.replace(VIDEO, video))
        labels = _files_by_stem(name, folder)
        stems = sorted(frames.keys() & labels.keys(), key=natural_order)
        if not stems:
            raise UserError(
                f"dataset {name!r}: no frame of video {video} has a label map of the same name in "
                f"{folder}: prepare it as datasets/README.md says"
            )
        if len(stems) < max(len(frames), len(labels)):
            logger.warning(
                "dataset %s: video %s has %d frames and %d label maps; the %d of both are used",
                name,
                video,
                len(frames),
                len(labels),
                len(stems),
            )
        described["sem_seg_file_names"] = [labels[stem] for stem in stems]
        frames = {stem: frames[stem] for stem in stems}
    paths = list(frames.values())
    height, width = frame_size(paths[0])
    size = {"height": height, "width": width, "length": len(paths)}
    return described | {"file_names": paths} | size


def _files_by_stem(name: str, folder: Path) -> dict[str, str]:
    """Return the images of a folder in natural order."""
    check_paths(name, folder)
    files: dict[str, str] = {}
    for path in list_images(folder):
        if path.stem in files:
            raise UserError(
                f"dataset {name!r}: {files[path.stem]} and {path.name} differ in their endings "
                "only: remove one of them"
            )
        files[path.stem] = str(path)
    if not files:
        raise UserError(
            f"dataset {name!r}: {folder} holds no image, but a video needs at least one frame: "
            "prepare it as datasets/README.md says"
        )
    return files
