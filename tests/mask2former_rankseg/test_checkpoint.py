"""Published checkpoints load: whole models, older names, and pre-trained backbones."""

import logging
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from mask2former_rankseg.checkpoint import current_name, names_of
from segcore.backbones.checkpoint import backbone_weights
from segcore.checkpoint import Checkpointer
from segcore.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[1]))
from mask2former_models import PANOPTIC, R50, SWIN_T, TINY, build, read_keys

COSINE = ("MODEL.SEM_SEG_HEAD.USE_LAYERNORM", True)
RANKSEG = (*COSINE, "MODEL.RANKSEG.FLAG", True, "MODEL.RANKSEG.TOPK")
QUERIES_200 = ("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", 200)


def swin(width: int, heads: int, depth: int = 18, window: int = 12) -> tuple:
    return (
        *("MODEL.SWIN.EMBED_DIM", width, "MODEL.SWIN.DEPTHS", [2, 2, depth, 2]),
        *("MODEL.SWIN.NUM_HEADS", [heads << stage for stage in range(4)]),
        *("MODEL.SWIN.WINDOW_SIZE", window),
    )


SWIN_B, SWIN_L = swin(128, 4), swin(192, 6)
PUBLISHED = {
    "ade20k_sem_r50": (R50,),
    "ade20k_sem_swin_tiny": (SWIN_T,),
    "ade20k_sem_swin_base_rankseg": (SWIN_T, *SWIN_B, *RANKSEG, 150),
    "ade20k_sem_swin_base_gt": (SWIN_T, *SWIN_B, "MODEL.RANKSEG.USE_GT", True),
    "ade20k_sem_swin_large_rankseg": (SWIN_T, *SWIN_L, *RANKSEG, 150),
    "ade20k_pan_r50": (PANOPTIC,),
    "ade20k_pan_swin_large_rankseg": (SWIN_T, *SWIN_L, *RANKSEG, 150, *QUERIES_200),
    "case_sem_swint_rank50": (SWIN_T, *RANKSEG, 50),
    "case_sem_swint_rank150_share": (
        *(SWIN_T, *RANKSEG, 150, "MODEL.RANKSEG.SHARE_EMBEDDING", True),
        *("MODEL.RANKSEG.HIDDEN_DIM", 256),
    ),
    "case_pan_r50_rank150": (PANOPTIC, *RANKSEG, 150),
}
DERIVED = ("relative_position_index", "criterion.empty_weight")


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_and_shapes(golden, name: str) -> None:
    """Built without memory for weights."""
    config, *options = PUBLISHED[name]
    with torch.device("meta"):
        model = build(config, *options, "MODEL.DEVICE", "meta")
    keys = read_keys(golden, name)
    published = {key: shape for key, shape in keys.items() if not key.endswith(DERIVED)}
    names = names_of(model)
    ours = {names.to_published(key): [*value.shape] for key, value in model.state_dict().items()}
    assert ours == published
    assert all(names.to_ours(names.to_published(key)) == key for key in model.state_dict())


@pytest.mark.parametrize("name", ["case_sem_swint_rank50", "ade20k_sem_r50"])
@pytest.mark.parametrize("whole", [True, False])
def test_published_files_load(golden, tmp_path, name: str, whole: bool) -> None:
    """Through MODEL.WEIGHTS, with and without what the config determines; .pth and .pkl."""
    config, *options = PUBLISHED[name]
    tensors = {
        key: torch.full(shape, 0.5)
        for key, shape in read_keys(golden, name).items()
        if whole or not key.endswith(DERIVED)
    }
    path = tmp_path / "model_final.pth"
    torch.save({"model": tensors, "iteration": 3}, path)
    model = build(config, *options)
    Checkpointer(model).load(str(path))
    assert all((value == 0.5).all() for value in model.state_dict().values())


def test_older_names(tiny) -> None:
    names = {
        "sem_seg_head.predictor.static_query.weight": "sem_seg_head.predictor.query_feat.weight",
        "sem_seg_head.mask_features.bias": "sem_seg_head.pixel_decoder.mask_features.bias",
        "sem_seg_head.adapter_1.weight": "sem_seg_head.pixel_decoder.lateral.0.weight",
    }
    to_ours = names_of(tiny()).to_ours
    assert {name: to_ours(current_name(name)) for name in names} == names


