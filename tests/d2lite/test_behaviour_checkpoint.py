"""Names of files, keys and tensors in checkpoints; what is refused."""

import pickle

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer, PeriodicCheckpointer
from torch import nn


@pytest.fixture
def facts(behaviour):
    return behaviour["training"]["checkpointer"]


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(2, 3)
        self.head = nn.Linear(3, 2)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("pixel_mean", torch.zeros(3, 1, 1))
        self.register_buffer("count", torch.zeros(1))
        self.backbone = Part()
        self.cls = nn.Linear(2, 4)


@pytest.fixture
def net():
    model = Net()
    for value in model.state_dict().values():
        value.fill_(-7.0)
    return model


def ones(*keys):
    shapes = {name: value.shape for name, value in Net().state_dict().items()}
    return {key: torch.ones(shapes[key]) for key in keys or shapes}


def with_prefix(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def arrays(state, prefix="backbone."):
    return {key.removeprefix(prefix): value.numpy() for key, value in state.items()}


BACKBONE = tuple(f"backbone.{p}.{w}" for p in ("stem", "head") for w in ("weight", "bias"))


def zoo(state, heuristics=True):
    flag = {"matching_heuristics": True} if heuristics else {}
    return {"model": state, "__author__": "somebody", **flag}


def mixed_prefixes():
    state = ones()
    mean = state.pop("pixel_mean")
    return {**with_prefix("module.", state), "pixel_mean": mean}


def special_keys():
    state = ones(*BACKBONE, "cls.weight", "cls.bias")
    extra = {"a.anchor_generator.cell_anchors.0": torch.ones(1), "other": torch.ones(1)}
    return {**state, **extra}


CASES = {
    "plain_pth": lambda: {"model": ones(), "extra": 1, "iteration": 5},
    "bare_state_dict_pth": ones,
    "module_prefix": lambda: {"model": with_prefix("module.", ones())},
    "module_prefix_not_on_all": lambda: {"model": mixed_prefixes()},
    "shape_mismatch": lambda: {"model": {**ones(), "backbone.stem.weight": torch.ones(5, 2)}},
    "special_keys": lambda: {"model": special_keys()},
    "zoo_pkl_heuristics": lambda: zoo(
        {**arrays(ones(*BACKBONE)), "nothere": np.ones(3, np.float32)}
    ),
    "zoo_pkl_no_heuristics": lambda: zoo(arrays(ones(*BACKBONE)), heuristics=False),
    "pth_query_heuristics": lambda: {
        "model": {k.removeprefix("backbone."): v for k, v in ones(*BACKBONE).items()}
    },
    "pth_unknown_query": ones,
    "heuristics_ambiguous": lambda: zoo({"weight": np.ones((3, 2), np.float32)}),
    "heuristics_two_equal_shapes": lambda: zoo({"bias": np.ones(2, np.float32)}),
    "heuristics_shape_mismatch": lambda: zoo(
        {**arrays(ones(*BACKBONE)), "stem.weight": np.ones((5, 2), np.float32)}
    ),
    "heuristics_no_match": lambda: zoo({"zzz": np.ones(2, np.float32)}),
    "list_value": lambda: {"model": {**ones(), "count": [1.0]}},
}


@pytest.mark.parametrize("case", CASES)
def test_load(facts, net, tmp_path, case):
    fact, content = facts[case], CASES[case]()
    path = tmp_path / fact["file"].split("?")[0]
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)

    found = []

    class Recording(DetectionCheckpointer):
        def _log_incompatible_keys(self, incompatible):
            found.append(incompatible)

    load = Recording(net).load
    if "raises" in fact:
        with pytest.raises(Exception) as caught:
            load(str(tmp_path / fact["file"]))
        assert caught.type.__name__ == fact["raises"]
        return
    rest = load(str(tmp_path / fact["file"]))
    assert sorted(rest) == fact["returned_keys"]
    assert sorted(found[0].missing_keys) == fact["missing"]
    assert sorted(found[0].unexpected_keys) == fact["unexpected"]
    shapes = [[key, list(a), list(b)] for key, a, b in found[0].incorrect_shapes]
    assert shapes == fact["incorrect_shapes"]
    loaded = [name for name, value in net.state_dict().items() if (value != -7.0).all()]
    assert sorted(loaded) == fact["loaded"]


