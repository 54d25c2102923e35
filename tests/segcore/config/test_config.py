"""Configs: names, bases, safe YAML, and errors that name the key and the file."""

import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import torch
import yaml
from detectron2.config import CfgNode
from safetensors.torch import save_file

import catseg_d2  # noqa: F401  (its keys)
from segcore.config import default_config, find_config, load_config, loading
from segcore.config import files as config_files
from segcore.errors import UserError

RANGES = '!!python/object/apply:eval ["[int(x * 0.1 * 512) for x in range(5, 21)]"]'


def short_id(value: object) -> str:
    return value[:40] if isinstance(value, str) else "number"


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
    path = write("_BASE_: middle.yaml\nSOLVER: {MAX_ITER: 3}\nTEST:\n", "sub/a.yaml")
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
    message = f"there is no key {key}; the nearest is {nearest}"
    with pytest.raises(UserError, match=f"the command line: {message}"):
        load_config(write(""), [key, "1"])
    text = "1"
    for name in reversed(key.split(".")):
        text = f"{{{name}: {text}}}"
    write(text, "base.yaml")
    with pytest.raises(UserError, match=rf"base\.yaml: {message}"):
        load_config(write("_BASE_: base.yaml"))


@pytest.mark.parametrize(
    ("text", "message"),
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
        ("A: 2026-13-99", "month must be in 1..12 in line 1; it was not read"),
        (f"A: {'7' * 5000}", "a number has more than 64 characters in line 1"),
        ("_BASE_: gone.yaml", "its _BASE_ gone.yaml is not a file"),
        ("_BASE_: 5", "_BASE_ is 5, but takes the name of a config file, or a list"),
        ("_BASE_:", "_BASE_ is None, but takes"),
        ("_BASE_: {A: 1}", "_BASE_ is {'A': 1}, but takes"),
        ("_BASE_: [a.yaml, 3]", "_BASE_ is ['a.yaml', 3], but takes"),
        ("_BASE_: ''", "_BASE_ is , but takes"),
        ("_BASE_: ~nosuchuser/a.yaml", "_BASE_ ~nosuchuser/a.yaml: there is no such user"),
        (f"_BASE_: {'a' * 5000}", "is not a file"),
        ('_BASE_: "a\\0b"', "holds a NUL"),
        ('_BASE_: "\\ud800"', "_BASE_ \\ud800"),
        ("SEED: 1:30", "1:30 would be a number to the base of 60"),
        ("SOLVER: {BASE_LR: 1:30.5}", "1:30.5 would be a number to the base of 60"),
        (f"SEED: 1{':1' * 100_000}", "a number has more than 64 characters"),
        (f"SEED: 0x{'f' * 5000}", "a number has more than 64 characters"),
        (f"SEED: '0x{'f' * 5000}'", "SEED is a whole number of more than 64 bits"),
        (f"SEED: '{'7' * 5000}'", "SEED is '7777"),
        ("SEED: 9223372036854775808", "SEED is a whole number of more than 64 bits"),
        (f"MODEL: {{PIXEL_STD: [1, 2, '{'9' * 5000}']}}\nSEED: '{{[1]}}'", "SEED is '{[1]}'"),
        ("SEED: !!int ''", "in line 1; it was not read"),
        ("SEED: !!timestamp x", "in line 1; it was not read"),
        ("SEED: !!bool x", "in line 1; it was not read"),
        ("SEED:", "SEED is empty, but takes a whole number"),
        ("SEED: 1\nSEED: 2", "the key SEED stands twice with different values in line 2"),
        ("TEST: {TOP_K: 1, TOP_K: 2}", "the key TOP_K stands twice"),
        ("\n".join(f"K{number}: 1" for number in range(15_000)), "more than 20000 keys and values"),
        ("SEED: 1\n" * 30_000, "more than 20000 keys and values"),
        ("SEED: " + "[" * 100, "more than 40 levels"),
        ("MODEL: &a {X: *a}", "is inside of what it refers to"),
        ("DATASETS: {TRAIN: &a [*a]}", "is inside of what it refers to"),
        ("{[1]: 2}", "unhashable"),
        ("? {a: 1}\n: 2", "unhashable"),
        ('"A\\e[31m\\nB": 1', r"there is no key A\x1b[31m\nB"),
        (f"{'A' * 1000}: 1", "there is no key AAA"),
    ],
    ids=short_id,
)
def test_wrong_content_is_one_error_message(write, text, message):
    path = write(text)
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert message in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_that_is_not_utf_8(tmp_path):
    (tmp_path / "a.yaml").write_bytes("SEED: 3".encode("utf-16"))
    with pytest.raises(UserError, match=r"a\.yaml is not UTF-8 text"):
        load_config(tmp_path / "a.yaml")


