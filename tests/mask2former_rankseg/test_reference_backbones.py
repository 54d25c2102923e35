"""SeMask and ViT-Adapter with Mask2Former, compared with the published code: names, shapes and
numbers of parameters, learning rates."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Instances
from torch import nn

from mask2former_rankseg import MaskFormer
from mask2former_rankseg.checkpoint import MMDET_NAMES, to_mmdet
from mask2former_rankseg.semantic_loss import semantic_loss
from segcore.backbones.published import from_published, to_published
from segcore.backbones.semask import merge_semantic_maps
from segcore.checkpoint import Checkpointer
from segcore.config import load_config
from segcore.engine import Trainer, build_optimizer

sys.path.insert(0, str(Path(__file__).parents[1]))
import host_models
from semask_cases import CASES, load, semask

FAMILY = "mask2former_rankseg"
ADAPTER = (
    f"{FAMILY}/ade20k/semantic-segmentation/vit_adapter/mask2former_beit_adapter_large_%s_ade20k_ss"
)
ADAPTER_640, ADAPTER_896 = (ADAPTER % size for size in ("640_160k", "896_80k"))
SEMASK = (
    f"{FAMILY}/ade20k/semantic-segmentation/semask_swin/"
    "maskformer2_semask_swin_large_IN21k_384_bs16_160k_res640"
)
DERIVED = ("relative_position_index", "num_batches_tracked")


def on_meta(config: str, *options: object) -> MaskFormer:
    """Build a model without memory for its weights."""
    options = ("MODEL.DEVICE", "meta", "MODEL.WEIGHTS", "", *options)
    with torch.device("meta"):
        return build_model(load_config(f"{config}.yaml", options))


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


class TestViTAdapter:
    def test_published_keys(self, golden: Path) -> None:
        """And a file of them loads with no missing and no unexpected key."""
        name = "keys_mask2former_beit_adapter_large_k150.json"
        layout = json.loads((golden / "hosts" / name).read_text())
        model = on_meta(ADAPTER_896)
        assert parameters(model) == layout["parameters"]
        published = {n: s for n, s in layout["keys"].items() if not n.endswith(DERIVED)}
        state = {n: v for n, v in model.state_dict().items() if not n.endswith(DERIVED)}
        assert {to_mmdet(model, name): [*value.shape] for name, value in state.items()} == published
        for name in published:
            ours = MMDET_NAMES.to_ours(from_published(model.backbone, name))
            assert to_mmdet(model, ours) == name
        file = {n: torch.empty(shape, device="meta") for n, shape in layout["keys"].items()}
        model.train()  # weights of the meta device are not finite
        assert model.load_state_dict(file, strict=True) == ([], [])

    def test_published_numbers_of_parameters(self, golden: Path) -> None:
        counts = json.loads((golden / "hosts" / "parameter_counts.json").read_text())
        expected = counts["vit_adapter_large"]
        assert parameters(on_meta(ADAPTER_896)) == expected["computed_baseline"]
        ranked = parameters(on_meta(f"{ADAPTER_896}-rankseg"))
        assert ranked == expected["with_head_hidden_1024"]
        assert round(parameters(on_meta(ADAPTER_640)) / 1e6) == 568

    def test_every_parameter_has_its_published_learning_rate_and_decay(self, golden: Path) -> None:
        table = json.loads((golden / "hosts" / "optimizer.json").read_text())
        expected = table["mask2former_beit_adapter_large"]["groups_lr_wd"]
        model, cfg = on_meta(ADAPTER_896), load_config(f"{ADAPTER_896}.yaml")
        names = {id(value): to_mmdet(model, name) for name, value in model.named_parameters()}
        found = {}
        for group in build_optimizer(cfg, model).param_groups:
            (parameter,) = group["params"]
            found[names[id(parameter)]] = group["lr"], group["weight_decay"]
        assert found.keys() == expected.keys()
        for name, (rate, decay) in expected.items():
            assert math.isclose(found[name][0], rate, rel_tol=1e-9), name
            assert found[name][1] == decay, name

    def test_schedule_of_published_runs(self, golden: Path) -> None:
        table = json.loads((golden / "hosts" / "optimizer.json").read_text())
        expected = table["poly_with_linear_warmup_as_published_runs_used"]["vit_adapter_80k"]
        cfg = load_config(f"{ADAPTER_896}.yaml")
        group = [{"params": [nn.Parameter(torch.zeros(1))]}]
        scheduler = Trainer.build_lr_scheduler(cfg, torch.optim.SGD(group, lr=cfg.SOLVER.BASE_LR))
        for iteration, rate in expected.items():
            scheduler.last_epoch = int(iteration)
            assert math.isclose(scheduler.get_lr()[0], rate, rel_tol=1e-9, abs_tol=1e-18)


class TestSeMask:
    def test_published_keys_of_the_backbone(self, golden: Path) -> None:
        path = golden / "hosts" / "keys_semask_swin_large_backbone.json"
        layout = json.loads(path.read_text())
        backbone = on_meta(SEMASK).backbone
        assert parameters(backbone) == layout["parameters_backbone"]
        published = {n: s for n, s in layout["keys"].items() if not n.endswith(DERIVED)}
        state = {f"backbone.{n}": [*value.shape] for n, value in backbone.state_dict().items()}
        assert {to_published(backbone, name): shape for name, shape in state.items()} == published
        assert {from_published(backbone, name) for name in published} == state.keys()

    def test_published_size_of_the_model(self) -> None:
        assert int(parameters(on_meta(SEMASK)) / 1e6) == 222
        ranked = on_meta(f"{SEMASK}-rankseg")
        assert ranked.ranking is not None


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_loss_of_semask(golden: Path, name: str) -> None:
    case = CASES[name] | {"mean_std": "ImageNet"}
    backbone = semask(case["config"]).eval()
    load(backbone, case["keys"])
    logits = merge_semantic_maps(backbone.semantic_maps(host_models.images(case))[1])
    num_images, num_classes, height, width = logits.shape
    y, x = torch.arange(height)[:, None], torch.arange(width)
    labels = (7 * (y // 8) + 13 * (x // 8)) % num_classes
    labels[:8] = 255
    classes = labels[labels != 255].unique()
    masks = labels == classes[:, None, None]
    loss = semantic_loss(logits, [classes] * num_images, [masks] * num_images)
    with np.load(golden / "hosts" / f"{name}.npz") as arrays:
        assert loss.item() == pytest.approx(float(arrays["loss_cate"]), rel=1e-5)


# As SeMask's published yaml files have it.
PUBLISHED_YAML = """
MODEL:
  META_ARCHITECTURE: SeMaskMaskFormer
  BACKBONE: {NAME: D2SeMaskSwinTransformer, FREEZE_AT: 0}
  SEM_SEG_HEAD:
    NAME: BranchMaskFormerHead
    NUM_CLASSES: 7
    CONVS_DIM: 256
    NORM: GN
    PIXEL_DECODER_NAME: MSDeformAttnPixelDecoder
    IN_FEATURES: [res2, res3, res4, res5]
    TRANSFORMER_ENC_LAYERS: 6
  SWIN: {EMBED_DIM: 24, DEPTHS: [1, 1, 1, 1], SEM_WINDOW_SIZE: 12, NUM_SEM_BLOCKS: 1}
  MASK_FORMER: {TRANSFORMER_DECODER_NAME: MultiScaleMaskedTransformerDecoder, DEC_LAYERS: 10}
