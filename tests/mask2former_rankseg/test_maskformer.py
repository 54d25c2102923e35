"""MaskFormer by its config keys: both published layouts, RankSeg on it, training and bad input."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.structures import Instances

from mask2former_rankseg import MaskFormer, add_mask_former_config
from mask2former_rankseg.checkpoint import names_of
from mask2former_rankseg.inference import ImageSizes, panoptic, semantic
from mask2former_rankseg.masked_decoder import MaskedDecoder
from mask2former_rankseg.pixel_decoder import PixelDecoder
from mask2former_rankseg.pyramid_decoder import PyramidDecoder
from mask2former_rankseg.standard_decoder import StandardDecoder
from segcore.checkpoint import Checkpointer
from segcore.config import load_config
from segcore.errors import UserError
from segcore.inference.predictions import SCORES

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import deterministic
import mask2former_models
from maskformer_cases import ENCODED, FAMILY, PANOPTIC, RANKED, SEMANTIC, TINY, rectangles

Make = Callable[..., MaskFormer]
COCO = f"{FAMILY}/coco-panoptic"

# The keys of a published config, but for those of data and training: one names no decoder.
PUBLISHED = """
MODEL:
  BACKBONE: {{FREEZE_AT: 0, NAME: build_resnet_backbone}}
  RESNETS: {{DEPTH: 50, STRIDE_IN_1X1: false, OUT_FEATURES: [res2, res3, res4, res5]}}
  META_ARCHITECTURE: MaskFormer
  SEM_SEG_HEAD:
    NAME: MaskFormerHead
    IN_FEATURES: [res2, res3, res4, res5]
    IGNORE_VALUE: 255
    NUM_CLASSES: 150
    COMMON_STRIDE: 4
    LOSS_WEIGHT: 1.0
    CONVS_DIM: 256
    MASK_DIM: 256
    NORM: GN
    {decoder}
  MASK_FORMER:
    {feature}
    DEEP_SUPERVISION: true
    NO_OBJECT_WEIGHT: 0.1
    HIDDEN_DIM: 256
    NUM_OBJECT_QUERIES: 100
    NHEADS: 8
    DROPOUT: 0.1
    DIM_FEEDFORWARD: 2048
    ENC_LAYERS: 0
    PRE_NORM: false
    DEC_LAYERS: 6
"""
MASK2FORMER = "PIXEL_DECODER_NAME: MSDeformAttnPixelDecoder"
ENCODER = "PIXEL_DECODER_NAME: TransformerEncoderPixelDecoder"


@pytest.fixture
def tiny_maskformer() -> Make:
    """Builds very small models: ``tiny_maskformer({"MODEL.X": value})``, with equal weights."""

    def make(options: dict | None = None) -> MaskFormer:
        torch.manual_seed(0)
        pairs = (TINY | (options or {})).items()
        return mask2former_models.build(SEMANTIC, *(item for pair in pairs for item in pair))

    return make


def image(height: int, width: int, objects: list | None = None) -> dict:
    """An image, in training with objects: [class, top, left, bottom, right]."""
    item = {"image": deterministic.image("m2f/tiny", height, width)}
    if objects is not None:
        labels, masks = rectangles(objects, height, width)
        item["instances"] = Instances((height, width), gt_classes=labels, gt_masks=masks)
    return item


def test_one_architecture_builds_both_published_files(tmp_path) -> None:
    """The feature that the decoder reads decides; Detectron2's own reader merges the files too."""
    decoders = {
        "TRANSFORMER_IN_FEATURE: res5": ("", PyramidDecoder, StandardDecoder),
        "TRANSFORMER_IN_FEATURE: transformer_encoder": (ENCODER, PyramidDecoder, StandardDecoder),
        "TRANSFORMER_IN_FEATURE: multi_scale_pixel_decoder": (
            *(MASK2FORMER, PixelDecoder, MaskedDecoder),
        ),
    }
    for feature, (decoder, pixel, transformer) in decoders.items():
        path = tmp_path / "published.yaml"
        path.write_text(PUBLISHED.format(feature=feature, decoder=decoder))
        cfg = get_cfg()
        add_mask_former_config(cfg)
        cfg.merge_from_file(str(path))
        for config in (cfg, load_config(path)):
            config.MODEL.DEVICE = "meta"
            with torch.device("meta"):
                head = build_model(config).sem_seg_head
            assert isinstance(head.pixel_decoder, pixel)
            assert isinstance(head.predictor, transformer)


