"""Objects of an image and their boxes."""

import copy

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, BoxMode, Instances

COORDINATES = [[0, 0, 4, 4], [2, 2, 6, 8], [5, 5, 5, 9]]


@pytest.fixture
def facts(behaviour):
    return behaviour["structures_and_layers"]


@pytest.fixture
def objects():
    return Instances(
        (10, 12), gt_classes=torch.arange(3), gt_boxes=Boxes(torch.tensor(COORDINATES))
    )


def test_instances(facts, objects, raised):
    fact = facts["Instances"]
    assert len(objects) == fact["len"]
    assert sorted(objects.get_fields()) == fact["fields"]
    assert raised(objects.set, "scores", torch.zeros(2)) == fact["wrong_length_set"]
    assert raised(getattr, objects, "nothing") == fact["unknown_field"]
    assert raised(setattr, objects, "image_size", (9, 9)) == fact["image_size_set_as_field"]
    assert len(objects[1]) == fact["int_index_len"]
    assert objects[-1].gt_classes.tolist() == [2]
    assert len(objects[1:]) == fact["slice_len"]
    assert objects[torch.tensor([True, False, True])].gt_classes.tolist() == [0, 2]
    assert raised(objects.__getitem__, 3) == fact["index_out_of_range"]
    assert raised(len, Instances((1, 1))) == fact["empty_len"]
    assert raised(iter, objects) == fact["iter"]
    objects.scores = torch.ones(3)
    assert objects.has("scores") is fact["has"]
    objects.remove("scores")
    assert objects.has("scores") is fact["remove_then_has"]
    assert list(objects.to("cpu").image_size) == fact["to_keeps_size"]
    assert str(objects).startswith(fact["str_starts"])
    assert copy.deepcopy(objects).gt_classes.tolist() == [0, 1, 2]


def test_joined_instances(facts, objects, raised):
    fact = facts["Instances"]
    joined = Instances.cat([objects, objects])
    assert len(joined) == fact["cat"]["len"]
    types = {name: type(value).__name__ for name, value in joined.get_fields().items()}
    assert types == fact["cat"]["types"]
    other = Instances((9, 9), gt_classes=torch.arange(3))
    assert raised(Instances.cat, [objects, other]) == fact["cat_size_mismatch"]
    assert raised(Instances.cat, []) == fact["cat_empty"]


def test_boxes(facts, raised):
    fact = facts["Boxes"]
    boxes, other = (Boxes(torch.tensor(fact[name])) for name in "ab")
    assert boxes.area().tolist() == fact["area_a"]
    assert boxes.nonempty().tolist() == fact["nonempty"]
    assert boxes.nonempty(threshold=3).tolist() == fact["nonempty_threshold_3"]
    assert boxes.get_centers().tolist() == fact["centers"]
    assert boxes.inside_box((7, 10)).tolist() == fact["inside_box_7x10"]
    assert boxes.inside_box((7, 10), 3).tolist() == fact["inside_box_threshold_3"]
    clipped, scaled = boxes.clone(), boxes.clone()
    assert str(clipped.clip((7, 10))) == fact["clip_in_place_returns"]
    assert clipped.tensor.tolist() == fact["clip_7x10"]
    scaled.scale(2, 0.5)
    assert scaled.tensor.tolist() == fact["scale_x2_y0.5"]
    assert boxes.tensor.tolist() == fact["a"]
    assert [*boxes[0].tensor.shape] == fact["int_index_shape"]
    assert [*Boxes(torch.tensor([])).tensor.shape] == fact["empty_list_shape"]
    assert str(Boxes(torch.tensor([[1, 2, 3, 4]])).tensor.dtype) == fact["int_input_dtype"]
    assert str(Boxes(torch.zeros(1, 4).double()).tensor.dtype) == fact["double_input_dtype"]
    assert len(Boxes.cat([boxes, other])) == fact["cat_len"]
    assert len(Boxes.cat([])) == fact["cat_empty_len"]
    assert [*next(iter(boxes)).shape] == fact["iter_shapes"]
    assert raised(Boxes, torch.zeros(2, 3)) == fact["bad_shape"]
    assert (
        raised(Boxes(torch.tensor([[0.0, 0, float("inf"), 1]])).clip, (4, 4))
        == (fact["clip_non_finite"])
    )
    assert repr(boxes[0]) == fact["repr"]
    assert str(boxes.device) == fact["device"]


@pytest.mark.parametrize("make", [list, tuple, np.array, torch.tensor])
def test_modes_of_boxes(make) -> None:
    """One box of numbers, or rows of them."""
    rows = make in (np.array, torch.tensor)
    box = make([[1.0, 2.0, 3.0, 5.0]] if rows else [1.0, 2.0, 3.0, 5.0])
    corners = BoxMode.convert(box, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
    assert type(corners) is type(box)
    assert np.ravel(corners).tolist() == [1, 2, 4, 7]
    again = BoxMode.convert(corners, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    assert np.ravel(again).tolist() == np.ravel(box).tolist() == [1, 2, 3, 5]
    assert BoxMode.convert(box, BoxMode.XYXY_ABS, BoxMode.XYXY_ABS) is box
    assert [mode.value for mode in BoxMode] == [0, 1, 2, 3, 4]
