"""``MODEL.WEIGHTS`` as a file of this machine, whether it is a path, an address or a name.

Addresses are understood here. Names belong to a model zoo, which stands above this package and
registers itself with :func:`register_names`; so a name works wherever weights are loaded, with
Detectron2's own checkpointer too, which is given the file.
"""

from collections.abc import Callable
from pathlib import Path

from segcore.checkpoint.downloads import Source, fetch, is_address

QUERY = "?matching_heuristics="  # Detectron2's, behind a path

_zoos: list[Callable[[str], Path | None]] = []


def register_names(resolve: Callable[[str], Path | None]) -> Callable[[str], Path | None]:
    """Decorate a function that returns the file of a name; None where a text is no name.

    It is asked about texts that are neither addresses nor paths of what exists.
    """
    _zoos.append(resolve)
    return resolve


def locate(weights: str) -> str:
    """Return the path of weights on this machine; they are downloaded if they are not there yet.

    Args:
        weights: ``MODEL.WEIGHTS``: a path, an http(s) or hf:// address, or a name. All else is
            returned as it is, such as ``detectron2://`` addresses.

    Raises:
        UserError: a file cannot be downloaded, or is not the expected one; or no model has the
            name.
    """
    text, mark, heuristics = weights.partition(QUERY)
    if is_address(text):
        return f"{fetch(Source.of_address(text))}{mark}{heuristics}"
    if not text or "://" in text or Path(text).exists():
        return weights
    for resolve in _zoos:
        if path := resolve(text):
            return f"{path}{mark}{heuristics}"
    return weights
