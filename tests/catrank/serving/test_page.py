"""The page without a browser: uploads and downloads, the event, and what Gradio leaves open."""

import io
import json
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from PIL import Image

from catrank.serving.engine import once
from segcore.errors import UserError

from .conftest import png

MARKUP = "<img src=x onerror=alert(1)>"
SECONDS = 60


@pytest.fixture(scope="module")
def page(server) -> Iterator[Any]:
    """A client of a running server: Gradio's event needs two connections."""
    import httpx

    with httpx.Client(base_url=server, timeout=SECONDS) as client:
        yield client


def upload(page: Any, content: bytes, name: str = "photo.png") -> Any:
    return page.post("/page/uploads", params={"name": name}, content=content)


def run(page: Any, *data: Any) -> list[dict[str, Any]]:
    """Run the event as the page does, and return the messages for its view."""
    session = "abc123"
    config = page.get("/config").json()
    start = next(each for each in config["dependencies"] if len(each["inputs"]) == 3)
    body = {"data": [*data], "fn_index": start["id"], "session_hash": session}
    assert page.post("/gradio_api/queue/join", json=body).status_code == 200
    messages = []
    with page.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
        for line in stream.iter_lines():
            event = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            if event.get("msg") == "process_completed":
                output = event["output"]
                messages += output.get("data", []) if event["success"] else [output["error"]]
                break
            if event.get("msg") == "process_generating":
                messages += output_of(event)
    return [json.loads(each) if isinstance(each, str) and each else each for each in messages]


def output_of(event: dict[str, Any]) -> list[Any]:
    """Gradio sends whole values first and differences later; these are whole strings here."""
    found = event["output"].get("data") or []
    return [each for each in found if isinstance(each, str)]


def last(page: Any, *data: Any) -> Any:
    """Return the last message, which is the result or an error."""
    found = [each for each in run(page, *data) if isinstance(each, dict)]
    return found[-1] if found else None


def test_an_image_from_upload_to_downloads(page, model, image, pixels):
    words = ["red striped square", "grass"]
    sent = upload(page, image).json()
    assert (sent["video"], sent["width"], sent["height"]) == (False, 64, 64)
    done = last(page, sent["key"], ", ".join(words), 0)
    assert done["state"] == "done", done
    address = f"/page/results/{done['key']}"
    view, expected = page.get(f"{address}/view").json(), model.segment(pixels, words)
    assert {each["name"] for each in view["legend"]} <= {*words}
    assert sum(each["fraction"] for each in view["legend"]) == pytest.approx(1)
    labels = page.get(f"{address}/labels")
    assert (np.asarray(Image.open(io.BytesIO(labels.content))) == expected.labels).all()
    assert labels.headers["content-disposition"].endswith("photo_labels.png")
    for output in ("overlay", "coco", "labelme"):
        assert page.get(f"{address}/{output}").status_code == 200
    assert page.get(f"{address}/secret").status_code == 404


@pytest.mark.parametrize(
    ("key", "message"), [("", "there is no image yet"), ("../../etc/passwd", "no longer kept")]
)
def test_errors_are_one_message(page, key, message):
    found = last(page, key, "sky", 0)
    assert found["state"] == "error" and message in found["message"]


def test_class_names_beyond_the_limit(page, image):
    key = upload(page, image).json()["key"]
    found = last(page, key, "a," * 1_000_000, 0)
    assert found["state"] == "error" and "use at most 50 names" in found["message"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no image or video"),
        (b"no image", "is no image or video"),
        (b"#EXTM3U\nhttp://127.0.0.1:9/a.ts\n", "is no image or video"),
        (png(np.zeros((400, 400, 3), dtype=np.uint8)), "more than the limit of 0.1 megapixels"),
    ],
)
def test_bad_files(page, content, message):
    reply = upload(page, content, MARKUP)
    assert reply.status_code == 400 and message in reply.json()["error"]
    assert MARKUP in reply.json()["error"] and "/tmp" not in reply.json()["error"]


def test_a_file_with_too_many_bytes(page):
    assert upload(page, bytes(4_000_000)).status_code == 413


# ---- what Gradio leaves open --------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "http://127.0.0.1:9/a.png", "https://example.org/a.png"]
)
def test_no_file_of_a_request_is_read_or_fetched(page, path, monkeypatch):
    """Gradio takes ``FileData`` with a path or an address in any input."""
    import gradio.processing_utils as processing

    fetched: list[str] = []

    async def fetch(url: str, **_: Any) -> str:
        fetched.append(url)
        return "/etc/passwd"

    monkeypatch.setattr(processing, "async_ssrf_protected_download", fetch)
    file = {"path": path, "url": path, "meta": {"_type": "gradio.FileData"}}
    for data in ((file, "sky", 0), ("", file, 0), ("", [file], 0)):
        assert all(each is None or each == {} or "state" not in each for each in run(page, *data))
    assert fetched == []


