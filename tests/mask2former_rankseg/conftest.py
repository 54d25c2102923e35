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
    """Parallel test processes must not compete for the cores."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def things_of_ade() -> None:
    """Register the thing classes of the panoptic configs' data set, unless they are there."""
    MetadataCatalog.get("twelve_classes").thing_dataset_id_to_contiguous_id = {7: 0, 9: 3}
    metadata = MetadataCatalog.get("ade20k_panoptic_val")
    if not metadata.get("thing_dataset_id_to_contiguous_id"):
        isthing = Vocabulary.registered("ade20k_panoptic_150").isthing
        things = [index for index, is_thing in enumerate(isthing) if is_thing]
        metadata.thing_dataset_id_to_contiguous_id = {index: index for index in things}


@pytest.fixture
def tiny() -> Callable[..., MaskFormer]:
    """Builds very small models: ``tiny({"MODEL.X": value})``, always with the same weights."""

    def make(options: Mapping[str, object] | None = None) -> MaskFormer:
        torch.manual_seed(0)
        return build(SWIN_T, *(item for pair in (TINY | (options or {})).items() for item in pair))

    return make
