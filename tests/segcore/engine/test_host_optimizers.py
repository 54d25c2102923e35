"""Learning rates, weight decay and schedules of the per-pixel hosts, against published numbers."""

import json
import math
from collections.abc import Mapping

import pytest
import torch
from detectron2.config import CfgNode
from torch import nn

from segcore.config import default_config, load_config
from segcore.engine import Trainer, build_optimizer
from segcore.errors import UserError
from segcore.rankseg.ranker import Ranker
from segcore.rankseg.scores import build_rank_scores

# How the configs of the hosts set the keys; Swin's and BEiT's schedules are power 1 down to 0.
HOSTS = {
    "upernet_beit_large": {
        "BASE_LR": 2e-5,
        "WEIGHT_DECAY": 0.05,
        "WEIGHT_DECAY_RULE": "vectors",
        "LAYER_DECAY": 0.95,
    },
    "upernet_swin_base": {
        "BASE_LR": 6e-5,
        "WEIGHT_DECAY": 0.01,
        "WEIGHT_DECAY_RULE": "layer_norms",
    },
    "deeplabv3_r101d8": {
        "OPTIMIZER": "SGD",
        "BASE_LR": 0.01,
        "WEIGHT_DECAY": 5e-4,
        "WEIGHT_DECAY_RULE": "all",
        "POLY_LR_END": 1e-4,
    },
}
LINEAR = {"POLY_LR_POWER": 1.0, "WARMUP_ITERS": 1500, "WARMUP_FACTOR": 1e-6}
SGD = {"POLY_LR_POWER": 0.9, "WARMUP_ITERS": 0}
SCHEDULES = {
    "swin_160k": {"BASE_LR": 6e-5, "MAX_ITER": 160_000} | LINEAR,
    "beit_160k": {"BASE_LR": 2e-5, "MAX_ITER": 160_000} | LINEAR,
    "vit_adapter_80k": {"BASE_LR": 2e-5, "MAX_ITER": 80_000} | LINEAR,
    "deeplabv3_80k": {"BASE_LR": 0.01, "MAX_ITER": 80_000, "POLY_LR_END": 1e-4} | SGD,
    "segmenter_160k": {"BASE_LR": 1e-3, "MAX_ITER": 160_000, "POLY_LR_END": 1e-5} | SGD,
    "deeplabv3_coco_stuff_20k": {"BASE_LR": 0.01, "MAX_ITER": 20_000, "POLY_LR_END": 1e-4} | SGD,
}


def config(solver: Mapping[str, object]) -> CfgNode:
    cfg = default_config()
    cfg.SOLVER.LR_SCHEDULER_NAME = "PolyLR"
    cfg.SOLVER.BACKBONE_MULTIPLIER = 1.0
    for key, value in solver.items():
        cfg.SOLVER[key] = value
    return cfg


def published(golden, host: str) -> tuple[dict, dict[str, list[int]]]:
    """The reference's optimizer, and the shapes of the host's parameters by published name."""
    optimizer = json.loads((golden / "hosts" / "optimizer.json").read_text())[host]
    keys = json.loads((golden / "hosts" / f"keys_{host}_k150.json").read_text())
    return optimizer, keys.get("keys", keys)


def is_layer_norm(path: str) -> bool:
    last = path.rpartition(".")[2]
    return last.startswith(("norm", "ln"))


def skeleton(shapes: Mapping[str, list[int]]) -> nn.Module:
    """A tree of modules without mathematics, whose parameters have these names and shapes."""
    model = nn.Module()
    for name, shape in shapes.items():
        *path, leaf = name.split(".")
        module = model
        for depth, part in enumerate(path):
            if part not in module._modules:
                norm = is_layer_norm(".".join(path[: depth + 1])) and depth == len(path) - 1
                module.add_module(part, nn.LayerNorm(1) if norm else nn.Module())
            module = module._modules[part]
        module.register_parameter(leaf, nn.Parameter(torch.empty(shape, device="meta")))
    return model


@pytest.mark.parametrize("host", HOSTS)
def test_every_parameter_has_its_published_learning_rate_and_decay(golden, host: str) -> None:
    optimizer, keys = published(golden, host)
    expected = optimizer["groups_lr_wd"]
    # Our backbones have blocks, and BEiT's published one layers.
    ours = {name: name.replace("backbone.layers.", "backbone.blocks.") for name in expected}
    model = skeleton({ours[name]: keys[name] for name in expected})
    groups = build_optimizer(config(HOSTS[host]), model).param_groups
    found = {}
    for group in groups:
        (parameter,) = group["params"]
        found[id(parameter)] = group["lr"], group["weight_decay"]
    parameters = dict(model.named_parameters())
    assert len(groups) == len(expected)
    for name, (rate, decay) in expected.items():
        got = found[id(parameters[ours[name]])]
        assert math.isclose(got[0], rate, rel_tol=1e-12) and got[1] == decay, name


