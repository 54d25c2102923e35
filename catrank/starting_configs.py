"""Write a config to start from, for a model on a custom dataset: a file with reasons.

Numbers come from the data: classes, images, their sizes. They are a start, not a measured optimum.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from catrank.starting_models import STARTS, Start, mask2former_part, ranks
from segcore.datasets.custom import register_custom_file
from segcore.errors import UserError, printable
from segcore.images import read_header
from segcore.runtime.files import write_text

# evaluator_type of a data set -> task
TASKS = {
    "coco_panoptic_seg": "panoptic",
    "coco": "instance",
    "sem_seg": "semantic",
    "ytvis": "video-instance",
    "video_semantic": "video-semantic",
}
SAMPLED = 50  # images whose sizes are read
ALL_RANKED = 150  # up to so many classes RankSeg selects all of them, as published on ADE20K
SMALLEST_STEPS, EPOCHS = 1000, 50
TINY_STEPS, TINY_BATCH = 200, 4


@dataclass(frozen=True)
class Data:
    """What a description holds for one task.

    Attributes:
        train, test: names of data sets; ``test`` may be empty.
        num_classes: of the model.
        num_images: of the first training set, or videos.
        short, long: medians of the sides of its images, in pixels.
        ignore_label: of pixels without a class; None for objects.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    num_classes: int
    num_images: int
    short: int
    long: int
    ignore_label: int | None


def write_starting_config(
    description: Path, output: Path, model: str, *, task: str | None = None, tiny: bool = False
) -> str:
    """Write a config for a custom dataset, and return its task.

    Args:
        description: a file for ``DATASETS.CUSTOM``.
        output: the config.
        model: of a key of :data:`catrank.starting_models.STARTS`.
        task: a value of :data:`TASKS`; None: the first that the data and the model have.
        tiny: of a very small model that trains from scratch, on any machine.

    Raises:
        UserError: the description is wrong, or has no data for the model or the task.
    """
    sets: dict[str, list[str]] = {each: [] for each in TASKS.values()}
    for name in register_custom_file(description):
        sets[TASKS[MetadataCatalog.get(name).evaluator_type]].append(name)
    known = [each for each in sets if sets[each] and (model, each) in STARTS]
    if task is None and known:
        task = known[0]
    if task not in known:
        has = ", ".join(each for each in sets if sets[each])
        does = ", ".join(each for other, each in STARTS if other == model)
        raise UserError(
            f"{printable(description)} has data sets for {has}, and {model} does {does}"
            + (f": none for {task}" if task else "")
        )
    data = read_data(sets[task])
    start = STARTS[model, task]
    text = tiny_config(description, start, data, model, task, output) if tiny else full_config(
        description, start, data, model, task, output
    )  # fmt: skip
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, text)
    return task


