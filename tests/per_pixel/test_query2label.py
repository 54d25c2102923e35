"""Query2Label: its mapper, published names, training, and two processes."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser
from detectron2.modeling import build_model
from PIL import Image
from timm.models.tresnet import TResNet
from torch import Tensor, nn

import per_pixel  # noqa: F401  (registers the family)
from segcore.checkpoint import Checkpointer
from segcore.config import load_config
from segcore.engine import build_optimizer, launch
from segcore.errors import UserError
from segcore.evaluation.multilabel import average_precision
from segcore.mappers import ImageClassesMapper
from segcore.mappers.image_classes import cut_out
from segcore.rankseg.losses import asymmetric_loss

sys.path.insert(0, str(Path(__file__).parent))
import hosts_run as program

sys.path.insert(0, str(Path(__file__).parents[1]))
from per_pixel_hosts import VIT, write_config

OPTIONS = VIT | {
    "MODEL.META_ARCHITECTURE": "Query2Label",
    "MODEL.VIT.DROP_PATH_RATE": 0.0,
    "MODEL.QUERY2LABEL.IN_FEATURE": "tokens",
    "MODEL.QUERY2LABEL.FEEDFORWARD_DIM": 32,
    "MODEL.QUERY2LABEL.DROPOUT": 0.0,
}
BACKBONES = {
    "r101": ("coco_stuff_10k/query2label_r101_448x448_80ep", ["MODEL.RESNETS.DEPTH", 50]),
    "tresnet": (
        "coco_stuff_10k/query2label_tresnet-l_448x448_80ep",
        ["MODEL.TRESNET.VARIANT", "tresnet_m"],
    ),
    "swin": (
        "coco_stuff_10k/query2label_swin-l_384x384_80ep",
        [
            "MODEL.SWIN.EMBED_DIM",
            24,
            "MODEL.SWIN.DEPTHS",
            [1, 1, 2, 1],
            "MODEL.SWIN.WINDOW_SIZE",
            4,
        ],
    ),
}


def words(options: dict) -> list:
    return [item for pair in options.items() for item in pair]


@pytest.fixture
def cfg(tmp_path: Path) -> CfgNode:
    return load_config(write_config(tmp_path), words(OPTIONS))


# ---- published files -------------------------------------------------------------------------


def published(model: nn.Module, kind: str) -> dict[str, Tensor]:
    """Return the weights of a model as the release names them."""
    renamed = {}
    for name, value in model.state_dict().items():
        if name.startswith("backbone."):
            renamed |= {f"backbone.0.{bare}": v for bare, v in of_backbone(kind, name, value)}
            continue
        bare = name.removeprefix("head.")
        for ours, theirs in (
            ("encoder.0.cross_attn.", "transformer.encoder.layers.0.self_attn."),
            ("encoder.0.", "transformer.encoder.layers.0."),
            ("decoder.class_embeddings", "query_embed.weight"),
            ("decoder.classifier.weight", "fc.W"),
            ("decoder.classifier.bias", "fc.b"),
            ("decoder.norm.", "transformer.decoder.norm."),
            (".cross_attn.", ".multihead_attn."),
            (".norm2.", ".norm3."),
            (".norm1.", ".norm2."),
            ("decoder.layers.", "transformer.decoder.layers."),
        ):
            if theirs.startswith("transformer.encoder") and bare.startswith(ours):
                bare = theirs + bare.removeprefix(ours)
                break
            if not bare.startswith("transformer.encoder"):
                bare = bare.replace(ours, theirs)
        renamed[bare] = value[0] if bare == "query_embed.weight" else value
    return renamed | {"backbone.1.pe": torch.zeros(1, 8, 14, 14)}


def of_backbone(kind: str, name: str, value: Tensor) -> list[tuple[str, Tensor]]:
    bare = name.removeprefix("backbone.")
    if kind == "swin":  # not in a wrapper, and with the norm behind its last stage
        return [(bare.replace("norm3.", "norm."), value)]
    if kind == "tresnet":
        if bare.endswith("num_batches_tracked"):
            return []  # the release's batch norm does not count, and scales by absolute values
        value = -(value - 1e-5) if bare.endswith("bn.weight") else value
        stem, layer = bare.split(".")[1], bare.rpartition(".bn.")[0] or bare.rpartition(".conv.")[0]
        strided = stem in ("layer2", "layer3", "layer4") and bare.split(".")[2] == "0"
        blurred = strided and layer.endswith(BLURRED[stem])
        first = ".0.0." if blurred else ".0."
        second = ".0.1." if blurred else ".1."
        bare = bare.replace(".conv.", first).replace(".bn.", second)
    return [(f"body.{bare}", value)]


# The convolution of the first block that is followed by a blur: of basic blocks and bottlenecks.
BLURRED = {"layer2": "conv1", "layer3": "conv2", "layer4": "conv2"}


@pytest.fixture
def small_tresnet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all TResNets be an eighth as wide, with the blocks of TResNet-M."""

    def create_model(name: str, **_: object) -> TResNet:
        assert name == "tresnet_m"
        return TResNet([3, 2, 2, 1], width_factor=0.125, num_classes=0)

    monkeypatch.setattr("timm.create_model", create_model)


