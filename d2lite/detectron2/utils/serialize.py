"""Pickling of functions that pickle refuses: lambdas and nested functions."""

from typing import Any


class PicklableWrapper:
    """A picklable wrapper of a callable, which unpickles to the callable itself.

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
