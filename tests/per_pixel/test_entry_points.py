"""A per-pixel model as users meet it: train_net.py, DefaultPredictor, catrank.load and commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor
from PIL import Image

import catrank
from catrank.cli import main
from segcore.scenes import SCENES_60, Settings, write_scenes

sys.path.insert(0, str(Path(__file__).parents[1]))
from per_pixel_hosts import options, write_config

SCENES = {
    "DATASETS.TRAIN": ("scenes_60_train",),
    "DATASETS.TEST": ("scenes_60_test",),
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 60,
    "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": 65535,
    "INPUT.MIN_SIZE_TRAIN": (48,),
    "INPUT.CROP.ENABLED": True,
    "INPUT.CROP.TYPE": "absolute",
    "INPUT.CROP.SIZE": (48, 48),
    "INPUT.SIZE_DIVISIBILITY": 48,
}
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def trained(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output folder of a run of train_net.py, beside its Scenes."""
    root = tmp_path_factory.mktemp("per_pixel")
    write_scenes(root / "datasets", SCENES_60, Settings(num_train=4, num_test=3), workers=1)
    words = options("segmenter", SCENES | {"OUTPUT_DIR": str(root / "out")})
    command = [sys.executable, "-W", "ignore", str(repository / "train_net.py")]
    command += ["--config-file", str(write_config(root)), *map(str, words)]
    run(root, *command)
    return root / "out"


def run(root: Path, *command: str) -> None:
    """Run a program, for which the data sets are those of ``root``."""
    environment = os.environ | {
        "PYTHONPATH": str(Path(catrank.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "DETECTRON2_DATASETS": str(root / "datasets"),
    }
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def weights(trained: Path) -> list[str]:
    return ["MODEL.WEIGHTS", str(trained / "model_final.pth")]


def test_training_evaluates(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "metrics.json").read_text().splitlines()]
    logged = {name.partition("/")[0] for line in lines for name in line if "/" in name}
    assert {"sem_seg", "multilabel", "train_multilabel", "train_pixels"} <= logged


def test_default_predictor(trained: Path) -> None:
    """Without weights of the auxiliary head, too, which only training needs."""
    cfg = catrank.load_config(trained / "config.yaml", weights(trained))
    scores = DefaultPredictor(cfg)(IMAGE[..., ::-1])["sem_seg"]
    assert scores.shape == (60, 40, 60)
    torch.testing.assert_close(scores.sum(dim=0), torch.ones(40, 60))
    cfg.MODEL.PER_PIXEL.AUXILIARY.WEIGHT = 0.4
    cfg.MODEL.PER_PIXEL.AUXILIARY.IN_FEATURE = "tokens"
    assert DefaultPredictor(cfg)(IMAGE[..., ::-1])["sem_seg"].equal(scores)


def test_catrank_loads_and_segments(trained: Path, tmp_path: Path) -> None:
    model = catrank.load(str(trained / "model_final.pth"), device="cpu")
    result = model.segment(IMAGE)
    assert result.labels.shape == (40, 60) and len(model.class_names) == 60
    Image.fromarray(IMAGE).save(tmp_path / "image.png")
    line = ["segment", str(tmp_path / "image.png"), "--model", str(trained / "model_final.pth")]
    assert main([*line, "--device", "cpu", "--output", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out" / "image_labels.png") as labels:
        assert (np.asarray(labels) == result.labels).all()


def test_catrank_evaluates(trained: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "catrank", "evaluate", "--datasets", "scenes_60_test"]
    command += ["--config-file", str(trained / "config.yaml"), "--output", str(tmp_path)]
    command += ["--weights", str(trained / "model_final.pth"), "--examples", "0"]
    run(trained.parent, *command)
    (evaluation,) = tmp_path.rglob("sem_seg_evaluation.json")
    (of_training,) = trained.rglob("sem_seg_evaluation.json")
    assert json.loads(evaluation.read_text()) == json.loads(of_training.read_text())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MODEL.RANKSEG.TOPK": 61}, "RankSeg cannot select 61 of 60 classes"),
        ({"MODEL.RANKSEG.TEST_TOPK": 61}, "MODEL.RANKSEG.TEST_TOPK is 61"),
        ({"MODEL.PER_PIXEL.TEST.STRIDE": "[0, 0]"}, "MODEL.PER_PIXEL.TEST.STRIDE is [0, 0]"),
        ({"MODEL.SEM_SEG_HEAD.CLASSES": "voc20"}, "MODEL.SEM_SEG_HEAD.CLASSES voc20 has 20"),
        ({"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 150}, "it has another shape for decode_head."),
        ({"MODEL.PER_PIXEL.DECODER": "fpn"}, "MODEL.PER_PIXEL.DECODER is 'fpn'; there are"),
        ({"MODEL.PER_PIXEL.PIXELS": "some"}, "MODEL.PER_PIXEL.PIXELS is 'some': use all or valid"),
        ({"MODEL.ENCNET.FLAG": "True"}, "MODEL.RANKSEG.FLAG and MODEL.ENCNET.FLAG are True"),
        ({"MODEL.PER_PIXEL.IN_FEATURES": "['res5']"}, "IN_FEATURES names res5, but the maps"),
    ],
)
def test_wrong_settings_are_one_line(
    trained: Path, tmp_path: Path, capsys, changes: dict[str, object], message: str
) -> None:
    """Too many selected classes, a class table of another size, windows, names."""
    Image.fromarray(IMAGE).save(tmp_path / "image.png")
    line = ["segment", str(tmp_path / "image.png"), "--output", str(tmp_path / "out")]
    line += ["--model", str(trained / "model_final.pth"), "--device", "cpu", "--opts"]
    words = [str(word) for pair in changes.items() for word in pair]
    try:
        code = main([*line, *words])
    except SystemExit as stop:
        code = stop.code
    (printed,) = capsys.readouterr().err.splitlines()
    assert code == 2 and printed.startswith("error: ") and message in printed