@pytest.mark.usefixtures("small_tresnet")
@pytest.mark.parametrize(
    ("kind", "wrapper"), [("r101", ""), ("r101", "module."), ("swin", ""), ("tresnet", "module.")]
)
def test_published_names_load(kind: str, wrapper: str, tmp_path: Path) -> None:
    """No key is missing or unexpected, and every value arrives."""
    name, options = BACKBONES[kind]
    small = ["MODEL.QUERY2LABEL.FEEDFORWARD_DIM", 8, "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""]
    options = [*options, *small, "MODEL.RESNETS.RES2_OUT_CHANNELS", 16]
    options += ["MODEL.RESNETS.WIDTH_PER_GROUP", 4, "MODEL.RESNETS.STEM_OUT_CHANNELS", 8]
    model = build_model(load_config(f"per_pixel/{name}.yaml", options))
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) + 0.1)
    expected = {key: value.clone() for key, value in model.state_dict().items()}
    weights = {wrapper + key: value for key, value in published(model, kind).items()}
    torch.save({"state_dict": weights, "epoch": 7}, tmp_path / "checkpoint.pth")
    with torch.no_grad():
        for value in model.state_dict().values():
            value.zero_()
    Checkpointer(model).load_for_use(str(tmp_path / "checkpoint.pth"))
    for key, value in model.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, expected[key], msg=key)


@pytest.mark.usefixtures("small_tresnet")
@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [("r101", "layer1.", "layer2."), ("tresnet", "body.layer1.", "body.layer2.")],
)
def test_first_parts_are_frozen_and_the_others_are_trained_alike(
    kind: str, first: str, second: str
) -> None:
    name, options = BACKBONES[kind]
    cfg = load_config(f"per_pixel/{name}.yaml", [*options, "MODEL.DEVICE", "meta"])
    with torch.device("meta"):
        model = build_model(cfg)
    trained = {name for name, p in model.backbone.named_parameters() if p.requires_grad}
    assert any(name.startswith(second) for name in trained)
    assert not any(name.startswith((first, "conv1.", "body.conv1.")) for name in trained)
    groups = build_optimizer(cfg, model).param_groups
    assert {(group["lr"], group["weight_decay"]) for group in groups} == {(1e-4, 0.01)}
    assert len(groups) == len(trained) + len(list(model.head.parameters()))


# ---- data ------------------------------------------------------------------------------------


def write_image(folder: Path, size: tuple[int, int] = (40, 60)) -> dict:
    labels = np.full(size, 255, dtype=np.uint8)
    labels[:3, :3], labels[20:, :] = 5, 9
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for name, pixels in (("image", image), ("labels", labels)):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return {
        "file_name": str(folder / "image.png"),
        "sem_seg_file_name": str(folder / "labels.png"),
    }


def mapper(**options: object) -> ImageClassesMapper:
    known = {"is_train": True, "size": 32, "num_classes": 12, "ignore_label": 255}
    return ImageClassesMapper(image_format="RGB", **known | options)


