"""MkDocs' hooks: pages from outside docs/, generated references, links between them."""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# By its folder: some builds of Detectron2 install a package that is named "tools", too.
sys.path.insert(0, str(Path(__file__).parents[1]))

# isort: split
from docs_site import command_pages, config_keys
from docs_site.repository_pages import COPIES, PAGES, REPOSITORY, for_site

GENERATED = {
    "reference/config_keys.md": config_keys.page,
    "reference/commands.md": command_pages.page,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, and copies of the files that pages link to."""
    for path, shown in PAGES.items():
        text = (REPOSITORY / path).read_text("utf-8")
        files.append(File.generated(config, shown, content=text))
    for shown, page in GENERATED.items():
        files.append(File.generated(config, shown, content=page()))
    copies: set[str] = set()
    for file in files.documentation_pages():
        copies |= for_site(file.content_string, file.src_uri)[1]
    for path in copies:
        file = File.generated(config, f"{COPIES}/{path}", abs_src_path=str(REPOSITORY / path))
        if file.is_documentation_page():  # a copy of Markdown, not a page
            file.dest_uri = file.src_uri
        files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Return a page with the links of the site."""
    return for_site(markdown, page.file.src_uri)[0]


def on_page_content(html: str, **_: Any) -> str:
    """Return a page without the roles of references in docstrings, ":class:`Model`"."""
    return re.sub(r":(?:mod|class|func|meth|attr|data):(?=<code>)", "", html)


def on_pre_build(config: MkDocsConfig) -> None:
    """Check that the build runs in the repository, whose modules are imported."""
    if Path(config.config_file_path).parent != REPOSITORY:
        raise RuntimeError("build the site with mkdocs.yml of the repository")
