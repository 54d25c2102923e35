"""Small checkpoints of small models: half precision, and trained token embeddings only."""

import subprocess
import sys

import pytest
import torch

from segcore.checkpoint import read_checkpoint
from segcore.config import load_config
from segcore.engine import build_checkpointer
from segcore.errors import UserError
from segcore.text import tokenize
from segcore.text.token_rows import keep_token_rows

CONFIG = "catseg_d2/scenes_60.yaml"
PROMPTS = ["a red plain circle", "grass"]

TABLE = "clip.token_embedding.weight"
ROWS, IDS = "clip.token_rows.weight", "clip.token_rows.ids"


def test_rows_are_restored_and_others_are_zero(tiny):
    model = tiny()
    before = model.clip.token_embedding.weight.detach().clone()
    small = keep_token_rows(model.state_dict(), PROMPTS)
    assert TABLE not in small and len(small[ROWS]) == len(tokenize(PROMPTS).unique())
    model.load_state_dict(small)
    after = model.clip.token_embedding.weight
    kept = small[IDS].long()
    assert after[kept].equal(before[kept])
    assert after.count_nonzero() == before[kept].count_nonzero()


@pytest.mark.parametrize(
    "damage",
    [
        {ROWS: torch.zeros(3, 5)},
        {IDS: torch.tensor([1, 2, 49408])},
        {IDS: torch.tensor([-1, 2, 3])},
        {IDS: torch.tensor([0.5, 1, 2])},
    ],
)
def test_rows_that_do_not_fit_are_one_message(tiny, damage):
    model = tiny()
    small = keep_token_rows(model.state_dict(), PROMPTS)
    small |= {ROWS: small[ROWS][:3], IDS: small[IDS][:3]} | damage
    with pytest.raises(UserError, match=r"token rows .* do not fit"):
        model.load_state_dict(small)


def test_a_small_file_is_not_made_smaller(tiny):
    small = keep_token_rows(tiny().state_dict(), PROMPTS)
    with pytest.raises(UserError, match=r"no text encoder, or was made smaller before"):
        keep_token_rows(small, PROMPTS)


def test_a_small_file_predicts_like_its_model(tiny, repository, tmp_path):
    model = tiny()
    large, small = tmp_path / "model.pth", tmp_path / "model.safetensors"
    torch.save({"model": model.state_dict(), "iteration": 3}, large)
    command = [sys.executable, "tools/shrink.py", "--config-file", CONFIG, large, small]
    subprocess.run(list(map(str, command)), cwd=repository, check=True)
    assert small.stat().st_size < large.stat().st_size / 6
    assert {value.dtype for value in read_checkpoint(small)["model"].values()} == {
        torch.float16,
        torch.int32,
    }
    read = tiny()
    torch.nn.init.zeros_(read.clip.visual.proj)
    build_checkpointer(load_config(CONFIG), read).load(str(small))
    image = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(1)) * 255
    predictions = [each([{"image": image}])[0]["sem_seg"] for each in (model, read)]
    assert predictions[0].isclose(predictions[1], atol=2e-3).all()
    assert not predictions[0].equal(predictions[1]), "half precision shows"
