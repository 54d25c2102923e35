"""Evaluations leave out what their data set has nothing to say about."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from segcore.engine.trainer import _needed_outputs_only
from segcore.evaluation.builder import evaluated_tasks
from segcore.inference.predictions import PredictionKind


@dataclass(frozen=True)
class Tasks:
    semantic: bool = True
    panoptic: bool = False
    instance: bool = True


@pytest.mark.parametrize(
    ("data_set", "tasks"),
    [
        ("ade20k_sem_seg_val", {"semantic"}),
        ("vspw_val", {"semantic"}),
        ("ytvis_2019_val", {"instance"}),
        ("ade20k_panoptic_val", {"semantic", "panoptic", "instance"}),
    ],
)
def test_what_a_data_set_evaluates(data_set: str, tasks: set[str]) -> None:
    assert evaluated_tasks(data_set) == tasks


def test_a_model_gets_its_tasks_back() -> None:
    model = SimpleNamespace(tasks=Tasks(), prediction_kind=PredictionKind())
    evaluator = SimpleNamespace(labels_suffice=True, tasks={"semantic", "panoptic"})
    with pytest.raises(KeyError), _needed_outputs_only(model, evaluator):
        assert model.tasks == Tasks(instance=False)
        assert model.prediction_kind.output == "labels"
        raise KeyError
    assert model == SimpleNamespace(tasks=Tasks(), prediction_kind=PredictionKind())


def test_an_evaluation_reads_the_lists_of_our_own_models() -> None:
    model = SimpleNamespace(published_output=True)
    with _needed_outputs_only(model, SimpleNamespace()):
        assert not model.published_output
    assert model.published_output


def test_a_model_without_tasks_stays_as_it_is() -> None:
    model = SimpleNamespace()
    with _needed_outputs_only(model, SimpleNamespace(tasks={"semantic"})):
        assert not vars(model)


def test_an_evaluator_that_does_not_say_sees_all_tasks() -> None:
    model = SimpleNamespace(tasks=Tasks())
    with _needed_outputs_only(model, SimpleNamespace()):
        assert model.tasks == Tasks()
