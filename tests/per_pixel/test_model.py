"""The meta-architecture: losses of a batch, ground truth, logging, and checkpoints."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import Tensor

from segcore.errors import UserError
from segcore.rankseg.selection import presence

sys.path.insert(0, str(Path(__file__).parents[1]))
import deterministic
from per_pixel_models import CLASSES, HEADS, model


def item(name: str = "first", height: int = 24, width: int = 32) -> dict:
    """Return a training image with labels in blocks of 8 pixels, some of which are ignored."""
    rows, columns = torch.arange(height)[:, None] // 8, torch.arange(width) // 8
    labels = (3 * rows + 2 * columns) % (CLASSES + 1)
    return {
        "image": deterministic.image(name, height, width),
        "sem_seg": labels.where(labels < CLASSES, 255),
        "file_name": f"{name}.jpg",
    }


BATCH = [item(), item("second"), item("third")]


@pytest.mark.parametrize("head", HEADS)
def test_losses_are_means_over_the_images(head: str) -> None:
    """Every image has its own selection."""
    of = model(head).train()
    together = of(BATCH)
    alone = [of([each]) for each in BATCH]
    second = {"rankseg": "loss_ml", "dynamic kappa": "loss_ml", "embeddings": "loss_margin"}
    assert together.keys() == {"loss_ce", second.get(head, "loss_ce")}
    for name, value in together.items():
        torch.testing.assert_close(value, torch.stack([each[name] for each in alone]).mean())
        assert value.requires_grad


def test_smaller_images_are_padded_with_ignored_pixels() -> None:
    of = model().train()
    small, large = item("small", 16, 24), item("large")
    padded = {"image": torch.full((3, 24, 32), 0.0), "sem_seg": torch.full((24, 32), 255)}
    padded["image"][:] = of.pixel_mean
    padded["image"][:, :16, :24], padded["sem_seg"][:16, :24] = small["image"], small["sem_seg"]
    torch.testing.assert_close(of([small, large])["loss_ce"], of([padded, large])["loss_ce"])


def test_the_auxiliary_head_adds_its_weighted_loss_in_training_alone() -> None:
    of = model(auxiliary=True).train()
    losses = of(BATCH)
    labels = torch.stack([each["sem_seg"] for each in BATCH])
    images = torch.stack([(each["image"] - of.pixel_mean) / of.pixel_std for each in BATCH])
    features = of.backbone(images)
    expected, _ = of.auxiliary_head.losses(features, labels, presence(list(labels), CLASSES))
    torch.testing.assert_close(losses["loss_aux"], 0.4 * expected["loss_ce"])
    of.eval().auxiliary_head.forward = None
    assert of(BATCH)[0]["sem_seg"].shape == (CLASSES, 24, 32)


def test_the_trainer_gets_the_category_predictions() -> None:
    of = model("rankseg").train()
    of(BATCH)
    logits, present = of.category_predictions
    assert logits.shape == (3, CLASSES) and not logits.requires_grad
    assert torch.equal(present, presence([each["sem_seg"] for each in BATCH], CLASSES))
    for head in ("linear", "oracle"):
        of = model(head).train()
        of(BATCH)
        assert of.category_predictions is None


def test_statistics_are_logged_every_twenty_iterations() -> None:
    names = {"pixel_accuracy", "pixel_recall", "image_recall", "precision"}
    for head, expected in (
        ("rankseg", names),
        ("linear", {"pixel_accuracy"}),
        ("embeddings", set()),
    ):
        with EventStorage(20) as storage:
            model(head).train()(BATCH)
            latest = storage.latest()
            assert {name.removeprefix("train_pixels/") for name in latest} == expected
            assert all(0 < value <= 1 for value, _ in latest.values())
    with EventStorage(21) as storage:
        model("rankseg").train()(BATCH)
        assert not storage.latest()


def with_labels(labels: Tensor | None) -> dict:
    inputs = item()
    del inputs["sem_seg"]
    return inputs if labels is None else inputs | {"sem_seg": labels}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, 'first.jpg has no "sem_seg": set INPUT.DATASET_MAPPER_NAME'),
        (torch.full((24, 32), 7), "first.jpg has pixels of class 7, but there are 7: fix"),
        (torch.full((24, 32), -1), "first.jpg has pixels of class -1, but there are 7: fix"),
    ],
)
def test_wrong_labels_are_one_error_message(labels: Tensor | None, message: str) -> None:
    with pytest.raises(UserError) as error:
        model().train()([with_labels(labels)])
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.parametrize("options", [{"head": "oracle"}, {"only_present": True}])
def test_oracles_need_ground_truth(options: dict) -> None:
    of = model(**options)
    with pytest.raises(UserError, match="USE_GT and ORACLE read the classes"):
        of([item()])
    known = item() | {"instances": SimpleNamespace(gt_classes=torch.tensor([2, 4]))}
    assert set(of([known])[0]["sem_seg"].argmax(dim=0).unique().tolist()) <= {2, 4}
    unlabelled = item() | {"instances": SimpleNamespace(gt_classes=torch.tensor([255]))}
    assert of([unlabelled])[0]["sem_seg"].isfinite().all()


def test_a_model_predicts_with_weights_alone(untrained_refuse: None) -> None:
    of = model()
    with pytest.raises(UserError, match="the model has no weights"):
        of([item()])
    of.load_state_dict(model().state_dict())
    of([item()])
