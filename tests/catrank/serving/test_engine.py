"""The queue: turns, limit, dropped requests, errors, the end."""

import threading
from collections.abc import Generator

import pytest

from catrank.serving.engine import Busy, Engine, once
from segcore.errors import UserError

SECONDS = 30


@pytest.fixture
def gate() -> threading.Event:
    return threading.Event()


def counting(number: int, seen: list[str], name: str) -> Generator[int, None, str]:
    for step in range(number):
        seen.append(name)
        yield step
    return name


def test_requests_take_turns(gate):
    seen: list[str] = []
    with Engine(8) as engine:
        engine.submit(once(lambda: gate.wait(SECONDS)))
        long, short = (engine.submit(counting(n, seen, name)) for n, name in ((3, "a"), (1, "b")))
        assert (engine.ahead(long), engine.ahead(short)) == (1, 2)
        gate.set()
        assert short.future.result(SECONDS) == "b" and long.future.result(SECONDS) == "a"
        assert long.progress == 2
    assert seen == ["a", "b", "a", "a"]


def test_a_full_queue_and_a_dropped_request(gate):
    ran: list[int] = []
    with Engine(2) as engine:
        first = engine.submit(once(lambda: gate.wait(SECONDS)))
        second = engine.submit(once(lambda: ran.append(2)))
        with pytest.raises(Busy, match="busy with 2 requests"):
            engine.submit(once(lambda: None))
        assert second.future.cancel()
        third = engine.submit(once(lambda: ran.append(3)))  # instead of the second
        gate.set()
        third.future.result(SECONDS)
        assert first.future.result(SECONDS) and ran == [3]


def test_a_request_dropped_between_steps_releases_what_it_holds(gate):
    closed = threading.Event()

    def steps() -> Generator[int, None, None]:
        try:
            while True:
                gate.set()
                yield 0
        finally:
            closed.set()

    with Engine(2) as engine:
        job = engine.submit(steps())
        assert gate.wait(SECONDS) and job.future.cancel() and closed.wait(SECONDS)


def test_errors_are_of_their_request_alone():
    def fail() -> None:
        raise UserError("no image")

    with Engine(4) as engine:
        bad, good = engine.submit(once(fail)), engine.submit(once(lambda: 7))
        assert good.future.result(SECONDS) == 7
        with pytest.raises(UserError, match="no image"):
            bad.future.result(SECONDS)


def test_the_end_drops_what_waits(gate):
    engine = Engine(4)
    engine.submit(once(lambda: gate.wait(SECONDS)))
    waiting = engine.submit(once(lambda: 7))
    threading.Timer(0.1, gate.set).start()
    engine.close()
    assert waiting.future.cancelled()
    with pytest.raises(Busy, match="shutting down"):
        engine.submit(once(lambda: 7))
