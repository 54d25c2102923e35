"""Make the screenshots of the page of ``catrank serve`` with models that ship.

PYTHONPATH=tools python -m docs_site.screenshots [NAME ...]     # writes PNG files to docs/images

Needs the extra test, and a Chromium on the PATH.
"""

import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

import catrank
from catrank.serving.app import make_app, running
from catrank.serving.engine import Engine
from catrank.serving.limits import Limits
from catrank.serving.rest import Service
from segcore.errors import UserError, exit_on_user_error

IMAGES = Path(__file__).resolve().parents[2] / "docs/images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1280, "height": 860}
COLORS = 256  # of the files
WAIT = 120_000  # milliseconds
WORDS = "red triangle, blue square, yellow square, green triangle, grass"


def own_words(page: Any) -> None:
    """Type class names, and point at an object."""
    page.fill("#words textarea", WORDS)
    _segment(page, example=0)
    page.hover(".cr-stage canvas", position={"x": 130, "y": 75})


def ranked(page: Any) -> None:
    """Isolate a class of a model that ranks classes."""
    _segment(page, example=1)
    page.click(".cr-legend button >> nth=1")
    page.mouse.move(0, 0)


SHOTS: dict[str, tuple[str, Callable[[Any], None]]] = {
    "serve": ("scenes-60", own_words),
    "serve_ranking": ("scenes-60-rankseg", ranked),
}


def _segment(page: Any, example: int) -> None:
    page.click(f".cr-examples button >> nth={example}")
    page.wait_for_function("document.querySelector('.cr-state').textContent.includes(' x ')")
    page.click("#start")
    page.wait_for_selector(".cr-stage canvas")


@contextmanager
def _served(name: str) -> Iterator[str]:
    """Serve a model on loopback, and yield the address."""
    limits = Limits()
    model = catrank.load(name, device="cpu", opts=["TEST.TOP_K", 3])
    with ExitStack() as stack:
        engine = stack.enter_context(Engine(limits.queue))
        app = make_app(Service(model, name, engine, limits))
        yield stack.enter_context(running(app))


def main(names: list[str]) -> None:
    """Write the screenshots of these names, by default all."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise UserError(f"no browser on the PATH: install one of {', '.join(BROWSERS)}")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=arguments)
        for name in names or SHOTS:
            model, act = SHOTS[name]
            with _served(model) as address:
                page = chromium.new_page(viewport=SIZE, color_scheme="light")
                page.set_default_timeout(WAIT)
                page.goto(address)
                page.wait_for_selector(".cr-examples img")
                act(page)
                page.evaluate("window.scrollTo(0, 0)")
                page.wait_for_timeout(300)  # hovering fades
                shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
                page.close()
            path = IMAGES / f"{name}.png"
            shot.quantize(COLORS).save(path, optimize=True)
            print(f"{path}: {path.stat().st_size >> 10} KiB")


if __name__ == "__main__":
    with exit_on_user_error():
        main(sys.argv[1:])
