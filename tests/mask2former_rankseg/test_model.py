"""The model: batches, DefaultPredictor, outputs of RankSeg, invalid configs."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Instances

from mask2former_rankseg.inference import mask_boxes
from mask2former_rankseg.masked_decoder import MaskedDecoder, inside_mask, resize
from mask2former_rankseg.queries import Decoded
from segcore.config import load_config
from segcore.errors import UserError
from segcore.inference.predictions import PredictionKind
from segcore.rankseg.scores import DROPPED

sys.path.insert(0, str(Path(__file__).parents[1]))
import deterministic
from mask2former_models import RANKED, SWIN_T, TINY

ALL_TASKS = {
    "MODEL.MASK_FORMER.TEST.PANOPTIC_ON": True,
    "MODEL.MASK_FORMER.TEST.INSTANCE_ON": True,
    "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD": 0.0,
    "MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD": 0.0,
    "DATASETS.TEST": ("twelve_classes",),
}


def image(height: int, width: int, /, **more: object) -> dict:
    return {"image": deterministic.image("m2f/model", height, width), **more}


@pytest.mark.parametrize("options", [{}, RANKED], ids=["plain", "ranked"])
def test_predictions(tiny, options: dict) -> None:
    model = tiny(ALL_TASKS | options)
    prediction = model([image(40, 70)])[0]
    assert prediction["sem_seg"].shape == (12, 40, 70)
    segments, info = prediction["panoptic_seg"]
    assert segments.shape == (40, 70)
    assert {entry["id"] for entry in info} >= set(segments.unique().tolist()) - {0}
    found = prediction["instances"]
    assert found.image_size == (40, 70) and found.pred_masks.shape == (len(found), 40, 70)
    assert found.pred_masks.dtype == torch.bool
    assert torch.equal(found.pred_boxes.tensor, mask_boxes(found.pred_masks))
    assert (found.pred_boxes.area() >= found.pred_masks.flatten(1).sum(dim=1)).all()
    ranked = {"category_scores", "category_ids"}
    assert prediction.keys() & ranked == (ranked if options else set())


def test_the_published_code_has_no_boxes(tiny) -> None:
    model = tiny(ALL_TASKS | {"MODEL.MASK_FORMER.TEST.PUBLISHED_OUTPUT": True})
    found = model([image(40, 70)])[0]["instances"]
    assert len(found) > 1 and found.pred_masks.any()
    assert not found.pred_boxes.tensor.any()


@pytest.mark.parametrize("options", [{}, RANKED], ids=["plain", "ranked"])
def test_a_batch_of_two_sizes(tiny, options: dict) -> None:
    """Alone, padded as in the batch, an image has the same prediction of its size."""
    model = tiny(options)
    batch = model([image(64, 64), image(40, 50, height=20, width=25)])
    assert batch[1]["sem_seg"].shape == (12, 20, 25)
    model.size_divisibility = 64  # pads the small one as the batch did
    alone = model([image(40, 50, height=20, width=25)])[0]
    torch.testing.assert_close(batch[1]["sem_seg"], alone["sem_seg"], rtol=1e-4, atol=1e-5)
    model.size_divisibility = 32
    alone = model([image(64, 64)])[0]
    torch.testing.assert_close(batch[0]["sem_seg"], alone["sem_seg"], rtol=1e-4, atol=1e-5)


def test_labels_are_the_arg_max(tiny) -> None:
    model, items = tiny(RANKED), [image(64, 40), image(33, 70, height=50, width=41)]
    scores = [prediction["sem_seg"] for prediction in model(items)]
    model.prediction_kind = PredictionKind("labels")
    for prediction, expected in zip(model(items), scores, strict=True):
        assert "sem_seg" not in prediction
        assert torch.equal(prediction["sem_seg_labels"], expected.argmax(dim=0))


def test_default_predictor(tmp_path) -> None:
    """No ground truth is needed at inference."""
    from detectron2.engine import DefaultPredictor

    options = [item for pair in (TINY | RANKED).items() for item in pair]
    cfg = load_config(SWIN_T, [*options, "MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", 64])
    path = tmp_path / "model.pth"
    torch.save(build_model(cfg).state_dict(), path)
    cfg.MODEL.WEIGHTS = str(path)
    prediction = DefaultPredictor(cfg)(np.zeros((48, 60, 3), np.uint8))
    assert prediction["sem_seg"].shape == (12, 48, 60)


# ------------------------------------------------------------------ the decoder


def decoder(**options: object) -> MaskedDecoder:
    torch.manual_seed(0)
    sizes = {"width": 16, "mask_width": 8, "num_queries": 5, "num_layers": 4, "num_heads": 2}
    return MaskedDecoder(6, feedforward=16, **(sizes | options)).eval()


def maps(batch: int = 2) -> tuple[list[torch.Tensor], torch.Tensor]:
    torch.manual_seed(1)
    levels = [torch.randn(batch, 16, 2 * n, 3 * n) for n in (1, 2, 4)]
    return levels, torch.randn(batch, 8, 16, 24)


@torch.no_grad()
def test_the_last_prediction_does_not_depend_on_the_others() -> None:
    model = decoder()
    every, last = model(*maps(), every_layer=True), model(*maps(), every_layer=False)
    assert (len(every.predictions), len(last.predictions)) == (5, 1)
    assert len(every.states) == len(last.states) == 4
    for ours, theirs in zip(every.predictions[-1], last.predictions[0], strict=True):
        assert torch.equal(ours, theirs)


def test_masks_at_a_level_are_resized_masks() -> None:
    """The decoder resizes features in place of masks: resizing is linear."""
    _, features = maps()
    embedding = torch.randn(2, 5, 8)
    masks = torch.einsum("bqc,bchw->bqhw", embedding, features)
    coarse = resize(features, (4, 6)).flatten(2)
    torch.testing.assert_close(embedding @ coarse, resize(masks, (4, 6)).flatten(2))


def test_a_query_with_an_empty_mask_attends_everywhere() -> None:
    features = torch.tensor([[[1.0, -1.0, 2.0], [0.0, 0.0, 1.0]]])  # (1, 2, 3)
    embedding = torch.tensor([[[1.0, 0.0], [0.0, -1.0], [-3.0, -4.0], [-1.0, 2.5]]])
    expected = [[True, False, True], [True, True, False], [False, True, False], [False, True, True]]
    assert inside_mask(embedding, features)[0].tolist() == expected
    everywhere = inside_mask(torch.tensor([[[-1.0, 0.0]]]), features[..., [0, 2]])
    assert everywhere.tolist() == [[[True, True]]]


@torch.no_grad()
def test_class_logits_as_cosines() -> None:
    logits, _ = decoder(cosine_classes=True)(*maps(), every_layer=False).predictions[0]
    assert logits.shape == (2, 5, 7) and logits.abs().max() <= 1 + 1e-6
    assert decoder(cosine_classes=True).classifier.bias is None


def test_every_parameter_is_trained(tiny) -> None:
    model = tiny(RANKED).train()
    images = model.to_batch([image(64, 64)])
    decoded = model.sem_seg_head(model.backbone(images.tensor), every_layer=True)
    ranked = model.rank(decoded, [classes for classes, _ in decoded.predictions], [])
    loss = ranked.category_logits.square().sum() + sum(x.square().sum() for x in ranked.logits)
    loss = loss + sum(masks.square().mean() for _, masks in decoded.predictions)
    loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


# ------------------------------------------------------------------ RankSeg


@torch.no_grad()
def test_ranks(tiny) -> None:
    model, item = tiny(RANKED), image(64, 64)
    prediction = model([item])[0]
    scores = prediction["category_scores"]
    assert scores.shape == (12,) and (scores > 0).all() and (scores < 1).all()
    assert prediction["category_ids"].tolist() == scores.argsort(descending=True)[:5].tolist()
    present = prediction["sem_seg"].flatten(1).amax(dim=1) > 0
    assert present.nonzero()[:, 0].tolist() == sorted(prediction["category_ids"].tolist())


@torch.no_grad()
def test_fewer_classes_in_evaluation(tiny) -> None:
    prediction = tiny(RANKED | {"MODEL.RANKSEG.TEST_TOPK": 2})([image(64, 64)])[0]
    assert len(prediction["category_ids"]) == 2
    assert (prediction["sem_seg"].flatten(1).amax(dim=1) > 0).sum() == 2


@torch.no_grad()
def test_improbable_classes_are_dropped(tiny) -> None:
    model = tiny(RANKED)
    decoded = Decoded([], [torch.randn(1, 9, 32)] * 4, torch.zeros(1, 16, 8, 8))
    logits = [torch.randn(1, 9, 13)]
    probabilities = model.rank(decoded, logits, []).category_logits.sigmoid()[0]
    best = probabilities.sort(descending=True).values
    model.ranking.confidence = float(best[1:3].mean())  # between the second and the third
    dropped = (model.rank(decoded, logits, []).logits[0][0] == DROPPED).all(dim=0)
    assert dropped.tolist() == [False, False, True, True, True, False]


@torch.no_grad()
def test_the_oracle_selects_the_present_classes(tiny) -> None:
    model = tiny(RANKED | {"MODEL.RANKSEG.ORACLE": True})
    assert not any("ranking.head" in name for name, _ in model.named_parameters())
    item = image(64, 64, instances=Instances((64, 64), gt_classes=torch.tensor([7, 2, 7])))
    prediction = model([item])[0]
    assert prediction["category_ids"].tolist()[:2] == [2, 7]
    present = prediction["sem_seg"].flatten(1).amax(dim=1) > 1e-6
    assert present.nonzero()[:, 0].tolist() == [2, 7]


@pytest.mark.parametrize("key", ["USE_GT", "ORACLE"])
def test_the_oracle_needs_ground_truth(tiny, key: str) -> None:
    model = tiny(RANKED | {f"MODEL.RANKSEG.{key}": True})
    with pytest.raises(UserError, match="USE_GT"):
        model([image(64, 64)])


# ------------------------------------------------------------------ invalid configs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (RANKED | {"MODEL.RANKSEG.TOPK": 13}, "TOPK"),
        (RANKED | {"MODEL.RANKSEG.TOPK": 0}, "TOPK"),
        (RANKED | {"MODEL.RANKSEG.TEST_TOPK": 13}, "TEST_TOPK"),
        (RANKED | {"MODEL.RANKSEG.CONFIDENCE": 1.0}, "CONFIDENCE"),
        (RANKED | {"MODEL.RANKSEG.SHARE_EMBEDDING": True}, "HIDDEN_DIM 32"),
        (RANKED | {"MODEL.RANKSEG.HEAD": "mlp"}, "no multi-label head 'mlp'"),
        (RANKED | {"MODEL.RANKSEG.NUM_HEADS": 7}, "7 attention heads"),
        (RANKED | {"MODEL.RANKSEG.CLASS_ROWS": "refined"}, "CLASS_ROWS is 'refined'"),
        (RANKED | {"MODEL.RANKSEG.POOL": 8}, "POOL is 8"),
        (RANKED | {"MODEL.RANKSEG.CLASS_TOKEN_PROJECTION": True}, "CLASS_TOKEN_PROJECTION"),
        (RANKED | {"MODEL.MASK_FORMER.DEC_LAYERS": 3}, "DEC_LAYERS"),
        ({"MODEL.MASK_FORMER.DEC_LAYERS": 1}, "DEC_LAYERS"),
        ({"MODEL.MASK_FORMER.NHEADS": 5}, "NHEADS"),
        ({"MODEL.MASK_FORMER.PRE_NORM": True}, "PRE_NORM"),
        ({"MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME": "Nope"}, "TRANSFORMER_DECODER_NAME"),
        ({"MODEL.SEM_SEG_HEAD.CONVS_DIM": 64}, "CONVS_DIM"),
        ({"MODEL.SEM_SEG_HEAD.IN_FEATURES": ["res3", "res9"]}, "IN_FEATURES"),
        ({"MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME": "Nope"}, "PIXEL_DECODER_NAME"),
    ],
)
def test_one_message(tiny, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny(options)


def test_the_multilabel_head_and_its_loss_are_those_of_the_config(tiny) -> None:
    keys = {"NUM_HEADS": 2, "FEEDFORWARD_DIM": 24, "GAMMAS": [4.0, 1.0]}
    model = tiny(RANKED | {f"MODEL.RANKSEG.{key}": value for key, value in keys.items()})
    block = model.ranking.head.block
    assert (block.attn.num_heads, block.mlp.fc1.out_features) == (2, 24)
    assert model.criterion.gammas == (4.0, 1.0)


def test_one_class_may_be_selected(tiny) -> None:
    prediction = tiny(RANKED | {"MODEL.RANKSEG.TOPK": 1})([image(64, 64)])[0]
    assert prediction["category_ids"].shape == (1,)


@torch.no_grad()
def test_bfloat16(tiny) -> None:
    model, item = tiny(), image(64, 64)
    exact = model([item])[0]["sem_seg"]
    rounded = model.bfloat16()([item])[0]["sem_seg"]
    assert (rounded - exact).abs().mean() < 0.05 * exact.abs().mean()