def test_parameters_of_rankseg() -> None:
    """The sum of the specification: head, class embeddings, classifier, and the two norms."""
    base = SEMANTIC.replace("_R50_bs16_160k", "_swin_base_IN21k_384_bs16_160k_res640")
    base = base.replace("maskformer_swin", "swin/maskformer_swin")
    numbers = []
    for config in (base, base.replace(".yaml", "-rankseg.yaml")):
        cfg = load_config(config, ["MODEL.DEVICE", "meta", "MODEL.WEIGHTS", ""])
        with torch.device("meta"):
            numbers.append(sum(p.numel() for p in build_model(cfg).parameters()))
    head = 256 * 512 + 512 + 3_152_384 + 1_024
    assert numbers[1] - numbers[0] == head + 150 * 513 + 150 * 512 + 302


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, ENCODED, RANKED], ids=["plain", "encoder", "ranked"])
def test_images_of_any_number_and_size(tiny_maskformer: Make, options: dict) -> None:
    """Inference needs no ground truth."""
    model = tiny_maskformer(options)
    sizes = [(40, 56), (64, 33), (1, 1)]
    predictions = model([image(*size) | {"height": 20, "width": 30} for size in sizes])
    for prediction in predictions:
        assert prediction["sem_seg"].shape == (12, 20, 30)
        assert prediction["sem_seg"].isfinite().all()
        assert len(prediction.get("category_ids", range(5))) == 5


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, ENCODED, RANKED], ids=["plain", "encoder", "ranked"])
@pytest.mark.parametrize("multiple, padded", [(32, (64, 64)), (0, (47, 61)), (-1, (64, 64))])
def test_padding_of_batches(
    tiny_maskformer: Make, options: dict, multiple: int, padded: tuple[int, int]
) -> None:
    """To a multiple, to the largest image, or as the backbone asks; Swin asks for 32."""
    model = tiny_maskformer(options | {"MODEL.MASK_FORMER.SIZE_DIVISIBILITY": multiple})
    batch = [image(47, 30), image(33, 61)]
    assert model.to_batch(batch).tensor.shape[2:] == padded
    for item, prediction in zip(batch, model(batch), strict=True):
        assert prediction["sem_seg"].shape == (12, *item["image"].shape[1:])
        assert prediction["sem_seg"].isfinite().all()


@torch.no_grad()
def test_rankseg_scores_the_selected_classes_alone(tiny_maskformer: Make) -> None:
    prediction = tiny_maskformer(RANKED)([image(64, 64)])[0]
    scored = (prediction["sem_seg"].flatten(1).amax(dim=1) > 0).nonzero()[:, 0].tolist()
    assert scored == sorted(prediction["category_ids"].tolist())


@pytest.mark.parametrize(
    "options", [{}, ENCODED, RANKED, {"MODEL.SEM_SEG_HEAD.USE_LAYERNORM": True}]
)
def test_losses_of_every_layer(tiny_maskformer: Make, options: dict) -> None:
    weight = {"MODEL.RANKSEG.LOSS_WEIGHT": 10.0}
    model = tiny_maskformer(options | weight).train()
    batch = [image(64, 64, [[3, 0, 0, 40, 30], [5, 10, 20, 60, 60]]), image(40, 50, [])]
    losses = model(batch)
    kinds, suffixes = ("ce", "mask", "dice"), ("", "_0", "_1")
    expected = {f"loss_{kind}{suffix}" for kind in kinds for suffix in suffixes}
    assert losses.keys() == expected | ({"loss_ml"} if options is RANKED else set())
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    model.deep_supervision = False
    assert "loss_ce_0" not in model(batch) and "loss_ce" in model(batch)


def test_a_batch_without_objects(tiny_maskformer: Make) -> None:
    losses = tiny_maskformer().train()([image(40, 50, []), image(32, 32, [])])
    total = sum(losses.values())
    total.backward()
    assert total.isfinite() and losses["loss_mask"] == losses["loss_dice"] == 0


