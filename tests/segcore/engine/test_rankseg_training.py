"""Mask2Former with RankSeg in the trainer: processes, resuming, what is logged."""

import json
import sys
from pathlib import Path

import pytest
import torch
from detectron2.engine import HookBase, default_argument_parser

from segcore.config import load_config
from segcore.engine import launch
from segcore.engine.categories import CategoryScores

# By name, so that the processes that are started find it too.
sys.path.insert(0, str(Path(__file__).parent))
import rankseg_run as program

sys.path.insert(0, str(Path(__file__).parents[2]))
from mask2former_models import SWIN_T


@pytest.fixture
def trainer(tmp_path):
    """Makes trainers of one run of four iterations."""

    def make(**options: object) -> object:
        words = program.OPTIONS | {"SOLVER.MAX_ITER": 4, "SOLVER.CHECKPOINT_PERIOD": 2}
        words |= {"OUTPUT_DIR": str(tmp_path)} | options
        cfg = load_config(SWIN_T, [item for pair in words.items() for item in pair])
        torch.manual_seed(0)  # for the weights, as the set-up of a run does
        return program.BlobTrainer(cfg)

    return make


def test_resumed_it_goes_on_as_if_unbroken(trainer, tmp_path) -> None:
    """With everything that is drawn: points, dropout, drop path."""
    whole = trainer()
    whole.train()
    assert [*whole.losses] == [0, 1, 2, 3]
    assert {"loss_ml", "loss_ce_0", "loss_mask", "lr"} <= whole.losses[0].keys()
    assert len({step["total_loss"] for step in whole.losses.values()}) == 4
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    again = trainer()
    again.resume_or_load(resume=True)
    again.train()
    assert again.losses == {step: whole.losses[step] for step in (2, 3)}
    for key, value in whole.model.state_dict().items():
        assert value.equal(again.model.state_dict()[key]), key


def test_two_processes_have_the_gradients_of_one(tmp_path, monkeypatch) -> None:
    """Every process matches equally many objects, so that its class loss weighs alike: each query
    with an object weighs 1, each without 0.1, and their sum is the same in all processes.
    """
    monkeypatch.delenv("RANK", raising=False)
    options = program.OPTIONS | {
        "MODEL.SWIN.DROP_PATH_RATE": 0.0,
        "MODEL.RANKSEG.HEAD": "gap",  # the one without dropout
        "MODEL.RANKSEG.TOPK": 12,  # no object is dropped for its class
    }
    words = [str(item) for pair in options.items() for item in pair]
    found = []
    for processes in ("1", "2"):
        path = tmp_path / f"{processes}.pth"
        flags = ["--config-file", SWIN_T, "--num-gpus", processes, "OUTPUT_DIR", str(path), *words]
        args = default_argument_parser().parse_args(flags)
        launch(program.main, args)
        found.append(torch.load(path, weights_only=True))
    one, two = found
    for name, loss in one["losses"].items():
        assert two["losses"][name].item() == pytest.approx(loss.item(), rel=1e-5), name
    assert one["gradients"].keys() == two["gradients"].keys() and len(one["gradients"]) > 100
    # Some are zero but for rounding: a bias in front of a norm.
    least = 1e-6 * torch.stack([value.norm() for value in one["gradients"].values()]).norm()
    for name, gradient in one["gradients"].items():
        difference = (two["gradients"][name] - gradient).norm()
        assert difference <= 1e-4 * gradient.norm() + least, name


def test_what_the_head_knows_is_logged(trainer, tmp_path) -> None:
    trainer().train()
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    scores = {k: v for k, v in lines[-1].items() if k.startswith("train_multilabel/")}
    names = {"mAP", "mAP-envelope", "mAP-image", "recall@1", "recall@5", "recall@10"}
    assert scores.keys() == {f"train_multilabel/{name}" for name in names}
    assert all(0 <= score <= 100 for score in scores.values())
    assert scores["train_multilabel/recall@10"] >= scores["train_multilabel/recall@1"]


@pytest.mark.parametrize("options", [{"MODEL.RANKSEG.FLAG": False}, {"MODEL.RANKSEG.ORACLE": True}])
def test_without_a_head_nothing_is_logged(trainer, tmp_path, options) -> None:
    trainer(**options, **{"SOLVER.MAX_ITER": 1}).train()
    assert "train_multilabel" not in (tmp_path / "metrics.json").read_text()


class Storage:
    """Replaces the hook of the trainer."""

    def __init__(self) -> None:
        self.scalars: dict[str, float] = {}

    def put_scalar(self, name: str, value: float, smoothing_hint: bool) -> None:
        self.scalars[name] = value


class Loop(HookBase):
    """A trainer of three iterations, and its model."""

    def __init__(self) -> None:
        self.iter, self.max_iter, self.storage = -1, 3, Storage()
        self.category_predictions = None


def test_scores_over_the_last_images() -> None:
    """What has left the window counts no more; what is nowhere is not noted."""
    loop = Loop()
    hook = CategoryScores(loop, kappa=2, period=2, window=2)
    hook.trainer = loop
    right = torch.tensor([[3.0, 2.0, 1.0]]).bfloat16()
    there, absent = torch.tensor([[True, False, False]]), torch.zeros(1, 3, dtype=torch.bool)
    notes = []
    for logits, present in ((-right, there), (right, there), (right, absent)):
        loop.category_predictions = logits, present
        loop.iter += 1
        hook.after_step()
        notes.append(dict(loop.storage.scalars))
        loop.storage.scalars.clear()
    assert notes[0] == {}
    assert notes[1]["train_multilabel/recall@1"] == 50
    assert notes[1]["train_multilabel/recall@2"] == 50
    assert notes[2]["train_multilabel/recall@1"] == 100
    hook.predictions.clear()
    loop.category_predictions = right, absent
    hook.after_step()
    assert loop.storage.scalars == {}
