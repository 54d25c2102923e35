"""Batches of images, layers, registries, and the size of the output."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import Conv2d, ShapeSpec, cat, get_norm
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    Backbone,
    build_backbone,
    build_model,
)
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.structures import ImageList
from detectron2.utils.registry import Registry


@pytest.fixture
def facts(behaviour):
    return behaviour["structures_and_layers"]


def test_image_list(facts, arrays, raised):
    facts = facts["ImageList"]
    tensors = [torch.from_numpy(arrays[f"in/imagelist_{i}"]) for i in range(3)]
    for name, case in facts.items():
        if not isinstance(case, dict):
            continue
        inputs = [t[0] for t in tensors] if name == "2d" else tensors[: case["n"]]
        batch = ImageList.from_tensors(inputs, **case["args"])
        assert [*batch.tensor.shape] == case["shape"], name
        assert [list(size) for size in batch.image_sizes][: case["n"]] == (
            case["image_sizes"][: case["n"]]
        )
        expected = torch.from_numpy(arrays[f"imagelist/{name}"])
        torch.testing.assert_close(batch.tensor, expected, rtol=0, atol=1e-5)
        assert len(batch) == case["n"]
    batch = ImageList.from_tensors(tensors)
    assert [*batch[1].shape] == facts["getitem_1_shape"]
    assert batch.to(torch.float64) is not batch
    assert batch.to(torch.float64).tensor.dtype == torch.float64
    assert batch.device == torch.device("cpu")
    square = {"square_size": 8}
    failure = raised(ImageList.from_tensors, tensors, padding_constraints=square)
    assert failure == facts["square_smaller_than_image"]
    other = [tensors[0], tensors[1][:1]]
    assert raised(ImageList.from_tensors, other) == facts["channel_mismatch"]
    assert raised(ImageList.from_tensors, []) == facts["empty"]


def test_postprocess(facts, arrays):
    for key in facts["sem_seg_postprocess"]["keys"]:
        size, out = (part.split("x") for part in key.split("size")[1].split("_out"))
        actual = sem_seg_postprocess(
            torch.from_numpy(arrays["in/postprocess"]),
            (int(size[0]), int(size[1])),
            int(out[0]),
            int(out[1]),
        )
        expected = torch.from_numpy(arrays[key])
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["BN", "SyncBN", "nnSyncBN", "FrozenBN", "GN"])
def test_norm(facts, name):
    fact, norm = facts["norms"]["get_norm"][name], get_norm(name, 64)
    assert type(norm).__name__ == fact["class"].rpartition(".")[2]
    assert len(list(norm.parameters())) == fact["parameters"]
    assert {key: [*value.shape] for key, value in norm.state_dict().items()} == fact["state"]
    assert norm.eps == fact["eps"]
    assert getattr(norm, "num_groups", None) == fact.get("groups")


def test_other_norms(facts, raised):
    facts = facts["norms"]
    assert [get_norm("", 4), get_norm(None, 4)] == facts["none"]
    assert type(get_norm(torch.nn.BatchNorm2d, 4)).__name__ == facts["callable"]
    assert raised(get_norm, "Nope", 4) == facts["unknown"]
    assert raised(get_norm, "GN", 33) == facts["GN_not_divisible_by_32"]


def test_norms_left_out_say_so(lite_only):
    with pytest.raises(KeyError, match="install Detectron2"):
        get_norm("LN", 4)


def test_layers(facts, raised):
    facts = facts["layers"]
    conv = Conv2d(3, 32, 3, norm=get_norm("GN", 32), activation=torch.relu)
    assert list(conv.state_dict()) == facts["Conv2d_state"]
    x = torch.randn(2, 3, 7, 7)
    expected = torch.relu(conv.norm(torch.nn.functional.conv2d(x, conv.weight, conv.bias)))
    torch.testing.assert_close(conv(x), expected)
    bare = Conv2d(3, 4, 3, padding=1)
    assert [bare.norm, bare.activation] == facts["Conv2d_attributes_without"]
    assert [*bare(torch.zeros(0, 3, 5, 5)).shape] == facts["Conv2d_empty_batch_shape"]
    assert cat([x]) is x
    assert [*cat([x, x], 1).shape] == [2, 6, 7, 7]
    spec = ShapeSpec()
    assert [spec.channels, spec.height, spec.width, spec.stride] == facts["ShapeSpec_defaults"]
    assert ShapeSpec(channels=3) == ShapeSpec(channels=3) != ShapeSpec(channels=4)
    assert not isinstance(spec, tuple)


def test_registry(facts, raised):
    facts, registry = facts["registries"], Registry("D2LITE")

    @registry.register()
    class Foo:
        pass

    class Baz:
        pass

    registry.register(Baz)
    assert raised(registry.register, Foo) == facts["duplicate"]
    assert raised(registry.get, "Nope") == facts["unknown_get"]
    assert "Foo" in registry and registry.get("Baz") is Baz
    assert sorted(name for name, _ in registry) == facts["names"]


class TinyBackbone(Backbone):
    def __init__(self, cfg, input_shape):
        super().__init__()
        self.input_shape = input_shape
        self._out_features = ["res2"]
        self._out_feature_channels = {"res2": 8}
        self._out_feature_strides = {"res2": 4}

    def forward(self, x):
        return {"res2": x}


class TinyModel(torch.nn.Linear):
    def __init__(self, cfg):
        super().__init__(cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, 2)


@pytest.fixture
def registered():
    """Register the two classes under unused names; remove them afterwards."""
    entries = ((BACKBONE_REGISTRY, TinyBackbone), (META_ARCH_REGISTRY, TinyModel))
    for registry, kind in entries:
        registry.register(kind)
    yield
    for registry, kind in entries:
        del registry._obj_map[kind.__name__]


def test_builders(facts, raised, registered):
    facts, cfg = facts["registries"], get_cfg()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.META_ARCHITECTURE = "TinyBackbone", "TinyModel"
    cfg.MODEL.DEVICE = "cpu"
    backbone = build_backbone(cfg)
    assert backbone.input_shape == ShapeSpec(channels=3)
    assert backbone.output_shape() == {"res2": ShapeSpec(channels=8, stride=4)}
    assert (backbone.size_divisibility, backbone.padding_constraints) == (0, {})
    model = build_model(cfg)
    assert (model.in_features, model.training, model.weight.device.type) == (54, True, "cpu")
    cfg.MODEL.DEVICE = "meta"
    assert build_model(cfg).weight.device.type == "meta"
    cfg.MODEL.META_ARCHITECTURE = "Nope"
    assert raised(build_model, cfg) == facts["builder_unknown_name"]
