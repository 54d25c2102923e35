"""Per-pixel hosts in the trainer: processes, resuming, logging."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.engine import default_argument_parser

from segcore.config import load_config
from segcore.engine import launch

# By name, so that the processes that are started find it too.
sys.path.insert(0, str(Path(__file__).parent))
import hosts_run as program

sys.path.insert(0, str(Path(__file__).parents[1]))
from per_pixel_hosts import HOSTS, options, write_config

# Without what is drawn at random.
FIXED = {
    "MODEL.PER_PIXEL.DROPOUT": 0.0,
    "MODEL.VIT.DROP_PATH_RATE": 0.0,
    "MODEL.SWIN.DROP_PATH_RATE": 0.0,
}


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., program.BlockTrainer]:
    """Return a function that makes trainers of one run of four iterations."""

    def make(host: str) -> program.BlockTrainer:
        words = program.OPTIONS | {
            "SOLVER.MAX_ITER": 4,
            "SOLVER.CHECKPOINT_PERIOD": 2,
            "OUTPUT_DIR": str(tmp_path),
        }
        cfg = load_config(write_config(tmp_path), options(host, words))
        torch.manual_seed(0)  # for the weights, as the set-up of a run does
        return program.BlockTrainer(cfg)

    return make


@pytest.mark.parametrize("host", HOSTS)
def test_resumed_it_goes_on_as_if_unbroken(trainer: Callable, tmp_path: Path, host: str) -> None:
    """With everything that is drawn: dropout, drop path."""
    whole = trainer(host)
    whole.train()
    assert [*whole.losses] == [0, 1, 2, 3]
    assert len({step["total_loss"] for step in whole.losses.values()}) == 4
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    again = trainer(host)
    again.resume_or_load(resume=True)
    again.train()
    assert again.losses == {step: whole.losses[step] for step in (2, 3)}
    for key, value in whole.model.state_dict().items():
        assert value.equal(again.model.state_dict()[key]), key
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert ("train_pixels/pixel_accuracy" in lines[0]) == (host != "essnet")
    ranked = "MODEL.RANKSEG.FLAG" in HOSTS[host]
    assert ("train_pixels/image_recall" in lines[0]) == ranked
    assert ("train_multilabel/recall@5" in lines[-1]) == ranked


@pytest.mark.slow
@pytest.mark.parametrize("host", ["segmenter", "deeplabv3", "upernet", "essnet"])
def test_two_processes_have_the_gradients_of_one(host: str, tmp_path: Path, monkeypatch) -> None:
    """The statistics of batch norm are those of one, too: it is synchronised. (EncNet's is not, as
    published.)"""
    monkeypatch.delenv("RANK", raising=False)
    config, found = str(write_config(tmp_path)), []
    words = [str(item) for item in options(host, program.OPTIONS | FIXED)]
    for processes in ("1", "2"):
        path = tmp_path / f"{processes}.pth"
        flags = ["--config-file", config, "--num-gpus", processes, "OUTPUT_DIR", str(path), *words]
        launch(program.main, default_argument_parser().parse_args(flags))
        found.append(torch.load(path, weights_only=True))
    one, two = found
    for name, loss in one["losses"].items():
        assert two["losses"][name].item() == pytest.approx(loss.item(), rel=1e-5), name
    assert one["gradients"].keys() == two["gradients"].keys() and len(one["gradients"]) > 40
    # Some are zero but for rounding: a bias in front of a norm.
    least = 1e-6 * torch.stack([value.norm() for value in one["gradients"].values()]).norm()
    for name, gradient in one["gradients"].items():
        difference = (two["gradients"][name] - gradient).norm()
        assert difference <= 1e-4 * gradient.norm() + least, name
    for name, value in one["statistics"].items():
        torch.testing.assert_close(two["statistics"][name], value, atol=1e-5, rtol=1e-4)
