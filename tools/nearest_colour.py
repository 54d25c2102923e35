#!/usr/bin/env python3
"""The least that a model has to beat: every pixel takes the class of the nearest mean colour.

    python tools/nearest_colour.py --train scenes_60_train --test scenes_60_test

The mean colour of a seen class is measured on the training set. An unseen class is given the mean
of the seen classes that share the first word of its name ("red"), weighted by the number of words
that they share: all that can be known of it without having seen it. Chance, a random class for
every pixel, is printed as well.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
from collections.abc import Iterable, Iterator, Sequence

# First, because it silences a warning that Detectron2's parts cause as they are loaded.
import segcore  # noqa: F401

# isort: split
import numpy as np
import torch
from detectron2.data import DatasetCatalog
from skimage.color import rgb2lab
from tqdm import tqdm

from segcore.datasets import check_registered, semantic_metadata
from segcore.errors import UserError, exit_on_user_error
from segcore.evaluation import SemanticEvaluator
from segcore.evaluation.semantic import SEEN
from segcore.images import read_image, read_labels
from segcore.vocabulary import Vocabulary


def nearest_colour_scores(
    train_dataset: str = "scenes_60_train", test_dataset: str = "scenes_60_test"
) -> dict[str, float]:
    """Measure mean colours on one registered data set, and score them on another.

    Returns:
        those of :class:`segcore.evaluation.SemanticEvaluator`: ``mIoU``, ``mIoU-seen``,
        ``mIoU-unseen``, ``hIoU`` and more, in percent.

    Raises:
        UserError: a data set is unknown or cannot be read, or its vocabulary does not say which
            classes are seen.
    """
    evaluator = SemanticEvaluator(test_dataset, distributed=False)
    vocabulary = Vocabulary.load(semantic_metadata(test_dataset).vocabulary)
    if vocabulary.seen is None:
        raise UserError(
            f"{test_dataset}: its vocabulary {vocabulary.name!r} does not say which classes are "
            'seen: give every class "seen": true or false'
        )
    means = mean_colours(_images(train_dataset), len(vocabulary))
    means = compose_unseen(means, vocabulary.names)
    for record in _records(test_dataset):
        labels = classify(read_image(record["file_name"]), means)
        evaluator.process([record], [{"sem_seg_labels": torch.from_numpy(labels)}])
    return evaluator.evaluate()["sem_seg"]


def chance_scores(test_dataset: str = "scenes_60_test") -> dict[str, float]:
    """Return the scores of a random class for every pixel, as :func:`nearest_colour_scores`."""
    evaluator = SemanticEvaluator(test_dataset, distributed=False)
    num_classes = len(Vocabulary.load(semantic_metadata(test_dataset).vocabulary))
    generator = torch.Generator().manual_seed(0)
    for record in DatasetCatalog.get(test_dataset):
        size = read_labels(record["sem_seg_file_name"]).shape
        labels = torch.randint(num_classes, size, generator=generator)
        evaluator.process([record], [{"sem_seg_labels": labels}])
    return evaluator.evaluate()["sem_seg"]


def mean_colours(images: Iterable[tuple[np.ndarray, np.ndarray]], num_classes: int) -> np.ndarray:
    """Mean CIELAB colour of every class.

    Args:
        images: pairs of image (height, width, 3) uint8 and labels (height, width); labels from
            ``num_classes`` on are ignored.

    Returns: (num_classes, 3); NaN for a class that does not occur.
    """
    totals = np.zeros((num_classes, 3))
    counts = np.zeros(num_classes)
    for image, labels in images:
        valid = labels < num_classes
        colours, classes = rgb2lab(image)[valid], labels[valid]
        counts += np.bincount(classes, minlength=num_classes)
        for channel in range(3):
            totals[:, channel] += np.bincount(classes, colours[:, channel], minlength=num_classes)
    with np.errstate(invalid="ignore"):
        return totals / counts[:, None]


def compose_unseen(means: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Give each class without a mean one of seen classes whose names begin with the same word.

    Args and returns: (classes, 3); a class that shares its first word with none stays NaN.
    """
    words = [name.split() for name in names]
    known = np.flatnonzero(~np.isnan(means).any(axis=1))
    composed = means.copy()
    for missing in np.flatnonzero(np.isnan(means).any(axis=1)):
        kin = [k for k in known if words[k][0] == words[missing][0]]
        if kin:
            shared = [len(set(words[k]) & set(words[missing])) for k in kin]
            composed[missing] = np.average(means[kin], axis=0, weights=shared)
    return composed


def classify(image: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The class of the nearest mean colour; a class without a mean is never chosen.

    Args:
        image: (height, width, 3) RGB uint8.
        means: (classes, 3) CIELAB.

    Returns: (height, width) int64.
    """
    # |a - b|^2 without |a|^2, which is the same for every class.
    distances = (means**2).sum(axis=1) - 2 * rgb2lab(image) @ means.T
    return np.nan_to_num(distances, nan=np.inf).argmin(axis=-1)


def _records(dataset: str) -> Iterator[dict]:
    yield from tqdm(DatasetCatalog.get(dataset), desc=f"nearest colour, {dataset}")


def _images(dataset: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for record in _records(dataset):
        yield read_image(record["file_name"]), read_labels(record["sem_seg_file_name"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", default="scenes_60_train", help="registered training set")
    parser.add_argument("--test", default="scenes_60_test", help="registered test set")
    arguments = parser.parse_args()
    check_registered([arguments.train, arguments.test])
    scores = nearest_colour_scores(arguments.train, arguments.test)
    for name in ("mIoU", *SEEN):
        print(f"{name:12} {scores[name]:6.2f}")
    print(f"{'chance, mIoU':12} {chance_scores(arguments.test)['mIoU']:6.2f}")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