@pytest.mark.parametrize(
    "address",
    [
        "/gradio_api/file=/etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/file/etc/passwd",
        "/gradio_api/proxy=https://example.org/",
        "/gradio_api/upload",
        "/gradio_api/component_server",
        "/gradio_api/call/segment",
        "/monitoring",
        "/docs",
    ],
)
def test_other_addresses_of_gradio_are_closed(page, address):
    assert page.get(address).status_code == 404
    assert page.post(address, files={"files": b"x"}).status_code == 404


def test_static_files_stay_in_their_folder(page):
    for address in (
        "/assets/../config",
        "/static/..%2f..%2f..%2fetc/passwd",
        "/svelte//etc/passwd",
    ):
        assert "root:" not in page.get(address).text


def test_the_page_loads_nothing_from_elsewhere(page):
    reply = page.get("/")
    policy = reply.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy
    loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"([^\"]+)", reply.text)
    assert loaded and not [each for each in loaded if re.match("(https?:)?//", each)]
    foreign = page.get("/", headers={"origin": "https://evil.example"})
    assert foreign.status_code == 403
    assert "access-control-allow-origin" not in {*reply.headers, *foreign.headers}


def test_the_heading_is_text(service):
    from dataclasses import replace

    from catrank.serving.page import _about

    assert MARKUP not in _about(replace(service, name=MARKUP))


# ---- the event ----------------------------------------------------------------------------------


def test_a_user_who_has_gone_is_dropped(service, image, server):
    from catrank.serving.files import PageFiles
    from catrank.serving.limits import Upload
    from catrank.serving.page import _segment

    files, go = PageFiles(service.limits), threading.Event()
    path = files.new_path()
    path.write_bytes(image)
    key = files.check(Upload(path, "a.png"))["key"]
    busy = service.engine.submit(once(lambda: go.wait(SECONDS)))
    messages = _segment(service, files, key, "sky", 0)
    assert json.loads(next(messages)) == {"state": "waiting", "ahead": 1}
    waiting = service.engine._jobs[-1]
    messages.close()  # as Gradio does
    go.set()
    busy.future.result(SECONDS)
    assert waiting.future.cancelled()


def test_a_full_queue_is_a_message(service, page, image):
    go = threading.Event()
    jobs = [service.engine.submit(once(go.wait)) for _ in range(service.limits.queue)]
    try:
        found = last(page, upload(page, image).json()["key"], "sky", 0)
    finally:
        go.set()
    assert found["state"] == "error" and "the server is busy with 4 requests" in found["message"]
    for job in jobs:
        job.future.result(SECONDS)


def test_a_video(page, pixels, tmp_path):
    pytest.importorskip("av", reason="PyAV is not installed: extra serve")
    from fractions import Fraction

    from segcore.video_files.writing import VideoWriter

    for frames in (3, 9):
        path = tmp_path / f"{frames}.mp4"
        with VideoWriter(path, Fraction(5)) as writer:
            for _ in range(frames):
                writer.write(pixels)
        sent = upload(page, path.read_bytes(), "clip.mp4")
        if frames > 8:
            assert "the video has more than 8 frames" in sent.json()["error"]
            continue
        assert sent.json()["video"]
        done = last(page, sent.json()["key"], "grass, sand", 0)
        assert done["state"] == "done", done
        address = f"/page/results/{done['key']}"
        assert page.get(f"{address}/view").json()["kind"] == "video"
        video = page.get(f"{address}/video")
        assert video.headers["content-type"] == "video/mp4" and len(video.content) > 500


def test_kept_values_are_dropped_by_bytes():
    from catrank.serving.kept import Kept

    dropped: list[str] = []
    kept: Kept[str] = Kept(10, dropped.append)
    first, second = kept.add("a", 6), kept.add("b", 4)
    third = kept.add("c", 20)  # larger than all: it stays alone
    assert dropped == ["a", "b"] and kept.get(third) == "c"
    for key in (first, second, None, {}):
        with pytest.raises(UserError, match="no longer kept"):
            kept.get(key)


# ---- the end ------------------------------------------------------------------------------------


def test_the_server_ends_quietly_while_a_page_is_open(service, capfd, monkeypatch):
    import httpx

    from catrank.serving import app

    monkeypatch.setattr(app, "SHUTDOWN_SECONDS", 2)
    opened, ended = threading.Event(), threading.Event()

    def stay(address: str) -> None:
        with suppress(httpx.TransportError), httpx.stream("GET", address, timeout=SECONDS) as reply:
            for _ in reply.iter_text():  # Gradio's sign of life
                opened.set()
        ended.set()

    with app.running(app.make_app(service)) as address:
        threading.Thread(target=stay, args=(f"{address}/gradio_api/heartbeat/abc",)).start()
        assert opened.wait(SECONDS)
    assert ended.wait(SECONDS)
    printed = capfd.readouterr().err
    assert "Traceback" not in printed and "ERROR" not in printed
