"""The family of a config is found by its folder, its meta-architecture or its keys."""

import sys
from pathlib import Path
from subprocess import run

import pytest
from detectron2.config import get_cfg

from catrank import FAMILIES, import_families, load_config
from catseg_d2 import add_catseg_config
from mask2former_rankseg import add_maskformer_config
from segcore.config import task_switches
from segcore.errors import UserError

CATSEG, MASK2FORMER, PER_PIXEL = "catseg_d2", "mask2former_rankseg", "per_pixel"
GROUPVIT = "groupvit_mixreorg"


@pytest.mark.parametrize(
    ("text", "options", "families"),
    [
        ("MODEL: {META_ARCHITECTURE: CATSeg}", (), [CATSEG]),
        ("MODEL: {META_ARCHITECTURE: VideoMaskFormer}", (), [MASK2FORMER]),
        ("_BASE_: base.yaml", (), [MASK2FORMER]),
        ("SEED: 1", ("MODEL.META_ARCHITECTURE", "ContrastiveCLIP"), [CATSEG]),
        ("MODEL: {META_ARCHITECTURE: PerPixelSegmenter, RANKSEG: {FLAG: true}}", (), [PER_PIXEL]),
        ("SEED: 1", ("SEED", "2", "MODEL.PER_PIXEL.CHANNELS", "64"), [PER_PIXEL]),
        ("MODEL: {META_ARCHITECTURE: GroupViT}", (), [GROUPVIT]),
        ("SEED: 1", ("MODEL.MIXREORG.FLAG", "True"), [GROUPVIT]),
        ("SEED: 1", ("MODEL.MASK_FORMER.TEST.PANOPTIC_ON", "True"), [MASK2FORMER]),
        # CAT-Seg has a section of that name, too.
        ("MODEL: {CLIP_WEIGHTS: '', MASK_FORMER: {SIZE_DIVISIBILITY: 32}}", (), [CATSEG]),
        # Two families have the key.
        ("SEED: 1", ("MODEL.RANKSEG.FLAG", "True"), [*FAMILIES]),
        # As a config is written where all families are imported.
        (
            "MODEL: {META_ARCHITECTURE: CATSeg, GROUPVIT: {}, MASK_FORMER: {TEST: {}}, "
            "PER_PIXEL: {}}",
            (),
            [*FAMILIES],
        ),
        ("MODEL: {META_ARCHITECTURE: Unknown}", (), [*FAMILIES]),
        ("MODEL: 3", (), [*FAMILIES]),
    ],
)
def test_a_file(tmp_path: Path, text: str, options: tuple, families: list[str]) -> None:
    (tmp_path / "base.yaml").write_text("MODEL: {META_ARCHITECTURE: MaskFormer}")
    (tmp_path / "config.yaml").write_text(text)
    assert import_families(tmp_path / "config.yaml", options) == families


def test_configs_that_come_with_us(repository: Path) -> None:
    for family in FAMILIES:
        for path in (repository / "configs" / family).rglob("*.yaml"):
            assert import_families(path.relative_to(repository)) == [family]


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UserError, match="no config file"):
        import_families("nothing.yaml")


@pytest.mark.parametrize(
    "config", [f"{CATSEG}/scenes_60.yaml", f"{MASK2FORMER}/scenes_60_panoptic.yaml"]
)
def test_a_config_imports_its_family_alone_and_names_its_classes(config: str) -> None:
    program = f"""
import sys
from catrank import load_config
from detectron2.data import MetadataCatalog
load_config("{config}")
print(*(name for name in ("{CATSEG}", "{MASK2FORMER}") if name in sys.modules))
names = ("ade20k_sem_seg_val", "ade20k_panoptic_val")
print(*(len(MetadataCatalog.get(name).stuff_classes) for name in names))
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = run(command, check=True, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == [config.split("/")[0], "150", "150"]


def test_load_config_takes_values_like_segcores() -> None:
    cfg = load_config(f"{CATSEG}/scenes_60.yaml", ["SEED", "5"])
    assert (cfg.MODEL.META_ARCHITECTURE, cfg.SEED) == ("CATSeg", 5)
    with pytest.raises(UserError, match="there is no key SED; the nearest is SEED"):
        load_config(f"{CATSEG}/scenes_60.yaml", ["SED", "5"])


def test_a_model_of_one_task_has_no_switches() -> None:
    """With the keys of CAT-Seg alone, which has a section of that name without them."""
    cfg = get_cfg()
    add_catseg_config(cfg)
    assert task_switches(cfg) is None
    add_maskformer_config(cfg)
    assert task_switches(cfg).SEMANTIC_ON