def test_training_reads_the_classes_of_the_whole_image(tmp_path: Path) -> None:
    """A square image, neither cropped nor flipped; an object of three pixels counts."""
    record = write_image(tmp_path)
    item = mapper()(record)
    assert item["category_ids"].tolist() == [5, 9] and item["image"].shape == (3, 32, 32)
    assert (item["height"], item["width"]) == (40, 60) and "sem_seg_file_name" not in item
    test = mapper(is_train=False)(record)
    assert test["image"].equal(item["image"]) and "category_ids" not in test
    reverse = ImageClassesMapper(
        is_train=False, size=32, image_format="BGR", num_classes=12, ignore_label=255
    )
    assert reverse(record)["image"].flip(0).equal(item["image"])


def test_augmentation_is_seeded_and_switchable(tmp_path: Path) -> None:
    record, images = write_image(tmp_path), []
    for seed in (0, 0, 1):
        np.random.seed(seed)
        torch.manual_seed(seed)
        images.append(mapper(cutout=0.5, rand_augment=(2, 9))(record)["image"])
    assert images[0].equal(images[1]) and not images[0].equal(images[2])
    plain = mapper()(record)["image"]
    assert mapper()(record)["image"].equal(plain) and not images[0].equal(plain)


def test_cutout_is_a_square_hole_clipped_at_the_border() -> None:
    image = np.zeros((20, 20, 3), dtype=np.uint8)
    areas = []
    for seed in range(60):
        np.random.seed(seed)
        rows, columns = (cut_out(image, 0.5) != 0).any(2).nonzero()
        if len(rows):
            height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
            assert height <= 10 and width <= 10 and height * width == len(rows)
            areas.append(len(rows))
    assert max(areas) == 100 and min(areas) < 60
    assert cut_out(image, 0.0) is image


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "INPUT.IMAGE_CLASSES.SIZE is 0"),
        ({"cutout": 1.5}, "CUTOUT is 1.5"),
        ({"rand_augment": (2, 40)}, "RAND_AUGMENT is"),
        ({"rand_augment": (2,)}, "RAND_AUGMENT is"),
    ],
)
def test_wrong_settings_of_the_mapper(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        mapper(**options)


def test_a_class_that_the_model_lacks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"labels\.png"):
        mapper(num_classes=9)(write_image(tmp_path))


# ---- the model -------------------------------------------------------------------------------


def test_gradients_flow_through_the_focus_as_asked() -> None:
    """Without them the gradient of an absent class is that of its weighted logarithm."""
    logits = torch.tensor([[1.0, -2.0]], requires_grad=True)
    targets = torch.tensor([[False, True]])
    loss = asymmetric_loss(logits, targets, clip=0.0, focus_gradient=False)
    loss.backward()
    p = logits.detach().sigmoid()
    expected = torch.stack([p[0, 0] ** 2 * p[0, 0], -(1 - p[0, 1])])[None] / 2
    torch.testing.assert_close(logits.grad, expected)
    (through,) = torch.autograd.grad(asymmetric_loss(logits, targets, clip=0.0), logits)
    assert not torch.allclose(through, expected)
    assert asymmetric_loss(logits, targets, clip=0.0).item() == pytest.approx(loss.item())


