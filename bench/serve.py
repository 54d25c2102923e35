#!/usr/bin/env python3
"""Load on the REST interface of ``catrank serve``: requests a second, seconds of a request, errors.

    make bench BENCH=serve
    python bench/serve.py --model scenes-60 --clients 1 4 16 --requests 100 --size 192

Server and clients run on this machine, and share its cores. Each client sends the next request when
it has the reply. "model alone" calls the library in a loop, without HTTP, decoding and encoding.
"""

import catrank.interrupts

# isort: split
import argparse
import io
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image

import catrank
from segcore.errors import exit_on_user_error
from segcore.scenes import SCENES_60, plan_scene, render

WARM_UP = 2  # requests that are not counted


@dataclass(frozen=True)
class Load:
    """What clients measured.

    Attributes:
        seconds: of each request that succeeded.
        errors: requests that failed.
        total: seconds from the first request to the last reply.
    """

    seconds: list[float]
    errors: int
    total: float

    @property
    def rate(self) -> float:
        """Requests a second that succeeded."""
        return len(self.seconds) / self.total

    def quantile(self, fraction: float) -> float:
        """Seconds that this fraction of the requests does not exceed."""
        return float(np.quantile(self.seconds or [float("nan")], fraction))


def load(address: str, content: bytes, fields: dict[str, str], clients: int, requests: int) -> Load:
    """Send requests from several clients at once.

    Args:
        address: of the server.
        content: of an image file.
        fields: of the form.
        clients: at once.
        requests: of all clients together.
    """
    import httpx  # of the extra test

    seconds: list[float] = []
    errors: list[object] = []
    left = iter(range(requests))
    lock = threading.Lock()

    def client() -> None:
        with httpx.Client(base_url=address, timeout=600) as connection:
            while True:
                with lock:
                    if next(left, None) is None:
                        return
                start = time.perf_counter()
                files = {"image": ("image.png", content)}
                reply = connection.post("/v1/segment", files=files, data=fields)
                if reply.status_code == 200:
                    seconds.append(time.perf_counter() - start)
                else:
                    errors.append(reply.text)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Load(seconds, len(errors), time.perf_counter() - start)


@contextmanager
def serving(model: catrank.Model, queue: int) -> Iterator[str]:
    """Serve a model on loopback, and yield the address."""
    from catrank.serving.app import make_app, running  # of the extra serve
    from catrank.serving.engine import Engine
    from catrank.serving.limits import Limits
    from catrank.serving.rest import Service

    limits = Limits(queue=queue)
    with Engine(limits.queue) as engine:
        service = Service(model, "model", engine, limits)
        with running(make_app(service, with_page=False)) as address:
            yield address


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table; ``arguments`` are by default those of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="scenes-60", help="name of the model zoo (scenes-60)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16], help="(1 4 16)")
    parser.add_argument("--requests", type=int, default=100, help="of each row (100)")
    parser.add_argument("--size", type=int, default=192, help="side of the image (192)")
    parser.add_argument("--output", default="json", help="format of the replies (json)")
    args = parser.parse_args(arguments)

    model = catrank.load(args.model)
    pixels = render(plan_scene(SCENES_60, 0, "val", 0), args.size).image
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    alone = []
    for _ in range(args.requests + WARM_UP):
        start = time.perf_counter()
        model.segment(pixels)
        alone.append(time.perf_counter() - start)
    alone = alone[WARM_UP:]
    print(f"{args.model}, {args.size} x {args.size} pixels, {args.requests} requests a row")
    print(f"{'':12} {'requests/s':>10} {'median s':>9} {'p95 s':>9} {'errors':>7}")
    rate, p95 = 1 / statistics.fmean(alone), float(np.quantile(alone, 0.95))
    print(f"{'model alone':12} {rate:10.2f} {statistics.median(alone):9.3f} {p95:9.3f} {'':>7}")
    fields = {"output": args.output}
    with serving(model, queue=max(args.clients)) as address:
        load(address, file.getvalue(), fields, 1, WARM_UP)
        for clients in args.clients:
            found = load(address, file.getvalue(), fields, clients, args.requests)
            print(
                f"{clients:3} clients  {found.rate:10.2f} {found.quantile(0.5):9.3f} "
                f"{found.quantile(0.95):9.3f} {found.errors:7}"
            )


if __name__ == "__main__":
    with exit_on_user_error():
        main()
