"""The default config, and the published yaml files merged into it."""

import pytest
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.projects.deeplab import add_deeplab_config

# Groups of detectors, which no released segmentation file sets and no code of ours reads.
LEFT_OUT_GROUPS = (
    "MODEL.ANCHOR_GENERATOR.",
    "MODEL.FPN.",
    "MODEL.PANOPTIC_FPN.",
    "MODEL.PROPOSAL_GENERATOR.",
    "MODEL.RETINANET.",
    "MODEL.ROI_",
    "MODEL.RPN.",
)


def value_at(cfg, path):
    for key in path.split("."):
        cfg = cfg[key]
    return cfg


def plain(value):
    if isinstance(value, dict):
        return tuple(map(plain, value["tuple"]))
    return [plain(item) for item in value] if isinstance(value, list) else value


def test_leaf(default_leaf, is_lite):
    path, fact = default_leaf
    is_used = "set_in_yaml" in fact or "read_in_code" in fact
    if is_lite and not is_used and path.startswith(LEFT_OUT_GROUPS):
        return
    actual = value_at(get_cfg(), path)
    assert actual == plain(fact["value"])
    assert type(actual).__name__ == fact["type"]


def leaves(node, prefix=""):
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def test_no_key_of_our_own(defaults):
    assert set(leaves(get_cfg())) <= set(defaults["get_cfg"])


def test_deeplab_adds_its_keys_and_changes_none(defaults):
    before, cfg = set(leaves(get_cfg())), get_cfg()
    add_deeplab_config(cfg)
    added = defaults["add_deeplab_config"]["added"]
    assert set(leaves(cfg)) - before == set(added)
    for path, fact in added.items():
        actual = value_at(cfg, path)
        assert (actual, type(actual).__name__) == (plain(fact["value"]), fact["type"])
    for path in before:
        assert value_at(cfg, path) == value_at(get_cfg(), path)


def test_configs_do_not_share_lists():
    one, other = get_cfg(), get_cfg()
    one.MODEL.PIXEL_MEAN.append(0.0)
    add_deeplab_config(one)
    one.MODEL.SEM_SEG_HEAD.ASPP_DILATIONS.append(24)
    add_deeplab_config(other)
    assert len(other.MODEL.PIXEL_MEAN) == 3
    assert other.MODEL.SEM_SEG_HEAD.ASPP_DILATIONS == [6, 12, 18]


@pytest.mark.parametrize("size", [512, 640])
def test_tag_of_released_files(defaults, tmp_path, size):
    form = next(f for f in defaults["yaml_tags"]["forms"] if f["base_size"] == size)
    path = tmp_path / "tagged.yaml"
    path.write_text(
        "VERSION: 2\nINPUT:\n  MIN_SIZE_TRAIN: !!python/object/apply:eval "
        f'["[int(x * 0.1 * {size}) for x in range(5, 21)]"]\n'
    )
    cfg = get_cfg()
    cfg.merge_from_file(str(path))
    assert tuple(form["value"]) == cfg.INPUT.MIN_SIZE_TRAIN


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:eval ['print(1)']",
        '!!python/object/apply:eval ["[int(x * 0.1 * 640) for x in range(5, exit())]"]',
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system",
    ],
)
def test_no_yaml_is_executed(lite_only, tmp_path, text):
    path = tmp_path / "evil.yaml"
    path.write_text(f"VERSION: 2\nOUTPUT_DIR: {text}\n")
    with pytest.raises(yaml.constructor.ConstructorError):
        get_cfg().merge_from_file(str(path))
