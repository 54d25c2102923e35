"""The evaluators of a data set, and the predictions that each of them gets."""

from collections import OrderedDict
from collections.abc import Callable

import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from segcore.config import default_config
from segcore.errors import UserError
from segcore.evaluation import (
    EvaluatorsByOutput,
    InstanceEvaluator,
    MultilabelEvaluator,
    PanopticEvaluator,
    SemanticEvaluator,
    build_evaluator,
)


class Counter(DatasetEvaluator):
    """Count the processed items."""

    def __init__(self, name: str) -> None:
        self.name = name

    def reset(self) -> None:
        self.number = 0

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        self.number += len(inputs)

    def evaluate(self) -> OrderedDict:
        return OrderedDict({self.name: {"number": self.number}})


@pytest.fixture
def several() -> EvaluatorsByOutput:
    return EvaluatorsByOutput("data", {name: Counter(name) for name in ("sem_seg", "instances")})


def test_each_gets_its_outputs(several: EvaluatorsByOutput) -> None:
    outputs = [{"sem_seg": 0}, {"sem_seg_labels": 0, "instances": 0}, {"other": 0}]
    for _ in range(2):
        several.reset()
        several.process([{}] * 3, outputs)
        assert several.evaluate() == {"sem_seg": {"number": 2}, "instances": {"number": 1}}


def test_outputs_without_predictions_are_left_out(several: EvaluatorsByOutput) -> None:
    several.process([{}], [{"sem_seg": 0}])
    assert several.evaluate() == {"sem_seg": {"number": 1}}
    several.reset()
    several.process([{}], [{"other": 0}])
    with pytest.raises(UserError, match="needs sem_seg, instances, but the model returned none"):
        several.evaluate()


def test_a_process_without_images_takes_part(several: EvaluatorsByOutput, monkeypatch) -> None:
    """Otherwise the other processes would wait for ever."""
    monkeypatch.setattr(comm, "all_gather", lambda mine: [mine, {"instances"}])
    assert several.evaluate() == {"instances": {"number": 0}}
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert several.evaluate() is None


@pytest.fixture
def register() -> Callable[..., str]:
    name = "test_by_output"

    def make(**metadata) -> str:
        DatasetCatalog.register(name, list)
        MetadataCatalog.get(name).set(
            thing_dataset_id_to_contiguous_id={1: 0}, stuff_dataset_id_to_contiguous_id={2: 1}
        )
        MetadataCatalog.get(name).set(**metadata)
        return name

    yield make
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


PANOPTIC = {"panoptic_json": "gt.json", "panoptic_root": "png"}
SEMANTIC = {"sem_seg_root": "labels", "stuff_classes": ["a", "b"], "ignore_label": 255}


def config(semantic: bool = True, panoptic: bool = True, instance: bool = True) -> CfgNode:
    """Return the config of a model with these outputs."""
    cfg = default_config()
    switches = {"SEMANTIC_ON": semantic, "PANOPTIC_ON": panoptic, "INSTANCE_ON": instance}
    cfg.MODEL.MASK_FORMER = CfgNode({"TEST": switches})
    return cfg


@pytest.mark.parametrize("kind", ["ade20k_panoptic_seg", "coco_panoptic_seg"])
def test_panoptic_data_sets_evaluate_what_they_have(register, kind: str) -> None:
    name = register(evaluator_type=kind, json_file="instances.json", **PANOPTIC, **SEMANTIC)
    evaluators = build_evaluator(config(), name).evaluators
    assert {key: type(evaluator) for key, evaluator in evaluators.items()} == {
        "panoptic_seg": PanopticEvaluator,
        "sem_seg": SemanticEvaluator,
        "instances": InstanceEvaluator,
    }


def test_panoptic_data_sets_without_more(register) -> None:
    name = register(evaluator_type="coco_panoptic_seg", **PANOPTIC)
    assert isinstance(build_evaluator(config(), name), PanopticEvaluator)


def test_outputs_that_the_model_lacks_are_not_evaluated(register) -> None:
    name = register(
        evaluator_type="coco_panoptic_seg", json_file="instances.json", **PANOPTIC, **SEMANTIC
    )
    evaluator = build_evaluator(config(instance=False), name)
    assert list(evaluator.evaluators) == ["panoptic_seg", "sem_seg"]
    evaluator = build_evaluator(config(panoptic=False, instance=False), name)
    assert isinstance(evaluator, SemanticEvaluator)
    with pytest.raises(UserError, match=r"set MODEL\.MASK_FORMER\.TEST\.PANOPTIC_ON or .* to True"):
        build_evaluator(config(False, False, False), name)


def test_models_of_one_task_have_no_switches(register) -> None:
    cfg = default_config()
    cfg.MODEL.pop("MASK_FORMER", None)
    name = register(evaluator_type="coco", json_file="instances.json")
    assert isinstance(build_evaluator(cfg, name), InstanceEvaluator)


def test_instances(register) -> None:
    name = register(evaluator_type="coco", json_file="instances.json")
    assert isinstance(build_evaluator(config(), name), InstanceEvaluator)
    with pytest.raises(UserError, match=r"evaluates instances.* set .*INSTANCE_ON to True"):
        build_evaluator(config(instance=False), name)


def test_with_rankseg_the_classes_of_the_image_too(register) -> None:
    cfg = config()
    cfg.MODEL.RANKSEG = CfgNode({"FLAG": True, "TOPK": 7})
    name = register(evaluator_type="sem_seg", **SEMANTIC)
    evaluators = build_evaluator(cfg, name).evaluators
    assert isinstance(evaluators["category_scores"], MultilabelEvaluator)
    assert 7 in evaluators["category_scores"].top
    cfg.MODEL.RANKSEG.FLAG = False
    assert isinstance(build_evaluator(cfg, name), SemanticEvaluator)