def test_missing_and_unknown_parameters_are_one_message(tiny, tmp_path) -> None:
    model = tiny()
    names = names_of(model)
    state = {names.to_published(name): value for name, value in model.state_dict().items()}
    path = tmp_path / "other.pth"
    state.pop("sem_seg_head.predictor.query_feat.weight")
    torch.save(state | {"sem_seg_head.predictor.more": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"lacks .*query_feat.*unknown .*more"):
        Checkpointer(model).load(str(path))


class TestBackbones:
    """Checkpoints of pre-training hold a backbone and a classifier."""

    def weights(self, model: nn.Module) -> dict[str, torch.Tensor]:
        state = model.backbone.state_dict()
        return {k: torch.full_like(v, 0.25) for k, v in state.items()}

    def check(self, model: nn.Module, before: dict) -> None:
        for name, value in model.state_dict().items():
            expected = before[name]
            if name.startswith("backbone.") and not name.startswith("backbone.norm"):
                expected = torch.full_like(value, 0.25)
            assert torch.equal(value, expected), name

    def swin_release(self, model: nn.Module) -> dict[str, torch.Tensor]:
        weights = self.weights(model)
        file = {k: v for k, v in weights.items() if not k.startswith("norm")}
        file["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16).long()
        file["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
        return file | {
            "norm.weight": torch.zeros(64),
            "norm.bias": torch.zeros(64),
            "head.weight": torch.zeros(1000, 64),
            "head.bias": torch.zeros(1000),
        }

    def test_swin(self, tiny, tmp_path, caplog) -> None:
        model = tiny()
        before = {k: v.clone() for k, v in model.state_dict().items()}
        path = tmp_path / "swin_tiny_patch4_window7_224.pth"
        torch.save({"model": self.swin_release(model)}, path)
        with caplog.at_level(logging.WARNING):
            Checkpointer(model).load(str(path))
        self.check(model, before)
        assert "holds a backbone: all other weights keep their values" in caplog.text

    def test_swin_as_detectron2_stores_it(self, tiny, tmp_path) -> None:
        model = tiny()
        before = {k: v.clone() for k, v in model.state_dict().items()}
        arrays = {k: v.numpy() for k, v in self.swin_release(model).items()}
        content = {"model": arrays, "__author__": "third_party", "matching_heuristics": True}
        path = tmp_path / "swin_tiny_patch4_window7_224.pkl"
        path.write_bytes(pickle.dumps(content))
        Checkpointer(model).load(str(path))
        self.check(model, before)

    @pytest.fixture
    def resnet(self) -> nn.Module:
        options = [item for pair in TINY.items() for item in pair]
        return build(R50, *options)

    def torchvision(self, model: nn.Module) -> dict[str, torch.Tensor]:
        with torch.device("meta"):
            names = torchvision.models.resnet50().state_dict()
        return {k: torch.full(v.shape, 0.25) for k, v in names.items()}

    def test_torchvision(self, resnet, tmp_path) -> None:
        before = {k: v.clone() for k, v in resnet.state_dict().items()}
        path = tmp_path / "resnet50-11ad3fa6.pth"
        torch.save(self.torchvision(resnet), path)
        Checkpointer(resnet).load(str(path))
        self.check(resnet, before)

    def test_resnet_as_detectron2_stores_it(self, resnet, tmp_path) -> None:
        before = {k: v.clone() for k, v in resnet.state_dict().items()}
        arrays = {k: v.numpy() for k, v in self.weights(resnet).items()}
        arrays |= {"stem.fc.weight": np.zeros((9, 9)), "stem.fc.bias": np.zeros(9)}
        content = {"model": arrays, "__author__": "torchvision", "matching_heuristics": True}
        path = tmp_path / "R-50.pkl"
        path.write_bytes(pickle.dumps(content))
        Checkpointer(resnet).load(str(path))
        self.check(resnet, before)

    def test_a_part_is_missing(self, resnet, tmp_path) -> None:
        weights = self.torchvision(resnet)
        del weights["layer3.1.conv2.weight"]
        path = tmp_path / "damaged.pth"
        torch.save(weights, path)
        with pytest.raises(UserError, match=r"lacks backbone\.res4\.1\.conv2\.weight"):
            Checkpointer(resnet).load(str(path))

    def test_other_files_are_none(self) -> None:
        assert backbone_weights({"visual.conv1.weight": 0}) is None
        assert backbone_weights({"stem.conv1.weight": 0, "sem_seg_head.x": 1}) is None