def test_images_of_any_size_and_any_batch(cfg: CfgNode) -> None:
    model = build_model(cfg).eval()
    model.may_predict = True
    images = [torch.randint(0, 256, (3, side, 48)) for side in (48, 64, 48)]
    together = model([{"image": image} for image in images])
    for image, output in zip(images, together, strict=True):
        alone = model([{"image": image}])[0]
        torch.testing.assert_close(alone["category_scores"], output["category_scores"])
        assert output["category_logits"].sigmoid().equal(output["category_scores"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MODEL.QUERY2LABEL.IN_FEATURE": "res5"}, "IN_FEATURE is 'res5', but the maps"),
        ({"MODEL.QUERY2LABEL.NUM_HEADS": 5}, "has width 24, which has to be a multiple"),
        ({"MODEL.QUERY2LABEL.HIDDEN_DIM": 6}, "has width 6, which has to be a multiple"),
    ],
)
def test_wrong_settings_are_one_message(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_model(load_config(write_config(tmp_path), words(OPTIONS | changes)))


def test_training_needs_the_classes(cfg: CfgNode) -> None:
    with pytest.raises(UserError, match="a training image has no classes"):
        build_model(cfg).train()([{"image": torch.zeros(3, 48, 48)}])


def test_it_learns_which_classes_are_in_an_image(cfg: CfgNode) -> None:
    """A class shows as a colour: mAP far above that of the frequencies of the classes."""
    torch.manual_seed(0)
    cfg.MODEL.QUERY2LABEL.LOSS_WEIGHT = 1.0
    model = build_model(cfg).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    colours = torch.randint(0, 256, (12, 3, 1, 1))
    draw = torch.Generator().manual_seed(0)
    for _ in range(80):
        loss = sum(model(colourful(draw, colours)).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    items = [item for _ in range(4) for item in colourful(draw, colours)]
    with torch.no_grad():
        scores = torch.stack([each["category_scores"] for each in model.eval()(items)])
    present = torch.zeros_like(scores, dtype=torch.bool)
    for row, item in zip(present, items, strict=True):
        row[item["category_ids"]] = True
    found = average_precision(scores.T, present.T).nanmean()
    assert found > 0.8 and present.float().mean() < 0.3


def colourful(draw: torch.Generator, colours: Tensor) -> list[dict]:
    """Return a batch of images with blocks of three colours each on noise."""
    items = []
    for _ in range(16):
        image = torch.randint(100, 150, (3, 32, 32), generator=draw)
        ids = torch.randperm(12, generator=draw)[:3]
        for id in ids.tolist():
            top, left = (8 * torch.randint(0, 3, (2,), generator=draw)).tolist()
            image[:, top : top + 12, left : left + 12] = colours[id]
        items.append({"image": image, "category_ids": ids})
    return items


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    config, found = str(write_config(tmp_path)), []
    options = words(OPTIONS | program.OPTIONS)
    for processes in ("1", "2"):
        path = tmp_path / f"{processes}.pth"
        flags = ["--config-file", config, "--num-gpus", processes, "OUTPUT_DIR", str(path)]
        launch(program.main, default_argument_parser().parse_args([*flags, *map(str, options)]))
        found.append(torch.load(path, weights_only=True))
    one, two = found
    assert two["losses"]["loss_ml"].item() == pytest.approx(one["losses"]["loss_ml"].item())
    least = 1e-6 * torch.stack([value.norm() for value in one["gradients"].values()]).norm()
    for name, gradient in one["gradients"].items():
        difference = (two["gradients"][name] - gradient).norm()
        assert difference <= 1e-4 * gradient.norm() + least, name


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[[], program.BlockTrainer]:
    def make() -> program.BlockTrainer:
        options = OPTIONS | program.OPTIONS
        options |= {
            "MODEL.QUERY2LABEL.DROPOUT": 0.1,
            "MODEL.RANKSEG.FLAG": True,
            "SOLVER.MAX_ITER": 8,
            "SOLVER.CHECKPOINT_PERIOD": 4,
            "SOLVER.LR_SCHEDULER_NAME": "OneCycleLR",
            "SOLVER.EMA_DECAY": 0.9,
            "OUTPUT_DIR": str(tmp_path),
        }
        torch.manual_seed(0)
        return program.BlockTrainer(load_config(write_config(tmp_path), words(options)))

    return make


def test_resumed_it_goes_on_as_if_unbroken(trainer: Callable, tmp_path: Path) -> None:
    """With dropout, the one-cycle schedule, and the averaged weights."""
    whole = trainer()
    whole.train()
    (tmp_path / "last_checkpoint").write_text("model_0000003.pth")
    again = trainer()
    again.resume_or_load(resume=True)
    again.train()
    assert again.losses == {step: whole.losses[step] for step in (4, 5, 6, 7)}
    averages = [t.state_dict()["hooks"]["WeightAverage"] for t in (whole, again)]
    for key, value in averages[0].items():
        assert value.equal(averages[1][key]), key
