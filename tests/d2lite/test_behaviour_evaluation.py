"""The loop over a data set, printing, verifying, and the predictor."""

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor
from detectron2.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_on_dataset,
    print_csv_format,
    verify_results,
)
from detectron2.modeling import META_ARCH_REGISTRY


@pytest.fixture
def facts(behaviour):
    return behaviour["evaluation_and_use"]


class Recording(DatasetEvaluator):
    def __init__(self, result=None):
        self.calls, self.result, self.seen = [], result, None

    def reset(self):
        self.calls.append("reset")

    def process(self, inputs, outputs):
        self.calls.append("process")

    def evaluate(self):
        self.calls.append("evaluate")
        return self.result


class Model(torch.nn.Module):
    def forward(self, batch):
        self.seen = {"training": self.training, "grad": torch.is_grad_enabled()}
        return batch


def test_inference(facts, log_lines):
    facts, model = facts["inference_on_dataset"], Model()
    lines = log_lines(facts["logger"])
    evaluator, counts = Recording({"k": {"a": 1.0}}), dict.fromkeys(facts["callbacks"], 0)

    def counting(moment):
        def count():
            counts[moment] += 1

        return count

    loader = [[{}]] * 12
    callbacks = {moment: counting(moment) for moment in counts}
    assert inference_on_dataset(model, loader, evaluator, callbacks) == facts["result"]
    assert evaluator.calls == facts["calls"]
    assert model.seen == facts["model_during"]
    assert model.training == facts["model_after_training"]
    assert counts == facts["callbacks"]
    assert len(lines) == facts["log_lines"]
    progress = [line for line in lines if "Inference done" in line]
    assert len(progress) == facts["number_of_progress_lines"]
    assert all(key.split(" i/n")[0] in progress[0] for key in facts["progress_line_keys"])
    for start, line in zip(facts["final_lines_start"], lines[-2:], strict=True):
        assert line.startswith(start)


def test_evaluators(facts, raised):
    facts, model = facts["inference_on_dataset"], Model()
    loader = [[{}]]

    def run(evaluator, data=loader):
        return inference_on_dataset(model, data, evaluator)

    assert run(None) == facts["none_evaluator"]
    assert run(Recording()) == facts["evaluate_None_gives"]
    both = [Recording({"a": 1}), Recording({"b": 2})]
    assert run(both) == run(DatasetEvaluators(both)) == facts["list_of_evaluators"]
    assert raised(run, [Recording({"a": 1}), Recording({"a": 2})]) == facts["same_key_twice"]
    mixed = [Recording(), Recording({"b": 2})]
    assert run(mixed) == facts["evaluator_None_result_in_list"]
    assert raised(run, None, iter(loader)) == facts["loader_without_len"]
    assert raised(run, Recording(), []) == facts["empty_loader"]
    assert (
        raised(inference_on_dataset, lambda batch: batch, loader, None)
        == (facts["plain_function_as_model"])
    )


def test_mode_is_restored_after_a_failure(lite_only):
    class Failing(Model):
        def forward(self, batch):
            raise KeyError

    model = Failing()
    with pytest.raises(KeyError):
        inference_on_dataset(model, [[{}]], None)
    assert model.training


def test_print(facts, log_lines):
    facts = facts["print_csv_format"]
    lines = log_lines(facts["logger"])
    numbers = {"mIoU": 12.34567, "fwIoU": 1.0, "IoU-a": 3.0}
    print_csv_format({"sem_seg": numbers, "other": 7})
    assert lines == [facts["prefix"] + value for value in facts["values"]]


def test_verify(facts, raised):
    facts, cfg = facts["verify_results"], get_cfg()
    results = {"sem_seg": {"mIoU": 50.0}}
    assert verify_results(cfg, results) == facts["nothing_expected"]
    cfg.TEST.EXPECTED_RESULTS = [["sem_seg", "mIoU", 50.5, 1.0]]
    assert verify_results(cfg, results) == facts["ok"]
    assert raised(verify_results, cfg, {}) == facts["missing"]
    cfg.TEST.EXPECTED_RESULTS = [["sem_seg", "mIoU", 60.0, 1.0]]
    with pytest.raises(SystemExit) as caught:
        verify_results(cfg, results)
    assert caught.value.code == 1


class Echo(torch.nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs):
        grad = torch.is_grad_enabled()
        return [{"input": item, "grad": grad, "training": self.training} for item in inputs]


@pytest.fixture
def predictor_config():
    META_ARCH_REGISTRY.register(Echo)
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = "Echo", "cpu"
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 24, 100
    yield cfg
    del META_ARCH_REGISTRY._obj_map["Echo"]


@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_predictor(facts, predictor_config, image_format):
    facts, cfg = facts["DefaultPredictor"], predictor_config
    cfg.INPUT.FORMAT = image_format
    cfg.DATASETS.TEST = ("d2lite/predictor", "d2lite/other")
    predictor = DefaultPredictor(cfg)
    assert predictor.metadata is MetadataCatalog.get("d2lite/predictor")
    assert predictor.cfg is not cfg
    image = np.broadcast_to(np.array([1, 2, 3], np.uint8), (12, 20, 3))
    output = predictor(image)
    inputs = output["input"]
    assert sorted(inputs) == facts["model_input_keys"]
    assert [*inputs["image"].shape] == facts["image_shape_for_12x20_min24_max100"]
    assert str(inputs["image"].dtype) == facts["image_dtype"]
    assert inputs["image"][:, 0, 0].tolist() == facts[f"pixel_format_{image_format}"]
    assert (inputs["height"], inputs["width"]) == (12, 20)
    assert not output["grad"] and not output["training"]


def test_predictor_rest(facts, predictor_config, raised):
    facts = facts["DefaultPredictor"]
    assert (
        hasattr(DefaultPredictor(predictor_config), "metadata")
        == (facts["no_test_dataset_has_metadata"])
    )
    predictor_config.INPUT.FORMAT = "L"
    assert raised(DefaultPredictor, predictor_config) == facts["other_format"]
