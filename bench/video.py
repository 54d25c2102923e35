"""Measure memory and time of long videos on this machine: `make bench BENCH=video`.

    python bench/video.py --tasks instance --frames 8 32 128

The models are the small ones of Scenes with random weights, whose masks are noise: their RLEs are
longer than those of objects. Frames of 192 x 192 pixels are generated on access. "ours" processes a
video in clips of 8 frames with an overlap of 2: it returns tracks as RLEs at the end, label maps as
a stream. "baseline" is bench/baseline_video.py: the whole video is one clip, and all masks have
full size. "MB" is the peak above the loaded model, the median of --runs separate processes; "ms" is
per frame. The processes return large blocks of memory at once, which costs time, so that the peak
is the memory in use and not what the allocator keeps.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
import mask2former_rankseg

# isort: split
import torch
from baseline_video import baseline_video
from detectron2.modeling import build_model
from measure import alone, median, memory_now, memory_peak, seconds
from torch import Tensor

from segcore.config import load_config
from segcore.errors import UserError, exit_on_user_error

TASKS = {
    "instance": "mask2former_rankseg/scenes_60_video_instance.yaml",
    "semantic": "mask2former_rankseg/scenes_60_video_semantic.yaml",
}
WAYS = ("ours", "baseline")
CLIP_FRAMES, CLIP_OVERLAP, SIDE = 8, 2, 192


@dataclass(frozen=True)
class Measured:
    """Medians, or one run: seconds per frame, bytes above the model."""

    seconds: float
    memory: float


class Noise(Sequence):
    """A video of random images, each generated on access."""

    def __init__(self, num_frames: int, side: int = SIDE) -> None:
        self.num_frames, self.side = num_frames, side

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, index: int) -> Tensor:
        generator = torch.Generator().manual_seed(index)
        shape = (3, self.side, self.side)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def build(task: str, options: Sequence[object] = ()) -> mask2former_rankseg.VideoMaskFormer:
    """Return a model with the same random weights at every call."""
    clips = {"CLIP_FRAMES": CLIP_FRAMES, "CLIP_OVERLAP": CLIP_OVERLAP}
    changes = [x for key, value in clips.items() for x in (f"MODEL.MASK_FORMER.TEST.{key}", value)]
    cfg = load_config(TASKS[task], [*changes, "TEST.SEM_SEG_OUTPUT", "labels", *options])
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    model.may_predict = True  # with random weights
    return model


def predict(model: mask2former_rankseg.VideoMaskFormer, way: str, item: dict) -> None:
    """Predict a video, and drop the results, as a program would that writes them to a file."""
    if way == "baseline":
        found = baseline_video(model, item)
        if "sem_seg" in found:
            found["sem_seg"].argmax(dim=0)
    elif model.tasks.semantic:
        for _ in model.stream(item):
            pass
    else:
        model([item])


def measure(task: str, way: str, num_frames: int, side: int = SIDE) -> Measured:
    """Measure one video, of square frames, with a new model."""
    model, item = build(task), {"image": Noise(num_frames, side)}
    loaded = memory_now()
    time = seconds(lambda: predict(model, way, item))
    # The kernel counts pages in batches: where nothing was added the peak may lie a little below.
    return Measured(time / num_frames, max(memory_peak() - loaded, 0))


def measure_alone(task: str, way: str, num_frames: int, side: int = SIDE) -> Measured | None:
    """Call :func:`measure` in a separate process; None if the memory is too small."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(1 << 20)  # glibc reads it as a process starts
    return alone(measure, task, way, num_frames, side)


def cell(found: Measured | None) -> str:
    if found is None:
        return f"{'does not fit':>20}"
    return f"{found.memory / 1e6:>11.0f}{1e3 * found.seconds:>9.1f}"


def table(task: str, args: argparse.Namespace) -> None:
    """Print the rows of a task."""
    print(f"{task}\n  {'frames':>6}" + "".join(f"{way + ', MB':>11}{'ms':>9}" for way in args.ways))
    for number in args.frames:
        runs = [[measure_alone(task, way, number) for _ in range(args.runs)] for way in args.ways]
        print(f"  {number:>6}" + "".join(cell(median(found)) for found in runs), flush=True)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    add("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    add("--frames", nargs="+", type=int, default=[8, 32, 128, 512], help="of the videos")
    add("--runs", type=int, default=1, help="processes per number (default: 1)")
    args = parser.parse_args(arguments)
    if min(args.runs, *args.frames) < 1:
        raise UserError("--runs and --frames take 1 or more")
    return args


def main() -> None:
    args = parse_arguments()
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{where}, {torch.get_num_threads()} threads")
    for task in args.tasks:
        table(task, args)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
