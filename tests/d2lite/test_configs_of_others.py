"""Configs of version 1, and keys, models and datasets that d2lite leaves out."""

import pytest
from detectron2 import config
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_backbone, build_model, build_sem_seg_head
from detectron2.solver import build_lr_scheduler


@pytest.fixture
def merge(tmp_path):
    """Return a function that merges a yaml text into a new config."""

    def function(text):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        cfg = get_cfg()
        cfg.merge_from_file(str(path))
        return cfg

    return function


@pytest.mark.parametrize("version", ["VERSION: 1\n", ""])
def test_version_1(merge, version):
    """Also where the file has no VERSION, but a key of version 1."""
    cfg = merge(version + "MODEL:\n  WEIGHT: abc\nTEST:\n  AUG_ON: True\n  DETECTIONS_PER_IMG: 7\n")
    assert cfg.MODEL.WEIGHTS == "abc"
    assert cfg.TEST.AUG.ENABLED is True
    assert cfg.TEST.DETECTIONS_PER_IMAGE == 7
    assert cfg.VERSION == 2
    assert "WEIGHT" not in cfg.MODEL


@pytest.mark.parametrize(
    "text, error",
    [
        ("VERSION: 1\nMODEL:\n  WEIGHTS: abc\n", "KeyError"),  # a name of version 2
        ("VERSION: 1\nTEST:\n  AUG_ON: 3\n", "ValueError"),  # types are compared as ever
        ("VERSION: 3\n", "AssertionError"),
        ("VERSION: 2\nMODEL:\n  WEIGHT: abc\n", "KeyError"),
    ],
)
def test_refused(merge, raised, text, error):
    assert raised(merge, text) == error


def test_one_for_all():
    cfg = get_cfg()
    config.set_global_cfg(cfg)
    assert config.global_cfg.MODEL.DEVICE == cfg.MODEL.DEVICE
    config.global_cfg.clear()


def test_keys_of_users_may_have_names_of_detectors():
    cfg = get_cfg()
    cfg.MODEL.FPN = config.CfgNode({"X": 1})
    cfg.merge_from_list(["MODEL.FPN.X", 2])
    assert cfg.MODEL.FPN.X == 2
    assert not hasattr(cfg.MODEL, "SOMETHING")


@pytest.mark.usefixtures("lite_only")
class TestLeftOut:
    """The error names Detectron2."""

    @pytest.mark.parametrize(
        "function",
        [
            lambda: get_cfg().MODEL.RPN,
            lambda: get_cfg().MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS,
            lambda: get_cfg().merge_from_list(["MODEL.ROI_HEADS.NUM_CLASSES", 3]),
            lambda: get_cfg().merge_from_list(["MODEL.RPN", {}]),
            lambda: get_cfg().merge_from_other_cfg(config.CfgNode({"MODEL": {"RETINANET": {}}})),
            lambda: build_model(get_cfg()),
            lambda: build_sem_seg_head(get_cfg(), {}),
            lambda: MetadataCatalog.get("coco_2014_val").thing_classes,
            lambda: DatasetCatalog["coco_2014_val"],
            lambda: DatasetCatalog.get("lvis_v1_val"),
        ],
    )
    def test_says_so(self, function):
        with pytest.raises((AttributeError, KeyError), match="install Detectron2"):
            function()

    def test_backbone(self):
        cfg = get_cfg()
        cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
        with pytest.raises(KeyError, match="install Detectron2"):
            build_backbone(cfg)

    @pytest.mark.parametrize("key", ["MODEL.ROI_HEADS.NUM_CLASSES", "MODEL.FPN.IN_FEATURES"])
    def test_file(self, merge, key):
        parts = key.split(".")
        text = "".join(f"{'  ' * depth}{part}:\n" for depth, part in enumerate(parts))
        with pytest.raises(KeyError, match=f"{'.'.join(parts[:2])}.*install Detectron2"):
            merge(text.rstrip() + " 3\n")

    def test_file_of_version_1(self, merge):
        with pytest.raises(KeyError, match="install Detectron2"):
            merge("VERSION: 1\nMODEL:\n  RPN:\n    NMS_THRESH: 0.5\n")


def test_schedule_that_is_not_there():
    cfg = get_cfg()
    cfg.SOLVER.LR_SCHEDULER_NAME = "Nope"
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 1.0)
    with pytest.raises(ValueError, match="Nope"):
        build_lr_scheduler(cfg, optimizer)
