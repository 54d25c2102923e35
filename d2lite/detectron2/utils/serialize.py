"""Pickling of functions that pickle itself refuses: lambdas and functions inside of functions."""

from typing import Any


class PicklableWrapper:
    """A callable that behaves like the wrapped one and can be pickled; unpickled, it is that one.

    Wrapping twice is the same as wrapping once.
    """

    def __init__(self, obj: Any) -> None:
        self._obj = obj._obj if isinstance(obj, PicklableWrapper) else obj

    def __reduce__(self) -> tuple:
        import cloudpickle  # needed by workers started by spawn only

        return cloudpickle.loads, (cloudpickle.dumps(self._obj),)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._obj(*args, **kwargs)

    def __getattr__(self, attr: str) -> Any:
        if attr == "_obj":  # not there yet while the wrapper is copied
            raise AttributeError(attr)
        return getattr(self._obj, attr)
