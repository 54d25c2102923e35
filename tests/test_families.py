"""Families together: the configs of each load, with the keys of the other present."""

import json
import sys
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from subprocess import run

import pytest
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.projects.deeplab import add_deeplab_config

import catseg_d2
import groupvit_mixreorg
import mask2former_rankseg
import per_pixel
from segcore.config import load_config
from segcore.config.rankseg import only_present
from segcore.mappers.segmentation import has_oracle

CONFIGS = {
    "catseg_d2/vitb_384.yaml": "CATSeg",
    "mask2former_rankseg/ade20k/semantic-segmentation/maskformer2_R50_bs16_160k.yaml": "MaskFormer",
}

CONFIG_OF_RANKSEG = "mask2former_rankseg/scenes_60_rankseg.yaml"


@pytest.mark.parametrize("config", CONFIGS)
def test_configs_load(config: str) -> None:
    cfg = load_config(config)
    assert CONFIGS[config] == cfg.MODEL.META_ARCHITECTURE
    assert cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY == 32
    assert cfg.MODEL.SWIN.WINDOW_SIZE == 7


def with_keys(*functions: Callable[[CfgNode], None]) -> CfgNode:
    """Return the default config with the keys of families, in the order of published scripts."""
    cfg = get_cfg()
    for add_keys in (add_deeplab_config, *functions):
        add_keys(cfg)
    return cfg


def test_the_order_of_the_families_does_not_matter() -> None:
    families = (
        catseg_d2.add_catseg_config,
        groupvit_mixreorg.add_groupvit_config,
        mask2former_rankseg.add_maskformer_config,
        per_pixel.add_per_pixel_config,
    )
    first = with_keys(*families)
    for order in permutations(families):
        assert with_keys(*order) == first
    for family in families:
        assert with_keys(family, family) == with_keys(family)


# What published scripts call between `get_cfg()` and `merge_from_file`.
PUBLISHED_KEYS = {
    "catseg_d2": [catseg_d2.add_cat_seg_config],
    "mask2former_rankseg": [mask2former_rankseg.add_maskformer2_config],
    "videos": [
        mask2former_rankseg.add_maskformer2_config,
        mask2former_rankseg.add_maskformer2_video_config,
    ],
}


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("catseg_d2", "SOLVER: {OPTIMIZER: ADAMW, CLIP_MULTIPLIER: 0.01}"),
        ("catseg_d2", "INPUT: {DATASET_MAPPER_NAME: mask_former_semantic, COLOR_AUG_SSD: true}"),
        ("catseg_d2", "MODEL: {SWIN: {EMBED_DIM: 128}, MASK_FORMER: {SIZE_DIVISIBILITY: 32}}"),
        ("mask2former_rankseg", "MODEL: {SWIN: {EMBED_DIM: 192, DEPTHS: [2, 2, 18, 2]}}"),
        ("mask2former_rankseg", "INPUT: {DATASET_MAPPER_NAME: coco_panoptic_lsj}"),
        # Detectron2 accepts neither 10 for 10.0 nor 10.0 for 10: the type is the published one.
        ("mask2former_rankseg", "MODEL: {RANKSEG: {FLAG: true, TOPK: 50, LOSS_WEIGHT: 10}}"),
        ("mask2former_rankseg", "MODEL: {RESNETS: {STEM_TYPE: basic, RES5_MULTI_GRID: [1, 1, 1]}}"),
        ("videos", "INPUT: {SAMPLING_FRAME_NUM: 2, SAMPLING_INTERVAL: 5, AUGMENTATIONS: []}"),
        ("videos", "MODEL: {MLSEG: {USE_GT: true}}"),
    ],
)
def test_a_published_file_merges(tmp_path: Path, family: str, text: str) -> None:
    file = tmp_path / "published.yaml"
    file.write_text(text)
    cfg = with_keys(*PUBLISHED_KEYS[family])
    cfg.merge_from_file(str(file))
    assert_holds(cfg, yaml.safe_load(text))