def test_a_key_may_repeat_its_value(write):
    """As one of Mask2Former's published files does."""
    assert load_config(write("SEED: 3\nTEST: {TOP_K: 2}\nSEED: 3\n")).SEED == 3


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("SEED", "0x" + "f" * 5000, "SEED is a whole number of more than 64 bits"),
        ("SEED", 10**5000, "SEED is a whole number of more than 64 bits"),
        ("SEED", "7" * 5000, "SEED is '777"),
        ("SEED", "1:1:1", "SEED is '1:1:1', but takes a whole number"),
        ("SEED", "{[1]}", "SEED is '{[1]}', but takes a whole number"),
        ("SEED", "[" * 5000, "SEED is '[[["),
        ("SEED", "+" * 100_000 + "1", "SEED is '+++"),
        ("SEED", "None", "SEED is empty, but takes a whole number"),
        ("MODEL.PIXEL_MEAN", f"[1, 2, 0x{'f' * 5000}]", "MODEL.PIXEL_MEAN is a whole number of"),
        ("MODEL.PIXEL_MEAN", "[" * 60 + "1" + "]" * 60, "is nested more than"),
        ("OUTPUT_DIR", "~nosuchuser/run", "OUTPUT_DIR: ~nosuchuser/run: there is no such user"),
        ("TEST.X\x1b\n", "1", r"there is no key TEST.X\x1b\n"),
        ("_BASE_", "a.yaml", "there is no key _BASE_"),
    ],
    ids=short_id,
)
def test_wrong_overrides_are_one_error_message(write, key, value, message):
    with pytest.raises(UserError) as caught:
        load_config(write(""), [key, value])
    assert message in str(caught.value) and str(caught.value).isprintable()


