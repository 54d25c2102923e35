"""Adapter files: a ranking head alone, for a checkpoint that has none."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from catseg_d2.rank_adapter import KEY, RankAdapter
from segcore.errors import UserError

RANKED = ("MODEL.RANKSEG.FLAG", True, "MODEL.RANKSEG.HIDDEN_DIM", 16, "MODEL.RANKSEG.NUM_HEADS", 2)
RANKED = (*RANKED, "MODEL.RANKSEG.SCALE", "cost", "MODEL.RANKSEG.TOPK", 5)
ITEM = {"image": torch.arange(3 * 96 * 96).reshape(3, 96, 96) % 251}


def write(model, path: Path) -> Path:
    """Write the adapter of a model whose head is not the initial one."""
    with torch.no_grad():
        for parameter in model.ranking.parameters():
            parameter.add_(0.1)
    RankAdapter.of(model).write(path)
    return path


def half(model) -> dict:
    return {name: value.half() for name, value in model.state_dict().items()}


def test_an_adapter_makes_a_plain_checkpoint_a_ranked_one(tiny, tmp_path) -> None:
    ranked = tiny(*RANKED)
    path = write(ranked, tmp_path / "head.safetensors")
    assert path.stat().st_size < 100_000
    plain = {k: v for k, v in ranked.state_dict().items() if not k.startswith("ranking.")}
    model = tiny("MODEL.RANKSEG.WEIGHTS", path, "MODEL.RANKSEG.TOPK", 5)  # sizes: of the file
    assert not any(model.load_state_dict(plain))
    one, other = model([ITEM])[0], ranked([ITEM])[0]
    for key in ("sem_seg", "category_scores"):
        torch.testing.assert_close(one[key], other[key])


def test_half_precision_is_of_the_same_encoders(tiny, tmp_path) -> None:
    path = write(tiny(*RANKED), tmp_path / "head.safetensors")
    tiny("MODEL.RANKSEG.WEIGHTS", path).load_state_dict(half(tiny()))


def test_other_encoders_are_refused(tiny, tmp_path) -> None:
    path = write(tiny(*RANKED), tmp_path / "head.safetensors")
    model = tiny("MODEL.RANKSEG.WEIGHTS", path)
    for name, value in model.clip.named_parameters():
        if "resblocks" in name:
            value.data.add_(0.05 * torch.randn_like(value))
    other = {k: v for k, v in model.state_dict().items() if not k.startswith("ranking.")}
    with pytest.raises(UserError, match="safetensors was trained on other encoders"):
        tiny("MODEL.RANKSEG.WEIGHTS", path).load_state_dict(other)


def test_a_checkpoint_with_its_own_head_takes_no_adapter(tiny, tmp_path) -> None:
    ranked = tiny(*RANKED)
    path = write(ranked, tmp_path / "head.safetensors")
    model = tiny("MODEL.RANKSEG.WEIGHTS", path)
    with pytest.raises(UserError, match="has a ranking head of its own: leave out"):
        model.load_state_dict(ranked.state_dict())
    model.train().load_state_dict(ranked.state_dict())  # a training that resumes


def test_files_that_are_no_adapter(tiny, tmp_path) -> None:
    good = write(tiny(*RANKED), tmp_path / "head.safetensors")
    tensors = safetensors.torch.load_file(good)
    with safetensors.safe_open(good, "pt") as file:
        content = json.loads(file.metadata()[KEY])

    def refused(match: str, name: str = "bad.safetensors") -> None:
        with pytest.raises(UserError, match=match):
            tiny("MODEL.RANKSEG.WEIGHTS", tmp_path / name)

    refused("no file", "absent.safetensors")
    torch.save({"w": torch.ones(2)}, tmp_path / "model.pth")
    refused("no rank adapter", "model.pth")
    (tmp_path / "bad.safetensors").write_bytes(good.read_bytes()[:300])
    refused("cut short or damaged")
    for metadata in (
        None,
        {KEY: "{"},
        {KEY: "[]"},
        {KEY: json.dumps(content | {"format": 2})},
        {KEY: json.dumps(content | {"shape": {"wide": 3}})},
        {KEY: json.dumps(content | {"ranks": "5"})},
    ):
        safetensors.torch.save_file(tensors, tmp_path / "bad.safetensors", metadata)
        refused("no rank adapter")
    metadata = {KEY: json.dumps(content | {"shape": content["shape"] | {"width": 10**9}})}
    safetensors.torch.save_file(tensors, tmp_path / "bad.safetensors", metadata)
    refused("no rank adapter")
    wrong = tensors | {"head.classifier.bias": torch.tensor([torch.nan])}
    safetensors.torch.save_file(wrong, tmp_path / "bad.safetensors", {KEY: json.dumps(content)})
    refused("its tensor head.classifier.bias is not that of a ranking head")
    del wrong["head.classifier.bias"]
    safetensors.torch.save_file(wrong, tmp_path / "bad.safetensors", {KEY: json.dumps(content)})
    refused("its tensor head.classifier.bias")
