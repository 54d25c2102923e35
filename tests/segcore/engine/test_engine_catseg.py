"""The engine with a small CAT-Seg: a trainable text encoder, and a loss that samples classes."""

import json
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator

import catseg_d2  # noqa: F401
from segcore.config import load_config
from segcore.datasets import register_semantic_dataset
from segcore.engine import Trainer, build_checkpointer
from segcore.evaluation import SemanticEvaluator
from segcore.scenes import SCENES_60, Settings, write_scenes

DATASET = "engine_scenes"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    write_scenes(root, SCENES_60, Settings(num_train=6, num_test=1), workers=1)
    folder = next(root.glob("*/train"))
    folders = (folder / "images", folder / "labels")
    register_semantic_dataset(DATASET, *folders, "scenes_60", image_suffix=".png")
    yield DATASET
    DatasetCatalog.remove(DATASET)


@pytest.fixture
def cfg(dataset, tmp_path):
    settings = {
        "DATASETS.TRAIN": (dataset,),
        "DATASETS.TEST": (dataset,),
        "DATALOADER.NUM_WORKERS": 0,
        "MODEL.DEVICE": "cpu",
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.MAX_ITER": 3,
        "SOLVER.CHECKPOINT_PERIOD": 1,
        "SOLVER.CLIP_MULTIPLIER": 1.0,
        "SOLVER.WARMUP_ITERS": 0,
        "OUTPUT_DIR": str(tmp_path),
    }
    opts = [part for pair in settings.items() for part in pair]
    return load_config("catseg_d2/scenes_60.yaml", opts)


class Recorder(DatasetEvaluator):
    """Keeps the scores of all images."""

    def reset(self):
        self.scores = []

    def process(self, inputs, outputs):
        self.scores += [output["sem_seg"] for output in outputs]

    def evaluate(self):
        RecordingTrainer.evaluations.append(torch.stack(self.scores))


class RecordingTrainer(Trainer):
    evaluations: list[torch.Tensor]

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return Recorder()


def test_evaluation_during_training_never_scores_stale_text(cfg, tmp_path):
    """Each equals, bit by bit, that of a new model with the checkpoint of the same iteration."""
    cfg.TEST.EVAL_PERIOD = 1
    RecordingTrainer.evaluations = during = []
    trainer = RecordingTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    RecordingTrainer.evaluations = after = []
    for name in ("model_0000000", "model_0000001", "model_final"):
        model = RecordingTrainer.build_model(cfg)
        build_checkpointer(cfg, model).load(str(tmp_path / f"{name}.pth"))
        RecordingTrainer.test(cfg, model)
    assert len(during) == 3
    assert (during[0] - during[1]).abs().max() > 1e-3 < (during[1] - during[2]).abs().max()
    assert all(one.equal(other) for one, other in zip(during, after, strict=True))


def test_resuming_is_exact(cfg, tmp_path):
    cfg.DATASETS.TEST = ()
    cfg.SOLVER.MAX_ITER = 4
    cfg.SEED = -1
    assert cfg.MODEL.SEM_SEG_HEAD.TRAIN_CANDIDATES, "the loss draws classes"
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    whole = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    Path(tmp_path, "last_checkpoint").write_text("model_0000001.pth")
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=True)
    trainer.train()
    again = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    assert all(tensor.equal(again[name]) for name, tensor in whole.items())
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "total_loss" in line] == [3, 3]


def test_evaluators_are_predicted_as_they_ask(cfg, monkeypatch):
    """Labels alone where these suffice, and otherwise what the config says."""
    model = Trainer.build_model(cfg).eval()
    asked = {}
    for evaluator in (SemanticEvaluator(DATASET, distributed=False), Recorder()):
        keys = asked.setdefault(type(evaluator), set())
        record = lambda _, outputs, keys=keys: keys.update(*outputs)  # noqa: E731
        monkeypatch.setattr(evaluator, "process", record)
        monkeypatch.setattr(evaluator, "evaluate", dict)
        Trainer.test(cfg, model, [evaluator])
    assert asked == {SemanticEvaluator: {"sem_seg_labels"}, Recorder: {"sem_seg"}}
    assert model.prediction_kind.output == "scores"
