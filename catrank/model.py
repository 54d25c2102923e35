"""Models as an application uses them: :func:`load`, :class:`Model`."""

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling import build_model
from PIL import Image
from torch import Tensor

from catrank.batching import Named, batches
from catrank.classes import settle_vocabulary
from catrank.defaults import default_model
from catrank.inputs import ImageLike, Input, InputFrames, Source, is_single, open_inputs
from catrank.keeping import keep_classes
from catrank.loading import ModelName, find_model, for_labels
from catrank.outputs import read_output
from catrank.results import Result
from catrank.streaming import CLIP_FRAMES, clip_by_clip, count_frames
from segcore.checkpoint.checkpointer import Checkpointer
from segcore.errors import UserError, printable
from segcore.rankseg.dial import ClassesKept, Dial
from segcore.runtime.files import user_path
from segcore.video_files import Video, open_video
from segcore.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

ON_ERROR = ("raise", "skip")
SHOWN_CLASSES = 3

Classes = Vocabulary | str | Path | Iterable[str]


def load(
    model: ModelName | None = None,
    *,
    config: str | os.PathLike[str] | CfgNode | None = None,
    classes: Classes | None = None,
    device: str = "auto",
    min_score: float = 0.5,
    classes_kept: Dial | None = None,
    ranking: str | os.PathLike[str] | None = None,
    opts: Sequence[Any] = (),
) -> "Model":
    """Load a trained model.

    Args:
        model: a name of the model zoo, such as "catseg-vitb"; a config (a file, or the name of
            one that comes with CatRank), whose ``MODEL.WEIGHTS`` names the checkpoint; or a
            checkpoint that says its config. None: that of :mod:`catrank.defaults`, a small model
            of 20 everyday classes that ships or, with ``classes``, an open vocabulary.
        config: of a checkpoint that does not say its own.
        classes: class names, whatever ``Vocabulary.load`` takes; None: those of the config. A
            model with fixed classes only takes the names of these, in their order.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1".
        min_score: objects with a lower score are left out, 0 to 1.
        classes_kept: classes of the vocabulary that are predicted in an image: the 32 most probable
            (``32``), those with a probability above 0.05 (``0.05``), both (``"32,0.05"``) or
            ``"all"``; for models that rank classes, and any CAT-Seg. None: as the config says.
        ranking: file of a rank adapter, for a CAT-Seg checkpoint without a ranking head.
        opts: keys and values of the config in turn, ``["MODEL.PRECISION", "bfloat16"]``.

    Raises:
        UserError: there is no such model, its checkpoint does not fit its config, the class
            names cannot be used, a config but no model is given, or the model cannot select
            ``classes_kept``.
    """
    if model is None:
        if config is not None:
            raise UserError("a config is given but no checkpoint: name one, or the config as model")
        model = default_model(with_class_names=classes is not None)
        logger.info("no model is named: it is %s", model)
    vocabulary = None if classes is None else Vocabulary.load(classes)
    if ranking is not None:
        opts = [*opts, "MODEL.RANKSEG.WEIGHTS", os.fspath(ranking)]
    found = find_model(model, config, device=device, opts=opts)
    if vocabulary is None and found.class_names is not None:
        vocabulary = Vocabulary.load(found.class_names)
    if classes_kept is not None:
        keep_classes(found.cfg, ClassesKept.parse(classes_kept))
    return Model(found.cfg, vocabulary, min_score)


