"""Video models: batches, long videos, streams, training, errors."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.structures import Instances
from pycocotools import mask as rle
from torch import Tensor

from mask2former_rankseg import VideoMaskFormer
from mask2former_rankseg.masked_decoder import MaskedDecoder, clip_positions
from segcore.errors import UserError
from segcore.inference.predictions import PredictionKind

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import deterministic
from mask2former_models import RANKED
from video_options import CLIPS, VIDEO


@pytest.fixture
def clips(tiny) -> Callable[..., VideoMaskFormer]:
    """Makes very small video models."""
    return lambda options=None: tiny(VIDEO | (options or {}))


def video(num_frames: int, height: int = 40, width: int = 70, /, **more: object) -> dict:
    names = [f"m2f/video{t}" for t in range(num_frames)]
    return {"image": [deterministic.image(n, height, width) for n in names], **more}


def decoded(prediction: dict) -> np.ndarray:
    """The masks of all tracks, (tracks, T, H, W)."""
    return np.stack([np.stack([rle.decode(m) for m in t]) for t in prediction["pred_masks"]])


def equal(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-5)
        elif name == "pred_scores":
            assert value == pytest.approx(other[name], abs=1e-5)
        elif name == "pred_masks":
            assert (decoded(one) != decoded(other)).mean() < 1e-3
        else:
            assert value == other[name], name


@pytest.mark.parametrize("options", [{}, RANKED], ids=["plain", "ranked"])
@pytest.mark.parametrize("num_frames", [1, 3])
def test_predictions(clips, options: dict, num_frames: int) -> None:
    prediction = clips(options)([video(num_frames, height=20, width=30)])[0]
    assert prediction["image_size"] == (20, 30)
    assert prediction["sem_seg"].shape == (12, num_frames, 20, 30)
    assert len(prediction["pred_scores"]) == len(prediction["pred_labels"]) == 10
    assert prediction["pred_scores"] == sorted(prediction["pred_scores"], reverse=True)
    assert decoded(prediction).shape == (10, num_frames, 20, 30)
    ranked = {"category_scores", "category_ids"}
    assert prediction.keys() & ranked == (ranked if options else set())


PUBLISHED = {"MODEL.MASK_FORMER.TEST.PUBLISHED_OUTPUT": True}


@pytest.mark.parametrize("options", [{}, CLIPS], ids=["one clip", "clips"])
@pytest.mark.parametrize("instance_on", [True, False])
def test_the_published_output(clips, options: dict, instance_on: bool) -> None:
    """One dict, whose tracks are tensors; there are tracks whatever INSTANCE_ON says."""
    ours = clips(RANKED | options)([video(5, height=20, width=30)])[0]
    tasks = {"MODEL.MASK_FORMER.TEST.INSTANCE_ON": instance_on}
    prediction = clips(RANKED | options | PUBLISHED | tasks)([video(5, height=20, width=30)])
    masks = prediction.pop("pred_masks")
    assert [(mask.shape, mask.dtype) for mask in masks] == [((5, 20, 30), torch.bool)] * 10
    assert torch.equal(torch.stack(masks), torch.from_numpy(decoded(ours)).bool())
    del ours["pred_masks"]
    equal(prediction, ours)


def test_the_published_output_is_of_one_video(clips) -> None:
    with pytest.raises(UserError, match=r"PUBLISHED_OUTPUT is for one video .* a batch has 2"):
        clips(PUBLISHED)([video(1), video(1)])


def test_an_image_is_no_video(clips) -> None:
    """Three channels must not be taken for three frames."""
    model, image = clips(), video(1)["image"][0]
    for call in (model, model.train()):
        with pytest.raises(UserError, match=r"takes videos, .* one image of 70 x 40: .* \[image\]"):
            call([{"image": image}])
    with pytest.raises(UserError, match=r"takes videos"):
        next(model.eval().stream({"image": image}))
    stacked = model([{"image": torch.stack([image, image])}])[0]
    assert stacked["sem_seg"].shape == (12, 2, 40, 70)


def test_videos_of_a_batch_stay_apart(clips) -> None:
    model = clips(RANKED)
    items = [video(3), video(1, 64, 33), video(2, 40, 50, height=20, width=25)]
    for together, item in zip(model(items), items, strict=True):
        equal(together, model([item])[0])


@pytest.mark.parametrize("options", [{}, RANKED], ids=["plain", "ranked"])
@pytest.mark.parametrize("size", [4, 9])
def test_a_video_that_fits_in_a_clip(clips, options: dict, size: int) -> None:
    whole = clips(options)([video(4)])[0]
    more = {"MODEL.MASK_FORMER.TEST.CLIP_FRAMES": size, "MODEL.MASK_FORMER.TEST.CLIP_OVERLAP": 3}
    divided = clips(options | more)([video(4)])[0]
    assert whole.keys() == divided.keys()
    for name, value in whole.items():
        found = divided[name]
        assert torch.equal(value, found) if isinstance(value, Tensor) else value == found, name


class Counted(Sequence):
    """Frames that record which indices were read."""

    def __init__(self, frames: list[Tensor]) -> None:
        self.frames, self.read = frames, []

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Tensor:
        assert isinstance(index, int)
        self.read.append(index)
        return self.frames[index]

    def __iter__(self) -> Iterator[Tensor]:
        raise AssertionError("a long video must not be listed")


@pytest.mark.parametrize("options", [{}, RANKED], ids=["plain", "ranked"])
def test_a_long_video(clips, options: dict) -> None:
    model, item = clips(options | CLIPS), video(9)
    frames = Counted(item["image"])
    prediction = model([item | {"image": frames}])[0]
    assert frames.read == [*range(9)]  # each once, in order
    assert prediction["sem_seg"].shape == (12, 9, 40, 70) and decoded(prediction).shape[1:] == (
        9,
        40,
        70,
    )
    model.prediction_kind = PredictionKind("labels")
    labels = model([item])[0]
    assert "sem_seg" not in labels
    assert torch.equal(labels["sem_seg_labels"], prediction["sem_seg"].argmax(dim=0))
    if options:
        parts = []
        for start, stop in ((0, 4), (2, 6), (4, 8), (6, 9)):
            parts += clips(options)([item | {"image": item["image"][start:stop]}])
        mean = torch.stack([part["category_scores"] for part in parts]).mean(dim=0)
        torch.testing.assert_close(prediction["category_scores"], mean)
        order = mean.argsort(descending=True)[:5]
        assert prediction["category_ids"].tolist() == order.tolist()


@torch.no_grad()
def test_a_stream_yields_labels(clips) -> None:
    model = clips(RANKED | CLIPS)
    model.prediction_kind = PredictionKind("labels")
    frames = Counted(video(9)["image"])
    found = []
    for part in model.stream({"image": frames}):
        assert part.keys() == {"frames", "sem_seg_labels"} and len(part["frames"]) == 1
        assert len(frames.read) <= part["frames"].stop + 4
        found.append(part["sem_seg_labels"])
    assert torch.equal(torch.cat(found), model([video(9)])[0]["sem_seg_labels"])


class Moving:
    """A fake network: two moving squares, predicted by other queries in every clip.

    The pixels of a frame have its index as value.
    """

    def __init__(self, model: VideoMaskFormer) -> None:
        self.num_classes, self.calls = model.num_classes, 0

    def ground_truth(self, frame: int) -> Tensor:
        """Mask logits (2, 8, 8) of the squares; the second one appears in frame 5."""
        masks = torch.full((2, 8, 8), -9.0)
        masks[0, frame % 5 : frame % 5 + 3, :3] = 9.0
        if frame >= 5:
            masks[1, 4:7, 5:8] = 9.0
        return masks

    def predict(self, images: Tensor, _: list[dict]) -> tuple:
        frames = images[0, :, 0, 0, 0].round().int().tolist()
        masks = torch.full((1, 6, len(frames), 8, 8), -9.0)
        logits = torch.zeros(1, 6, self.num_classes + 1)
        logits[..., -1] = 9.0
        self.calls += 1
        for name, query in enumerate(((0, 3), (4, 1))[self.calls % 2]):
            masks[0, query] = torch.stack([self.ground_truth(frame)[name] for frame in frames])
            if (masks[0, query] > 0).any():
                logits[0, query, (7, 2)[name]] = 15.0
        return logits, masks, None


@pytest.fixture
def moving(clips, monkeypatch) -> VideoMaskFormer:
    model = clips(CLIPS | {"MODEL.MASK_FORMER.TEST.SEMANTIC_ON": False})
    model.pixel_mean.zero_(), model.pixel_std.fill_(1.0)
    network = Moving(model)
    monkeypatch.setattr(model, "predict", network.predict)
    model.ground_truth = network.ground_truth
    return model


def numbered(num_frames: int) -> dict:
    return {"image": [torch.full((3, 32, 32), t, dtype=torch.uint8) for t in range(num_frames)]}


def expected_masks(model: VideoMaskFormer, num_frames: int) -> Tensor:
    logits = torch.stack([model.ground_truth(frame) for frame in range(num_frames)], dim=1)
    return torch.nn.functional.interpolate(logits, (32, 32), mode="bilinear") > 0


def test_an_object_keeps_its_identity(moving) -> None:
    """The scores of the two objects differ by rounding alone: either may be the first."""
    prediction = moving([numbered(15)])[0]
    labels = prediction["pred_labels"][:2]
    assert sorted(labels) == [2, 7] and min(prediction["pred_scores"][:2]) > 0.99
    assert prediction["pred_scores"][2] < 0.01
    masks, expected = torch.from_numpy(decoded(prediction)[:2]).bool(), expected_masks(moving, 15)
    assert all(
        torch.equal(mask, expected[(7, 2).index(n)]) for mask, n in zip(masks, labels, strict=True)
    )


def test_a_stream_yields_tracks(moving) -> None:
    expected, tracks = expected_masks(moving, 15), {}
    for index, part in enumerate(moving.stream(numbered(15))):
        assert part["frames"] == range(index, index + 1)
        for found in part["instances"]:
            assert found["score"] > 0.99
            tracks.setdefault(found["track_id"], found["label"])
            row = (7, 2).index(found["label"])
            assert tracks[found["track_id"]] == found["label"]
            assert torch.equal(found["masks"][0], expected[row, index])
    assert sorted(tracks.values()) == [2, 7]


# ------------------------------------------------------------------ the decoder


def test_temporal_positional_encodings() -> None:
    code = clip_positions(3, 8)
    angle = torch.arange(1, 4) / (3 + 1e-6) * 2 * torch.pi
    torch.testing.assert_close(code[:, 0], angle.sin())
    torch.testing.assert_close(code[:, 7], (angle / 10000**0.75).cos())


@torch.no_grad()
def test_a_clip_is_its_frames_side_by_side() -> None:
    """Only the temporal encodings differ: queries attend alike to one image in all frames."""
    torch.manual_seed(0)
    model = MaskedDecoder(
        6, width=16, mask_width=8, num_queries=5, num_layers=4, num_heads=2
    ).eval()
    levels = [torch.randn(2, 16, 3, 2 * n, 3 * n) for n in (1, 2, 4)]
    features = torch.randn(2, 8, 3, 16, 24)
    logits, masks = model(levels, features, every_layer=False).predictions[0]
    assert logits.shape == (2, 5, 7) and masks.shape == (2, 5, 3, 16, 24)
    one = [level[:1] for level in levels]
    alone, _ = model(one, features[:1], every_layer=False).predictions[0]
    torch.testing.assert_close(alone, logits[:1], rtol=1e-4, atol=1e-5)
    turned, _ = model([x.flip(2) for x in levels], features.flip(2), every_layer=False).predictions[
        0
    ]
    assert (turned - logits).abs().max() > 1e-4


# ------------------------------------------------------------------ training


def objects(classes: Sequence[int], height: int = 64, width: int = 64) -> Instances:
    """Objects one below the other."""
    masks = torch.zeros(len(classes), height, width, dtype=torch.bool)
    for row, mask in enumerate(masks):
        mask[8 * row : 8 * row + 8, 4:40] = True
    labels = torch.tensor(classes, dtype=torch.int64)
    return Instances((height, width), gt_classes=labels, gt_masks=masks)


def training_clip(*classes: int, num_frames: int = 2) -> dict:
    return video(num_frames, 64, 64, instances=[objects(classes) for _ in range(num_frames)])


@pytest.mark.parametrize("options", [{}, RANKED], ids=["plain", "ranked"])
def test_a_step_of_training(clips, options: dict) -> None:
    model = clips(options | {"MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 64}).train()
    items = [training_clip(3, 7, 3), training_clip(), video(2, 40, 50)]
    items[2]["instances"] = [objects([1], 40, 50)] * 2
    losses = model(items)
    suffixes = ["", *(f"_{i}" for i in range(4))]
    names = {f"loss_{part}{suffix}" for part in ("ce", "mask", "dice") for suffix in suffixes}
    assert losses.keys() == names | ({"loss_ml"} if options else set())
    sum(losses.values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in model.parameters())
    if options:
        logits, present = model.category_predictions
        assert logits.shape == (3, 12)
        assert [row.nonzero()[:, 0].tolist() for row in present] == [[3, 7], [], [1]]


def test_objects_that_no_frame_shows_have_no_loss(clips) -> None:
    """The class comes from a frame that shows the object, not from the last one."""
    model, item = clips(), training_clip(3, 12, 5)
    for frame in item["instances"]:
        frame.gt_masks[1] = False
    item["instances"][1].gt_masks[0] = False
    item["instances"][1].gt_classes[0] = 12  # "no object", as some mappers say
    item["instances"][0].gt_masks[2] = False
    item["instances"][0].gt_classes[2] = -1
    labels, masks = model.targets([item], (64, 96))
    assert labels[0].tolist() == [3, 5]
    assert masks[0].shape == (2, 2, 64, 96)
    assert masks[0].flatten(2).any(dim=2).tolist() == [[True, False], [False, True]]


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, RANKED], ids=["USE_GT", "ORACLE"])
def test_the_oracles(clips, options: dict) -> None:
    key = "ORACLE" if options else "USE_GT"
    model = clips(options | {f"MODEL.RANKSEG.{key}": True})
    frames = [Instances((64, 64), gt_classes=torch.tensor(c)) for c in ([7, 255], [2, 7])]
    scores = model([video(2, 64, 64, instances=frames)])[0]["sem_seg"]
    present = scores.flatten(1).amax(dim=1) > 1e-6
    assert present.nonzero()[:, 0].tolist() == [2, 7]
    with pytest.raises(UserError, match="USE_GT"):
        model([video(2, 64, 64)])


# ------------------------------------------------------------------ errors


def test_a_video_without_frames(clips) -> None:
    with pytest.raises(UserError, match="the video 17 has no frames"):
        clips()([{"image": [], "video_id": 17}])


def test_a_video_that_changes_its_size(clips) -> None:
    item = video(5)
    item["image"][4] = torch.zeros(3, 40, 71)
    with pytest.raises(UserError, match="frame 4 is 71 x 40, those before are 70 x 40"):
        clips(CLIPS)([item])


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([training_clip(1), training_clip(1, num_frames=3)], "SAMPLING_FRAME_NUM"),
        ([training_clip(12)], "class 12"),
        ([video(2, 64, 64)], "DATASET_MAPPER_NAME"),
        ([training_clip(1) | {"instances": [objects([1]), objects([])]}], "0 objects in one"),
    ],
)
def test_clips_that_cannot_be_trained_on(clips, items: list[dict], message: str) -> None:
    with pytest.raises(UserError, match=message):
        clips().train()(items)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"MODEL.MASK_FORMER.TEST.CLIP_FRAMES": -1}, "CLIP_FRAMES"),
        (CLIPS | {"MODEL.MASK_FORMER.TEST.CLIP_OVERLAP": 4}, "CLIP_OVERLAP"),
        (CLIPS | {"MODEL.MASK_FORMER.TEST.CLIP_OVERLAP": 0}, "for tracks 1 or more"),
        ({"MODEL.MASK_FORMER.TEST.PANOPTIC_ON": True}, "PANOPTIC_ON"),
        (
            {
                "MODEL.MASK_FORMER.TEST.INSTANCE_ON": False,
                "MODEL.MASK_FORMER.TEST.SEMANTIC_ON": False,
            },
            "INSTANCE_ON",
        ),
        (
            {"MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME": "MultiScaleMaskedTransformerDecoder"},
            "VideoMultiScale",
        ),
        (RANKED | {"MODEL.RANKSEG.TOPK": 13}, "TOPK"),
    ],
)
def test_one_message(clips, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        clips(options)
