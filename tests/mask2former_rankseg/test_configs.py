"""Every config loads and builds from registered parts; published ones have published shapes."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import META_ARCH_REGISTRY, build_model

from mask2former_rankseg import MaskFormer
from mask2former_rankseg.checkpoint import names_of
from segcore.config import load_config
from segcore.mappers import MAPPER_REGISTRY
from segcore.rankseg.scores import NormScores, SharedScores

sys.path.insert(0, str(Path(__file__).parents[1]))
from mask2former_models import read_keys

REPOSITORY = Path(__file__).parents[2]
FAMILY = REPOSITORY / "configs" / "mask2former_rankseg"
EXPERIMENTS = sorted(
    path.relative_to(FAMILY).as_posix()
    for path in FAMILY.rglob("*.yaml")
    if path.parent.name != "parts" and not path.name.startswith("Base-")
)
RELEASED = [name for name in EXPERIMENTS if not name.startswith("scenes")]
RANKED = [name for name in EXPERIMENTS if "rankseg" in name]

SEMANTIC, PANOPTIC = "ade20k/semantic-segmentation", "ade20k/panoptic-segmentation"
VSPW, YTVIS = "vspw", "youtubevis_2019"
VIDEO_R101 = "video_maskformer2_R101_bs16_8ep"
VIDEO_B, VIDEO_L = (
    f"swin/video_maskformer2_swin_{size}_IN21k_384_bs16_8ep" for size in ("base", "large")
)
SWIN_B, SWIN_L = (f"maskformer2_swin_{size}_IN21k_384_bs16_160k" for size in ("base", "large"))
KEYS = {
    f"{SEMANTIC}/maskformer2_R50_bs16_160k.yaml": "ade20k_sem_r50",
    f"{SEMANTIC}/swin/maskformer2_swin_tiny_bs16_160k.yaml": "ade20k_sem_swin_tiny",
    f"{SEMANTIC}/swin/{SWIN_B}_res640.yaml": "ade20k_sem_swin_base_gt",
    f"{SEMANTIC}/swin/{SWIN_B}_res640-gt.yaml": "ade20k_sem_swin_base_gt",
    f"{SEMANTIC}/swin/{SWIN_B}_res640-rankseg.yaml": "ade20k_sem_swin_base_rankseg",
    f"{SEMANTIC}/swin/{SWIN_L}_res640-rankseg.yaml": "ade20k_sem_swin_large_rankseg",
    f"{PANOPTIC}/maskformer2_R50_bs16_160k.yaml": "ade20k_pan_r50",
    f"{PANOPTIC}/swin/{SWIN_L}-rankseg.yaml": "ade20k_pan_swin_large_rankseg",
    f"{VSPW}/{VIDEO_R101}-rankseg.yaml": "vspw_r101_rankseg",
    f"{VSPW}/{VIDEO_B}-rankseg.yaml": "vspw_swin_base_rankseg",
    f"{YTVIS}/{VIDEO_R101}-rankseg.yaml": "ytvis2019_r101_rankseg",
    f"{YTVIS}/{VIDEO_B}-rankseg.yaml": "ytvis2019_swin_base_rankseg",
    f"{YTVIS}/{VIDEO_L}-rankseg.yaml": "ytvis2019_swin_large_rankseg",
}
DERIVED = ("relative_position_index", "criterion.empty_weight")  # the config determines them

# What an experiment may change of the one that it is built on.
OF_RANKSEG = r"MODEL\.RANKSEG\..*|.*\.(USE_LAYERNORM|MLHEAD_MULTIPLIER|EVAL_PERIOD|INSTANCE_ON)"
OF_ORACLE = r"MODEL\.RANKSEG\.USE_GT|.*\.(USE_CHECKPOINT|INSTANCE_ON)"


def load(name: str, *options: str) -> CfgNode:
    return load_config(FAMILY / name, ["MODEL.DEVICE", "meta", "MODEL.WEIGHTS", "", *options])


def build(name: str, *options: str) -> MaskFormer:
    """Without memory for weights."""
    with torch.device("meta"):
        return build_model(load(name, *options))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_its_parts_are_registered(name: str) -> None:
    cfg = load(name)
    assert cfg.MODEL.META_ARCHITECTURE in META_ARCH_REGISTRY
    assert cfg.INPUT.DATASET_MAPPER_NAME in MAPPER_REGISTRY
    assert set(DatasetCatalog.list()).issuperset({*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST})


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_builds(name: str) -> None:
    model = build(name)
    assert all(value.is_meta for value in model.state_dict().values())
    classifier = model.sem_seg_head.predictor.classifier
    assert len(classifier.weight) == model.num_classes + 1
    assert (model.ranking is not None) == (name in RANKED)


@pytest.mark.parametrize("name", KEYS)
def test_published_names_and_shapes(golden, name: str) -> None:
    model = build(name)
    to_published = names_of(model).to_published
    ours = {to_published(key): [*value.shape] for key, value in model.state_dict().items()}
    published = read_keys(golden, KEYS[name])
    assert ours == {key: shape for key, shape in published.items() if not key.endswith(DERIVED)}


@pytest.mark.parametrize("suffix, allowed", [("-rankseg", OF_RANKSEG), ("-gt", OF_ORACLE)])
def test_variants_change_nothing_else(suffix: str, allowed: str) -> None:
    variants = [name for name in RELEASED if name.endswith(f"{suffix}.yaml")]
    assert len(variants) >= 4
    for name in variants:
        ours, base = (dict(leaves(load(n))) for n in (name, name.replace(suffix, "")))
        changed = {key for key in ours if ours[key] != base[key]}
        assert changed
        assert all(re.fullmatch(allowed, key) for key in changed), name


def leaves(cfg: CfgNode, path: str = ""):
    for name, value in cfg.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


@pytest.fixture(scope="module")
def index_tool():
    path = REPOSITORY / "tools" / "config_index.py"
    spec = importlib.util.spec_from_file_location("config_index", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_index_is_current(index_tool) -> None:
    written = (REPOSITORY / "configs" / "INDEX.md").read_text()
    assert written == index_tool.index(), "python tools/config_index.py > configs/INDEX.md"


def test_the_index_lists_every_experiment(index_tool) -> None:
    listed = {name for name in index_tool.published() if name.startswith(f"{FAMILY.name}/")}
    assert listed == {f"{FAMILY.name}/{name}" for name in RELEASED}


@pytest.fixture(scope="module")
def steps() -> dict[str, MaskFormer]:
    """The models of a table in docs/reference/configuration.md: step, config, keys."""
    row = r"^\| ([^|]+?) \| `(scenes_1k\w*\.yaml)` \| (?:`(.*)` )?\|$"
    page = (REPOSITORY / "docs" / "reference" / "configuration.md").read_text()
    rows = re.findall(row, page, re.MULTILINE)
    return {step: build(config, *keys.split()) for step, config, keys in rows}


class TestSteps:
    """Each ablation step of the paper by config keys alone."""

    def test_multi_label_loss_only(self, steps) -> None:
        """No class is dropped, and no score depends on a rank."""
        ranking = steps["multi-label loss only"].ranking
        assert ranking.kappa == ranking.test_kappa == 1120
        assert isinstance(ranking.scores, SharedScores)

    def test_selection_and_scores(self, steps) -> None:
        selection = steps["and selection"].ranking
        adaptive = steps["and rank-adaptive scores"].ranking
        assert selection.kappa == adaptive.kappa == 1120
        assert selection.test_kappa == adaptive.test_kappa == 200
        assert isinstance(selection.scores, SharedScores)
        assert isinstance(adaptive.scores, NormScores)

    def test_oracles(self, steps) -> None:
        evaluation, both = (
            steps[f"oracle in {phases}"] for phases in ("evaluation", "training and evaluation")
        )
        assert evaluation.only_present
        assert evaluation.state_dict().keys() == steps["baseline"].state_dict().keys()
        assert both.ranking.head is None
        assert len(steps) == 6
