"""A service with a small open-vocabulary model, images, and clients of its REST interface."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

import catrank
from segcore.scenes import SCENES_60, plan_scene, render

ADDRESS = "http://127.0.0.1:7860"
EXTRA = "is not installed: extra serve"


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def pixels() -> np.ndarray:
    return render(plan_scene(SCENES_60, 0, "val", 0), 64).image


@pytest.fixture(scope="session")
def image(pixels) -> bytes:
    return png(pixels)


@pytest.fixture(scope="session")
def model() -> catrank.Model:
    return catrank.load("scenes-60", device="cpu", opts=["TEST.TOP_K", 3])


@pytest.fixture(scope="session")
def service(model) -> Iterator[Any]:
    for package in ("fastapi", "uvicorn", "httpx", "python_multipart"):
        pytest.importorskip(package, reason=f"{package} {EXTRA}")
    from catrank.serving.engine import Engine
    from catrank.serving.limits import Limits
    from catrank.serving.rest import Service

    limits = Limits(pixels=100_000, upload_bytes=3_000_000, words=50, frames=8, queue=4)
    with Engine(limits.queue) as engine:
        yield Service(model, "scenes-60", engine, limits)


@pytest.fixture
def connect(service) -> Callable[..., Any]:
    """Return a function that makes a client of the service, by the arguments of ``make_app``."""
    from starlette.testclient import TestClient

    from catrank.serving.app import make_app

    def connected(address: str = ADDRESS, **settings: Any) -> TestClient:
        app = make_app(service, **{"with_page": False, **settings})
        return TestClient(app, base_url=address, raise_server_exceptions=False)

    return connected


@pytest.fixture(scope="session")
def server(service) -> Iterator[str]:
    """Serve the page and the REST interface; return the address."""
    pytest.importorskip("gradio", reason=f"gradio {EXTRA}")
    from catrank.serving.app import make_app, running

    with running(make_app(service)) as address:
        yield address


@pytest.fixture
def client(connect) -> Any:
    return connect()
