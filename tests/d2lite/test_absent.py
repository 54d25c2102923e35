"""What d2lite leaves out says so in one sentence."""

import importlib

import pytest

pytestmark = pytest.mark.usefixtures("lite_only")


@pytest.mark.parametrize(
    "module, name",
    [
        ("detectron2.evaluation", "COCOEvaluator"),
        ("detectron2.modeling", "GeneralizedRCNN"),
        ("detectron2.data.datasets.coco", "convert_to_coco_json"),
        ("detectron2.layers.batch_norm", "NaiveSyncBatchNorm"),
        ("detectron2", "model_zoo"),
    ],
)
def test_name(module, name):
    with pytest.raises(ImportError) as caught:
        exec(f"from {module} import {name}")
    message = str(caught.value)
    assert f"{module}.{name}" in message
    assert "install Detectron2" in message
    assert "\n" not in message


@pytest.mark.parametrize("module", ["detectron2.utils.analysis", "detectron2.modeling.roi_heads.x"])
def test_module(module):
    with pytest.raises(ModuleNotFoundError, match="install Detectron2"):
        importlib.import_module(module)


def test_tools_may_probe_for_private_names():
    import detectron2.engine

    assert not hasattr(detectron2.engine, "__wrapped__")
    assert not hasattr(detectron2.engine, "_nothing")


def test_broken_import_keeps_its_own_message(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "yacs.config", None)
    for name in [
        n for n in sys.modules if n.startswith(("detectron2.config", "fvcore.common.config"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError, match=r"yacs\.config"):
        importlib.import_module("detectron2.config.config")


@pytest.mark.parametrize(
    "key, value", [("MODEL.KEYPOINT_ON", True), ("MODEL.LOAD_PROPOSALS", True)]
)
def test_switching_on_what_is_left_out(key, value, tmp_path):
    from detectron2.config import get_cfg
    from detectron2.data import DatasetMapper
    from detectron2.engine import DefaultTrainer

    cfg = get_cfg()
    cfg.merge_from_list([key, value])
    with pytest.raises(NotImplementedError, match="install Detectron2"):
        if key.startswith("TEST"):
            trainer = DefaultTrainer.__new__(DefaultTrainer)
            trainer.cfg = cfg
            trainer.build_hooks()
        else:
            DatasetMapper(cfg, True)
