"""Image-text pairs in tar shards as data sets: registered by a pattern, read pair by pair."""

import functools
import itertools
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from torch.utils.data import Dataset

from segcore.datasets.shards import BLOCK, PROBLEMS, ShardIndex, decode_caption, read_index
from segcore.errors import UserError, printable
from segcore.runtime.files import user_path

MAX_SHARDS = 1_000_000
GROUP = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d{1,12})\.\.(\d{1,12})")

logger = logging.getLogger(__name__)


def register_pair_dataset(
    name: str, pattern: str | Path, *, evaluator_type: str = "retrieval", **metadata: object
) -> None:
    """Register tar shards of image-text pairs under a name; they are read on first use.

    Args:
        name: the name for ``DATASETS.TRAIN``.
        pattern: as :func:`expand_pattern` takes it.
        evaluator_type: the evaluator that :func:`segcore.evaluation.build_evaluator` builds.
        metadata: further entries for ``MetadataCatalog``.

    Raises:
        UserError: another data set has the name.
    """
    known = MetadataCatalog.get(name)
    if name not in DatasetCatalog.list():
        DatasetCatalog.register(name, functools.partial(read_pairs, name, str(pattern)))
        known.set(shards=str(pattern), evaluator_type=evaluator_type, **metadata)
    elif known.get("shards") != str(pattern):
        raise UserError(f"there is another data set named {name!r}: choose another name")


def expand_pattern(pattern: str) -> Iterator[str]:
    """Yield the paths of a pattern: ``{000000..000436}`` counts, ``{a,b}`` lists.

    Numbers have the digits of the longer end, as in the shell.

    Raises:
        UserError: a brace is not closed or empty, or there are too many paths.
    """
    parts, end, number = [], 0, 1
    for group in GROUP.finditer(pattern):
        parts.append((pattern[end : group.start()],))
        parts.append(_alternatives(group[1], pattern))
        number *= len(parts[-1])
        end = group.end()
    if number > MAX_SHARDS:
        raise UserError(f"{printable(pattern)} names over {MAX_SHARDS} shards")
    if {"{", "}"} & {*GROUP.sub("", pattern)}:
        raise UserError(f"{printable(pattern)}: a brace has no partner: write {{000000..000123}}")
    return ("".join(path) for path in itertools.product(*parts, (pattern[end:],)))


def _alternatives(text: str, pattern: str) -> Sequence[str]:
    found = RANGE.fullmatch(text)
    if found:
        first, last = int(found[1]), int(found[2])
        width = max(len(found[1]), len(found[2]))
        if first <= last < first + MAX_SHARDS:
            return [f"{number:0{width}}" for number in range(first, last + 1)]
    elif "," in text:
        return text.split(",")
    raise UserError(
        f"{printable(pattern)}: {{{printable(text)}}} is no range of at most {MAX_SHARDS} numbers, "
        "such as {000000..000123}, and no list, such as {a,b}"
    )


class PairDataset(Dataset):
    """The pairs of tar shards; each is read from its archive when it is asked for.

    Attributes:
        lengths: number of pairs of every shard.
    """

    def __init__(self, shards: Sequence[Path], indices: Sequence[np.ndarray]) -> None:
        """
        Args:
            shards: the archives.
            indices: ``pairs`` of their :class:`~segcore.datasets.shards.ShardIndex`.
        """
        self.lengths = [len(pairs) for pairs in indices]
        self._shards = [str(path) for path in shards]
        self._pairs = np.concatenate(indices)
        self._starts = np.cumsum([0, *self.lengths])

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict:
        """Return a dataset dict without its image.

        Returns:
            ``file_name``, shard and member, for messages; ``caption``; and ``archive``, the shard,
            with ``offset`` and ``size`` of the image in bytes.

        Raises:
            UserError: the shard cannot be read any more.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        shard = self._shards[int(np.searchsorted(self._starts, index, side="right")) - 1]
        block, size, text_block, text_size = map(int, self._pairs[index])
        header = read_at(shard, (block - 1) * BLOCK, 100)  # the name of the member
        text = read_at(shard, text_block * BLOCK, text_size)
        name = printable(header.rstrip(b"\0").decode("utf-8", "replace"))
        return {
            "file_name": f"{shard}/{name}",
            "caption": decode_caption(text),
            "archive": shard,
            "offset": block * BLOCK,
            "size": size,
        }


def read_at(path: str, offset: int, size: int) -> bytes:
    """Return ``size`` bytes of a file from ``offset`` on.

    Raises:
        UserError: they cannot be read.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  a pair opens files thrice
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) < size:
        raise UserError(f"{path} has changed since the training began: it is shorter")
    return data


def read_pairs(name: str, pattern: str) -> PairDataset:
    """Return the pairs of the shards of a pattern that exist; what is skipped is one log line.

    Args:
        name: of the data set, for messages.
        pattern: of :func:`expand_pattern`, relative to the working directory.

    Raises:
        UserError: no shard exists, or none holds a pair.
    """
    paths = [user_path(path) for path in expand_pattern(pattern)]
    shards = [path for path in paths if path.is_file()]
    if not shards:
        raise UserError(
            f"dataset {name!r}: there is no {printable(paths[0])}: download the shards with "
            "img2dataset, or make them with datasets/prepare_captions.py"
        )
    indices = _indices(shards)
    problems = sum((index.problems for index in indices), Counter())
    pairs = PairDataset(shards, [index.pairs for index in indices])
    skipped = [f"{problems[i]} {what}" for i, what in enumerate(PROBLEMS) if problems[i]]
    if len(shards) < len(paths):
        skipped.append(f"{len(paths) - len(shards)} missing shards")
    if not len(pairs):
        raise UserError(
            f"dataset {name!r}: {printable(pattern)} holds no pair of an image and a caption "
            f"(skipped: {', '.join(skipped) or 'other members'})"
        )
    if skipped:
        logger.warning("Dataset %s: %d pairs; skipped: %s", name, len(pairs), ", ".join(skipped))
    else:
        logger.info("Dataset %s: %d pairs in %d shards", name, len(pairs), len(shards))
    return pairs


def _indices(shards: Sequence[Path]) -> list[ShardIndex]:
    """Return the indices of all shards. Each process begins elsewhere, so that they divide what is
    not in the cache."""
    start = len(shards) * comm.get_rank() // comm.get_world_size()
    found = {path: read_index(path) for path in (*shards[start:], *shards[:start])}
    return [found[path] for path in shards]
