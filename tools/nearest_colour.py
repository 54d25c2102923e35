#!/usr/bin/env python3
"""The least that a model has to beat: every pixel takes the class of the nearest mean colour.

    python tools/nearest_colour.py --train scenes_60_train --test scenes_60_test

The mean colour of a seen class is measured on the training set. An unseen class is given the mean
of the seen classes that share the first word of its name ("red"), weighted by the number of words
that they share: all that can be known of it without having seen it.
"""

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from skimage.color import rgb2lab
from tqdm import tqdm

import segcore.datasets  # noqa: F401  (registers the data sets)
from segcore.errors import UserError, exit_on_user_error
from segcore.images import read_image, read_labels
from segcore.vocabulary import Vocabulary


@dataclass(frozen=True)
class Scores:
    """mIoU in percent over the classes that occur in the ground truth.

    label_maps: one (height, width) array of class ids a test picture, in the data set's order.
    """

    seen: float
    unseen: float
    harmonic: float
    label_maps: list[np.ndarray]


def nearest_colour_scores(
    train_dataset: str = "scenes_60_train", test_dataset: str = "scenes_60_test"
) -> Scores:
    """Measure mean colours on one registered data set, and score them on another.

    Raises:
        UserError: the vocabulary does not say which classes are seen, or a picture cannot be read.
    """
    vocabulary = Vocabulary.load(MetadataCatalog.get(test_dataset).vocabulary)
    if vocabulary.seen is None:
        raise UserError(
            f"{test_dataset}: its vocabulary {vocabulary.name} does not say which classes are "
            'seen: give every class "seen": true or false.'
        )
    means = compose_unseen(mean_colours(_pictures(train_dataset), len(vocabulary)), vocabulary)
    confusion = np.zeros((len(vocabulary), len(vocabulary)), dtype=np.int64)
    label_maps = []
    for image, labels in _pictures(test_dataset):
        prediction = classify(image, means)
        confusion += count_pairs(labels, prediction, len(vocabulary))
        label_maps.append(prediction)
    seen, unseen = seen_unseen_miou(confusion, np.array(vocabulary.seen))
    return Scores(seen, unseen, 2 * seen * unseen / max(seen + unseen, 1e-9), label_maps)


def mean_colours(pictures: Iterable[tuple[np.ndarray, np.ndarray]], num_classes: int) -> np.ndarray:
    """Mean CIELAB colour of every class.

    Args:
        pictures: pairs of image (height, width, 3) uint8 and labels (height, width); labels from
            ``num_classes`` on are ignored.

    Returns: (num_classes, 3); NaN for a class that does not occur.
    """
    totals = np.zeros((num_classes, 3))
    counts = np.zeros(num_classes)
    for image, labels in pictures:
        valid = labels < num_classes
        colours, classes = rgb2lab(image)[valid], labels[valid]
        counts += np.bincount(classes, minlength=num_classes)
        for channel in range(3):
            totals[:, channel] += np.bincount(classes, colours[:, channel], minlength=num_classes)
    with np.errstate(invalid="ignore"):
        return totals / counts[:, None]


def compose_unseen(means: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Give each class without a mean one of seen classes whose names begin with the same word.

    Args and returns: (classes, 3); a class that shares its first word with none stays NaN.
    """
    words = [name.split() for name in vocabulary.names]
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

    Returns: (height, width) uint16.
    """
    # |a - b|^2 without |a|^2, which is the same for every class.
    distances = (means**2).sum(axis=1) - 2 * rgb2lab(image) @ means.T
    return np.nan_to_num(distances, nan=np.inf).argmin(axis=-1).astype(np.uint16)


def count_pairs(labels: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Pixels by (true class, predicted class); labels from ``num_classes`` on are ignored."""
    valid = labels < num_classes
    pairs = labels[valid].astype(np.int64) * num_classes + prediction[valid]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def seen_unseen_miou(confusion: np.ndarray, seen: np.ndarray) -> tuple[float, float]:
    """mIoU in percent of seen and of unseen classes that occur (NaN where none does)."""
    hits, true, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    iou = 100 * hits / np.maximum(true + predicted - hits, 1)
    return tuple(
        float(iou[chosen].mean()) if chosen.any() else float("nan")
        for chosen in ((true > 0) & seen, (true > 0) & ~seen)
    )


def _pictures(dataset: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for record in tqdm(DatasetCatalog.get(dataset), desc=f"nearest colour, {dataset}"):
        yield read_image(record["file_name"]), read_labels(record["sem_seg_file_name"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", default="scenes_60_train", help="registered training set")
    parser.add_argument("--test", default="scenes_60_test", help="registered test set")
    arguments = parser.parse_args()
    scores = nearest_colour_scores(arguments.train, arguments.test)
    print(f"mIoU seen      {scores.seen:6.2f}")
    print(f"mIoU unseen    {scores.unseen:6.2f}")
    print(f"harmonic mean  {scores.harmonic:6.2f}")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
