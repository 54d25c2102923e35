"""A model starts from CAT-Seg's image encoder and the words of its classes."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import safetensors.torch
import torch
from detectron2.modeling import build_model

from catrank import load_config

ENCODER = "catseg_d2/scenes_60.yaml"
SEGMENTER = "per_pixel/scenes_60_segmenter.yaml"
DEEPLAB = "per_pixel/scenes_60_deeplabv3_rankseg.yaml"
RANKSEG = """
_BASE_: per_pixel/scenes_60_segmenter.yaml
MODEL:
  DEVICE: cpu
  RANKSEG: {FLAG: true, HIDDEN_DIM: 128, NUM_HEADS: 4, SHARE_EMBEDDING: true, TOPK: 10}
"""


@pytest.fixture
def tool(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("class_rows", repository / "tools/class_rows.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rows(tool) -> None:
    embeddings = torch.rand(5, 3, 4, generator=torch.Generator().manual_seed(0)) + 7
    rows = tool.class_rows(embeddings, 6)
    assert rows.shape == (5, 6)
    assert (rows[..., 4:] == 0).all()
    torch.testing.assert_close(rows.mean(dim=0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows.norm(dim=-1).mean(), torch.tensor(1.0))
    # Differences between classes keep their directions.
    wanted = embeddings.mean(dim=1)
    cosine = torch.cosine_similarity(rows[0, :4] - rows[1, :4], wanted[0] - wanted[1], dim=0)
    assert cosine > 0.999


def test_narrow_rows_keep_what_differs_most(tool) -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(9, 1, 2, generator=generator) @ torch.randn(2, 6, generator=generator)
    wide, narrow = tool.class_rows(embeddings, 6), tool.class_rows(embeddings, 2)
    assert narrow.shape == (9, 2)
    torch.testing.assert_close(torch.cdist(narrow, narrow), torch.cdist(wide, wide))


HEADS = {
    "softmax": ("{PER_PIXEL: {DECODER: aspp}}", "decode_head.classifier.linear.weight"),
    "essnet": (
        "{PER_PIXEL: {DECODER: aspp}, ESSNET: {FLAG: true}}",
        "decode_head.embedding_table.weight",
    ),
    "query2label": (
        "{META_ARCHITECTURE: Query2Label, QUERY2LABEL: {IN_FEATURE: tokens, FEEDFORWARD_DIM: 64}}",
        "head.decoder.class_embeddings",
    ),
}


@pytest.mark.parametrize("head", HEADS)
def test_every_class_table_starts_from_the_names(
    tool, repository: Path, tmp_path: Path, head: str
) -> None:
    keys, table = HEADS[head]
    config = tmp_path / "model.yaml"
    config.write_text(f"_BASE_: {SEGMENTER}\nMODEL: {keys}\n")
    cfg = load_config(str(config), ["MODEL.DEVICE", "cpu"])
    encoder = load_config(ENCODER, ["MODEL.DEVICE", "cpu"])
    checkpoint = repository / "demo/models/scenes_60.safetensors"
    found = tool.write_start(encoder, checkpoint, cfg, tmp_path / "start.safetensors")
    model = build_model(cfg)
    assert not model.load_state_dict(found, strict=False).unexpected_keys
    rows = found[table].reshape(60, -1)
    assert rows.norm(dim=1).mean() == pytest.approx(1.0)
    if head == "query2label":
        assert torch.equal(found["head.decoder.classifier.weight"], found[table])


def test_a_segmenter_starts_from_the_weights(tool, repository: Path, tmp_path: Path) -> None:
    checkpoint = repository / "demo/models/scenes_60.safetensors"
    config, target = tmp_path / "rankseg.yaml", tmp_path / "start.safetensors"
    config.write_text(RANKSEG)
    found = tool.write_start(
        load_config(ENCODER, ["MODEL.DEVICE", "cpu"]), checkpoint, load_config(str(config)), target
    )
    written = safetensors.torch.load_file(target)
    assert written.keys() == found.keys()
    model = build_model(load_config(str(config)))
    missing = model.load_state_dict(written, strict=False).missing_keys
    assert missing and not [name for name in missing if name.startswith("backbone.")]
    head = model.decode_head
    assert torch.equal(head.class_embeddings, head.ranking.head.classifier.weight)
    names = model.vocabulary.names
    rows = torch.nn.functional.normalize(head.class_embeddings[0].detach(), dim=-1)
    alike = rows @ rows.T
    words = [set(name.split()) for name in names]
    shared = torch.tensor([[len(a & b) for b in words] for a in words])
    other = ~torch.eye(len(names), dtype=torch.bool)
    assert alike[(shared > 0) & other].mean() > alike[shared == 0].mean() + 0.2
    # The backbone computes what CAT-Seg's image encoder was trained to.
    source = safetensors.torch.load_file(checkpoint)
    whole = build_model(load_config(SEGMENTER, ["MODEL.DEVICE", "cpu"]))
    whole.load_state_dict(source, strict=False)
    for name, value in whole.backbone.state_dict().items():
        assert torch.equal(value.half(), written[f"backbone.{name}"].half()), name


def test_another_backbone_comes_from_a_checkpoint(tool, repository: Path, tmp_path: Path) -> None:
    backbone = repository / "demo/models/scenes_60_panoptic.safetensors"
    opts = ["MODEL.DEVICE", "cpu", "MODEL.ALLOW_PARTIAL_WEIGHTS", True]
    found = tool.write_start(
        load_config(ENCODER, ["MODEL.DEVICE", "cpu"]),
        repository / "demo/models/scenes_60.safetensors",
        load_config(DEEPLAB, [*opts, "MODEL.WEIGHTS", str(backbone)]),
        tmp_path / "start.safetensors",
    )
    source = safetensors.torch.load_file(backbone)
    stem = found["backbone.conv1.weight"]
    torch.testing.assert_close(stem, source["backbone.stem.conv1.weight"].float())
    rows = found["decode_head.classifier.class_table"]
    assert torch.equal(found["decode_head.classifier.ranking.head.classifier.weight"], rows)
    assert rows.norm(dim=-1).mean() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("config", "target", "message"),
    [
        (SEGMENTER, "start.pth", "must end in .safetensors"),
        (
            "per_pixel/scenes_60_deeplabv3_rankseg.yaml",
            "start.safetensors",
            "has no ViT: name a checkpoint",
        ),
    ],
)
def test_mistakes_are_one_message(
    repository: Path, tmp_path: Path, config: str, target: str, message: str
) -> None:
    done = subprocess.run(
        [sys.executable, "tools/class_rows.py", "--encoder", ENCODER,
         "demo/models/scenes_60.safetensors", "--config-file", config, str(tmp_path / target)],
        cwd=repository,
        env={"PYTHONPATH": str(repository), "PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list(tmp_path.iterdir())
