"""Models refuse to predict with random weights, whatever loads them."""

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from segcore.checkpoint.weights import guard
from segcore.errors import UserError


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        guard(self)

    def forward(self, batched_inputs):
        return self.layer(torch.ones(2))


@pytest.fixture
def model(untrained_refuse) -> Model:
    return Model()


def test_a_model_without_weights_does_not_predict(model):
    with pytest.raises(UserError, match=r"no weights, and would predict by chance: .*MODEL\.WEIG"):
        model.eval()([])
    model.load_state_dict(model.state_dict())
    model([])


def test_a_model_that_was_trained_predicts(model):
    model([]).sum().backward()
    model.eval()([])


def test_measurements_of_untrained_models_say_so(model):
    model.may_predict = True
    model.eval()([])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("layer.bias"), r"it lacks layer\.bias \(1 in all\)"),
        (lambda state: state.update(more=torch.ones(1)), r"it has unknown more"),
        (lambda state: state["layer.bias"].fill_(torch.nan), r"values of layer\.bias that are not"),
    ],
)
def test_detectron2_loads_whole_and_finite_weights_to_predict(model, tmp_path, change, message):
    """As its DefaultPredictor does, out of training mode."""
    state = {name: torch.ones_like(value) for name, value in model.state_dict().items()}
    change(state)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match=message):
        DetectionCheckpointer(model.eval()).load(str(tmp_path / "a.pth"))
    DetectionCheckpointer(model.train()).load(str(tmp_path / "a.pth"))  # to start training from


def test_detectron2_loads_names_of_wrappers(model, tmp_path):
    ones = {name: torch.ones_like(value) for name, value in model.state_dict().items()}
    state = {f"module._orig_mod.{name}": value for name, value in ones.items()}
    torch.save(state, tmp_path / "a.pth")
    DetectionCheckpointer(model.eval()).load(str(tmp_path / "a.pth"))
    assert model([]).tolist() == [3.0, 3.0]
    model.layer = torch.compile(model.layer)  # a part of a model may be wrapped itself
    model.load_state_dict(ones)
    assert list(model.state_dict()) == ["layer._orig_mod.weight", "layer._orig_mod.bias"]
