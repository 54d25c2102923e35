"""The page holds what was put on it, escaped, and needs nothing but its folder."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from segcore.drawing.page import Card, LegendEntry, Page


class Tags(HTMLParser):
    """Every tag with its attributes, and whether all were closed in order."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str):
        super().__init__()
        self.seen, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def page(tmp_path):
    page = Page(tmp_path / "page", "A & B")
    page.contents()
    image = np.zeros((30, 60, 3), dtype=np.uint8)
    hostile = "<script>alert(1)</script>\"'&"
    page.heading(hostile)
    page.text(hostile)
    page.note("look here")
    page.commands(["demo.py --vocabulary '<a>'", "second line"])
    page.table(["name", "mIoU"], [[hostile, "1.0"], ["model", "2.0"]], best={(1, 1)})
    entries = [LegendEntry(hostile, (1, 2, 3), 0.25), LegendEntry("tiny", (4, 5, 6), 0.001)]
    images = [("image", image), (hostile, image)]
    page.cards([Card(hostile, images, [(hostile, entries)], side=40)])
    return page


def test_page_is_well_formed_and_escaped(page):
    text = page.write().read_text(encoding="utf-8")
    tags = Tags(text)
    assert tags.open == []
    assert "script" not in {tag for tag, _ in tags.seen}
    assert "&lt;script&gt;" in text and "A &amp; B" in text
    assert "rgb(1,2,3)" in text and ">25%<" in text
    assert "tiny" not in text and "1 below 1%" in text
    links = {attrs.get("href") for tag, attrs in tags.seen if tag == "a"}
    assert links == {"#section-1"} and 'id="section-1"' in text
    assert sum("best" in attrs.get("class", "") for _, attrs in tags.seen) == 1


def test_page_needs_nothing_but_its_folder(page):
    index = page.write()
    text = index.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//\w|@import|url\(", text)
    sources = [attrs["src"] for tag, attrs in Tags(text).seen if tag == "img"]
    assert len(sources) == 2
    for source in sources:
        with Image.open(index.parent / source) as image:
            assert image.size == (40, 20)
