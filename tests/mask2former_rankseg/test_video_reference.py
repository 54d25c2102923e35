"""Video models, compared with outputs of the published code, stage by stage."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as rle

from mask2former_rankseg import VideoMaskFormer

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import deterministic
from mask2former_models import R50, build, published_weights
from test_reference import RANKSEG, TOPK, close, stages
from video_options import VIDEO

CLASSES = {"vspw_r50_rank124_t2": 124, "ytvis_r50_rank40_t2": 40}


def model_of(case: str) -> VideoMaskFormer:
    number = CLASSES[case]
    options = VIDEO | {
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": number,
        "MODEL.MASK_FORMER.TEST.SEMANTIC_ON": case.startswith("vspw"),
    }
    model = build(R50, *(x for pair in options.items() for x in pair), *RANKSEG, TOPK, number)
    assert model.load_state_dict(published_weights(model), strict=True) == ([], [])
    return model


def video(**more: object) -> dict:
    frames = [deterministic.image(f"m2f/frame{t}", 96, 128) for t in range(2)]
    return {"image": frames, "height": 120, "width": 160, **more}


@torch.no_grad()
@pytest.mark.parametrize("case", CLASSES)
def test_equals_reference(golden: Path, case: str) -> None:
    model, item = model_of(case), video()
    reference = np.load(golden / "mask2former_rankseg" / f"fwd_{case}.npz")
    for name, tensor in stages(model, [item]).items():
        if name == "rank/topk_index":
            assert torch.equal(tensor, torch.from_numpy(reference[name]))
        else:
            close(tensor, reference, name)
    class_logits, _, _ = model.predict(model.to_batch([item]).tensor, [item])
    close(class_logits, reference, "final/pred_logits")
    prediction = model([item])[0]
    assert prediction["image_size"] == (120, 160)
    assert prediction["category_ids"].tolist() == reference["rank/topk_index"][0].tolist()
    compare_tracks(prediction, reference)
    assert ("sem_seg" in prediction) == case.startswith("vspw")
    if "sem_seg" in prediction:
        close(prediction["sem_seg"], reference, "out0/sem_seg")
        best = torch.from_numpy(reference["out0/sem_seg_argmax"]).long()
        assert (prediction["sem_seg"].argmax(dim=0) == best).float().mean() >= 1 - 5e-4


def compare_tracks(prediction: dict, reference: np.lib.npyio.NpzFile) -> None:
    """The reference lists its tracks in any order."""
    order = np.argsort(-reference["out0/pred_scores"], kind="stable")
    np.testing.assert_allclose(
        prediction["pred_scores"], reference["out0/pred_scores"][order], rtol=1e-4, atol=1e-5
    )
    assert prediction["pred_labels"] == reference["out0/pred_labels"][order].tolist()
    shape = json.loads(str(reference["meta"]))["arrays"]["out0/pred_masks_packbits"]["shape"]
    expected = np.unpackbits(reference["out0/pred_masks_packbits"], axis=-1)
    expected = expected.reshape(10, -1)[:, : 2 * 120 * 160].reshape(10, 2, 120, 160)[order]
    found = np.stack([decoded(track) for track in prediction["pred_masks"]])
    assert shape and (found != expected).mean() <= 5e-4
    areas = np.abs(found.sum((2, 3)).astype(int) - expected.sum((2, 3)).astype(int))
    assert areas.max() <= 5


def decoded(track: list[dict]) -> np.ndarray:
    """Decode RLE of frames: (T, H, W)."""
    return np.stack([rle.decode(mask) for mask in track])
