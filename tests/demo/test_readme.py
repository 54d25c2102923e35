"""The README's Python blocks are short; ``tests/test_snippets.py`` runs them."""

import re

import pytest

from catrank.models import find
from segcore.config import find_config


@pytest.fixture
def snippets(repository):
    return re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)


def test_they_fit_ten_lines_and_name_models_and_configs_that_exist(snippets):
    for snippet in snippets:
        assert len([line for line in snippet.splitlines() if line.strip()]) <= 10
    text = "".join(snippets)
    (name,) = re.findall(r'load_config\("([^"]+)"', text)
    assert find_config(name).is_file()
    (name,) = re.findall(r'catrank\.load\("([^"]+)"', text)
    assert find(name).name == name
