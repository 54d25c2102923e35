"""The README's Python block is short; ``tests/test_snippets.py`` runs it."""

import re

import pytest

from segcore.config import find_config


@pytest.fixture
def snippet(repository):
    (block,) = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    return block


def test_it_fits_ten_lines_and_names_a_packaged_config(snippet):
    lines = [line for line in snippet.splitlines() if line.strip()]
    assert len(lines) <= 10
    (name,) = re.findall(r'load_config\("([^"]+)"', snippet)
    assert find_config(name).is_file()
