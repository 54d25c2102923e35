"""Contrastive pre-training: outputs and loss of open_clip; CAT-Seg starts from its encoders."""

import json
import logging
import math
import os
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model

from catseg_d2 import ContrastiveCLIP
from catseg_d2.encoders import DenseCLIP, build_encoders
from segcore.config import load_config
from segcore.datasets import register_caption_dataset
from segcore.engine import Trainer, build_checkpointer
from segcore.errors import UserError
from segcore.scenes import SCENES_60, Settings, write_scenes
from segcore.text import tokenize_captions

CONFIG = "catseg_d2/scenes_contrastive.yaml"
DATASET, PAIRS = "test_contrastive", 16


@pytest.fixture(scope="module")
def encoders() -> tuple[open_clip.CLIP, DenseCLIP]:
    """open_clip's model and ours, with the same weights."""
    torch.manual_seed(0)
    library = open_clip.CLIP(**open_clip.get_model_config("scenes-tiny")).eval()
    ours = build_encoders("scenes-tiny").eval()
    ours.load_state_dict(library.state_dict())
    return library, ours


@pytest.fixture
def model() -> ContrastiveCLIP:
    torch.manual_seed(0)
    return build_model(load_config(CONFIG, ["MODEL.DEVICE", "cpu"]))


def items(size: tuple[int, int] = (96, 96), number: int = 3) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (number, 3, *size), generator=generator, dtype=torch.uint8)
    return [{"image": image, "caption": f"{i} red circles"} for i, image in enumerate(images)]


# ---- outputs of open_clip --------------------------------------------------------------------


