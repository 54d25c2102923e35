"""Pages of the site whose files stand outside docs/, and links between docs/ and other files.

In the repository links are relative paths, so that they work where the files are read. In the site
a link to a page below leads to that page, and a link to another file of the repository to a copy of
it.
"""

import os
import posixpath
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
# Path in the repository -> page of the site.
PAGES = {
    "MODEL_ZOO.md": "results/model_zoo.md",
    "configs/INDEX.md": "results/experiments.md",
    "demo/models/README.md": "results/small_models.md",
    "datasets/README.md": "reference/downloads.md",
    "d2lite/README.md": "explanation/d2lite.md",
    "README.md": "project/readme.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changes.md",
    "SECURITY.md": "project/security.md",
}
COPIES = "files"  # folder of the site with copies of other files
LINK = re.compile(r"(?P<text>!?\[(?:[^\[\]]|\[[^\]]*\])*\])\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1[^\S\n]*$", re.DOTALL | re.MULTILINE)


def repository_path(page: str) -> str:
    """Return the path in the repository of a page of the site."""
    return next((path for path, shown in PAGES.items() if shown == page), f"docs/{page}")


def is_relative(target: str) -> bool:
    """Whether the target of a link is a path."""
    return not re.match(r"[a-z][a-z0-9+.-]*:|#|/", target)


def outside_code(text: str) -> list[tuple[str, bool]]:
    """Return the parts of a page in order, each with whether it is a fenced block of code."""
    parts, position = [], 0
    for block in FENCE.finditer(text):
        parts += [(text[position : block.start()], False), (block[0], True)]
        position = block.end()
    return [*parts, (text[position:], False)]


def links(text: str) -> list[str]:
    """Return the targets of the links and images of a page, blocks of code aside."""
    return [
        link["target"]
        for part, is_code in outside_code(text)
        if not is_code
        for link in LINK.finditer(part)
    ]


def for_site(text: str, page: str) -> tuple[str, set[str]]:
    """Return a page with its links as in the site.

    Args:
        text: of the page.
        page: path in the site, "howto/demo.md".

    Returns:
        the text, and the paths of files of the repository that the site needs copies of.
    """
    origin, copies = repository_path(page), set()

    def replaced(link: re.Match) -> str:
        if not is_relative(link["target"]):
            return link[0]
        path, _, anchor = link["target"].partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))
        if (REPOSITORY / target).is_dir():
            return link["text"].strip("[]")  # the site has no listing of folders
        shown = target.removeprefix("docs/") if target.startswith("docs/") else PAGES.get(target)
        if shown is None:
            shown = f"{COPIES}/{target}"
            copies.add(target)
        relative = os.path.relpath(shown, posixpath.dirname(page) or ".")
        return f"{link['text']}({relative}{'#' if anchor else ''}{anchor})"

    parts = outside_code(text)
    rewritten = (part if is_code else LINK.sub(replaced, part) for part, is_code in parts)
    return "".join(rewritten), copies