def rates(cfg: CfgNode, iterations: list[int], *groups: dict) -> dict[int, list[float]]:
    """The learning rates of the groups at some iterations, by setting the schedule there."""
    parameters = [{"params": [nn.Parameter(torch.zeros(1))], **g} for g in groups or ({},)]
    optimizer = torch.optim.SGD(parameters, lr=cfg.SOLVER.BASE_LR)
    schedule = Trainer.build_lr_scheduler(cfg, optimizer)
    found = {}
    for iteration in iterations:
        schedule.last_epoch = iteration
        found[iteration] = schedule.get_lr()
    return found


def check(found: Mapping[int, list[float]], expected: Mapping[str, float], rel_tol: float) -> None:
    for iteration, rate in expected.items():
        assert math.isclose(found[int(iteration)][0], rate, rel_tol=rel_tol, abs_tol=1e-18), (
            iteration
        )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_schedule_of_published_runs(golden, schedule: str) -> None:
    table = json.loads((golden / "hosts" / "optimizer.json").read_text())
    expected = table["poly_with_linear_warmup_as_published_runs_used"][schedule]
    check(rates(config(SCHEDULES[schedule]), [*map(int, expected)]), expected, 1e-9)


@pytest.mark.parametrize("host", HOSTS)
def test_the_chained_schedule(golden, host: str) -> None:
    """In which the curve begins where the warm-up ends."""
    optimizer, _ = published(golden, host)
    *warmup, curve = optimizer["scheduler"]
    options = HOSTS[host] | {
        "POLY_LR_CONVENTION": "chained",
        "POLY_LR_POWER": curve["power"],
        "MAX_ITER": curve["end"],
        "WARMUP_ITERS": warmup[0]["end"] if warmup else 0,
        "WARMUP_FACTOR": 1e-6,
    }
    expected = optimizer["lr_of_base_group"]
    check(rates(config(options), [*map(int, expected)]), expected, 1e-9)


def test_essnets_three_groups(golden) -> None:
    """Backbone, decoder and class table; the table has another power and momentum."""
    table = json.loads((golden / "per_pixel" / "cases.json").read_text())["essnet_poly_lr"]
    options = SGD | {
        "OPTIMIZER": "SGD",
        "BASE_LR": 0.01,
        "BACKBONE_MULTIPLIER": 0.1,
        "MAX_ITER": table["total_iterations"],
        "POLY_LR_MIN": table["floor"],
        "WEIGHT_DECAY": 1e-4,
        "WEIGHT_DECAY_RULE": "all",
    }
    cfg = config(options)
    model = nn.ModuleDict(
        {
            "backbone": nn.BatchNorm2d(2),
            "decoder": nn.Linear(2, 2),
            "embedding_table": nn.Embedding(2, 2),
        }
    )
    groups = build_optimizer(cfg, model).param_groups
    backbone, decoder, classes = groups[0], groups[2], groups[4]
    assert all(group["weight_decay"] == 1e-4 for group in groups)
    assert (backbone["momentum"], decoder["momentum"], classes["momentum"]) == (0.9, 0.9, 0.95)
    settings = [{key: group[key] for key in ("lr", "power") if key in group} for group in groups]
    rows = [row[0] for row in table["rows"]]
    found = rates(cfg, [*rows, table["total_iterations"]], *settings)
    for iteration, *expected in table["rows"]:
        got = [found[iteration][index] for index in (0, 2, 4)]
        assert all(map(math.isclose, got, expected)), iteration
    assert found[table["total_iterations"]] == [table["floor"]] * 5


def test_power_and_position_survive_a_checkpoint() -> None:
    cfg = config({"BASE_LR": 0.01, "MAX_ITER": 10, "POLY_LR_END": 1e-3} | SGD)
    model = nn.ModuleDict({"decoder": nn.Linear(1, 1), "embedding_table": nn.Embedding(1, 1)})

    def start() -> tuple:
        optimizer = build_optimizer(cfg, model)
        return optimizer, Trainer.build_lr_scheduler(cfg, optimizer)

    def steps(optimizer, schedule, number: int) -> list[list[float]]:
        found = []
        for _ in range(number):
            optimizer.step()
            schedule.step()
            found.append([group["lr"] for group in optimizer.param_groups])
        return found

    whole = steps(*start(), 9)
    assert whole[4][0] != whole[4][2]
    first = start()
    steps(*first, 4)
    second = start()
    for new, old in zip(second, first, strict=True):
        new.load_state_dict(old.state_dict())
    assert steps(*second, 5) == whole[4:]


