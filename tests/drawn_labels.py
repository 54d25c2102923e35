"""A tiny drawn data set: label maps with cats and dogs, and their annotations."""

import numpy as np

from catrank.exports.annotations import Annotation

HEIGHT, WIDTH = 24, 32
NAMES = ("cat", "dog")  # 1 and 2; 0 is the background
COLORS = np.array([(0, 0, 0), (250, 50, 83), (51, 221, 255)], dtype=np.uint8)


def label_map(number: int) -> np.ndarray:
    """A cat with a hole, and a dog in two pieces."""
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    labels[2:12, 3 + number : 15 + number] = 1
    labels[5:8, 6 + number : 9 + number] = 0
    labels[14:20, 4:10] = labels[16:22, 20:29] = 2
    return labels


def annotations(number: int) -> list[Annotation]:
    labels = label_map(number)
    return [Annotation(i, i, NAMES[i - 1], labels == i) for i in (1, 2)]
