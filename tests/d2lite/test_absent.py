"""Parts that d2lite leaves out raise one message."""

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
        ("detectron2.data.transforms", "RandomRotation"),
        ("detectron2.data.transforms", "RandomBrightness"),
        ("detectron2.structures", "BitMasks"),
        ("detectron2.engine.hooks", "PreciseBN"),
        ("detectron2.solver", "WarmupCosineLR"),
        ("detectron2.utils.logger", "log_every_n"),
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


def test_tools_may_probe_for_libraries():
    import detectron2
    import detectron2.engine

    assert not hasattr(detectron2, "torch") and not hasattr(detectron2.engine, "torch")


def test_broken_import_keeps_its_own_message(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "yacs.config", None)
    for name in [
        n for n in sys.modules if n.startswith(("detectron2.config", "fvcore.common.config"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError, match=r"yacs\.config"):
        importlib.import_module("detectron2.config.config")


@pytest.mark.parametrize("key", ["MODEL.KEYPOINT_ON", "MODEL.LOAD_PROPOSALS"])
def test_mapper_of_what_is_left_out(key):
    from detectron2.config import get_cfg
    from detectron2.data import DatasetMapper

    cfg = get_cfg()
    cfg.merge_from_list([key, True])
    with pytest.raises(NotImplementedError, match="install Detectron2"):
        DatasetMapper(cfg, True)


def test_precise_batch_norm():
    from detectron2.config import get_cfg
    from detectron2.engine import DefaultTrainer

    trainer = DefaultTrainer.__new__(DefaultTrainer)
    trainer.cfg = get_cfg()
    trainer.cfg.TEST.PRECISE_BN.ENABLED = True
    with pytest.raises(NotImplementedError, match="install Detectron2"):
        trainer.build_hooks()


@pytest.mark.parametrize("sampler", ["RepeatFactorTrainingSampler", "WeightedTrainingSampler"])
def test_samplers(sampler):
    from detectron2.config import get_cfg
    from detectron2.data import build_detection_train_loader

    cfg = get_cfg()
    cfg.DATALOADER.SAMPLER_TRAIN = sampler
    with pytest.raises(NotImplementedError, match=f"{sampler}.*install Detectron2"):
        build_detection_train_loader(cfg, dataset=[{}], mapper=None)


def test_rotated_boxes():
    from detectron2.structures import BoxMode

    with pytest.raises(NotImplementedError, match="install Detectron2"):
        BoxMode.convert([4.0, 5.0, 2.0, 6.0, 90.0], BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS)


def test_methods_of_the_visualizer():
    import numpy as np
    from detectron2.utils.visualizer import Visualizer

    visualizer = Visualizer(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(AttributeError, match=r"draw_and_connect_keypoints.*install Detectron2"):
        visualizer.draw_and_connect_keypoints([])
    assert not hasattr(visualizer, "nothing")


@pytest.mark.parametrize("name", ["get", "get_config", "get_config_file", "get_checkpoint_url"])
def test_the_model_zoo_can_be_imported_and_each_call_is_refused(name):
    from detectron2 import model_zoo

    with pytest.raises(
        RuntimeError, match=r"COCO/x\.yaml of Detectron2's model zoo is not part of"
    ):
        getattr(model_zoo, name)("COCO/x.yaml")
