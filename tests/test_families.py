"""Families beside each other: each one's configs load while the other's keys are there."""

import pytest

import catseg_d2
import mask2former_rankseg  # noqa: F401
from segcore.config import load_config

CONFIGS = {
    "catseg_d2/vitb_384.yaml": "CATSeg",
    "mask2former_rankseg/ade20k/semantic-segmentation/maskformer2_R50_bs16_160k.yaml": "MaskFormer",
}


@pytest.mark.parametrize("config", CONFIGS)
def test_configs_load(config: str) -> None:
    cfg = load_config(config)
    assert CONFIGS[config] == cfg.MODEL.META_ARCHITECTURE
    assert cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY == 32
    assert cfg.MODEL.SWIN.WINDOW_SIZE == 7


def test_the_order_of_the_imports_does_not_matter() -> None:
    from detectron2.config import get_cfg

    from mask2former_rankseg.config import add_maskformer_config
    from segcore.backbones import add_swin_config

    def with_keys(*functions):
        cfg = get_cfg()
        for add_keys in functions:
            add_keys(cfg)
        return cfg.MODEL

    ours, theirs = (add_swin_config, add_maskformer_config), (catseg_d2.add_catseg_config,)
    assert with_keys(*ours, *theirs) == with_keys(*theirs, *ours)
