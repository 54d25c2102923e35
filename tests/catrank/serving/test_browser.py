"""The page in a browser: Debian's Chromium, or another one on the PATH, driven by playwright."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow  # starts a browser, and loads a page several times

MARKUP = "<img src=x onerror=document.title='stolen'>"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WAIT = 120_000  # milliseconds


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser on the PATH: {', '.join(BROWSERS)}")
    # Chromium's sandbox does not start for root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, server) -> Iterator[Callable[[], Any]]:
    """Return a function that opens the page for another user; it collects what goes wrong."""
    contexts, wrong = [], []

    def opened() -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.extend(_foreign(request.url, server)))
        page.goto(server)
        page.wait_for_selector(".cr-drop")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def _foreign(url: str, server: str) -> list[str]:
    return [] if url.startswith((server, "data:", "blob:")) else [url]


def choose(page: Any, name: str, content: bytes) -> None:
    """Choose a file, and wait until the page says what it is."""
    file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    page.set_input_files(".cr-drop input", file)
    page.wait_for_function(
        "document.querySelector('.cr-state').textContent && "
        "!document.querySelector('.cr-state').textContent.startsWith('Uploading')"
    )


def segment(page: Any, words: str) -> None:
    page.fill("#words textarea", words)
    page.click("#start")


def legend(page: Any) -> list[str]:
    page.wait_for_selector(".cr-legend .cr-name")
    return page.locator(".cr-legend .cr-name").all_text_contents()


def colours(page: Any) -> list[list[int]]:
    """Return the pixels of the canvas."""
    return page.evaluate(
        "() => { const c = document.querySelector('.cr-stage canvas');"
        "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data] }"
    )


def test_upload_words_result_downloads(open_page, image, pixels, model, tmp_path):
    page = open_page()
    choose(page, "photo.png", image)
    assert page.text_content(".cr-state") == "photo.png, 64 x 64"
    words = ["red striped square", "grass", "blue plain circle"]
    segment(page, ", ".join(words))
    expected = model.segment(pixels, words)
    assert {*legend(page)} == {words[i] for i in expected.class_ids}

    page.hover(".cr-stage canvas", position={"x": 20, "y": 20})
    assert page.locator(".cr-tip .cr-name").first.text_content() in words
    assert float(page.locator(".cr-tip .cr-number").first.text_content()) <= 1

    shown = colours(page)
    page.fill(".cr-opacity input", "0")
    plain = colours(page)
    assert plain != shown
    seen = np.array(plain).reshape(64, 64, 4)[..., :3]
    assert np.abs(seen - pixels).mean() < 8  # the image itself, as JPEG
    page.click(".cr-legend button")
    assert page.get_attribute(".cr-legend button", "aria-pressed") == "true"
    assert len(expected) == 1 or colours(page) != plain
    page.click(".cr-legend button")
    assert colours(page) == plain

    files = {}
    for link in page.locator(".cr-download").all():
        with page.expect_download() as download:
            link.click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        files[path.name] = path
    assert {*files} == {f"photo_{end}" for end in ("overlay.png", "labels.png", "coco.json",
                                                   "labelme.json")}  # fmt: skip
    assert (np.asarray(Image.open(files["photo_labels.png"])) == expected.labels).all()
    assert json.loads(files["photo_coco.json"].read_text())["images"][0]["width"] == 64
    # The slider is at 0: no colours, but borders and names.
    assert Image.open(files["photo_overlay.png"]).size == (64, 64)


def test_a_bad_file_and_too_many_words_are_messages(open_page, image):
    page = open_page()
    choose(page, f"{MARKUP}.png", b"no image")
    assert "is no image or video" in page.text_content(".cr-state.cr-error")
    page.click("#start")
    assert "there is no image yet" in page.text_content(".cr-say.cr-error")
    choose(page, "photo.png", image)
    segment(page, "a," * 51)
    page.wait_for_function("document.querySelector('.cr-say').textContent.includes('51 class')")
    page.evaluate(
        "() => { const box = document.querySelector('#words textarea');"
        "box.value = 'a,'.repeat(1e6); box.dispatchEvent(new Event('input')) }"
    )
    page.click("#start")
    page.wait_for_function("document.querySelector('.cr-say').textContent.includes('2000000')")


def test_markup_is_text_everywhere(open_page, image):
    page = open_page()
    choose(page, f"{MARKUP}.png", image)
    assert MARKUP in page.text_content(".cr-state")
    segment(page, MARKUP)
    assert legend(page) == [MARKUP]
    page.hover(".cr-stage canvas", position={"x": 20, "y": 20})
    assert page.text_content(".cr-tip .cr-name") == MARKUP
    assert page.title() == "CatRank" and page.locator("img[src=x]").count() == 0


def test_two_users_with_different_words(open_page, image):
    users = {words: open_page() for words in ("red striped square", "grass")}
    for page in users.values():
        choose(page, "photo.png", image)
    for words, page in users.items():
        segment(page, words)
    for words, page in users.items():
        assert legend(page) == [words]


def test_an_example(open_page):
    page = open_page()
    page.click(".cr-examples button >> nth=1")
    page.wait_for_function("document.querySelector('.cr-state').textContent.includes('192 x 192')")
    segment(page, "")
    assert 1 <= len(legend(page)) <= 60


def test_a_video(open_page, pixels, tmp_path):
    pytest.importorskip("av", reason="PyAV is not installed: extra serve")
    from fractions import Fraction

    from segcore.video_files.writing import VideoWriter

    path = Path(tmp_path) / "clip.mp4"
    with VideoWriter(path, Fraction(5)) as writer:
        for _ in range(4):
            writer.write(pixels)
    page = open_page()
    choose(page, "clip.mp4", path.read_bytes())
    segment(page, "grass")
    assert legend(page) == ["grass"]
    page.wait_for_function("document.querySelector('.cr-left video').readyState >= 2")
