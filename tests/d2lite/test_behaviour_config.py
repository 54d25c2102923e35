"""How configs merge, freeze, dump, and construct."""

import ast

import pytest
import yaml
from detectron2.config import CfgNode, configurable, get_cfg


@pytest.fixture
def facts(behaviour):
    return behaviour["training"]["config"]


def plain(value):
    return tuple(value["tuple"]) if isinstance(value, dict) else value


def test_merge_from_list(facts):
    for case in facts["merge_from_list"]:
        cfg = get_cfg()
        try:
            cfg.merge_from_list([case["key"], ast.literal_eval(case["given"])])
        except (ValueError, KeyError, AssertionError) as error:
            assert case["result"] == f"raises {type(error).__name__}", case
            continue
        value = cfg
        for key in case["key"].split("."):
            value = value[key]
        assert value == plain(case["result"]["value"]), case
        assert type(value).__name__ == case["result"]["type"], case


def test_frozen(facts, raised):
    cfg = get_cfg()
    cfg.freeze()
    assert raised(setattr, cfg, "SEED", 1) == facts["frozen"]["set"]
    cfg.merge_from_list(["SEED", 3])
    assert cfg.SEED == 3
    assert cfg.is_frozen() and cfg.SOLVER.is_frozen() and cfg.clone().is_frozen()
    cfg.defrost()
    assert not cfg.is_frozen()


def test_keys(facts, raised):
    cfg = get_cfg()
    cfg.NEW_KEY = 1
    assert cfg.NEW_KEY == 1
    assert raised(getattr, cfg, "NOPE") == facts["missing_attribute"]
    assert raised(cfg.__getitem__, "NOPE") == facts["missing_item"]
    cfg.COMPUTED_X = 1
    assert raised(setattr, cfg, "COMPUTED_X", 2) == facts["COMPUTED_prefix_twice"]
    assert raised(cfg.merge_from_list, ["SEED"]) == facts["merge_from_list_odd_length"]


@pytest.fixture
def write(tmp_path):
    def write_yaml(name, text):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write_yaml


def test_base_files(facts, write):
    write("base.yaml", "SOLVER:\n  MAX_ITER: 10\n  BASE_LR: 0.25\n")
    child = write("sub/child.yaml", "_BASE_: ../base.yaml\nSOLVER:\n  MAX_ITER: 11\n")
    cfg = get_cfg()
    cfg.merge_from_file(child)
    assert facts["file"]["base_relative_to_child"] == [cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR]

    write("other.yaml", "SOLVER:\n  MAX_ITER: 12\n")
    both = write("both.yaml", "_BASE_: [base.yaml, other.yaml]\nSEED: 4\n")
    cfg = get_cfg()
    cfg.merge_from_file(both)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR, cfg.SEED) == (12, 0.25, 4)


@pytest.mark.parametrize(
    "fact, text",
    [
        ("unknown_key", "SOLVER:\n  NOPE: 1\n"),
        ("int_for_float", "SOLVER:\n  BASE_LR: 1\n"),
        ("str_for_int", "SOLVER:\n  MAX_ITER: 'a'\n"),
        ("no_version_key", "SEED: 1\n"),
        ("version_3", "VERSION: 3\n"),
    ],
)
def test_files(facts, write, raised, fact, text):
    path = write("a.yaml", text)
    assert raised(get_cfg().merge_from_file, path) == facts["file"][fact]


def test_missing_file(facts, raised, tmp_path):
    path = str(tmp_path / "none.yaml")
    assert raised(get_cfg().merge_from_file, path) == facts["file"]["missing_file"]


def test_tag_is_refused_on_request(facts, write, raised):
    path = write("a.yaml", "X: !!python/object/apply:eval ['1 + 1']\n")
    expected = facts["file"]["unsafe_tag_with_allow_unsafe_False"]
    assert raised(get_cfg().merge_from_file, path, allow_unsafe=False) == expected


def test_texts_become_values(write):
    cfg = get_cfg()
    cfg.merge_from_file(
        write("a.yaml", "SOLVER:\n  STEPS: (1, 2)\n  BASE_LR: 1e-4\nDATASETS:\n  TRAIN: ('a',)\n")
    )
    assert cfg.SOLVER.STEPS == (1, 2)
    assert cfg.SOLVER.BASE_LR == 0.0001
    assert cfg.DATASETS.TRAIN == ("a",)


def test_dump(facts):
    loaded = yaml.safe_load(get_cfg().dump())
    assert list(loaded) == facts["dump"]["keys_sorted"]
    assert loaded["SOLVER"]["STEPS"] == [30000]
    assert loaded["SOLVER"]["WEIGHT_DECAY_BIAS"] is None
    cfg = get_cfg()
    cfg.merge_from_other_cfg(CfgNode({"SOLVER": loaded["SOLVER"]}))
    assert cfg.SOLVER == get_cfg().SOLVER


# Detectron2 itself knows no limits: such files take all of its memory, or years.
def test_bases_of_bases_are_read_once(lite_only, write):
    """Also where two files have two bases each, which have two each, and so on."""
    for number in range(25):
        write(f"d{number}.yaml", f"_BASE_: [d{number + 1}.yaml, d{number + 1}.yaml]\n")
    write("d25.yaml", "SEED: 7\nSOLVER: {MAX_ITER: 1}\n")
    assert CfgNode.load_yaml_with_base(write("a.yaml", "_BASE_: d0.yaml\nSEED: 8\n")) == {
        "SEED": 8,
        "SOLVER": {"MAX_ITER": 1},
    }