def test_image_embeddings_equal_open_clip(encoders) -> None:
    library, ours = encoders
    images = torch.randn(3, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    expected = library.encode_image(images, normalize=True)
    torch.testing.assert_close(ours.embed_image(images), expected, rtol=1e-4, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 0.01


def test_the_class_token_is_not_the_dense_prediction(encoders) -> None:
    """The dense form of the last block has no attention."""
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    dense, _ = encoders[1].encode_image(images)
    pooled = torch.nn.functional.normalize(dense.mean(dim=(2, 3)), dim=-1)
    assert (encoders[1].embed_image(images) - pooled).abs().max() > 0.01


def test_images_of_another_size(encoders) -> None:
    assert encoders[1].embed_image(torch.randn(2, 3, 64, 128)).shape == (2, 64)


def test_model_in_evaluation(model, encoders) -> None:
    library = encoders[0]
    model.eval().clip.load_state_dict(library.state_dict())
    batch = items()
    outputs = model(batch)
    images = torch.stack([item["image"] for item in batch]).float()
    images = (images - model.pixel_mean) / model.pixel_std
    tokens = open_clip.tokenize([item["caption"] for item in batch])
    expected = library.encode_image(images, True), library.encode_text(tokens, True)
    for name, values in zip(("image_embedding", "text_embedding"), expected, strict=True):
        found = torch.stack([output[name] for output in outputs])
        assert not found.requires_grad
        torch.testing.assert_close(found, values, rtol=1e-4, atol=1e-5)


def test_a_model_without_weights_does_not_predict(untrained_refuse) -> None:
    model = build_model(load_config(CONFIG, ["MODEL.DEVICE", "cpu"])).eval()
    with pytest.raises(UserError, match="the model has no weights"):
        model(items())
    model.load_state_dict(model.state_dict())
    assert len(model(items())) == 3


def test_loss_by_hand(model) -> None:
    batch = items()
    outputs = model.eval()(batch)
    image, text = (
        torch.stack([output[name] for output in outputs])
        for name in ("image_embedding", "text_embedding")
    )
    logits = model.clip.logit_scale.exp() * image @ text.T
    expected = -(logits.log_softmax(1).diag() + logits.log_softmax(0).diag()).mean() / 2
    (loss,) = model.train()(batch).values()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_logit_scale_is_at_most_100(model) -> None:
    model.train()
    with torch.no_grad():
        model.clip.logit_scale.fill_(7.0)
    found = model(items())["loss_contrastive"]
    assert model.clip.logit_scale.exp().item() == pytest.approx(100)
    with torch.no_grad():
        model.clip.logit_scale.fill_(math.log(100))
    assert model(items())["loss_contrastive"] == found


def test_the_loss_is_float32_under_autocast(model) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert model.train()(items())["loss_contrastive"].dtype == torch.float32


# ---- captions --------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [8, 77])
def test_captions_are_truncated_as_in_open_clip(length: int) -> None:
    captions = ["a cat", "cat " * (length - 2), "cat " * (length - 1), "a dog, " * 200, "größe 犬"]
    tokens, num_truncated = tokenize_captions(captions, length)
    assert torch.equal(tokens, open_clip.tokenize(captions, length))
    assert num_truncated == (2 if length == 77 else 3)


def test_truncated_captions_are_warned_of_once(model, caplog) -> None:
    batch = [items(number=1)[0] | {"caption": "cat " * 100}]
    with caplog.at_level(logging.WARNING, "segcore.text.batches"):
        model.eval()(items())
        assert not caplog.records
        for _ in range(3):
            model(batch)
    (record,) = caplog.records
    assert "more than 77 tokens" in record.getMessage()


# ---- errors --------------------------------------------------------------------------------


def test_images_that_do_not_fit(model) -> None:
    with pytest.raises(UserError, match=r"differ in size \[\(64, 96\), \(96, 96\)\].*image_capt"):
        model(items() + items((64, 96)))
    with pytest.raises(UserError, match=r"\(96, 90\), .*patches of 8 pixels: set INPUT\.MIN_SIZE"):
        model(items((96, 90)))


# ---- training --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    write_scenes(root, SCENES_60, Settings(num_train=PAIRS, num_test=0, size=48))
    folder = root / "scenes-60" / "train"
    register_caption_dataset(DATASET, folder / "captions.tsv", folder / "images")
    yield DATASET
    DatasetCatalog.remove(DATASET)
    MetadataCatalog.remove(DATASET)


def configure(folder: Path, **changes: object):
    settings = {
        "DATASETS.TRAIN": (DATASET,),
        "DATASETS.TEST": (DATASET,),
        "DATALOADER.NUM_WORKERS": 0,
        "INPUT.MIN_SIZE_TRAIN": (48,),
        "INPUT.MIN_SIZE_TEST": 48,
        "MODEL.DEVICE": "cpu",
        "SOLVER.IMS_PER_BATCH": PAIRS,
        "SOLVER.WARMUP_ITERS": 0,
        "OUTPUT_DIR": str(folder),
    } | {name.replace("__", "."): value for name, value in changes.items()}
    return load_config(CONFIG, [part for pair in settings.items() for part in pair])


def train(cfg, resume: bool = False) -> Trainer:
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory) -> tuple[Path, dict]:
    """The output folder of a short training on a few pairs, and its scores."""
    folder = tmp_path_factory.mktemp("trained")
    train(configure(folder, SOLVER__MAX_ITER=40))
    report = folder / "inference" / DATASET / "retrieval_evaluation.json"
    return folder, json.loads(report.read_text())["scores"]


def test_encoders_are_trained_to_match_captions_and_images(trained) -> None:
    folder, scores = trained
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    losses = [line["total_loss"] for line in lines if "total_loss" in line]
    assert losses[-1] < 0.3 * math.log(PAIRS)
    # By chance one in sixteen.
    assert scores["image_to_text_R@1"] >= 75 and scores["text_to_image_R@1"] >= 75


def test_a_checkpoint_has_the_scores_of_the_trained_model(trained) -> None:
    folder, scores = trained
    cfg = configure(folder)
    model = Trainer.build_model(cfg)
    assert all(name.startswith("clip.") for name in model.state_dict())
    build_checkpointer(cfg, model).load(str(folder / "model_final.pth"))
    assert Trainer.test(cfg, model)["retrieval"] == scores


def test_cat_seg_starts_from_the_encoders(trained, tiny) -> None:
    path = trained[0] / "model_final.pth"
    model = tiny("MODEL.CLIP_WEIGHTS", path)
    model.load_pretrained()
    weights = torch.load(path, weights_only=True)["model"]
    found = model.clip.state_dict()
    assert {f"clip.{name}" for name in found} == weights.keys()
    assert all(torch.equal(value, weights[f"clip.{name}"]) for name, value in found.items())


def test_pre_training_starts_from_encoders_too(trained) -> None:
    path = trained[0] / "model_final.pth"
    model = build_model(configure(trained[0], MODEL__CLIP_WEIGHTS=str(path)))
    model.load_pretrained()
    weights = torch.load(path, weights_only=True)["model"]
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_resuming_is_exact(dataset, tmp_path: Path) -> None:
    changes = {"SOLVER__IMS_PER_BATCH": 4, "SOLVER__CHECKPOINT_PERIOD": 1, "DATASETS__TEST": ()}
    cfg = configure(tmp_path, SOLVER__MAX_ITER=3, **changes)
    train(cfg)
    whole = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    (tmp_path / "last_checkpoint").write_text("model_0000000.pth")
    assert train(cfg, resume=True).start_iter == 1
    again = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    assert all(tensor.equal(again[name]) for name, tensor in whole.items())


@pytest.mark.slow
def test_two_processes_compute_the_gradients_of_one(repository, tmp_path: Path) -> None:
    found = []
    for processes in ("1", "2"):
        path = tmp_path / f"{processes}.pth"
        command = [sys.executable, str(repository / "tests" / "gradients_run.py")]
        command += ["--config-file", CONFIG, "--num-gpus", processes, "OUTPUT_DIR", str(path)]
        environment = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        found.append(torch.load(path, weights_only=True))
    one, two = found
    assert two["losses"]["loss_contrastive"].item() == pytest.approx(
        one["losses"]["loss_contrastive"].item(), rel=1e-6
    )
    assert one["gradients"].keys() == two["gradients"].keys() and len(one["gradients"]) > 50
    for name, gradient in one["gradients"].items():
        difference = (two["gradients"][name] - gradient).norm()
        assert difference <= 1e-4 * gradient.norm() + 1e-8, name