def test_training_reduces_the_losses(tiny_maskformer: Make) -> None:
    model = tiny_maskformer({"MODEL.MASK_FORMER.DROPOUT": 0.0, "MODEL.SWIN.DROP_PATH_RATE": 0.0})
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=2e-3)
    batch = [image(64, 64, [[3, 0, 0, 64, 30], [5, 0, 30, 64, 64]])]
    totals = []
    for _ in range(12):
        total = sum(model(batch).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.7 * totals[0]


@torch.no_grad()
def test_scores_are_resized_after_they_are_computed() -> None:
    """For semantic models; with the key, and in panoptic ones, mask logits are resized before."""
    logits, masks = 3 * torch.randn(5, 8), 4 * torch.randn(5, 16, 16)
    sizes = ImageSizes((64, 64), (50, 60), (71, 33))
    every = torch.arange(7)
    found = semantic(logits, masks, sizes, SCORES, every, resize_scores=True)["sem_seg"]
    inside = torch.nn.functional.interpolate(masks[None], (64, 64), mode="bilinear")[0].sigmoid()
    scores = torch.einsum("qc,qhw->chw", logits.softmax(dim=-1)[:, :7], inside[:, :50, :60])
    scores = torch.nn.functional.interpolate(scores[None], (71, 33), mode="bilinear")[0]
    torch.testing.assert_close(found, scores)
    before = semantic(logits, masks, sizes, SCORES, every)["sem_seg"]
    assert (before - scores).abs().max() > 0.01


@pytest.mark.parametrize(
    "keys, resized",
    [
        ({}, True),
        ({"MODEL.MASK_FORMER.TEST.PANOPTIC_ON": True}, False),
        ({"MODEL.MASK_FORMER.TEST.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE": True}, False),
    ],
)
def test_when_scores_are_resized(tiny_maskformer: Make, keys: dict, resized: bool) -> None:
    assert tiny_maskformer(keys).tasks.resize_scores is resized


def test_segments_are_whole_areas() -> None:
    """A query has all pixels where its score is highest, in its mask or not; not in Mask2Former."""
    logits = torch.tensor([[9.0, 0.0, 0.0]])
    masks = torch.tensor([[[2.0, 2.0, 2.0, -1.0]]])
    sizes = ImageSizes((1, 4), (1, 4), (1, 4))
    options = {"score_threshold": 0.5, "overlap_threshold": 0.8}
    segments, info = panoptic(logits, masks, sizes, {0}, **options, whole_areas=True)
    assert segments.tolist() == [[1, 1, 1, 1]] and len(info) == 1
    segments, _ = panoptic(logits, masks, sizes, {0}, **options)
    assert segments.tolist() == [[1, 1, 1, 0]]


class TestCheckpoints:
    """A published file, and one of the other decoder."""

    @pytest.mark.parametrize("options", [{}, ENCODED, RANKED], ids=["plain", "encoder", "ranked"])
    def test_published_names_load(self, tiny_maskformer: Make, tmp_path, options: dict) -> None:
        model = tiny_maskformer(options)
        to_published = names_of(model).to_published
        state = {
            to_published(name): torch.full_like(v, 0.5) for name, v in model.state_dict().items()
        }
        assert any(".transformer.decoder.layers.2.norm3." in name for name in state)
        state["criterion.empty_weight"] = torch.ones(13)
        torch.save({"model": state}, tmp_path / "model_final.pth")
        Checkpointer(model).load(str(tmp_path / "model_final.pth"))
        assert all((value == 0.5).all() for value in model.state_dict().values())

    @pytest.mark.parametrize("published", [True, False])
    def test_the_other_decoder_is_one_message(
        self, tiny, tiny_maskformer: Make, tmp_path, published: bool
    ) -> None:
        models = {
            "multi_scale_pixel_decoder": tiny(),
            "res5": tiny_maskformer(),
            "transformer_encoder": tiny_maskformer(ENCODED),
        }
        path = tmp_path / "other.pth"
        for held, other in models.items():
            state, to_published = other.state_dict(), names_of(other).to_published
            if published:
                state = {to_published(name): value for name, value in state.items()}
            torch.save({"model": state}, path)
            for described, model in models.items():
                if described == held:
                    Checkpointer(model).load(str(path))
                    continue
                with pytest.raises(UserError, match=f"the checkpoint is one of .*{held}") as error:
                    Checkpointer(model).load(str(path))
                assert "other.pth" in str(error.value) and "\n" not in str(error.value)


MESSAGES = [
    ({"MODEL.RANKSEG.FLAG": True, "MODEL.RANKSEG.TOPK": 13}, r"13 of 12.*RANKSEG\.TOPK"),
    ({"MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE": "res7"}, r"TRANSFORMER_IN_FEATURE is 'res7'"),
    (
        {"MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME": "MSDeformAttnPixelDecoder"},
        r"PIXEL_DECODER_NAME is 'MSDef.*BasePixelDecoder or .* with TRANSFORMER_IN_FEATURE res5",
    ),
    (
        ENCODED | {"MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME": "BasePixelDecoder"},
        r"has to be TransformerEncoderPixelDecoder with TRANSFORMER_IN_FEATURE transformer_enc",
    ),
    (
        {"MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME": "MultiScaleMaskedTransformerDecoder"},
        r"TRANSFORMER_DECODER_NAME is .*such as StandardTransformerDecoder",
    ),
    (
        {
            "MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE": "multi_scale_pixel_decoder",
            "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME": "StandardTransformerDecoder",
        },
        r"TRANSFORMER_DECODER_NAME is .*such as MultiScaleMaskedTransformerDecoder",
    ),
    ({"MODEL.META_ARCHITECTURE": "VideoMaskFormer"}, r"TRANSFORMER_DECODER_NAME.*decoder of clips"),
    ({"MODEL.MASK_FORMER.DEC_LAYERS": 0}, r"DEC_LAYERS is 0.*1 or more"),
    ({"MODEL.MASK_FORMER.ENC_LAYERS": 2}, r"ENC_LAYERS is 2.*TRANSFORMER_ENC_LAYERS"),
    ({"MODEL.MASK_FORMER.HIDDEN_DIM": 30, "MODEL.MASK_FORMER.NHEADS": 5}, r"a multiple of 4"),
    ({"MODEL.SEM_SEG_HEAD.CONVS_DIM": 40}, r"CONVS_DIM is 40.*a multiple of 32"),
    (
        {"MODEL.RANKSEG.FLAG": True, "MODEL.RANKSEG.TOPK": 5, "MODEL.RANKSEG.POOL": 4},
        r"RANKSEG\.POOL is 4.*for MaskFormer",
    ),
]


@pytest.mark.parametrize("keys, message", MESSAGES)
def test_contradicting_keys_are_one_message(
    tiny_maskformer: Make, keys: dict, message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        tiny_maskformer(keys)
    assert "\n" not in str(error.value)


def on_meta(config: str) -> MaskFormer:
    cfg = load_config(config, ["MODEL.DEVICE", "meta", "MODEL.WEIGHTS", ""])
    with torch.device("meta"):
        return build_model(cfg)


def test_coco_has_the_networks_of_ade20k() -> None:
    """But for the classes, and for Swin's panoptic models, which have no encoder."""
    sizes = {
        PANOPTIC: f"{COCO}/maskformer_panoptic_R50_bs64_554k.yaml",
        f"{FAMILY}/ade20k-150/swin/maskformer_swin_tiny_bs16_160k.yaml": (
            f"{COCO}/swin/maskformer_panoptic_swin_tiny_bs64_554k.yaml"
        ),
    }
    for ade20k, coco in sizes.items():
        expected, model = on_meta(ade20k).state_dict(), on_meta(coco)
        found = model.state_dict()
        assert found.keys() == expected.keys()
        other = {key for key in found if found[key].shape != expected[key].shape}
        assert other == {f"sem_seg_head.predictor.classifier.{x}" for x in ("weight", "bias")}
        assert model.size_divisibility == 0 and model.tasks.panoptic
        assert len(model.sem_seg_head.predictor.classifier.weight) == 134


def test_the_panoptic_config_uses_the_encoder() -> None:
    model = on_meta(PANOPTIC)
    assert len(model.sem_seg_head.pixel_decoder.encoder.layers) == 6
    assert model.tasks.panoptic and model.tasks.whole_areas
