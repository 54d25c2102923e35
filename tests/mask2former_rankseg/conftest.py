"""Models that the tests of Mask2Former and RankSeg share."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from detectron2.data import MetadataCatalog

from mask2former_rankseg import MaskFormer
from segcore.vocabulary import Vocabulary

sys.path.insert(0, str(Path(__file__).parents[1]))
from mask2former_models import SWIN_T, TINY, build


@pytest.fixture(scope="session", autouse=True)
def one_thread_a_worker() -> None:
    """Several test processes must not fight for the cores."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def things_of_ade() -> None:
    """Which classes are things, for the data set of the panoptic configs if nobody has told yet."""
    MetadataCatalog.get("twelve_classes").thing_dataset_id_to_contiguous_id = {7: 0, 9: 3}
    metadata = MetadataCatalog.get("ade20k_panoptic_val")
    if not metadata.get("thing_dataset_id_to_contiguous_id"):
        isthing = Vocabulary.registered("ade20k_panoptic_150").isthing
        things = [index for index, is_thing in enumerate(isthing) if is_thing]
        metadata.thing_dataset_id_to_contiguous_id = {index: index for index in things}


@pytest.fixture
def tiny() -> Callable[..., MaskFormer]:
    """Makes very small models: ``tiny({"MODEL.X": value})``, always the same weights."""

    def make(options: Mapping[str, object] | None = None) -> MaskFormer:
        torch.manual_seed(0)
        return build(SWIN_T, *(item for pair in (TINY | (options or {})).items() for item in pair))

    return make
