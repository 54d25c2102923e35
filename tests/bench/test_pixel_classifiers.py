"""The benchmark of per-pixel models: transformers and ours compute the same, tables are whole."""

import importlib
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from segcore.errors import UserError

HOSTS = {
    "segmenter": "per_pixel/ade20k/segmenter_vit-b16_512x512_160k",
    "deeplabv3": "per_pixel/ade20k/deeplabv3_r101-d8_512x512_80k",
    "swin": "per_pixel/ade20k/upernet_swin-b_512x512_160k",
    "beit": "per_pixel/ade20k/upernet_beit-l_640x640_160k",
}
SIDE = 64


@pytest.fixture(autouse=True)
def scripts(repository, monkeypatch):
    """They import each other by name, as they do when they are run."""
    monkeypatch.syspath_prepend(str(repository / "bench"))


@pytest.fixture
def bench():
    return importlib.import_module("pixel_classifiers")


@pytest.fixture
def networks():
    return importlib.import_module("pixel_networks")


@pytest.fixture
def here(bench, monkeypatch):
    """Measure in this process, and not the machine."""
    measure = importlib.import_module("measure")
    monkeypatch.setattr(measure, "alone", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(measure, "product_rate", lambda: 1e11)


def tiny(networks, host: str, training: bool, suffix: str = "", **options: object):
    changes = networks.TINY | {name.replace("__", "."): v for name, v in options.items()}
    return networks.Case(f"{HOSTS[host]}{suffix}.yaml", training, networks.pairs(changes), SIDE)


@torch.no_grad()
def disturb(model: nn.Module) -> None:
    """Move what starts as zero or one, so that nothing hides behind it."""
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value += 0.1 * torch.rand_like(value) * (1 if name.endswith("running_var") else 2)


@pytest.mark.parametrize("host", ["swin", "beit"])
def test_transformers_compute_the_same(networks, host: str) -> None:
    """Scores, losses and gradients of the same weights."""
    pytest.importorskip("transformers", reason="transformers is not installed: extra `bench`")
    from transformers_upernet import TransformersUperNet

    quiet = {"MODEL__SWIN__DROP_PATH_RATE": 0.0, "MODEL__BEIT__DROP_PATH_RATE": 0.0}
    case = tiny(networks, host, True, MODEL__PER_PIXEL__DROPOUT=0.0, **quiet)
    model, cfg = networks.build(case)
    disturb(model)
    items = networks.inputs(model, case, SIDE)
    theirs = TransformersUperNet(model, cfg).eval()
    model.eval()
    images = torch.stack([model.normalise(item["image"]) for item in items])
    with torch.no_grad():
        ours = model.decode_head(model.backbone(images)).scores
        scores = nn.functional.interpolate(ours, (SIDE, SIDE), mode="bilinear")
        torch.testing.assert_close(theirs.theirs(images).logits, scores, rtol=1e-4, atol=1e-4)
    found = model(items)[0]["sem_seg_labels"]
    assert (theirs(items)[0] != found).float().mean() < 1e-3

    losses = [networks.loss(way.train(), items) for way in (model, theirs)]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)
    for loss in losses:
        loss.backward()
    first = model.backbone.patch_embed.proj.weight.grad
    name = next(n for n, _ in theirs.named_parameters() if n.endswith("projection.weight"))
    other = theirs.get_parameter(name).grad
    assert (first - other).norm() <= 1e-2 * first.norm()


def test_transformers_has_no_rankseg(networks) -> None:
    from transformers_upernet import to_transformers

    with pytest.raises(UserError, match="UPerNet alone"):
        to_transformers(*networks.build(tiny(networks, "swin", False, "-rankseg")))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("suffix", ["", "-rankseg"])
@pytest.mark.parametrize("host", HOSTS)
def test_every_way_is_measured(networks, host: str, suffix: str, training: bool) -> None:
    found = networks.measure(tiny(networks, host, training, suffix), False)
    assert found.forward > 0 and (found.backward > 0) == training


@pytest.mark.parametrize("host", ["segmenter", "deeplabv3"])
def test_selection_bounds_the_scores(bench, networks, host: str) -> None:
    """The maps of the curve have a column for every class, or for the selected ones."""
    columns = {}
    for ranked in (False, True):
        case = bench.curve_case(host, 300, ranked, training=False)
        options = (*case.options, *networks.pairs(networks.TINY))
        model, _ = networks.build(replace(case, options=options))
        images = torch.zeros(1, 3, SIDE, SIDE)
        with torch.no_grad():
            columns[ranked] = model.decode_head(model.backbone(images)).scores.shape[1]
    assert columns == {False: 300, True: bench.SELECTED}


def test_the_tables_of_models_are_printed(bench, here, monkeypatch, capsys) -> None:
    """Also where a way does not fit the memory."""
    asked = []

    def alone(_, case, in_transformers):
        asked.append((case, in_transformers))
        return None if case.config.endswith("-rankseg.yaml") else bench.Measured(1, 2, 3e9)

    monkeypatch.setattr(importlib.import_module("measure"), "alone", alone)
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: name)
    arguments = ["--models", "upernet_swin_b", "--classes", "1284", "--runs", "1"]
    monkeypatch.setattr(sys, "argv", ["pixel_classifiers.py", *arguments])
    bench.main()
    rows = [row.split() for row in capsys.readouterr().out.splitlines()]
    assert rows.count(["plain", "3.00", "1.00", "2.00", "3.00"]) == 2
    assert rows.count(["transformers", "3.00", "1.00", "2.00", "3.00"]) == 2
    assert rows.count(["rankseg", "does", "not", "fit", "the", "memory"]) == 2
    assert {case.config.split("/")[1] for case, _ in asked} == {"coco_lvis"}
    assert [case.training for case, _ in asked] == [False] * 3 + [True] * 3


def test_the_curve_is_printed(bench, networks, here, monkeypatch, capsys) -> None:
    monkeypatch.setattr(bench, "CURVE_SIDE", SIDE)
    config = f"{HOSTS['segmenter']}.yaml"
    tiny_options = networks.TINY | {"MODEL.PER_PIXEL.CHANNELS": 192}
    monkeypatch.setattr(bench, "CURVES", {"segmenter": (config, tiny_options)})
    arguments = ["--curve", "--classes", "50", "70", "--runs", "1"]
    monkeypatch.setattr(sys, "argv", ["pixel_classifiers.py", *arguments])
    bench.main()
    rows = [row.split() for row in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows[-2:]] == ["50", "70"]
    assert all(len(row) == 1 + 4 * 2 for row in rows[-2:])
    assert bench.cell(None) == "does not fit"


@pytest.mark.parametrize(
    "arguments", [["--classes", "7"], ["--curve", "--classes", "7"], ["--runs", "0"]]
)
def test_wrong_arguments_are_user_errors(bench, arguments: list[str]) -> None:
    with pytest.raises(UserError, match=r"--(classes|runs)"):
        bench.parse_arguments(arguments)


def test_all_configs_are_there(bench) -> None:
    from segcore.config import load_config

    for name in bench.MODELS:
        for number in bench.MODELS[name]:
            for case, _ in bench.ways(name, number, training=False).values():
                assert number == load_config(case.config).MODEL.SEM_SEG_HEAD.NUM_CLASSES
