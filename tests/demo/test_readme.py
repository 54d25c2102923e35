"""The README's Python block does what it says."""

import re

import numpy as np
import pytest
from PIL import Image

from segcore import config


@pytest.fixture
def snippet(repository):
    (block,) = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    return block


def test_the_lines_for_the_default_predictor_run(snippet, tiny_model, tmp_path, monkeypatch):
    tiny_config, weights = tiny_model
    picture = tmp_path / "picture.jpg"
    Image.fromarray(np.zeros((50, 80, 3), dtype=np.uint8)).save(picture)
    block = snippet.replace("picture.jpg", str(picture)).replace("model_base.pth", str(weights))
    block = block.replace("catseg_d2/vitb_384.yaml", str(tiny_config))
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["scores"].shape == (3, 50, 80)
    assert names["labels"].shape == (50, 80) and int(names["labels"].max()) < 3


def test_it_fits_ten_lines_and_names_a_packaged_config(snippet):
    lines = [line for line in snippet.splitlines() if line.strip()]
    assert len(lines) <= 10
    (name,) = re.findall(r'load_config\("([^"]+)"', snippet)
    assert config.find_config(name).is_file()
