"""The queue in front of a model: one thread works, a limited number of requests waits.

A request is a generator: it yields its progress behind each step and returns its result. An image
is one step, a video one for each frame. The thread takes the requests in turn, a step of each, so
that an image does not wait for the end of a video. All work, decoding and encoding included,
happens in steps: memory holds one decoded image at a time, whatever number of clients there is.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Generic, TypeVar

from segcore.errors import UserError

T = TypeVar("T")  # a result
P = TypeVar("P")  # a progress


class Busy(UserError):
    """The queue is full."""


def once(work: Callable[[], T]) -> Generator[None, None, T]:
    """Return a request of a single step."""
    yield from ()
    return work()


class Job(Generic[P, T]):
    """A request in the queue.

    Attributes:
        future: of the result. Cancelling it drops the request: it leaves the queue, or ends behind
            its present step.
        progress: behind the last step; None before.
    """

    def __init__(self, steps: Generator[P, None, T]) -> None:
        self._steps = steps
        self.future: Future[T] = Future()
        self.progress: P | None = None

    def step(self) -> bool:
        """Take a step, and return whether another one follows."""
        if self.future.cancelled():
            self._steps.close()
            return False
        with suppress(InvalidStateError):  # cancelled during the step
            try:
                self.progress = next(self._steps)
                return True
            except StopIteration as end:
                self.future.set_result(end.value)
            except BaseException as error:
                self.future.set_exception(error)
        return False


class Engine:
    """Work through requests in one thread. A context manager: leaving it drops those that wait."""

    def __init__(self, limit: int) -> None:
        """
        Args:
            limit: of requests that wait or are worked on.
        """
        self.limit = limit
        self._jobs: deque[Job] = deque()  # the first one is worked on
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def submit(self, steps: Generator[P, None, T]) -> Job[P, T]:
        """Put a request at the end of the queue.

        Raises:
            Busy: the queue is full.
        """
        job = Job(steps)
        with self._changed:
            if self._closing:
                raise Busy("the server is shutting down")
            waiting = sum(not each.future.cancelled() for each in self._jobs)
            if waiting >= self.limit:
                raise Busy(f"the server is busy with {waiting} requests: try again soon")
            self._jobs.append(job)
            self._changed.notify_all()
        return job

    def ahead(self, job: Job) -> int:
        """Return how many requests have their turn before a request."""
        with self._changed:
            return self._jobs.index(job) if job in self._jobs else 0

    def close(self) -> None:
        """Drop all requests, and end the thread behind its present step."""
        with self._changed:
            self._closing = True
            for job in self._jobs:
                job.future.cancel()
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closing)
                if not self._jobs:
                    return
                job = self._jobs[0]
            goes_on = job.step()
            with self._changed:
                self._jobs.popleft()
                if goes_on:
                    self._jobs.append(job)
