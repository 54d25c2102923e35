"""Checkpoints of video models: published names, and initialisation from image models."""

import logging
import sys
from pathlib import Path

import pytest
import torch

from mask2former_rankseg.checkpoint import names_of
from segcore.checkpoint import Checkpointer
from segcore.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from mask2former_models import R50, SWIN_T, TINY, build, read_keys
from test_checkpoint import DERIVED, QUERIES_200, SWIN_B, SWIN_L
from test_reference import RANKSEG, TOPK
from video_options import VIDEO

CLASSES, DEPTH = "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "MODEL.RESNETS.DEPTH"
OPTIONS = tuple(item for pair in VIDEO.items() for item in pair)
VSPW, YTVIS = (CLASSES, 124, *RANKSEG, TOPK, 124), (CLASSES, 40, *RANKSEG, TOPK, 40)
PUBLISHED = {
    "vspw_r50_rankseg": (R50, *VSPW),
    "vspw_r101_rankseg": (R50, DEPTH, 101, *VSPW),
    "vspw_swin_base_rankseg": (SWIN_T, *SWIN_B, *VSPW),
    "ytvis2019_r50_rankseg": (R50, *YTVIS),
    "ytvis2019_r101_rankseg": (R50, DEPTH, 101, *YTVIS),
    "ytvis2019_swin_base_rankseg": (SWIN_T, *SWIN_B, *YTVIS),
    "ytvis2019_swin_large_rankseg": (SWIN_T, *SWIN_L, *YTVIS, *QUERIES_200),
    "case_vspw_r50_rank124_t2": (R50, *VSPW),
    "case_ytvis_r50_rank40_t2": (R50, *YTVIS),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_and_shapes(golden: Path, name: str) -> None:
    config, *options = PUBLISHED[name]
    with torch.device("meta"):
        model = build(config, *OPTIONS, *options, "MODEL.DEVICE", "meta")
    keys = read_keys(golden, name)
    published = {key: shape for key, shape in keys.items() if not key.endswith(DERIVED)}
    names = names_of(model)
    ours = {names.to_published(key): [*value.shape] for key, value in model.state_dict().items()}
    assert ours == published
    assert all(names.to_ours(names.to_published(key)) == key for key in model.state_dict())


def test_a_published_file_loads(golden: Path, tmp_path: Path) -> None:
    config, *options = PUBLISHED["ytvis2019_r50_rankseg"]
    keys = read_keys(golden, "ytvis2019_r50_rankseg")
    path = tmp_path / "model_final.pth"
    torch.save({"model": {k: torch.full(shape, 0.5) for k, shape in keys.items()}}, path)
    model = build(config, *OPTIONS, *options)
    Checkpointer(model).load(str(path))
    assert all((value == 0.5).all() for value in model.state_dict().values())


def test_an_image_model_to_start_from(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of other classes, without RankSeg: all weights fit but the classifier's."""
    tiny = [item for pair in TINY.items() for item in pair]
    image = build(SWIN_T, *tiny)
    to_published = names_of(image).to_published
    state = {to_published(name): torch.full_like(v, 0.5) for name, v in image.state_dict().items()}
    state["criterion.empty_weight"] = torch.ones(13)
    path = tmp_path / "model_final_3c8ec9.pth"
    torch.save({"model": state}, path)
    ranked = ("MODEL.RANKSEG.FLAG", True, "MODEL.RANKSEG.TOPK", 5, CLASSES, 5)
    options = (*tiny, *OPTIONS, *ranked, "MODEL.SEM_SEG_HEAD.USE_LAYERNORM", True)
    model = build(SWIN_T, *options)
    with pytest.raises(UserError, match=r"classifier.*ALLOW_PARTIAL_WEIGHTS"):
        Checkpointer(model).load(str(path))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        Checkpointer(model, allow_partial=True).load(str(path))
    new = {k for k, v in model.state_dict().items() if not (v == 0.5).all()}
    assert {k for k in before if torch.equal(before[k], model.state_dict()[k])} >= new
    prefixes = ("ranking.", "sem_seg_head.predictor.classifier.")
    assert new and all(name.startswith(prefixes) for name in new)
    assert "classifier.weight" in caplog.text
