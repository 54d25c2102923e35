"""CAT-Seg with a ranking head: selection, results, training, and errors."""

import pytest
import torch
from torch import Tensor, nn

from segcore.errors import UserError
from segcore.inference.predictions import PredictionKind
from segcore.rankseg.dial import ClassesKept

RANKED = ("MODEL.RANKSEG.FLAG", True, "MODEL.RANKSEG.HIDDEN_DIM", 16)
RANKED = (*RANKED, "MODEL.RANKSEG.NUM_HEADS", 2, "MODEL.RANKSEG.LOSS_WEIGHT", 10)
PATCHES = "TEST.PATCH_INFERENCE"
WINDOWS = ("TEST.SLIDING_WINDOW", True, f"{PATCHES}.OUTPUT_SIZE", 160, f"{PATCHES}.TILE", 96)


def image(height: int = 96, width: int = 96, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    return {"image": pixels, "height": height, "width": width}


def batch(number: int = 2) -> list[dict]:
    labels = torch.zeros(96, 96, dtype=torch.long)
    labels[:40], labels[60:] = 7, 65535
    return [image(seed=i) | {"sem_seg": (labels + i).clamp(max=65535)} for i in range(number)]


class Fixed(nn.Module):
    """A head whose logits do not depend on the image: the last class is the most probable."""

    def __init__(self, first: float = -2.0, step: float = 0.1) -> None:
        super().__init__()
        self.first, self.step = first, step

    def forward(self, features: Tensor, text: Tensor) -> Tensor:
        logits = self.first + self.step * torch.arange(text.shape[-3], dtype=torch.float32)
        return logits.expand(len(features), -1)


@pytest.fixture
def fixed(tiny):
    """Builds models with the head ``Fixed``."""

    def build(*options: object):
        model = tiny(*RANKED, *options)
        model.ranking.head = Fixed()
        return model

    return build


def decoded(prediction: dict) -> list[int]:
    """Ids of the classes with a score above 0 anywhere."""
    return (prediction["sem_seg"].amax(dim=(1, 2)) > 0).nonzero()[:, 0].tolist()


def test_the_top_kappa_are_aggregated(fixed) -> None:
    model = fixed("MODEL.RANKSEG.TOPK", 3)
    (prediction,) = model([image()])
    assert decoded(prediction) == [57, 58, 59]
    assert prediction["category_ids"].tolist() == [59, 58, 57]
    assert prediction["category_scores"].shape == (60,)
    torch.testing.assert_close(prediction["category_scores"][59], torch.tensor(3.9).sigmoid())


@pytest.mark.parametrize(
    ("kept", "ids"),
    [(2, [59, 58]), ("3,0.97", [59, 58, 57]), (0.976, [59, 58]), (0.999, [59]), (None, [59])],
)
def test_each_image_may_keep_other_numbers(fixed, kept: object, ids: list[int]) -> None:
    model = fixed("MODEL.RANKSEG.TOPK", 3, "MODEL.RANKSEG.TEST_TOPK", 1)
    one, other = model([image() | {"classes_kept": kept}, image() | {"classes_kept": "all"}])
    assert one["category_ids"].tolist() == ids
    assert decoded(one) == sorted(ids)
    assert len(decoded(other)) == 60


def test_threshold_of_the_config(fixed) -> None:
    model = fixed("MODEL.RANKSEG.CONFIDENCE", 0.97, "MODEL.RANKSEG.TOPK", 50)
    assert model.selector().kept == ClassesKept(50, 0.97)
    assert model([image()])[0]["category_ids"].tolist() == [59, 58, 57, 56, 55]


def test_kept_classes_are_as_if_there_were_no_others(fixed) -> None:
    """The scores are those of a vocabulary of the kept classes alone."""
    model, item = fixed("MODEL.RANKSEG.TOPK", 2), image()
    names = ["grass", "sand", "red plain circle", "blue dotted square"]
    both, alone = model([item | {"vocabulary": names}, item | {"vocabulary": names[2:]}])
    torch.testing.assert_close(both["sem_seg"][2:], alone["sem_seg"])


def test_all_kept_equals_the_model_without_ranking(tiny, fixed) -> None:
    model = fixed("MODEL.RANKSEG.TOPK", 0, "MODEL.SEM_SEG_HEAD.MAX_CLASSES", 0)
    item = image() | {"vocabulary": ["grass", "sand", "red plain circle"]}
    torch.testing.assert_close(model([item])[0]["sem_seg"], tiny()([item])[0]["sem_seg"])


def test_a_number_of_classes_without_ranking(tiny) -> None:
    """The dial works by cosine similarity, too; probabilities need a ranking."""
    model = tiny()
    (prediction,) = model([image() | {"classes_kept": 5}])
    assert len(decoded(prediction)) == 5
    assert prediction.keys() == {"sem_seg"}
    with pytest.raises(UserError, match="no probabilities of classes"):
        model([image() | {"classes_kept": 0.05}])
    with pytest.raises(UserError, match="classes_kept is 0: use a number of classes from 1"):
        model([image() | {"classes_kept": 0}])


@pytest.mark.parametrize("per_image", [False, True])
def test_crops_select_their_own_classes_or_those_of_the_image(tiny, per_image: bool) -> None:
    model = tiny(*RANKED, *WINDOWS, "MODEL.RANKSEG.TOPK", 3, "MODEL.RANKSEG.PER_IMAGE", per_image)
    item = image(160, 160)
    (prediction,) = model([item])
    assert decoded(prediction) == sorted(prediction["category_ids"].tolist())
    assert (len(decoded(prediction)) == 3) == per_image
    order = prediction["category_scores"][prediction["category_ids"]]
    assert (order.diff() <= 0).all()
    (view,) = model.unmerged_predictions([item])
    torch.testing.assert_close(view.category_scores, prediction["category_scores"])


def test_crops_of_a_gpu_pass_together(tiny, monkeypatch) -> None:
    """Crops that keep different numbers of classes are predicted as one by one."""
    model = tiny(*RANKED, *WINDOWS, "MODEL.RANKSEG.CONFIDENCE", 0.5, "MODEL.RANKSEG.TOPK", 6)
    expected = model([image(160, 160)])[0]["sem_seg"]
    monkeypatch.setattr("catseg_d2.inference.batches_crops", lambda device: True)
    model.crop_chunk.size, model.class_chunk.size = 5, 1000
    torch.testing.assert_close(model([image(160, 160)])[0]["sem_seg"], expected)


def test_one_class(tiny) -> None:
    model = tiny(*RANKED)
    (prediction,) = model([image() | {"vocabulary": ["grass"]}])
    assert prediction["category_ids"].tolist() == [0]


def test_labels_and_background(fixed) -> None:
    model = fixed("MODEL.RANKSEG.TOPK", 2, "MODEL.ZERO_SHOT.BACKGROUND_THRESHOLD", 0.4)
    model.prediction_kind = PredictionKind("labels")
    (prediction,) = model([image() | {"vocabulary": ["background", "sand", "grass", "water"]}])
    assert prediction["category_ids"].tolist() == [3, 2]
    assert prediction["category_scores"].shape == (4,)
    assert prediction["category_scores"][0] == 0


def test_joint_training_trains_everything(tiny) -> None:
    model = tiny(*RANKED, "MODEL.RANKSEG.TOPK", 4, "MODEL.RANKSEG.SCALE", "logits").train()
    losses = model(batch())
    assert losses.keys() == {"loss_category", "loss_cost", "loss_sem_seg"}
    sum(losses.values()).backward()
    without = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert not without
    logits, present = model.category_predictions
    assert logits.shape == present.shape == (2, 60)
    assert present.sum(dim=1).tolist() == [2, 2]


@pytest.mark.parametrize("scale", ["", "cost"])
def test_the_head_is_trained_alone(tiny, scale: str) -> None:
    model = tiny(*RANKED, "MODEL.RANKSEG.ALONE", True, "MODEL.RANKSEG.SCALE", scale).train()
    losses = model(batch())
    assert losses.keys() >= {"loss_category"}
    assert ("loss_sem_seg" in losses) == bool(scale)
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith("ranking."), name


def test_training_starts_from_a_checkpoint_without_head(tiny) -> None:
    model = tiny(*RANKED).train()
    before = model.ranking.head.classifier.weight.clone()
    incompatible = model.load_state_dict(tiny().state_dict())
    assert not incompatible.missing_keys
    torch.testing.assert_close(model.ranking.head.classifier.weight, before)
    with pytest.raises(UserError, match="the checkpoint has no ranking head: name a rank adapter"):
        tiny(*RANKED).load_state_dict(tiny().state_dict())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("TOPK", -1, "TOPK is -1; it has to be a number of classes"),
        ("CONFIDENCE", 1.0, "CONFIDENCE is 1.0; it has to be a probability below 1"),
        ("SCALE", "mask", "SCALE is 'mask'; it has to be '', 'cost' or 'logits'"),
        ("HIDDEN_DIM", 15, "HIDDEN_DIM is 15; it has to be a multiple of NUM_HEADS, 2"),
        ("LOSS_WEIGHT", -1, "LOSS_WEIGHT is -1"),
        ("GAMMAS", "(1.0,)", "GAMMAS is .*two exponents"),
    ],
)
def test_wrong_keys(tiny, key: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=f"MODEL.RANKSEG.{message}"):
        tiny(*RANKED, f"MODEL.RANKSEG.{key}", value)


def test_the_image_cannot_select_without_a_global_view(tiny) -> None:
    options = ("MODEL.RANKSEG.PER_IMAGE", True, f"{PATCHES}.GLOBAL_VIEW", False)
    with pytest.raises(UserError, match="no crop shows the whole image"):
        tiny(*RANKED, *WINDOWS, *options)