def assert_holds(cfg: CfgNode, tree: dict) -> None:
    for key, value in tree.items():
        if isinstance(value, dict):
            assert_holds(cfg[key], value)
        else:
            assert cfg[key] == value, key


@pytest.mark.parametrize("group", ["catseg", "rankseg_mask2former"])
def test_every_key_of_the_published_files_is_there(golden: Path, group: str) -> None:
    """With the keys of one family, without Detectron2's ``add_deeplab_config``."""
    names = {"catseg": "catseg_d2", "rankseg_mask2former": "videos"}
    cfg = get_cfg()
    for add_keys in PUBLISHED_KEYS[names[group]]:
        add_keys(cfg)
    defaults = json.loads((golden / "detectron2" / "defaults.json").read_text())
    tables = defaults["get_cfg"], defaults["add_deeplab_config"]["added"]
    published = [
        key
        for table in (*tables, defaults["yaml_keys_outside"])
        for key, about in table.items()
        if group in about.get("set_in_yaml", {})
    ]
    assert len(published) > 50
    for key in published:
        node = cfg
        for name in key.split("."):
            assert name in node, key
            node = node[name]


def test_our_files_merge_as_published_ones_do(repository: Path) -> None:
    for family in ("catseg_d2", "mask2former_rankseg"):
        files = sorted((repository / "configs" / family).rglob("*.yaml"))
        assert len(files) > 5
        for file in files:
            with_keys(*PUBLISHED_KEYS[family]).merge_from_file(str(file))


def test_the_oracle_has_two_names() -> None:
    cfg = with_keys(*PUBLISHED_KEYS["videos"])
    assert not only_present(cfg) and not has_oracle(cfg)
    cfg.MODEL.MLSEG.USE_GT = True
    assert only_present(cfg) and has_oracle(cfg)


@pytest.mark.parametrize(
    "families", [*permutations(("catseg_d2", "mask2former_rankseg", "per_pixel"))]
)
def test_load_config_reads_integers_and_fractions(families: tuple[str, ...]) -> None:
    """Whatever the order in which the families are imported."""
    program = f"""
import {", ".join(families)}
from segcore.config import load_config
for value in ("10", "0.5"):
    cfg = load_config("{CONFIG_OF_RANKSEG}", ["MODEL.RANKSEG.LOSS_WEIGHT", value])
    print(cfg.MODEL.RANKSEG.LOSS_WEIGHT)
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    assert run(command, check=True, capture_output=True, text=True).stdout.split() == [
        "10.0",
        "0.5",
    ]


@pytest.mark.parametrize(
    "family", ["catseg_d2", "groupvit_mixreorg", "mask2former_rankseg", "per_pixel"]
)
def test_importing_a_family_registers_its_data_sets(family: str) -> None:
    """In a process that imports nothing else, and without changing Detectron2's data sets."""
    program = f"""
from detectron2.data import DatasetCatalog, MetadataCatalog
before = {{name: MetadataCatalog.get(name).as_dict() for name in DatasetCatalog.list()}}
import {family}
known = set(DatasetCatalog.list())
assert known > set(before) and "ade20k_panoptic_val" in known and "ytvis_2019_val" in known
for name, fields in before.items():
    assert MetadataCatalog.get(name).as_dict().items() >= fields.items(), name
"""
    run([sys.executable, "-W", "ignore", "-c", program], check=True)


def test_a_panoptic_config_builds_after_importing_the_family_alone() -> None:
    program = """
import torch, mask2former_rankseg
from detectron2.modeling import build_model
from segcore.config import load_config
for name in ("coco/panoptic-segmentation/maskformer2_R50_bs16_50ep", "scenes_60_panoptic"):
    options = ["MODEL.WEIGHTS", "", "MODEL.DEVICE", "meta"]
    cfg = load_config(f"mask2former_rankseg/{name}.yaml", options)
    with torch.device("meta"):
        print(len(build_model(cfg).classes.things))
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = run(command, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["80", "54"]
