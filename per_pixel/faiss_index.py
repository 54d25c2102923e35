"""The index of the library faiss over class embeddings, flat or in clusters (extra ``faiss``).

Source: Johnson et al., "Billion-scale similarity search with GPUs", IEEE Transactions on Big Data,
2019; the library's documentation.

Shapes: N embeddings, C classes, d their width, k nearest classes.
"""

from importlib.util import find_spec

import torch
from torch import Tensor

from segcore.errors import UserError


def check_faiss(key: str, value: str) -> None:
    """Raise UserError unless faiss is installed, which the config's ``key`` asks for."""
    if find_spec("faiss") is None:
        raise UserError(
            f"{key} is {value!r}, which needs the library faiss: pip install 'catrank[faiss]', or "
            "set it to exact"
        )


class FaissIndex:
    """An index of classes by Euclidean distance, in float32 on the CPU."""

    def __init__(self, classes: Tensor, clusters: int | None, probes: int) -> None:
        """
        Args:
            classes: (C, d).
            clusters: number of clusters, 1 ... C, that k-means divides the classes into; None: a
                flat index, which is exact.
            probes: number of clusters, the nearest ones, that a search visits.
        """
        import faiss

        rows = _rows(classes)
        faiss.omp_set_num_threads(torch.get_num_threads())
        self._index = flat = faiss.IndexFlatL2(rows.shape[1])
        if clusters is not None:
            self._index = faiss.IndexIVFFlat(flat, rows.shape[1], clusters)
            self._index.cp.min_points_per_centroid = 1  # few classes are no reason to warn
            self._index.nprobe = min(probes, clusters)
            self._index.train(rows)
        self._index.add(rows)

    def nearest(self, embeddings: Tensor, k: int) -> Tensor:
        """Return the k nearest classes: (N, d) -> (N, k) int64, the nearest first.

        In place of a class that the visited clusters lack there is -1.
        """
        _, ids = self._index.search(_rows(embeddings), k)
        return torch.from_numpy(ids).to(embeddings.device)


def _rows(embeddings: Tensor) -> "numpy.ndarray":  # noqa: F821, torch brings it along
    return embeddings.detach().float().cpu().contiguous().numpy()
