"""Every config loads, builds and is listed; parameters and optimizers are the published ones."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from PIL import Image
from torch import nn

import per_pixel  # noqa: F401  (registers the family)
from per_pixel.checkpoint import PublishedNames
from segcore.config import load_config
from segcore.engine import Trainer, build_optimizer
from segcore.mappers import MAPPER_REGISTRY, build_mapper
from segcore.rankseg.scores import NormScores

REPOSITORY = Path(__file__).parents[2]
FAMILY = REPOSITORY / "configs" / "per_pixel"
CONFIGS = sorted(
    path.relative_to(FAMILY).as_posix().removesuffix(".yaml")
    for path in FAMILY.rglob("*.yaml")
    if path.parent.name != "parts" and "query2label" not in path.name
)
# Classifiers of images, not of pixels.
QUERY2LABEL = sorted(
    path.relative_to(FAMILY).as_posix().removesuffix(".yaml")
    for path in FAMILY.rglob("query2label_*.yaml")
    if path.parent.name != "parts"
)
# Those of the papers: not Scenes, and not the DeepLabv3 that ships, which has no training here.
EXPERIMENTS = [name for name in CONFIGS if not name.startswith(("scenes_", "voc/"))]

B_ADE, B_STUFF, B_LVIS, B_CONTEXT = (
    f"{folder}/segmenter_vit-b16_{size}"
    for folder, size in (
        ("ade20k", "512x512_160k"),
        ("coco_stuff_10k", "512x512_40k"),
        ("coco_lvis", "512x512_320k"),
        ("pascal_context", "480x480_80k"),
    )
)
L_ADE = "ade20k/segmenter_vit-l16_640x640_160k"
DEEPLAB = "ade20k/deeplabv3_r101-d8_512x512_80k"
SWIN = "ade20k/upernet_swin-b_512x512_160k"
BEIT = "ade20k/upernet_beit-l_640x640_160k"

# Millions of parameters: the papers' tables, and where these leave a digit open the counts of the
# published modules.
PARAMETERS = {
    B_ADE: 102.498,
    f"{B_ADE}-rankseg": 109.702,
    f"{B_ADE}-encnet": 109.153,
    f"{B_ADE}-essnet": 101.416,
    B_STUFF: 102.514,
    f"{B_STUFF}-independent": 102.514,
    f"{B_STUFF}-rankseg": 109.734,
    f"{B_STUFF}-rankseg-decoder": 114.265,
    f"{B_STUFF}-rankseg-gap": 103.236,
    f"{B_STUFF}-encnet": 109.185,
    f"{B_STUFF}-essnet": 101.432,
    B_LVIS: 103.371,
    f"{B_LVIS}-rankseg": 111.445,
    f"{B_LVIS}-encnet": 110.898,
    f"{B_LVIS}-essnet": 102.289,
    L_ADE: 333.234,
    f"{L_ADE}-rankseg": 345.986,
    DEEPLAB: 87.206,
    f"{DEEPLAB}-rankseg": 91.490,
    f"{DEEPLAB}-rankseg-paper": 91.752,
    "coco_stuff_10k/deeplabv3_r101-d8_512x512_20k-rankseg-paper": 91.779,
    "coco_lvis/deeplabv3_r101-d8_512x512_160k-rankseg-paper": 93.207,
    SWIN: 121.415,
    f"{SWIN}-rankseg": 125.172,
    f"{SWIN}-rankseg-paper": 125.435,
    "coco_stuff_10k/upernet_swin-b_512x512_40k-rankseg-paper": 125.462,
    "coco_lvis/upernet_swin-b_512x512_160k-rankseg-paper": 126.890,
    BEIT: 441.271,
    f"{BEIT}-rankseg": 455.229,
    f"{BEIT}-rankseg-paper": 456.278,
    "coco_stuff_10k/upernet_beit-l_640x640_160k-rankseg-paper": 456.348,
    "ade20k/essnet_r50_512x512": 39.761332,
    "coco_stuff_10k/essnet_r50_512x512": 39.761584,
    "coco_lvis/essnet_r50_512x512": 39.774940,
    "coco_lvis/essnet_r50_512x512-softmax": 40.086436,
    "cityscapes/essnet_r50_512x512": 39.758104,
    "ade20k/essnet_r101_512x512": 58.753460,
    "coco_lvis/essnet_mobilenetv2_512x512": 5.238812,
}

# kappa, weight and gammas of the multi-label loss; He et al., section 4.1, and the release.
RANKSEG = {
    f"{B_CONTEXT}-rankseg": (25, 5, [2, 0]),
    f"{B_ADE}-rankseg": (50, 10, [2, 0]),
    f"{L_ADE}-rankseg": (50, 10, [2, 0]),
    f"{B_STUFF}-rankseg": (50, 10, [4, 1]),
    "coco_stuff_10k/segmenter_vit-b16_512x512_80k-rankseg": (50, 5, [4, 1]),
    "coco_stuff_10k/segmenter_vit-l16_640x640_40k-rankseg": (50, 10, [2, 0]),
    f"{B_STUFF}-rankseg-decoder": (50, 10, [0, 0]),
    f"{B_STUFF}-rankseg-gap": (50, 10, [0, 0]),
    "ade20k_full/segmenter_vit-b16_512x512_160k-rankseg": (100, 100, [2, 0]),
    f"{B_LVIS}-rankseg": (100, 300, [2, 0]),
    f"{DEEPLAB}-rankseg": (50, 10, [2, 0]),
    f"{SWIN}-rankseg": (50, 10, [2, 0]),
    f"{SWIN}-rankseg-remedy": (50, 5, [2, 0]),
    f"{BEIT}-rankseg": (50, 5, [2, 0]),
}

# What an experiment may change of the one that it is built on.
ALLOWED = {
    "-rankseg": r"MODEL\.RANKSEG\..*|SOLVER\.(WEIGHT_DECAY|WEIGHT_DECAY_FACTORS)",
    "-paper": r"MODEL\.RANKSEG\.CLASS_TOKEN_PROJECTION",
    "-oracle": r"MODEL\.RANKSEG\.(FLAG|ORACLE|TOPK)",
    "-encnet": r"MODEL\.ENCNET\..*",
    "-essnet": r"MODEL\.ESSNET\..*",
    "-backbone_classes": r"MODEL\.RANKSEG\.CLASS_ROWS",
    "-no_pooling": r"MODEL\.RANKSEG\.POOL",
    "-decoder": r"MODEL\.RANKSEG\..*",
    "-gap": r"MODEL\.RANKSEG\..*",
    "-independent": r"MODEL\.RANKSEG\.(FLAG|TOPK|INDEPENDENT\.FLAG)",
    "-softmax": r"MODEL\.(ESSNET\.FLAG|PER_PIXEL\.PIXELS)",
    "-quarter": r"MODEL\.ESSNET\.SEARCH_FRACTION",
    "-eighth": r"MODEL\.ESSNET\.SEARCH_FRACTION",
    "-clusters": r"MODEL\.ESSNET\.SEARCH",
    "-remedy": r"MODEL\.RANKSEG\.(LOSS_WEIGHT|CLASS_TOKEN_PROJECTION)|SOLVER\.MLHEAD_MULTIPLIER",
}


def load(name: str, *options: object) -> CfgNode:
    options = ["MODEL.DEVICE", "meta", "MODEL.WEIGHTS", "", *options]
    return load_config(FAMILY / f"{name}.yaml", options)


def build(cfg: CfgNode) -> nn.Module:
    """Without memory for weights."""
    with torch.device("meta"):
        return build_model(cfg)


def leaves(cfg: CfgNode, path: str = "") -> Iterator[tuple[str, object]]:
    for name, value in cfg.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_its_parts_are_registered_and_its_sizes_fit(name: str) -> None:
    cfg = load(name)
    assert cfg.MODEL.META_ARCHITECTURE in META_ARCH_REGISTRY
    assert cfg.INPUT.DATASET_MAPPER_NAME in MAPPER_REGISTRY
    assert {*DatasetCatalog.list()} >= {*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST}
    for dataset in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        metadata = MetadataCatalog.get(dataset)
        assert len(metadata.stuff_classes) == cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        assert metadata.ignore_label == cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    assert cfg.INPUT.CROP.SIZE == [cfg.INPUT.SIZE_DIVISIBILITY] * 2
    assert cfg.TEST.EVAL_PERIOD == cfg.SOLVER.MAX_ITER // 10
    window = cfg.MODEL.PER_PIXEL.TEST.WINDOW
    assert window in ([0, 0], cfg.INPUT.CROP.SIZE)


@pytest.mark.parametrize("name", CONFIGS)
def test_it_builds(name: str) -> None:
    cfg = load(name)
    if cfg.MODEL.ESSNET.SEARCH != "exact":
        pytest.importorskip("faiss", reason="faiss is not installed: extra `faiss`")
    model = build(cfg)
    assert all(value.is_meta for value in model.state_dict().values())
    assert model.num_classes == cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    scores = [module for module in model.modules() if isinstance(module, NormScores)]
    assert len(scores) == cfg.MODEL.RANKSEG.FLAG
    if name in PARAMETERS:
        count = sum(parameter.numel() for parameter in model.parameters())
        assert math.isclose(count / 1e6, PARAMETERS[name], abs_tol=6e-4), count


def test_named_experiments_exist() -> None:
    assert {*PARAMETERS, *RANKSEG} <= {*EXPERIMENTS}


@pytest.mark.parametrize("name", RANKSEG)
def test_rankseg_has_the_published_settings(name: str) -> None:
    node = load(name).MODEL.RANKSEG
    assert RANKSEG[name] == (node.TOPK, node.LOSS_WEIGHT, node.GAMMAS)


@pytest.mark.parametrize("suffix", ALLOWED)
def test_variants_change_nothing_else(suffix: str) -> None:
    variants = [name for name in EXPERIMENTS if name.endswith(suffix)]
    assert variants
    for name in variants:
        ours, base = (dict(leaves(load(each))) for each in (name, name.removesuffix(suffix)))
        changed = {key for key in ours if ours[key] != base[key]}
        assert changed and all(re.fullmatch(ALLOWED[suffix], key) for key in changed), name


@pytest.mark.parametrize(
    ("name", "host"),
    [(BEIT, "upernet_beit_large"), (SWIN, "upernet_swin_base"), (DEEPLAB, "deeplabv3_r101d8")],
)
def test_every_parameter_has_its_published_learning_rate_and_decay(
    golden: Path, name: str, host: str
) -> None:
    cfg = load(name)
    model = build(cfg)
    table = json.loads((golden / "hosts" / "optimizer.json").read_text())[host]["groups_lr_wd"]
    names = PublishedNames(model)
    by_id = {id(value): names.to_published(key) for key, value in model.named_parameters()}
    found = {}
    for group in build_optimizer(cfg, model).param_groups:
        (parameter,) = group["params"]
        found[by_id[id(parameter)]] = (group["lr"], group["weight_decay"])
    assert found.keys() == table.keys()
    for key, (rate, decay) in table.items():
        assert math.isclose(found[key][0], rate, rel_tol=1e-9) and found[key][1] == decay, key


@pytest.mark.parametrize("name", [f"{B_ADE}-rankseg", f"{B_CONTEXT}-rankseg", f"{L_ADE}-rankseg"])
def test_weight_decay_of_rankseg_on_segmenter(name: str) -> None:
    """Its factors, as the published code applies them: the longest part of a name decides."""
    parts = {"decode_head.blocks.0.": 100, "decode_head.ml_fc": 100}
    parts |= {"pos_embed": 0, "cls_token": 0, "norm": 0}
    cfg = load(name)
    model = build(cfg)
    published = PublishedNames(model)
    groups = build_optimizer(cfg, model).param_groups
    decays = {id(group["params"][0]): group["weight_decay"] for group in groups}
    seen = set()
    for key, parameter in model.named_parameters():
        part = next((part for part in parts if part in published.to_published(key)), None)
        seen.add(part)
        assert math.isclose(decays[id(parameter)], 1e-6 * parts.get(part, 1)), key
    assert seen == {*parts, None}


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        (BEIT, "beit_160k"),
        (SWIN, "swin_160k"),
        (DEEPLAB, "deeplabv3_80k"),
        ("coco_stuff_10k/deeplabv3_r101-d8_512x512_20k", "deeplabv3_coco_stuff_20k"),
        (B_ADE, "segmenter_160k"),
        (f"{L_ADE}-rankseg", "segmenter_160k"),
    ],
)
def test_schedule_of_published_runs(golden: Path, name: str, schedule: str) -> None:
    table = json.loads((golden / "hosts" / "optimizer.json").read_text())
    expected = table["poly_with_linear_warmup_as_published_runs_used"][schedule]
    cfg = load(name)
    group = [{"params": [nn.Parameter(torch.zeros(1))]}]
    scheduler = Trainer.build_lr_scheduler(cfg, torch.optim.SGD(group, lr=cfg.SOLVER.BASE_LR))
    for iteration, rate in expected.items():
        scheduler.last_epoch = int(iteration)
        assert math.isclose(scheduler.get_lr()[0], rate, rel_tol=1e-9, abs_tol=1e-18), iteration


def test_essnet_has_three_groups() -> None:
    """Backbone, decoder and class table have their own learning rate, momentum and power."""
    cfg = load("ade20k/essnet_r50_512x512")
    model = build(cfg)
    kinds = {}
    names = {id(value): name for name, value in model.named_parameters()}
    for group in build_optimizer(cfg, model).param_groups:
        name = names[id(group["params"][0])]
        table = group["params"][0].shape == (150, 12)
        kind = "backbone" if name.startswith("backbone.") else "table" if table else "decoder"
        kinds.setdefault(kind, set()).add(
            (group["lr"], group["momentum"], group.get("power"), group["weight_decay"])
        )
    assert kinds == {
        "backbone": {(0.001, 0.9, None, 1e-4)},
        "decoder": {(0.01, 0.9, None, 1e-4)},
        "table": {(0.01, 0.95, 0.95, 1e-4)},
    }


def test_the_index_lists_every_experiment() -> None:
    published = json.loads((FAMILY.parent / "published.json").read_text())
    listed = {name for name in published if name.startswith("per_pixel/")}
    assert listed == {f"per_pixel/{name}.yaml" for name in (*EXPERIMENTS, *QUERY2LABEL)}


# Millions of parameters of the head and of the backbone; frozen batch norm has none.
QUERY2LABEL_PARAMETERS = {
    "coco_stuff_10k/query2label_r101_448x448_80ep": (151.779, 42.395),
    "coco_stuff_10k/query2label_tresnet-l_448x448_80ep": (191.440, 53.556),
    "coco_stuff_10k/query2label_swin-l_384x384_80ep": (104.404, 195.199),
    "coco_lvis/query2label_swin-l_384x384_80ep": (107.824, 195.199),
}


@pytest.mark.parametrize("name", [*QUERY2LABEL, "scenes_1k_query2label"])
def test_query2label(name: str) -> None:
    """Data, sizes, and a training of 80 epochs whose learning rate has its peak at 0.0001."""
    cfg = load(name)
    model = build(cfg)
    assert cfg.DATASETS.TRAIN and cfg.DATASETS.TEST
    assert {*DatasetCatalog.list()} >= {*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST}
    for dataset in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        assert len(MetadataCatalog.get(dataset).stuff_classes) == model.num_classes
    if name in QUERY2LABEL_PARAMETERS:
        sizes = [sum(p.numel() for p in part.parameters()) for part in (model.head, model.backbone)]
        assert [round(size / 1e6, 3) for size in sizes] == [*QUERY2LABEL_PARAMETERS[name]]
    if name in QUERY2LABEL:
        groups = build_optimizer(cfg, model).param_groups
        assert {(group["lr"], group["weight_decay"]) for group in groups} == {(1e-4, 0.01)}
        assert cfg.SOLVER.MAX_ITER == 80 * cfg.TEST.EVAL_PERIOD


@pytest.mark.parametrize("name", [B_LVIS, f"{B_LVIS}-rankseg", f"{B_LVIS}-essnet"])
def test_coco_lvis_trains_on_labels_of_16_bits_with_void(name: str, tmp_path: Path) -> None:
    """Stored 0 is void, and 1284 the last class; the model is shrunk, its classes are not."""
    small = {
        "INPUT.MIN_SIZE_TRAIN": (64,),
        "INPUT.CROP.SIZE": [64, 64],
        "INPUT.SIZE_DIVISIBILITY": 64,
        "MODEL.VIT.DEPTH": 1,
        "MODEL.VIT.EMBED_DIM": 24,
        "MODEL.VIT.NUM_HEADS": 2,
        "MODEL.PER_PIXEL.CHANNELS": 24,
        "MODEL.PER_PIXEL.NUM_HEADS": 2,
        "MODEL.RANKSEG.HIDDEN_DIM": 24,
        "MODEL.RANKSEG.NUM_HEADS": 2,
        "MODEL.RANKSEG.FEEDFORWARD_DIM": 48,
    }
    options = [each for pair in small.items() for each in pair]
    cfg = load(name, *options, "MODEL.DEVICE", "cpu")
    stored = np.zeros((40, 60), dtype=np.uint16)
    stored[:20], stored[20:, :50] = 1284, 7
    Image.fromarray(stored).save(tmp_path / "labels.png")
    Image.fromarray(np.full((40, 60, 3), 90, dtype=np.uint8)).save(tmp_path / "image.png")
    record = {"file_name": "image.png", "sem_seg_file_name": "labels.png"}
    record = {key: str(tmp_path / value) for key, value in record.items()} | {"first_label": 1}
    items = [build_mapper(cfg, is_train=True)(record) for _ in range(2)]
    assert {6, 1283} <= {*torch.stack([item["sem_seg"] for item in items]).unique().tolist()}
    torch.manual_seed(0)
    losses = build_model(cfg).train()(items)
    total = sum(losses.values())
    total.backward()
    assert total.isfinite() and ("loss_ml" in losses) == name.endswith("-rankseg")
