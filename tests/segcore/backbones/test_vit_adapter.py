"""ViT-Adapter: sizes, batches, gradients, pre-trained weights, bad keys."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, build_backbone

from segcore.backbones.beit import Beit
from segcore.backbones.published import load_pretrained
from segcore.config import default_config
from segcore.errors import UserError

SMALL = {
    "MODEL.BEIT.IMAGE_SIZE": 64,
    "MODEL.BEIT.EMBED_DIM": 16,
    "MODEL.BEIT.DEPTH": 4,
    "MODEL.BEIT.NUM_HEADS": 2,
    "MODEL.BEIT.LAYER_SCALE": 0.5,
    "MODEL.BEIT.DROP_PATH_RATE": 0.0,
    "MODEL.BEIT.NORM": "BN",
    "MODEL.VIT_ADAPTER.INTERACTIONS": [[0, 0], [1, 1], [2, 2], [3, 3]],
    "MODEL.VIT_ADAPTER.PRIOR_WIDTH": 4,
    "MODEL.VIT_ADAPTER.DEFORM_HEADS": 2,
}


def built(**options: object) -> Backbone:
    cfg = default_config()
    cfg.MODEL.BACKBONE.NAME = "build_beit_adapter_backbone"
    for key, value in (SMALL | options).items():
        *_, section, name = key.split(".")
        cfg.MODEL[section][name] = value
    torch.manual_seed(0)
    backbone = build_backbone(cfg, ShapeSpec(channels=3)).eval()
    for positions in backbone.positions:
        torch.nn.init.normal_(positions.table)
    return backbone


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (96, 128)])
def test_as_a_detectron2_backbone(size: tuple[int, int]) -> None:
    """Of the size of the tables and of another one, with independent images."""
    backbone, images = built(), torch.randn(2, 3, *size)
    assert backbone.size_divisibility == 32
    maps = backbone(images)
    assert {name: [*value.shape] for name, value in maps.items()} == {
        name: [2, 16, size[0] // spec.stride, size[1] // spec.stride]
        for name, spec in backbone.output_shape().items()
    }
    for name, value in backbone(images[1:]).items():
        torch.testing.assert_close(maps[name][1:], value)


def test_computed_again_in_the_backward_pass() -> None:
    kept, again = built(), built(**{"MODEL.BEIT.USE_CHECKPOINT": True})
    images, gradients = torch.randn(1, 3, 64, 64), []
    for backbone in (kept, again):
        sum(value.square().mean() for value in backbone(images).values()).backward()
        gradients.append([p.grad for p in backbone.parameters()])
    assert all(gradient is not None for gradient in gradients[0])
    torch.testing.assert_close(*gradients)


@torch.no_grad()
def test_autocast_keeps_the_sampling_in_float32() -> None:
    backbone, images = built(), torch.randn(1, 3, 64, 64)
    expected = backbone(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = backbone(images)
    for name, value in expected.items():
        assert (found[name] - value).std() < 0.05 * value.std(), name


def test_pretraining_is_that_of_beit() -> None:
    """The adapter keeps its values."""
    backbone = built()
    beit = Beit(16, 4, 2, (4, 4), (0, 1, 2, 3))
    file = {n: torch.full_like(v, 0.25) for n, v in beit.state_dict().items() if "pyramid" not in n}
    table = file.pop("positions.0.table")
    file = {name: value for name, value in file.items() if not name.startswith("positions.")}
    file |= {
        "rel_pos_bias.relative_position_bias_table": table,
        "norm.weight": torch.ones(16),
        "head.weight": torch.zeros(10, 16),
    }
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    weights = load_pretrained(backbone, file)
    assert {name.removeprefix("backbone.") for name in weights} == before.keys()
    for name, value in before.items():
        from_file = name.startswith(("blocks.", "positions.", "cls_token", "patch_embed."))
        expected = torch.full_like(value, 0.25) if from_file else value
        assert torch.equal(weights[f"backbone.{name}"], expected), name


def test_other_sides_are_an_error() -> None:
    with pytest.raises(UserError, match="multiples of 32: let the model pad"):
        built()(torch.zeros(1, 3, 64, 80))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("BEIT.PATCH_SIZE", 8, "BEIT.PATCH_SIZE is 8; it has to be 16 with an adapter"),
        ("BEIT.OUT_FEATURES", ["res1"], "BEIT.OUT_FEATURES .* among res2"),
        ("VIT_ADAPTER.INTERACTIONS", [[0, 1], [2, 3]], "four pairs that cover the 4 blocks"),
        ("VIT_ADAPTER.INTERACTIONS", [[0], [1], [2], [3]], "four pairs that cover the 4 blocks"),
        ("VIT_ADAPTER.DEFORM_HEADS", 3, "DEFORM_HEADS is 3; it has to be a divisor .* 8"),
        ("VIT_ADAPTER.DEFORM_POINTS", 0, "DEFORM_POINTS is 0; it has to be 1 or more"),
        ("VIT_ADAPTER.FEEDFORWARD_RATIO", 0.0, "FEEDFORWARD_RATIO is 0.0"),
    ],
)
def test_bad_keys(key: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        built(**{f"MODEL.{key}": value})
