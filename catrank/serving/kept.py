"""Uploads and results that the page comes back to, under keys that cannot be guessed."""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from segcore.errors import UserError

T = TypeVar("T")


class Gone(UserError):
    """There is nothing under a key, or it has been dropped."""


class Kept(Generic[T]):
    """Values by key; the oldest ones are dropped where all together have too many bytes."""

    def __init__(self, limit: int, drop: Callable[[T], None] = lambda _: None) -> None:
        """
        Args:
            limit: bytes of all values; the newest value stays, whatever its size.
            drop: releases what a value holds.
        """
        self._limit, self._drop = limit, drop
        self._values: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def add(self, value: T, size: int) -> str:
        """Keep a value of ``size`` bytes and return its key."""
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._values[key] = value, size
            self._bytes += size
            while self._bytes > self._limit and len(self._values) > 1:
                _, (oldest, count) = self._values.popitem(last=False)
                self._bytes -= count
                self._drop(oldest)
        return key

    def get(self, key: object) -> T:
        """Return a value.

        Raises:
            Gone: there is none under this key.
        """
        with self._lock:
            if not isinstance(key, str) or key not in self._values:
                raise Gone("this file or result is no longer kept: upload the file again")
            return self._values[key][0]