def read_data(names: Sequence[str]) -> Data:
    """Return what the data sets of one task hold; names with "train" are for training.

    Raises:
        UserError: a file cannot be read.
    """
    train = [name for name in names if "train" in name.lower()] or [*names[:1]]
    metadata = MetadataCatalog.get(train[0])
    records = DatasetCatalog.get(train[0])
    sides = [_sides(each) for each in records[:: max(1, len(records) // SAMPLED)]]
    stuff = metadata.get("stuff_classes")
    return Data(
        tuple(train),
        tuple(name for name in names if name not in train),
        len(stuff or metadata.thing_classes),
        len(records),
        round(statistics.median(min(each) for each in sides)),
        round(statistics.median(max(each) for each in sides)),
        metadata.ignore_label if stuff else None,
    )


def _sides(record: dict) -> tuple[int, int]:
    if "height" in record:
        return record["height"], record["width"]
    header = read_header(record["file_name"])
    return header.height, header.width


def full_config(
    description: Path, start: Start, data: Data, model: str, task: str, output: Path
) -> str:
    """Return the text of a config that starts from the published one."""
    batch = min(start.batch, data.num_images)
    steps = max(SMALLEST_STEPS, EPOCHS * data.num_images // batch)
    solver = f"  IMS_PER_BATCH: {batch}  # images in a step; more if the GPU's memory allows it\n"
    if model == "catseg":
        solver = (
            f"  REFERENCE_WORLD_SIZE: 0  # the numbers here hold for any number of GPUs\n{solver}"
        )
    elif start.learning_rate is not None:
        rate = start.learning_rate * batch / start.published_batch
        solver += (
            f"  BASE_LR: {rate:g}  # the published {start.learning_rate:g} is for batches of "
            f"{start.published_batch}: in proportion\n"
        )
    solver += (
        f"  # {EPOCHS} times through {data.num_images} {_unit(task)}, at least {SMALLEST_STEPS} "
        "steps; stop when the score no longer rises.\n"
        f"  MAX_ITER: {steps}\n"
    )
    if task in ("instance", "panoptic") or task.startswith("video"):
        solver += f"  STEPS: [{steps * 9 // 10}]  # the learning rate falls to a tenth\n"
    solver += f"  CHECKPOINT_PERIOD: {max(1, steps // 5)}\n"
    return _head(description, [start.base, *_ranking(model, task)], data, model, task) + (
        f"{_sizes(data, model, task)}"
        f"{_model(description, data, model, task, start.weights, tiny=False)}"
        f"SOLVER:\n{solver}"
        f"TEST:\n  EVAL_PERIOD: {max(1, steps // 5)}  # steps between evaluations\n"
        f"{_end(output, data.num_images)}"
    )


def tiny_config(
    description: Path, start: Start, data: Data, model: str, task: str, output: Path
) -> str:
    """Return the text of a config of a very small model, which shows whether all is right."""
    batch = min(TINY_BATCH, data.num_images)
    return _head(description, [start.tiny], data, model, task) + (
        f"{_model(description, data, model, task, '', tiny=True)}"
        "SOLVER:\n"
        f"  IMS_PER_BATCH: {batch}\n"
        f"  MAX_ITER: {TINY_STEPS}  # minutes on a CPU; a useful model needs the full config\n"
        f"  WARMUP_ITERS: {TINY_STEPS // 10}\n"
        f"{_end(output, data.num_images)}"
    )


def _unit(task: str) -> str:
    return "videos" if task.startswith("video") else "images"


def _head(description: Path, bases: Sequence[str], data: Data, model: str, task: str) -> str:
    test = _listed(data.test)
    note = "" if data.test else "  # there is none: nothing is evaluated\n"
    return (
        f"# {model}, {task}: {data.num_classes} classes, {data.num_images} {_unit(task)} for "
        f"training, of about {data.long} x {data.short} pixels.\n"
        "# Written by `catrank data config` as a start: change what you know better.\n"
        f"_BASE_: [{', '.join(bases)}]\n"
        "DATASETS:\n"
        "  # Relative to the folder in which you run the command.\n"
        f'  CUSTOM: ["{_quoted(description)}"]\n'
        f"  TRAIN: {_listed(data.train)}\n{note}"
        f"  TEST: {test}\n"
    )


def _listed(names: Sequence[str]) -> str:
    return f"[{', '.join(f'{chr(34)}{_quoted(name)}{chr(34)}' for name in names)}]"


def _quoted(text: object) -> str:
    """Escape a text for YAML's double quotes."""
    return str(text).replace("\\", "\\\\").replace('"', '\\"')


def _ranking(model: str, task: str) -> list[str]:
    if model != "mask2former" or task == "instance":
        return []
    return [mask2former_part("video_rankseg" if task.startswith("video") else "rankseg")]


def _sizes(data: Data, model: str, task: str) -> str:
    """Return INPUT: crops and sides that suit the images."""
    if model == "catseg":
        return "# The base sets crops of 384 pixels, for which its image encoder is made.\n"
    if model != "mask2former":
        return "# Crops of 512 pixels of images at half to double size, as the base sets them.\n"
    side = min(512, max(128, data.short // 32 * 32))
    if task == "semantic":
        sizes = ", ".join(str(side * tenth // 10) for tenth in range(5, 21))
        return (
            "INPUT:\n"
            f"  # Crops of {side} pixels, of images whose short side has half to double of that.\n"
            f"  CROP:\n    SIZE: [{side}, {side}]\n"
            f"  SIZE_DIVISIBILITY: {side}\n"
            f"  MIN_SIZE_TRAIN: [{sizes}]\n"
            f"  MAX_SIZE_TRAIN: {4 * side}\n  MIN_SIZE_TEST: {side}\n  MAX_SIZE_TEST: {4 * side}\n"
        )
    if task.startswith("video"):
        side = min(480, max(96, data.short))
        return (
            "INPUT:\n"
            f"  MIN_SIZE_TRAIN: [{side}]  # the short side of a frame\n  MIN_SIZE_TEST: {side}\n"
        )
    side = min(1024, max(256, -(-data.long // 64) * 64))
    return (
        "INPUT:\n"
        f"  IMAGE_SIZE: {side}  # side of the training images, which are scaled by 0.1 to 2\n"
    )


def _model(
    description: Path, data: Data, model: str, task: str, weights: str, *, tiny: bool
) -> str:
    head = [f"    IGNORE_VALUE: {data.ignore_label}"] if data.ignore_label is not None else []
    ranked = ""
    if model == "catseg":
        path = _quoted(description)
        head += [f'    TRAIN_CLASS_JSON: "{path}"', f'    TEST_CLASS_JSON: "{path}"']
    else:
        head.append(f"    NUM_CLASSES: {data.num_classes}")
    if ranks(model, task, tiny):
        kept = min(data.num_classes, 10 if tiny else ALL_RANKED)
        ranked = (
            f"  RANKSEG:\n    TOPK: {kept}  # classes that an image keeps, the most probable\n"
            "    TEST_TOPK: 0  # as many\n"
        )
    lines = "\n".join(head)
    return f"MODEL:\n{weights}{ranked}  SEM_SEG_HEAD:\n{lines}\n"


def _end(output: Path, num_images: int) -> str:
    workers = min(4, num_images)
    return (
        f"DATALOADER:\n  NUM_WORKERS: {workers}\n"
        f'OUTPUT_DIR: "output/{_quoted(output.stem)}"  # checkpoints, logs and scores\n'
    )