def test_factors_on_the_weight_decay_by_name() -> None:
    """The first entry whose text occurs in the name counts."""
    factors = [["head.0", 100.0], ["norm", 0.0]]
    cfg = config({"WEIGHT_DECAY": 1e-6, "WEIGHT_DECAY_RULE": "all"})
    cfg.SOLVER.WEIGHT_DECAY_FACTORS = factors
    layer = {"norm": nn.LayerNorm(2), "mix": nn.Linear(2, 2, bias=False)}
    model = nn.ModuleDict({"head": nn.ModuleList(nn.ModuleDict(layer) for _ in range(2))})
    model["head"][1] = nn.ModuleDict({"norm": nn.LayerNorm(2), "mix": nn.Linear(2, 2, bias=False)})
    groups = build_optimizer(cfg, model).param_groups
    decay = [group["weight_decay"] for group in groups]
    assert decay == [1e-6 * 100] * 3 + [0.0] * 2 + [1e-6]


def test_the_multi_label_head_of_any_ranking_has_its_factor() -> None:
    scores = build_rank_scores("norm", 2, no_object=False)
    ranker = Ranker(nn.Linear(3, 3), scores, kappa=2, test_kappa=2)
    model = nn.ModuleDict({"selection": ranker, "classifier": nn.Linear(3, 3)})
    cfg = config({"BASE_LR": 0.5, "MLHEAD_MULTIPLIER": 0.25})
    slower = [g["lr"] == 0.125 for g in build_optimizer(cfg, model).param_groups]
    in_head = [name.startswith("selection.head.") for name, _ in model.named_parameters()]
    assert sum(slower) == 2 and sorted(slower) == sorted(in_head)


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        ({"WEIGHT_DECAY_RULE": "norms"}, "WEIGHT_DECAY_RULE is 'norms', but takes modules, layer_"),
        ({"WEIGHT_DECAY_FACTORS": [["norm"]]}, "WEIGHT_DECAY_FACTORS holds \\['norm'\\]: an entry"),
        ({"LAYER_DECAY": 0.9}, "LAYER_DECAY is 0.9, but the backbone of Linear is no plain"),
        ({"POLY_LR_CONVENTION": "new"}, "POLY_LR_CONVENTION is 'new', but takes multiplied or"),
        ({"WARMUP_METHOD": "cosine"}, "WARMUP_METHOD is 'cosine', but takes linear or constant"),
    ],
)
def test_bad_values_are_one_error_message(solver: dict, message: str) -> None:
    cfg = config(solver)
    with pytest.raises(UserError, match=message):
        Trainer.build_lr_scheduler(cfg, build_optimizer(cfg, nn.Linear(1, 1)))


def test_further_parameters_of_the_first_layer() -> None:
    """By how their names begin; a name that no parameter has is an error."""
    blocks = nn.ModuleDict({"blocks": nn.ModuleList(nn.Linear(1, 1) for _ in range(2))})
    head = nn.ModuleDict({"query": nn.Linear(1, 1), "fuse": nn.Linear(1, 1)})
    model = nn.ModuleDict({"backbone": blocks, "head": head})
    solver = {"BASE_LR": 1.0, "LAYER_DECAY": 0.5, "LAYER_DECAY_FIRST": ["head.q"]}
    groups = build_optimizer(config(solver), model).param_groups
    assert [group["lr"] for group in groups[::2]] == [0.25, 0.5, 0.125, 1.0]
    with pytest.raises(UserError, match="LAYER_DECAY_FIRST holds 'decoder', but no parameter of"):
        build_optimizer(config(solver | {"LAYER_DECAY_FIRST": ["decoder"]}), model)


def test_factors_are_read_from_files_and_command_lines(tmp_path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("SOLVER: {WEIGHT_DECAY_FACTORS: [[norm, 0.0], [head, 100]]}")
    assert load_config(file).SOLVER.WEIGHT_DECAY_FACTORS == [["norm", 0.0], ["head", 100]]
    cfg = load_config(file, ["SOLVER.WEIGHT_DECAY_FACTORS", "[['norm', 0.5]]"])
    assert cfg.SOLVER.WEIGHT_DECAY_FACTORS == [["norm", 0.5]]
