"""Every name of Detectron2's interface exists with its signature, or is left out on purpose."""

import datetime
import importlib
import inspect
import json
from enum import Enum

import pytest
import torch
from detectron2.utils.registry import Registry

# What d2lite leaves out by design. A name that is here and exists is a fault too.
LEFT_OUT = {
    f"detectron2.{name}"
    for name in (
        # Masks and the readers of their files; what balances and scales objects.
        "data.samplers.RepeatFactorTrainingSampler",
        "data.transforms.ResizeScale",
        "structures.BitMasks",
        "structures.PolygonMasks",
        "data.detection_utils.annotations_to_instances",
        "data.detection_utils.filter_empty_instances",
        "data.detection_utils.transform_instance_annotations",
        # A layer of networks that are not here.
        "layers.DepthwiseSeparableConv2d",
        "projects.point_rend.point_features.get_uncertain_point_coords_with_randomness",
        "projects.point_rend.point_features.point_sample",
        # Older forms of schedules that the builder makes otherwise.
        "solver.WarmupCosineLR",
        "solver.WarmupMultiStepLR",
        # Evaluators: segcore has its own.
        "evaluation.COCOEvaluator",
        "evaluation.COCOPanopticEvaluator",
        "evaluation.SemSegEvaluator",
        # Hooks that nothing here uses.
        "engine.hooks.AutogradProfiler",
        "engine.hooks.PreciseBN",
        "engine.hooks.TorchMemoryStats",
        "engine.hooks.TorchProfiler",
    )
}
LEFT_OUT_MEMBERS = {
    "apply_rotated_box",  # rotated boxes
    "draw_rotated_box_with_label",
    "overlay_rotated_instances",
    "draw_and_connect_keypoints",  # key points
    "draw_soft_mask",
}
NO_DEFAULT = inspect.Parameter.empty


def find(module: str, name: str):
    return getattr(importlib.import_module(module), name)


def default_matches(expected, actual) -> bool:
    if not isinstance(expected, dict):
        return expected == actual and type(expected) is type(actual)
    if "tuple" in expected:
        return actual == tuple(expected["tuple"])
    if "seconds" in expected:
        return actual == datetime.timedelta(seconds=expected["seconds"])
    if isinstance(actual, Enum):
        return f"{type(actual).__module__}.{actual}" == expected["object"]
    return str(actual) == expected["object"]


def check_signature(expected: list[dict], function) -> None:
    actual = list(inspect.signature(function).parameters.values())
    for fact, parameter in zip(expected, actual, strict=False):
        assert (parameter.name, parameter.kind.name.lower()) == (fact["name"], fact["kind"])
        assert ("default" in fact) == (parameter.default is not NO_DEFAULT), parameter
        if "default" in fact:
            assert default_matches(fact["default"], parameter.default), parameter
    assert len(actual) >= len(expected)
    for extra in actual[len(expected) :]:
        assert extra.kind is inspect.Parameter.KEYWORD_ONLY
        assert extra.default is not NO_DEFAULT


def text_of(signature: inspect.Signature) -> str:
    bare = [p.replace(annotation=NO_DEFAULT) for p in signature.parameters.values()]
    return str(inspect.Signature(bare))


def kind_of(owner, name: str) -> str:
    static = inspect.getattr_static(owner, name)
    for kind in (staticmethod, classmethod, property):
        if isinstance(static, kind):
            return kind.__name__
    return "method" if inspect.isroutine(static) else "attribute"


def is_left_out(entry: dict) -> bool:
    return entry["import"] in LEFT_OUT


def test_name(contract_entry, is_lite):
    module, _, name = contract_entry["import"].rpartition(".")
    if is_left_out(contract_entry):
        if is_lite:
            with pytest.raises(ImportError, match="install Detectron2"):
                find(module, name)
        return
    obj = find(module, name)
    for other in contract_entry.get("also_at", []):
        assert find(other, name) is obj, other

    if contract_entry["kind"] == "instance":
        check_members(contract_entry, type(obj))
        if contract_entry["class"].endswith("Registry"):
            assert isinstance(obj, Registry)
        return
    if contract_entry.get("signature") is not None:
        check_signature(contract_entry["signature"], obj)
    if contract_entry["kind"] != "function":
        check_members(contract_entry, obj)
        check_bases(contract_entry, obj)


def check_members(entry: dict, owner) -> None:
    for name, fact in entry["members"].items():
        if name in LEFT_OUT_MEMBERS:
            continue
        assert hasattr(owner, name), name
        if name == "__eq__":  # a dataclass makes it
            continue
        assert kind_of(owner, name) == fact["kind"], name
        if fact.get("signature") and fact["kind"] in ("method", "staticmethod"):
            actual = text_of(inspect.signature(inspect.getattr_static(owner, name)))
            assert actual == fact["signature"], name


def check_bases(entry: dict, owner) -> None:
    for base in entry.get("bases") or []:
        module, _, name = base.rpartition(".")
        if not module:
            continue
        try:
            parent = find(module, name)
        except ImportError:
            continue  # the path of a private module is information only
        assert issubclass(owner, parent), base


def test_left_out_names_are_in_the_contract(golden):
    names = json.loads((golden / "detectron2" / "contract.json").read_text())["names"]
    asked = {name for name, entry in names.items() if entry["asked"]}
    assert asked >= LEFT_OUT


def test_lr_scheduler_is_torchs():
    from detectron2.solver import LRMultiplier

    assert issubclass(LRMultiplier, torch.optim.lr_scheduler.LRScheduler)
