"""Configs: names, bases, safe YAML, and errors that name the key and the file."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

import catseg_d2
from segcore import config
from segcore.config import default_config, find_config, load_config
from segcore.errors import UserError

RANGES = '!!python/object/apply:eval ["[int(x * 0.1 * 512) for x in range(5, 21)]"]'


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "a.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_base_chain_and_opts(write):
    write("SOLVER:\n  MAX_ITER: 1\n  BASE_LR: 1e-4\n  IMS_PER_BATCH: 7\n", "base.yaml")
    write("_BASE_: ../base.yaml\nSOLVER:\n  MAX_ITER: 2\n", "sub/middle.yaml")
    path = write("_BASE_: middle.yaml\nSOLVER: {MAX_ITER: 3}\nSEED:\nTEST:\n", "sub/a.yaml")
    cfg = load_config(path, ["SEED", "5", "DATASETS.TRAIN", ["x", "y"]])
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR, cfg.SOLVER.IMS_PER_BATCH) == (3, 1e-4, 7)
    assert cfg.SEED == 5 and cfg.DATASETS.TRAIN == ("x", "y")
    assert cfg.TEST.EVAL_PERIOD == 0, "an empty section sets nothing"
    assert not cfg.is_frozen()


def test_what_is_written_is_read_again(write):
    cfg = load_config(write("SOLVER: {STEPS: '(1, 2)'}"), ["DATASETS.TEST", "('a', 'b')"])
    again = load_config(write(cfg.dump(), "dumped.yaml"))
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())
    assert again.DATASETS.TEST == cfg.DATASETS.TEST == ("a", "b")


def test_every_key_of_the_published_files_is_known(golden):
    import catseg_d2  # noqa: F401

    cfg = default_config()
    defaults = json.loads((golden / "detectron2" / "defaults.json").read_text())
    groups = [defaults["get_cfg"], defaults["add_deeplab_config"]["added"]]
    set_somewhere = [
        key
        for group in [*groups, defaults["yaml_keys_outside"]]
        for key, about in group.items()
        if "catseg" in about.get("set_in_yaml", {})
    ]
    assert len(set_somewhere) > 50
    for key in set_somewhere:
        node = cfg
        for name in key.split("."):
            node = node[name]


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("SOLVER.MAX_ITERS", "SOLVER.MAX_ITER"),
        ("SOLVER.OPTIMISER", "SOLVER.OPTIMIZER"),
        ("INPUT.CROP.SIZES", "INPUT.CROP.SIZE"),
        ("SEEDS", "SEED"),
    ],
)
def test_unknown_key_names_the_nearest(write, key, nearest):
    sentence = f"there is no key {key}; the nearest is {nearest}"
    with pytest.raises(UserError, match=f"the command line: {sentence}"):
        load_config(write(""), [key, "1"])
    text = "1"
    for name in reversed(key.split(".")):
        text = f"{{{name}: {text}}}"
    write(text, "base.yaml")
    with pytest.raises(UserError, match=rf"base\.yaml: {sentence}"):
        load_config(write("_BASE_: base.yaml"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("SOLVER: {BASE_LR: high}", "SOLVER.BASE_LR is 'high', but takes a number, such as"),
        ("SOLVER: {BASE_LR: true}", "SOLVER.BASE_LR is True, but takes a number, such as"),
        ("SOLVER: {MAX_ITER: many}", "SOLVER.MAX_ITER is 'many', but takes a whole number"),
        ("DATASETS: {TRAIN: ade}", "DATASETS.TRAIN is 'ade', but takes a list"),
        ("INPUT: {COLOR_AUG_SSD: 1}", "INPUT.COLOR_AUG_SSD is 1, but takes True or False"),
        ("MODEL: 3", "there is no key MODEL; the nearest is"),
        ("SEED: {A: 1}", "there is no key SEED.A; the nearest is SEED"),
        ("1: 2", "there is no key 1"),
        ("[1, 2]", "holds no keys"),
        ("text", "holds no keys"),
        ("A: [", "is not valid YAML"),
        ("A: 2026-13-99", "is not valid YAML: month must be"),
        (f"A: {'7' * 5000}", "is not valid YAML"),
        ("_BASE_: gone.yaml", "its _BASE_ gone.yaml is not a file"),
    ],
)
def test_wrong_content_is_one_sentence(write, text, sentence):
    path = write(text)
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert sentence in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_whole_numbers_are_numbers(write):
    cfg = load_config(write("SOLVER: {BASE_LR: 1}"), ["SOLVER.WEIGHT_DECAY", "2", "SEED", "3"])
    values = cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY, cfg.SEED
    assert values == (1.0, 2.0, 3) and [*map(type, values)] == [float, float, int]


def test_a_section_may_take_keys_that_nobody_declared(write, monkeypatch):
    """Released configs hold keys of a backbone that CAT-Seg does not have; another family does."""
    families = [config.add_shared_keys, catseg_d2.add_catseg_config]
    monkeypatch.setattr(config, "_config_keys", families)
    path = write("MODEL: {SWIN: {DEPTHS: [2, 2], ATTENTION: {HEADS: 3}}}")
    cfg = load_config(path, ["MODEL.SWIN.EMBED_DIM", "128", "MODEL.SWIN.DEPTHS", "[4, 4]"])
    assert cfg.MODEL.SWIN == {"DEPTHS": [4, 4], "ATTENTION": {"HEADS": 3}, "EMBED_DIM": 128}
    with pytest.raises(UserError, match=r"there is no key MODEL\.SWAN\.EMBED_DIM"):
        load_config(path, ["MODEL.SWAN.EMBED_DIM", "128"])
    with pytest.raises(UserError, match=r"MODEL\.SWIN\.DAY is .*, which no config can hold"):
        load_config(write("MODEL: {SWIN: {DAY: 2026-01-01}}", "day.yaml"))
    with pytest.raises(UserError, match=r"there is no key MODEL\.SWIN\.DEPTHS\.A"):
        load_config(path, ["MODEL.SWIN.DEPTHS.A", "128"])


def test_bases_in_a_circle(write):
    write("_BASE_: b.yaml", "a.yaml")
    write("_BASE_: c.yaml", "b.yaml")
    path = write("_BASE_: a.yaml", "c.yaml")
    with pytest.raises(UserError, match=r"is its own _BASE_"):
        load_config(path)


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.mkdir [executed]",
        "!!python/object/apply:eval [\"__import__('os').mkdir('executed')\"]",
        "!!python/object/new:os.mkdir [executed]",
        "!!python/name:os.mkdir",
        "!!python/tuple [1, 2]",
    ],
)
def test_yaml_executes_nothing(write, tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"a\.yaml: could not determine a constructor .* line 1"):
        load_config(write(f"OUTPUT_DIR: {value}"))
    assert not (tmp_path / "executed").exists()


def test_a_small_file_cannot_stand_for_gigabytes(write):
    lines = ["A: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"A{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(UserError, match="references"):
        load_config(write("\n".join(lines)))
    with pytest.raises(UserError, match="more than 262144 bytes"):
        load_config(write("#" * (2 << 20)))


def test_the_published_list_of_sizes(write, golden):
    forms = json.loads((golden / "detectron2" / "defaults.json").read_text())["yaml_tags"]["forms"]
    assert forms
    for form in forms:
        text = RANGES.replace("512", str(form["base_size"]))
        cfg = load_config(write(f"INPUT:\n  MIN_SIZE_TRAIN: {text}"))
        assert list(cfg.INPUT.MIN_SIZE_TRAIN) == form["value"]


def test_opts_come_in_pairs(write):
    path = write("")
    with pytest.raises(UserError, match=r"'1\]' is left over"):
        load_config(path, ["MODEL.PIXEL_MEAN", "[1,", "1]"])
    with pytest.raises(UserError, match="--eval-only stands after a key"):
        load_config(path, ["SEED", "1", "--eval-only"])


def test_device_is_what_is_there(write, monkeypatch):
    path = write("")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert load_config(path).MODEL.DEVICE == "cpu"
    for device in ("cuda", "cuda:1"):
        with pytest.raises(UserError, match=f"MODEL.DEVICE is {device}, but there is no GPU"):
            load_config(path, ["MODEL.DEVICE", device])
    for device in ("gpu", "None", "''", "cuda:x"):
        with pytest.raises(UserError, match=r"MODEL\.DEVICE is .*, but takes cpu, cuda or one GPU"):
            load_config(path, ["MODEL.DEVICE", device])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert load_config(path).MODEL.DEVICE == "cuda"
    assert load_config(write("MODEL: {DEVICE: cpu}")).MODEL.DEVICE == "cpu"


def test_names_are_found_anywhere(write, tmp_path, monkeypatch):
    path = write("SEED: 3", "shipped/family/large_model.yaml")
    monkeypatch.setattr(config, "CONFIG_FOLDERS", (tmp_path / "nowhere", tmp_path / "shipped"))
    assert find_config(path) == path
    assert find_config("family/large_model.yaml") == path
    assert load_config("configs/family/large_model.yaml").SEED == 3
    with pytest.raises(UserError, match=r"family/larg\.yaml; there are family/large_model\.yaml"):
        find_config("family/larg.yaml")
    with pytest.raises(UserError, match="no config was given"):
        find_config("")


def test_configs_of_a_family_ask_for_its_import(write, tmp_path, monkeypatch):
    write("MODEL: {THEIRS: 3}", "shipped/family/a.yaml")
    monkeypatch.setattr(config, "CONFIG_FOLDERS", (tmp_path / "shipped",))
    with pytest.raises(UserError, match=r"no key MODEL\.THEIRS.*import family first"):
        load_config("family/a.yaml")


def test_weights_become_a_file_that_detectron2_reads(write, tmp_path, monkeypatch):
    monkeypatch.setenv("CATRANK_CACHE", str(tmp_path / "cache"))
    save_file({"w": torch.ones(2)}, tmp_path / "w.safetensors")
    cfg = load_config(write(""), ["MODEL.WEIGHTS", str(tmp_path / "w.safetensors")])
    assert torch.load(cfg.MODEL.WEIGHTS, weights_only=True)["model"]["w"].tolist() == [1, 1]
    assert load_config(write("MODEL: {WEIGHTS: null}")).MODEL.WEIGHTS == ""
    assert load_config(write(""), ["MODEL.WEIGHTS", "no.pkl"]).MODEL.WEIGHTS == "no.pkl"
