"""The table of parameters and FLOPs."""

import importlib.util

import pytest
import torch
from torch import nn

from segcore.config import load_config


@pytest.fixture(scope="module")
def analyze(repository):
    spec = importlib.util.spec_from_file_location("analyze", repository / "tools" / "analyze.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore")
def test_attention_is_counted(analyze):
    """Two products of matrices: 2 heads, 5 queries, 7 keys, width 3."""

    class Attention(nn.Module):
        def forward(self, query, key):
            return nn.functional.scaled_dot_product_attention(query, key, key)

    inputs = torch.zeros(1, 2, 5, 3), torch.zeros(1, 2, 7, 3)
    flops = analyze.FlopCountAnalysis(Attention(), inputs)
    flops.set_op_handle("aten::scaled_dot_product_attention", analyze.attention_flops)
    assert flops.total() == 2 * 5 * 7 * (3 + 3)


@pytest.mark.filterwarnings("ignore")
def test_table_of_a_small_model(analyze):
    cfg = load_config("catseg_d2/scenes_60.yaml")
    cells = {}
    for words in ("sky", "sky, tree, dog, cat"):
        table = analyze.analyze(cfg, words, (96, 96), depth=1)
        rows = [line.split("|")[1:4] for line in table.splitlines() if line.startswith("|")]
        cells[words] = {name.strip(): (count.strip(), flops.strip()) for name, count, flops in rows}
    one, four = cells.values()
    assert one.keys() == four.keys() >= {"model", "clip", "aggregator"}
    assert one["clip"] == four["clip"], "the image passes through CLIP once"
    assert one["aggregator"][0] == four["aggregator"][0]
    assert one["aggregator"][1] != four["aggregator"][1], "classes cost time"
    assert "M parameters learn" in table


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("config", "deep"),
    [
        ("catseg_d2/scenes_60.yaml", "aggregator"),
        ("mask2former_rankseg/scenes_60_rankseg.yaml", "sem_seg_head.predictor"),
        ("mask2former_rankseg/scenes_60_panoptic.yaml", "sem_seg_head.predictor"),
        ("mask2former_rankseg/scenes_60_instance.yaml", "sem_seg_head.predictor"),
        ("mask2former_rankseg/scenes_60_video_instance.yaml", "sem_seg_head.predictor"),
        ("mask2former_rankseg/scenes_60_video_semantic.yaml", "sem_seg_head.predictor"),
    ],
)
def test_every_kind_of_model(analyze, monkeypatch, capsys, config, deep):
    """From the command line, which imports the family; a part that is used costs something."""
    command = ["analyze.py", "--config-file", config, "--size", "64", "64", "MODEL.DEVICE", "cpu"]
    monkeypatch.setattr("sys.argv", command)
    analyze.main()
    rows = [line.split("|")[1:4] for line in capsys.readouterr().out.splitlines() if "|" in line]
    flops = {name.strip(): flops.strip() for name, _, flops in rows}
    assert flops["model"] and flops[deep]