def test_one_entry_for_two_names_is_refused(facts, tmp_path):
    class Twins(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)

    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(zoo({"weight": np.ones((2, 2), np.float32)})))
    with pytest.raises(Exception) as caught:
        DetectionCheckpointer(Twins()).load(str(path))
    assert caught.type.__name__ == facts["ambiguous_same_shape"]["raises"]


def test_load_nothing(facts, net, raised, tmp_path):
    assert DetectionCheckpointer(net).load("") == facts["load_empty_path"]["returns"]
    missing = str(tmp_path / "none.pth")
    assert raised(DetectionCheckpointer(net).load, missing) == facts["load_missing_file"]


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_pth_executes_nothing(facts, net, tmp_path, raised, capsys):
    torch.save({"model": ones(), "x": Evil()}, tmp_path / "a.pth")
    failure = raised(DetectionCheckpointer(net).load, str(tmp_path / "a.pth"))
    assert failure == facts["pth_with_arbitrary_object"]["raises"]
    assert "executed" not in capsys.readouterr().out


def test_pkl_executes_nothing(lite_only, net, tmp_path, capsys):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(zoo({"x": Evil()})))
    with pytest.raises(pickle.UnpicklingError, match=r"wants to run builtins\.print"):
        DetectionCheckpointer(net).load(str(path))
    assert "executed" not in capsys.readouterr().out


def test_caffe2_is_left_out(lite_only, net, tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"blobs": {"stem_w": np.ones((3, 2), np.float32)}}))
    with pytest.raises(pickle.UnpicklingError, match="install Detectron2"):
        DetectionCheckpointer(net).load(str(path))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_save(facts, net, tmp_path):
    facts, optimizer = facts["saving"], torch.optim.SGD(net.parameters(), lr=0.1)
    checkpointer = DetectionCheckpointer(net, str(tmp_path), optimizer=optimizer)
    assert checkpointer.has_checkpoint() == facts["has_before"]
    assert checkpointer.get_checkpoint_file() == facts["get_before"]
    periodic = PeriodicCheckpointer(checkpointer, 5, max_iter=12)
    for iteration in range(12):
        periodic.step(iteration)
    assert files(tmp_path) == facts["period_5_max_iter_12_files"]
    assert (tmp_path / "last_checkpoint").read_text() == facts["last_checkpoint_content"]
    content = torch.load(tmp_path / "model_0000004.pth", weights_only=True)
    assert sorted(content) == facts["file_top_keys"]
    assert content["iteration"] == facts["file_iteration"]
    assert sorted(content["optimizer"]) == facts["file_optimizer_keys"]
    for resume in (True, False):
        rest = checkpointer.resume_or_load(str(tmp_path / "model_0000004.pth"), resume=resume)
        assert sorted(rest) == facts[f"resume_{str(resume).lower()}_returns"]


def test_keep_the_last(facts, net, tmp_path):
    facts = facts["saving"]
    checkpointer = DetectionCheckpointer(net, str(tmp_path))
    periodic = PeriodicCheckpointer(checkpointer, 2, max_iter=9, max_to_keep=2)
    for iteration in range(9):
        periodic.step(iteration)
    assert files(tmp_path) == facts["period_2_max_iter_9_keep_2_files"]


def test_save_on_request(facts, net, tmp_path, raised):
    DetectionCheckpointer(net, str(tmp_path), save_to_disk=False).save("a")
    assert files(tmp_path) == []
    DetectionCheckpointer(net, str(tmp_path)).save("custom", note=1)
    assert files(tmp_path) == ["custom.pth", "last_checkpoint"]
    failure = raised(DetectionCheckpointer, net, str(tmp_path), thing=3)
    assert failure == facts["saving"]["checkpointable_without_state_dict"]