def test_a_base_of_two_bases_counts_in_both(write):
    """The later base wins, with what it inherits."""
    write("root.yaml", "SEED: 1\nSOLVER: {MAX_ITER: 1}\n")
    write("one.yaml", "_BASE_: root.yaml\nSEED: 2\nSOLVER: {MAX_ITER: 2}\n")
    write("two.yaml", "_BASE_: root.yaml\nSOLVER: {BASE_LR: 0.5}\n")
    loaded = CfgNode.load_yaml_with_base(write("a.yaml", "_BASE_: [one.yaml, two.yaml]\n"))
    assert loaded == {"SEED": 1, "SOLVER": {"MAX_ITER": 1, "BASE_LR": 0.5}}


@pytest.mark.parametrize("base", ["[b.yaml]", "./b.yaml"])
def test_bases_without_an_end(lite_only, write, base):
    write("b.yaml", "_BASE_: a.yaml\n")
    with pytest.raises(ValueError, match=r"its own _BASE_|more than 100 bases"):
        CfgNode.load_yaml_with_base(write("a.yaml", f"_BASE_: {base}\n"))


def test_values_of_yaml(write):
    """YAML 1.1 as PyYAML reads it; of repeated keys the last one counts."""
    path = write("a.yaml", "A: 1:30\nB: &b [1e-3, 0o7, 017, 1_000]\nC: *b\nA: 2:00\nD: yes\n")
    b = ["1e-3", "0o7", 15, 1000]
    assert CfgNode.load_yaml_with_base(path) == {"A": 120, "B": b, "C": b, "D": True}


BOMB = "\n".join(f"K{n}: &k{n} {{A: *k{n - 1}, B: *k{n - 1}}}" for n in range(1, 30))


@pytest.mark.parametrize(
    "text",
    [
        "_BASE_: 5",
        "_BASE_:",
        "_BASE_: [b.yaml, 3]",
        "_BASE_: ~nosuchuser/b.yaml",
        f"_BASE_: {'a' * 5000}",
        '_BASE_: "a\\0b"',
        f"SEED: 1{':1' * 100_000}",
        f"SEED: 1{':1' * 1000}",
        f"SEED: {'7' * 5000}",
        f"SEED: 0x{'f' * 5000}",
        "SEED: 2026-13-45",
        "SEED: !!int ''",
        "SEED: '{[1]}'",
        "SEED: {[1]: 2}",
        f"SEED: '{'-' * 5000}1'",
        f"SEED: {'[' * 3000}",
        f"SEED: {'[' * 60}{']' * 60}",
        "SOLVER: &a {STEPS: *a}",
        f"K0: &k0 {{A: 1}}\n{BOMB}",
        "\n".join("SEED: 1" for _ in range(30_000)),
        "5: 6",
        "SOLVER: {5: 6}",
        "\x07",
        "5",
        "#" * 300_000,
    ],
)
def test_odd_files_end_in_one_error(lite_only, write, text):
    """Without delay, and with one of the errors that Detectron2 raises for files."""
    path = write("a.yaml", text)
    with pytest.raises((ValueError, KeyError, OSError, yaml.YAMLError)) as error:
        get_cfg().merge_from_file(path)
    assert len(str(error.value)) < 6000


class Base:
    @configurable
    def __init__(self, a, b=4, c=3):
        self.values = [a, b, c]

    @classmethod
    def from_config(cls, cfg, c=30):
        return {"a": cfg.SOLVER.MAX_ITER, "b": 20, "c": c}


class Child(Base):
    @classmethod
    def from_config(cls, cfg):
        return {**super().from_config(cfg), "b": 1}


class WithoutFromConfig:
    @configurable
    def __init__(self, a):
        pass


class PlainFromConfig(WithoutFromConfig):
    def from_config(self, cfg):
        return {}


class OtherFirstArgument(WithoutFromConfig):
    @classmethod
    def from_config(cls, config):
        return {}


def test_configurable_class(facts, raised):
    facts, cfg = facts["configurable"], get_cfg()
    assert Base(1).values == facts["explicit"]
    assert Base(cfg).values == facts["cfg"]
    assert Base(cfg=cfg).values == facts["cfg_keyword"]
    assert Base(cfg, b=7).values == facts["override_init_argument"]
    assert Base(cfg, c=8).values[2] == facts["argument_known_to_from_config"][2]
    assert Child(cfg).values == facts["subclass"]
    assert raised(WithoutFromConfig, cfg) == facts["no_from_config"]
    assert raised(WithoutFromConfig, 1) == facts["no_from_config_explicit_call"]
    assert raised(PlainFromConfig, cfg) == facts["from_config_not_classmethod"]
    assert raised(OtherFirstArgument, cfg) == facts["first_argument_not_cfg"]


def test_configurable_function(facts, raised):
    facts, cfg = facts["configurable"], get_cfg()

    def from_config(cfg, b=5):
        return {"a": cfg.SOLVER.MAX_ITER, "b": b, "c": 0}

    @configurable(from_config=from_config)
    def function(a, b=1, c=0):
        return [a, b, c]

    assert function(cfg) == facts["function_cfg"]
    assert function(cfg, b=6, c=9) == facts["function_cfg_override"]
    assert function(1) == facts["function_explicit"]
    assert function.from_config is from_config
    assert raised(configurable, lambda: None) == facts["on_wrong_function"]
