"""The suite of zero-shot evaluation, and the background thresholds of its data sets."""

import pytest
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from segcore.benchmarks.suites import SUITES, THRESHOLD, by_threshold
from segcore.vocabulary import Vocabulary

VOC, CONTEXT, COCO, ADE = SUITES["zeroshot"]


def config(name: str, threshold: float) -> CfgNode:
    zero_shot = CfgNode({"BACKGROUND_THRESHOLD": threshold})
    return CfgNode({"MODEL": {"META_ARCHITECTURE": name, "ZERO_SHOT": zero_shot}})


@pytest.mark.parametrize(("name", "number"), [(VOC, 21), (CONTEXT, 60), (COCO, 81)])
def test_background_is_the_first_class(name: str, number: int) -> None:
    metadata = MetadataCatalog.get(name)
    names = Vocabulary.load(metadata.vocabulary).names
    assert len(names) == len(metadata.stuff_classes) == number and names[0] == "background"
    assert metadata.evaluator_type == "sem_seg" and metadata.get("background_from") is None


def test_published_thresholds() -> None:
    assert by_threshold(config("GroupViT", 0.0), SUITES["zeroshot"]) == {
        (THRESHOLD, "0.95"): (VOC, COCO),
        (THRESHOLD, "0.35"): (CONTEXT,),
        (): (ADE,),
    }


@pytest.mark.parametrize(("name", "threshold"), [("GroupViT", 0.5), ("CATSeg", 0.0)])
def test_thresholds_that_stay_as_they_are(name: str, threshold: float) -> None:
    names = SUITES["zeroshot"]
    assert by_threshold(config(name, threshold), names) == {(): names}


def test_the_things_of_coco_object_are_those_of_coco_stuff() -> None:
    stuff = Vocabulary.load("coco_stuff_171")
    things = Vocabulary.load("coco_object_81")
    assert things.names[1:] == stuff.names[:80] and things.prompts[1:] == stuff.prompts[:80]
    assert things.dataset_ids[1:] == stuff.dataset_ids[:80]