"""


def test_published_yaml_of_semask_builds(tmp_path: Path) -> None:
    file = tmp_path / "semask.yaml"
    file.write_text(PUBLISHED_YAML)
    model = on_meta(file.with_suffix(""))
    assert isinstance(model, MaskFormer) and model.semantic_weight == 0.4
    assert model.backbone.layers[0].semantic_layer.query.out_features == 7


TINY_ADAPTER = {
    "MODEL.BACKBONE.NAME": "build_beit_adapter_backbone",
    "MODEL.BEIT.EMBED_DIM": 16,
    "MODEL.BEIT.DEPTH": 4,
    "MODEL.BEIT.NUM_HEADS": 2,
    "MODEL.BEIT.NORM": "BN",
    "MODEL.VIT_ADAPTER.INTERACTIONS": [[0, 0], [1, 1], [2, 2], [3, 3]],
    "MODEL.VIT_ADAPTER.PRIOR_WIDTH": 4,
    "MODEL.VIT_ADAPTER.DEFORM_HEADS": 2,
    "MODEL.BEIT.IMAGE_SIZE": 64,
}


@pytest.mark.parametrize("side", [64, 96])
def test_released_files_load(tiny, tmp_path: Path, side: int) -> None:
    """In their form, with what the model computes; tables of another size are resampled."""
    released = tiny(TINY_ADAPTER)
    tensors = {to_mmdet(released, name): value for name, value in released.state_dict().items()}
    for name in [name for name in tensors if name.endswith("relative_position_bias_table")]:
        tensors[name] = torch.randn_like(tensors[name])
        tensors[name.replace("bias_table", "index")] = torch.zeros(17, 17).long()
    path = tmp_path / "mask2former_beit_adapter.pth.tar"
    torch.save({"meta": {"iter": 3}, "state_dict": tensors}, path)
    model = tiny(TINY_ADAPTER | {"MODEL.BEIT.IMAGE_SIZE": side})
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.5)
    Checkpointer(model).load(str(path))
    for name, value in model.state_dict().items():
        expected = tensors[to_mmdet(model, name)]
        if side == 64 or ".positions." not in name:
            assert torch.equal(value, expected), name
        else:
            assert len(value) == (2 * 6 - 1) ** 2 + 3 and not (value == 0.5).any()
    prediction = model([{"image": torch.rand(3, 70, 90) * 255}])[0]["sem_seg"]
    assert prediction.shape == (12, 70, 90) and prediction.isfinite().all()


def test_ranked_vit_adapter_trains(tiny) -> None:
    """One step with RankSeg, in which every parameter of the adapter takes part."""
    model = tiny(TINY_ADAPTER | {"MODEL.RANKSEG.FLAG": True, "MODEL.RANKSEG.TOPK": 5}).train()
    torch.manual_seed(0)
    masks = torch.arange(64)[None, :, None] // 32 == torch.tensor([0, 1])[:, None, None]
    instances = Instances(
        (64, 64), gt_classes=torch.tensor([2, 7]), gt_masks=masks.expand(2, 64, 64)
    )
    items = [{"image": torch.rand(3, 64, 64) * 255, "instances": instances}] * 2
    losses = model(items)
    sum(losses.values()).backward()
    assert "loss_ml" in losses
    idle = [n for n, p in model.backbone.named_parameters() if p.grad is None]
    assert not idle
