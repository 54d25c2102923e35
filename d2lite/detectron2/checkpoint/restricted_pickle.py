"""Reading pickles of arrays without running what is in them."""

import pickle
from typing import IO, Any

# What numpy and the containers need; every other name in a pickle is refused.
_ALLOWED = {
    "numpy": ("dtype", "ndarray"),
    "numpy.core.multiarray": ("_reconstruct", "scalar"),
    "numpy._core.multiarray": ("_reconstruct", "scalar"),
    "numpy.core.numeric": ("_frombuffer",),
    "numpy._core.numeric": ("_frombuffer",),
    "collections": ("OrderedDict",),
    "_codecs": ("encode",),  # how protocol 2 stores bytes
}


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name not in _ALLOWED.get(module, ()):
            raise pickle.UnpicklingError(
                f"the file wants to use {module}.{name}: only arrays and plain containers are read"
            )
        return super().find_class(module, name)


def load_pickle(file: IO[bytes]) -> Any:
    """Read numbers, strings, containers and numpy arrays.

    Raises:
        pickle.UnpicklingError: the file holds anything else, or is no pickle.
    """
    return _RestrictedUnpickler(file, encoding="latin1").load()
