"""Every link of the documentation leads to a file of the repository, and to a heading in it."""

import posixpath
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from docs_site.repository_pages import PAGES, for_site, is_relative, links, outside_code

FOLDERS = ("docs", "configs", "datasets", "demo", "d2lite")


def documents(repository: Path) -> list[Path]:
    found = [path for path in repository.iterdir() if path.suffix == ".md"]
    for folder in FOLDERS:
        found += (repository / folder).rglob("*.md")
    return sorted(path for path in found if ".pytest_cache" not in path.parts)


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings of a page, as code hosts and the site make them."""
    found: set[str] = set()
    for part, is_code in outside_code(text):
        for heading in re.findall(r"^#+ +(.*)$", "" if is_code else part, re.MULTILINE):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
            slug = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
            found.add(slug if slug not in found else f"{slug}-1")
    return found


def dead_links(path: Path) -> list[str]:
    dead = []
    text = path.read_text("utf-8")
    for target in links(text):
        file, _, anchor = target.partition("#")
        if re.match("[a-z]+:", target):
            continue
        there = path.parent / file if file else path
        is_page = there.suffix == ".md" and there.is_file()
        if not there.exists() or (anchor and is_page and anchor not in anchors(there.read_text())):
            dead.append(target)
    return dead


def test_links_of_all_documents(repository: Path) -> None:
    pages = documents(repository)
    assert len(pages) > 30
    dead = {str(page): found for page in pages if (found := dead_links(page))}
    assert not dead


def test_dead_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# A `b` (c)!\n\n```\n# comment\n```\n")
    page = tmp_path / "a.md"
    page.write_text(
        "[1](b.md) [2](b.md#a-b-c) [3](c.md) [4](b.md#comment) ![5](x.png) [6](#no)\n"
        "[7](https://example.org/x)\n```\n[8](none.md)\n```\n"
    )
    assert dead_links(page) == ["c.md", "b.md#comment", "x.png", "#no"]


def test_pages_that_the_code_names_exist(repository: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=repository, capture_output=True, text=True, check=False
    )
    if tracked.returncode:
        pytest.skip("no git repository")
    for name in tracked.stdout.splitlines():
        path = repository / name
        if path.suffix in {".py", ".yaml", ".toml", ".sh", ".json"} and path.is_file():
            for page in re.findall(r"docs/[\w/]+\.md", path.read_text("utf-8")):
                assert (repository / page).is_file(), f"{name} names {page}"


def test_every_page_opens_with_what_it_is_for(repository: Path) -> None:
    for path in (repository / "docs").rglob("*.md"):
        text = path.read_text("utf-8")
        opening = re.match(r"# .+\n\n(.+)", text)
        assert opening, f"{path} has no title and opening"
        assert re.match(r"This (page|tutorial) ", opening[1]), f"{path} says what it is for first"


def test_every_page_is_in_the_navigation(repository: Path) -> None:
    nav = (repository / "mkdocs.yml").read_text("utf-8")
    pages = [
        path.relative_to(repository / "docs").as_posix()
        for path in (repository / "docs").rglob("*.md")
    ]
    missing = [page for page in (*pages, *PAGES.values()) if f": {page}\n" not in nav]
    assert not missing


def test_links_of_the_site() -> None:
    text = (
        "[a](demo.md#x) [b](../../MODEL_ZOO.md#y) [c](../../train_net.py) [d](../../configs)\n"
        "[e](https://example.org) [f](#g) ![h](../images/demo.png)\n```\n[i](../../x.md)\n```\n"
    )
    shown, copies = for_site(text, "howto/training.md")
    assert shown == (
        "[a](demo.md#x) [b](../results/model_zoo.md#y) [c](../files/train_net.py) d\n"
        "[e](https://example.org) [f](#g) ![h](../images/demo.png)\n```\n[i](../../x.md)\n```\n"
    )
    assert copies == {"train_net.py"}
    back, _ = for_site("[a](docs/howto/demo.md) [b](configs/INDEX.md)", "project/readme.md")
    assert back == "[a](../howto/demo.md) [b](../results/experiments.md)"
    assert is_relative("a.md") and not is_relative("mailto:a@b.c")
    assert posixpath.dirname("a.md") == ""