def test_home_is_expanded_in_every_value(write, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write("OUTPUT_DIR: ~/run\nDATASETS: {OWN: [~/a.json, b.json]}")
    cfg = load_config(path, ["MODEL.WEIGHTS", "~/w.pth", "DATASETS.TEST", "('~', 'a~b')"])
    values = cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS, *cfg.DATASETS.OWN, *cfg.DATASETS.TEST
    names = "run", "w.pth", "a.json", "b.json", "", "a~b"
    written = [str(tmp_path / name) if name not in ("b.json", "a~b") else name for name in names]
    assert list(values) == written
    write("SEED: 9", "base.yaml")
    assert load_config(write("_BASE_: ~/base.yaml", "b.yaml")).SEED == 9
    assert load_config("~/base.yaml").SEED == 9


def test_a_file_is_read_once(write, monkeypatch):
    """Twenty-five files, each with the next one as its base twice, are 2**25 reads otherwise."""
    for number in range(25):
        write(f"_BASE_: [d{number + 1}.yaml, d{number + 1}.yaml]", f"d{number}.yaml")
    write("SEED: 7", "d25.yaml")
    reads, read_yaml = [], config_files.read_yaml
    monkeypatch.setattr(config_files, "read_yaml", lambda path: reads.append(1) or read_yaml(path))
    assert load_config(write("_BASE_: d0.yaml")).SEED == 7
    assert len(reads) == 27


def test_a_base_of_two_bases_counts_where_it_comes_last(write):
    """As where every base is merged with its own bases first, and then those in turn."""
    write("SEED: 1\nTEST: {TOP_K: 1}", "root.yaml")
    write("_BASE_: root.yaml\nSEED: 2", "one.yaml")
    write("_BASE_: root.yaml\nTEST: {TOP_K: 3}", "two.yaml")
    cfg = load_config(write("_BASE_: [one.yaml, two.yaml]"))
    assert (cfg.SEED, cfg.TEST.TOP_K) == (1, 3)


def test_the_chain_of_bases_has_a_limit(write):
    for number in range(150):
        write(f"_BASE_: c{number + 1}.yaml", f"c{number}.yaml")
    write("", "c150.yaml")
    with pytest.raises(UserError, match="more than 100 bases"):
        load_config(write("_BASE_: c0.yaml"))


NASTY = (
    "5", "-", ":", "~", "null", "[]", "{}", "[", "{", "]", "}", "'", '"', "&a", "*a", "!!int ''",
    "!!set {a}", "!!binary x", "!!python/name:os.mkdir", "<<: {A: 1}", "? [1]", "|", ">", "#", "-1",
    "%YAML 9.9", "---", "...", "1:30", "0x" + "f" * 5000, "9" * 5000, ".nan", ".inf", "1e999",
    "2026-13-45", "'{[1]}'", "[[1], {2: 3}]", "_BASE_: 5", "_BASE_: a.yaml",
    "_BASE_: [b.yaml, b.yaml]", "SEED: {A: 1}", "MODEL: 3", "'\\0'", '"\\ud800"', "\t", "\x07",
    "\ud83d", "True", "\u2028", "a" * 3000, "[" * 300, "'" + "(" * 300 + "'",
)  # fmt: skip


def mutated(text: str, random: Random) -> bytes:
    """The text with a few characters, lines and values changed."""
    for _ in range(random.randint(1, 2)):
        lines = text.split("\n")
        index = random.randrange(len(lines))
        key = lines[index].partition(":")[0]
        kind = random.randrange(6)
        if kind == 0:
            lines[index] = f"{key}: {random.choice(NASTY)}"
        elif kind == 1:
            lines.insert(index, " " * random.choice((0, 2, 4)) + random.choice(NASTY))
        elif kind == 2:
            lines[index:index] = lines[index : index + random.randint(1, 5)]
        elif kind == 3:
            del lines[index]
        elif kind == 4:
            lines[index] = f"{random.choice(NASTY)}{lines[index]}"
        else:
            cut = random.randrange(len(lines[index]) + 1)
            lines[index] = lines[index][:cut] + random.choice(NASTY) + lines[index][cut + 1 :]
        text = "\n".join(lines)
    content = bytearray(text, "utf-8", "surrogatepass")
    if random.random() < 0.2:
        content[random.randrange(len(content))] = random.randrange(256)
    return bytes(content)


def test_mutated_configs_are_read_or_one_error_message(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = Random(0)
    kept = ("OUTPUT_DIR", "SEED", "SOLVER", "DATASETS")
    tree = yaml.safe_load(default_config().dump())
    text = "_BASE_: b.yaml\n" + yaml.safe_dump({key: tree[key] for key in kept})
    (tmp_path / "b.yaml").write_text("SEED: 4\nMODEL: {SWIN: {DEPTHS: [1, 2]}}\n")
    outcomes = Counter()
    for _ in range(400):
        (tmp_path / "a.yaml").write_bytes(mutated(text, random))
        options = [
            random.choice(("SEED", "MODEL.SWIN.EMBED_DIM", "OUTPUT_DIR", "SOLVER.STEPS")),
            "7",
        ]
        if random.random() < 0.1:
            options[random.randrange(2)] = random.choice(NASTY)
        try:
            cfg = load_config("a.yaml", options)
        except UserError as error:
            assert str(error).isprintable() and len(str(error)) < 1000
            outcomes["refused"] += 1
            continue
        outcomes["read"] += 1
        cfg.dump()
    assert outcomes["refused"] > 100 and outcomes["read"] > 25


def test_whole_numbers_are_numbers(write):
    cfg = load_config(write("SOLVER: {BASE_LR: 1}"), ["SOLVER.WEIGHT_DECAY", "2", "SEED", "3"])
    values = cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY, cfg.SEED
    assert values == (1.0, 2.0, 3) and [*map(type, values)] == [float, float, int]


def test_a_section_may_take_undeclared_keys(write, monkeypatch):
    """As some sections of Detectron2's projects do."""

    def add_open_section(cfg):
        cfg.MODEL.SWIN = CfgNode(new_allowed=True)

    monkeypatch.setattr(loading, "_config_keys", [loading.add_shared_keys, add_open_section])
    path = write("MODEL: {SWIN: {DEPTHS: [2, 2], ATTENTION: {HEADS: 3}}}")
    cfg = load_config(path, ["MODEL.SWIN.EMBED_DIM", "128", "MODEL.SWIN.DEPTHS", "[4, 4]"])
    assert cfg.MODEL.SWIN == {"DEPTHS": [4, 4], "ATTENTION": {"HEADS": 3}, "EMBED_DIM": 128}
    with pytest.raises(UserError, match=r"there is no key MODEL\.SWAN\.EMBED_DIM"):
        load_config(path, ["MODEL.SWAN.EMBED_DIM", "128"])
    with pytest.raises(UserError, match=r"MODEL\.SWIN\.DAY is .*, which no config can hold"):
        load_config(write("MODEL: {SWIN: {DAY: 2026-01-01}}", "day.yaml"))
    with pytest.raises(UserError, match=r"there is no key MODEL\.SWIN\.DEPTHS\.A"):
        load_config(path, ["MODEL.SWIN.DEPTHS.A", "128"])


def test_bases_in_a_cycle(write):
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
    monkeypatch.setattr(loading, "CONFIG_FOLDERS", (tmp_path / "nowhere", tmp_path / "shipped"))
    assert find_config(path) == path
    assert find_config("family/large_model.yaml") == path
    assert load_config("configs/family/large_model.yaml").SEED == 3
    with pytest.raises(UserError, match=r"family/larg\.yaml; there are family/large_model\.yaml"):
        find_config("family/larg.yaml")
    with pytest.raises(UserError, match="no config was given"):
        find_config("")


def test_configs_of_a_family_ask_for_its_import(write, tmp_path, monkeypatch):
    write("MODEL: {THEIRS: 3}", "shipped/family/a.yaml")
    monkeypatch.setattr(loading, "CONFIG_FOLDERS", (tmp_path / "shipped",))
    with pytest.raises(UserError, match=r"no key MODEL\.THEIRS.*import family first"):
        load_config("family/a.yaml")


def test_weights_become_a_file_that_detectron2_reads(write, tmp_path, monkeypatch):
    monkeypatch.setenv("CATRANK_CACHE", str(tmp_path / "cache"))
    save_file({"w": torch.ones(2)}, tmp_path / "w.safetensors")
    cfg = load_config(write(""), ["MODEL.WEIGHTS", str(tmp_path / "w.safetensors")])
    assert torch.load(cfg.MODEL.WEIGHTS, weights_only=True)["model"]["w"].tolist() == [1, 1]
    assert load_config(write("MODEL: {WEIGHTS: null}")).MODEL.WEIGHTS == ""
    assert load_config(write(""), ["MODEL.WEIGHTS", "no.pkl"]).MODEL.WEIGHTS == "no.pkl"
