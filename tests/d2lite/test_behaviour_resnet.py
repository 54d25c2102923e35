"""Residual networks and frozen batch norm."""

import sys
from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import Conv2d, FrozenBatchNorm2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, ResNet, build_resnet_backbone
from detectron2.modeling.backbone import BasicStem, BottleneckBlock
from detectron2.projects.deeplab import add_deeplab_config
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
import deterministic

CASES = (
    "r50_1x1",
    "r50_3x3",
    "r50_3x3_dilated",
    "r50_stem_type_ignored",
    "r101_3x3",
    "r18",
    "r50_deeplab_stem",
    "r50_deeplab_builder_basic_stem",
)


@pytest.fixture
def facts(behaviour):
    return behaviour["structures_and_layers"]["ResNet"]


def config(depth=50, s1=True, stem=None, name="build_resnet_backbone", **keys):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = name
    if stem:
        add_deeplab_config(cfg)
        cfg.MODEL.RESNETS.STEM_TYPE = stem
    node = cfg.MODEL.RESNETS
    node.DEPTH, node.STRIDE_IN_1X1 = depth, s1
    node.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    for key, value in keys.items():
        node[key] = value
    return cfg


def build(cfg):
    return BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME)(cfg, ShapeSpec(channels=3)).eval()


def fill(module):
    """The weights of the reference, by name."""
    state = module.state_dict()
    filled = deterministic.weights({name: value.shape for name, value in state.items()})
    for name, value in filled.items():
        if name.endswith("running_mean"):
            filled[name] = 2 * value
        elif name.endswith("running_var"):
            filled[name] = 1 + 2 * value.abs()
    module.load_state_dict(filled)
    return module


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_network(facts, arrays, case):
    fact = facts[case]
    net = fill(build(config(**fact["config"])))
    shapes = {
        name: {"channels": spec.channels, "stride": spec.stride}
        for name, spec in net.output_shape().items()
    }
    assert shapes == fact["output_shape"]
    assert len(net.state_dict()) == fact["n_state_keys"]
    weights = [p.requires_grad for p in net.parameters()]
    assert (len(weights), sum(weights)) == (fact["n_parameters"], fact["n_trainable"])
    convs = {name: m for name, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    assert [n for n, conv in convs.items() if conv.stride == (2, 2)] == fact["stride2_convs"]
    assert [n for n, conv in convs.items() if conv.dilation != (1, 1)] == fact["dilated_convs"]
    assert (net.size_divisibility, net.padding_constraints) == (0, {})

    features = net(torch.from_numpy(arrays["in/resnet"]))
    for name, size in fact["output_sizes_at_64x96"].items():
        assert [*features[name].shape] == size
        rms = features[name].square().mean().sqrt().item()
        assert rms == pytest.approx(fact["rms"][name], rel=1e-4)
        if (key := f"resnet/{case}/{name}") in arrays:
            expected = torch.from_numpy(arrays[key])
            torch.testing.assert_close(features[name][:, ::16], expected, rtol=0, atol=2e-5)


def test_names_and_shapes(facts):
    state = build(config()).state_dict()
    assert {name: [*value.shape] for name, value in state.items()} == facts["state_keys_r50"]


def test_freezing(facts):
    for freeze_at, fact in facts["freeze_at_with_BN"].items():
        cfg = config(NORM="BN")
        cfg.MODEL.BACKBONE.FREEZE_AT = int(freeze_at)
        net = build(cfg)
        kinds = [type(module).__name__ for module in net.modules()]
        assert sum(p.requires_grad for p in net.parameters()) == fact["trainable"]
        assert kinds.count("FrozenBatchNorm2d") == fact["frozenbn_modules"]
        assert kinds.count("BatchNorm2d") == fact["batchnorm_modules"]


def test_errors(facts, raised):
    errors = facts["errors"]
    assert raised(build, config(depth=18)) == errors["r18_with_default_RES2_OUT_CHANNELS"]
    assert raised(build, config(depth=49)) == errors["depth_49"]
    assert raised(build(config()), torch.zeros(3, 8, 8)) == errors["input_not_nchw"]


def test_parts():
    """A custom network built from the parts, with a classifier."""
    stages = ResNet.make_default_stages(50, norm="GN", num_groups=1)
    assert [len(stage) for stage in stages] == [3, 4, 6, 3]
    assert all(isinstance(block, BottleneckBlock) for stage in stages for block in stage)
    net = ResNet(BasicStem(norm="GN"), stages[:2], num_classes=5, out_features=["res3", "linear"])
    out = net(torch.zeros(2, 3, 32, 32))
    assert {name: [*value.shape] for name, value in out.items()} == {
        "res3": [2, 512, 4, 4],
        "linear": [2, 5],
    }
    assert BACKBONE_REGISTRY.get("build_resnet_backbone") is build_resnet_backbone


class TestFrozenBatchNorm:
    @pytest.fixture
    def facts(self, behaviour):
        return behaviour["structures_and_layers"]["norms"]["FrozenBN"]

    def test_numbers(self, arrays, facts):
        norm = get_norm("FrozenBN", 64)
        values = {name: 0.1 * deterministic.noise(name, (64,)) for name in norm.state_dict()}
        values["weight"] += 1
        values["bias"] /= 2
        values["running_var"] = 1 + values["running_var"].abs()
        norm.load_state_dict(values)
        x = torch.from_numpy(arrays["in/norm"])
        expected = torch.from_numpy(arrays["norm/FrozenBN"])
        torch.testing.assert_close(norm(x), expected, rtol=0, atol=1e-5)
        with_gradient = norm(x.clone().requires_grad_())
        torch.testing.assert_close(with_gradient, expected, rtol=0, atol=1e-5)
        assert list(norm.state_dict()) == facts["state_keys"]
        fresh = FrozenBatchNorm2d(4)
        assert fresh.running_var[0].item() == pytest.approx(facts["fresh_running_var"], abs=1e-9)

    def test_old_files_without_statistics(self, facts):
        fact, norm = facts["loading_only_weight_and_bias"], FrozenBatchNorm2d(4)
        norm.load_state_dict({"weight": torch.ones(4), "bias": torch.ones(4)})
        assert norm.running_mean.tolist() == fact["running_mean"]
        assert norm.running_var.tolist() == fact["running_var"]

    def test_conversion(self, facts):
        torch.manual_seed(0)
        module = nn.Sequential(Conv2d(3, 4, 1, norm=nn.BatchNorm2d(4)), nn.BatchNorm2d(4)).eval()
        x = torch.randn(2, 3, 5, 5)
        module[0].norm.running_mean.normal_()
        before = module(x)
        frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(module)
        assert [type(m).__name__ for m in (frozen[0], frozen[1])] == facts["convert"]
        torch.testing.assert_close(frozen(x), before)
        back = FrozenBatchNorm2d.convert_frozenbatchnorm2d_to_batchnorm2d(frozen).eval()
        assert isinstance(back[0].norm, nn.BatchNorm2d)
        torch.testing.assert_close(back(x), before)


def test_first_weights():
    """A seed gives those of Detectron2: a block creates all convolutions before it fills any."""
    torch.manual_seed(5)
    block = BottleneckBlock(8, 16, bottleneck_channels=4, norm="BN")
    names = ("conv1", "conv2", "conv3", "shortcut")
    sums = [block.get_parameter(f"{name}.weight").sum().item() for name in names]
    assert sums == pytest.approx([-1.1122, 1.4083, -1.6432, 2.4349], abs=1e-4)


def test_frozen_norm_keeps_its_counter():
    norm = torch.nn.BatchNorm2d(3)
    norm(torch.rand(2, 3, 4, 4))
    frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(norm)
    assert list(frozen.state_dict()) == list(norm.state_dict())
    assert frozen.num_batches_tracked == 1
    again = FrozenBatchNorm2d.convert_frozenbatchnorm2d_to_batchnorm2d(frozen)
    assert again.num_batches_tracked == 1


def test_frozen_norm_with_gradients():
    frozen = FrozenBatchNorm2d(2)
    frozen.weight.copy_(torch.tensor([2.0, 3.0]))
    frozen.running_mean.copy_(torch.tensor([0.5, 1.0]))
    x = torch.rand(1, 2, 3, 3, requires_grad=True)
    out = frozen(x)
    torch.testing.assert_close(out.detach(), frozen(x.detach()))
    (gradient,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(gradient[0, :, 0, 0], torch.tensor([2.0, 3.0]))