class Model:
    """A trained model. Several threads may use it at once.

    Attributes:
        cfg: its config.
        network: the module that Detectron2's ``build_model`` makes of it.
        vocabulary: the classes of calls that name none.
        min_score: of the objects of calls that name none.
    """

    def __init__(
        self, cfg: CfgNode, vocabulary: Vocabulary | None = None, min_score: float = 0.5
    ) -> None:
        """
        Args:
            cfg: a whole config; MODEL.WEIGHTS names the checkpoint, every parameter of which must
                fit.
            vocabulary: the classes; None: those of the config or of its first data set.
            min_score: objects with a lower score are left out.

        Raises:
            UserError: no checkpoint is named or it is not of this model, the model does not
                segment, or nothing names the classes.
        """
        self.cfg = cfg
        self.network: Any = build_model(for_labels(cfg)).eval()
        if not getattr(self.network, "segments", True):
            raise UserError(
                f"{cfg.MODEL.META_ARCHITECTURE} predicts which classes are in an image, and no "
                "segments: evaluate it, or write its scores, by train_net.py --eval-only"
            )
        Checkpointer(self.network).load_for_use(cfg.MODEL.WEIGHTS)
        self.vocabulary = settle_vocabulary(self.network, cfg, vocabulary)
        self.min_score = check_score(min_score)
        if self.reads_videos:
            self.network.clip_frames = self.network.clip_frames or CLIP_FRAMES
        self.format = cfg.INPUT.FORMAT
        self.resize = ResizeShortestEdge(
            [cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST], cfg.INPUT.MAX_SIZE_TEST
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes of calls that name none."""
        return self.vocabulary.label_names

    @property
    def open_vocabulary(self) -> bool:
        """Whether each call may name its classes."""
        return hasattr(self.network, "set_vocabulary")

    @property
    def reads_videos(self) -> bool:
        """Whether the model reads clips; an image is a clip of one frame."""
        return hasattr(self.network, "stream")

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        device: torch.device = next(self.network.parameters()).device
        return device

    def __repr__(self) -> str:
        return f"Model({self.describe()})"

    def describe(self) -> str:
        """Return architecture, device and the first class names, in a line."""
        names = ", ".join(map(printable, self.class_names[:SHOWN_CLASSES]))
        more = ", ..." if len(self.class_names) > SHOWN_CLASSES else ""
        kind = "open vocabulary" if self.open_vocabulary else "fixed classes"
        name = self.cfg.MODEL.META_ARCHITECTURE
        return f"{name} on {self.device}, {kind}, {len(self.class_names)}: {names}{more}"

    @overload
    def segment(  # type: ignore[overload-overlap]  # an array is an iterable, too
        self,
        source: Image.Image | np.ndarray | Tensor,
        classes: Classes | None = None,
        *,
        batch_size: int = ...,
        min_score: float | None = ...,
        classes_kept: Dial | None = ...,
        on_error: str = ...,
    ) -> Result: ...

    @overload
    def segment(
        self,
        source: str | os.PathLike[str],
        classes: Classes | None = None,
        *,
        batch_size: int = ...,
        min_score: float | None = ...,
        classes_kept: Dial | None = ...,
        on_error: str = ...,
    ) -> Any: ...  # a result of a file, an iterator of a folder

    @overload
    def segment(
        self,
        source: Iterable[ImageLike],
        classes: Classes | None = None,
        *,
        batch_size: int = ...,
        min_score: float | None = ...,
        classes_kept: Dial | None = ...,
        on_error: str = ...,
    ) -> Iterator[Result]: ...

    def segment(
        self,
        source: Source,
        classes: Classes | None = None,
        *,
        batch_size: int = 8,
        min_score: float | None = None,
        classes_kept: Dial | None = None,
        on_error: str = "raise",
    ) -> Result | Iterator[Result]:
        """Segment an image, or many.

        Args:
            source: an image: a path, an address of fsspec, a PIL image, an array (H, W, 3) uint8,
                RGB, or a tensor (3, H, W), uint8 or floats from 0 to 1, RGB. Or many: a folder, a
                pattern such as ``photos/*.jpg``, or an iterable of images, of any sizes.
            classes: class names for this call alone, whatever ``Vocabulary.load`` takes; None:
                those of the model.
            batch_size: how many of many images are in memory; those that the network reads in one
                size pass it together.
            min_score: objects with a lower score are left out; None: ``self.min_score``.
            classes_kept: for this call alone, as of :func:`load`; for models with an open
                vocabulary. None: as the model was loaded.
            on_error: of many images, "raise" an error for one that cannot be read, or "skip" it
                and log a warning.

        Returns:
            the result of an image; of many, an iterator that reads and segments when it is asked.

        Raises:
            UserError: an image cannot be read, or the class names cannot be used.
        """
        if on_error not in ON_ERROR:
            raise UserError(f"on_error is {on_error!r}: use {' or '.join(map(repr, ON_ERROR))}")
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}: use 1 or more")
        vocabulary = self._vocabulary_of(classes)
        score = self.min_score if min_score is None else check_score(min_score)
        inputs = open_inputs(source)
        kept = None if classes_kept is None else self._kept(classes_kept)
        if not is_single(source):
            skip = on_error == "skip"
            return self._segment_all(inputs, vocabulary, batch_size, score, kept, skip)
        image = next(inputs)
        return self._predict([(image.name, image.read())], vocabulary, score, kept)[0]

    def segment_video(
        self,
        source: str | os.PathLike[str] | Iterable[ImageLike] | Video,
        classes: Classes | None = None,
        *,
        batch_size: int = 1,
        min_score: float | None = None,
    ) -> Iterator[Result]:
        """Segment a video frame by frame.

        A model of videos reads it clip by clip and gives an object the same id in all frames
        (``result.track_ids``); a model of images knows nothing of the frames before.

        Args:
            source: a video file, a folder of frames, or an iterable of images of one size.
            classes: as of :meth:`segment`.
            min_score: as of :meth:`segment`.
            batch_size: frames that pass a model of images together.

        Returns:
            an iterator of results, whose ``frame`` counts from 0.

        Raises:
            UserError: the video cannot be opened, or the class names cannot be used. While
                iterating, after the frames before: a frame cannot be read.
        """
        vocabulary = self._vocabulary_of(classes)
        score = self.min_score if min_score is None else check_score(min_score)
        video = source
        if isinstance(source, str | os.PathLike):
            video = open_video(user_path(source))
        elif not isinstance(source, Video):
            # A model of videos reads it twice: once to count.
            video = InputFrames([*source] if self.reads_videos else source)
        assert isinstance(video, Video)
        if self.reads_videos:
            return self._segment_clips(video, vocabulary, score)
        return self._segment_frames(video, vocabulary, batch_size, score)

    # ---- behind them -------------------------------------------------------------------------

    def _vocabulary_of(self, classes: Classes | None) -> Vocabulary:
        """The classes of a call.

        Raises:
            UserError: there are none for a model with fixed classes to choose.
        """
        if classes is None:
            return self.vocabulary
        vocabulary = Vocabulary.load(classes)
        if not self.open_vocabulary:
            names = ", ".join(printable(name, 40) for name in self.class_names[:SHOWN_CLASSES])
            raise UserError(
                f"{self.cfg.MODEL.META_ARCHITECTURE} knows only the {len(self.class_names)} "
                f"classes of its training ({names}, ...): leave out classes, or load a model with "
                "an open vocabulary, such as catseg-vitb"
            )
        return vocabulary

    def _kept(self, classes_kept: Dial) -> ClassesKept:
        """How many classes a call keeps.

        Raises:
            UserError: it is no such number, or the model cannot keep another one for a call.
        """
        kept = ClassesKept.parse(classes_kept)
        if not hasattr(self.network, "selector"):
            raise UserError(
                f"{self.cfg.MODEL.META_ARCHITECTURE} keeps as many classes as it was loaded with: "
                "give classes_kept to catrank.load"
            )
        self.network.selector(kept)  # raises an error for a threshold without probabilities
        return kept

    def _segment_all(
        self,
        inputs: Iterator[Input],
        vocabulary: Vocabulary,
        batch_size: int,
        min_score: float,
        kept: ClassesKept | None,
        skip: bool,
    ) -> Iterator[Result]:
        for batch in batches(inputs, batch_size, skip=skip):
            yield from self._predict(batch, vocabulary, min_score, kept)

    def _segment_frames(
        self, video: Video, vocabulary: Vocabulary, batch_size: int, min_score: float
    ) -> Iterator[Result]:
        name = str(video.path)
        frames = (Input(name, partial(np.asarray, frame)) for frame in video.frames())
        number = 0
        for batch in batches(frames, batch_size):
            results = self._predict(batch, vocabulary, min_score, first_frame=number)
            number += len(results)
            yield from results

    def _segment_clips(
        self, video: Video, vocabulary: Vocabulary, min_score: float
    ) -> Iterator[Result]:
        length, failure = count_frames(video)  # such networks want to know it before
        yield from clip_by_clip(
            self.network,
            video.frames(),
            length,
            self.prepare,
            name=str(video.path),
            vocabulary=vocabulary,
            min_score=min_score,
        )
        if failure is not None:
            raise failure

    @torch.inference_mode()
    def _predict(
        self,
        images: Sequence[Named],
        vocabulary: Vocabulary,
        min_score: float,
        kept: ClassesKept | None = None,
        first_frame: int | None = None,
    ) -> list[Result]:
        """Segment images in memory; ``first_frame`` is the number of the first one of a video."""
        if self.reads_videos:
            return [self._one_frame(*image, vocabulary, min_score) for image in images]
        requests = [self._request(image, vocabulary, kept) for _, image in images]
        # Networks pad a batch to its largest image, and padding changes predictions: only images
        # of one size pass together.
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            groups[tuple(request["image"].shape)].append(index)
        results: dict[int, Result] = {}
        for group in groups.values():
            outputs = self.network([requests[index] for index in group])
            for index, output in zip(group, outputs, strict=True):
                frame = None if first_frame is None else first_frame + index
                results[index] = read_output(
                    output, *images[index], vocabulary, min_score, frame=frame
                )
        return [results[index] for index in range(len(images))]

    def _one_frame(
        self, name: str, image: np.ndarray, vocabulary: Vocabulary, min_score: float
    ) -> Result:
        """An image, as a clip of one frame."""
        (result,) = clip_by_clip(
            self.network,
            [image],
            1,
            self.prepare,
            name=name,
            vocabulary=vocabulary,
            min_score=min_score,
        )
        return result

    def _request(
        self, image: np.ndarray, vocabulary: Vocabulary, kept: ClassesKept | None
    ) -> dict[str, Any]:
        """The input of the network for an image (H, W, 3)."""
        height, width = image.shape[:2]
        request: dict[str, Any] = {"image": self.prepare(image), "height": height, "width": width}
        if self.open_vocabulary:
            request["vocabulary"] = vocabulary
        if kept is not None:
            request["classes_kept"] = kept
        return request

    def prepare(self, image: np.ndarray) -> Tensor:
        """An image (H, W, 3) uint8, RGB, as the network reads it: (3, h, w) uint8."""
        transform = self.resize.get_transform(image)
        # The limit on the longer side takes the shorter one of a very thin image below a pixel.
        transform.new_h, transform.new_w = max(1, transform.new_h), max(1, transform.new_w)
        resized = transform.apply_image(image)
        ordered = resized if self.format == "RGB" else resized[:, :, ::-1]
        return torch.from_numpy(np.ascontiguousarray(ordered.transpose(2, 0, 1)))


def check_score(score: float) -> float:
    """Return a score from 0 to 1.

    Raises:
        UserError: it is another number.
    """
    if not 0 <= score <= 1:
        raise UserError(f"min_score is {score}: use a number from 0 to 1")
    return score
