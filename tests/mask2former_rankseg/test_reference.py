"""Every stage of the models, compared with outputs of the published code, image by image.

    python tests/mask2former_rankseg/test_reference.py GOLDEN_FOLDER

renews the small committed table of scores, which a clone without the reference outputs is tested
against.
"""

import json
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
import deterministic
from mask2former_models import PANOPTIC, R50, SWIN_T, build, published_weights

from mask2former_rankseg.inference import mask_boxes

SCORES = Path(__file__).with_name("reference_scores.json")
RANKSEG = ("MODEL.RANKSEG.FLAG", True, "MODEL.SEM_SEG_HEAD.USE_LAYERNORM", True)
TOPK, SHARE = "MODEL.RANKSEG.TOPK", "MODEL.RANKSEG.SHARE_EMBEDDING"
LOW = (
    *("MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", 0.1),
    *("MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD", 0.004),
)
MODELS = {
    "sem_r50": (R50,),
    "sem_swint_rank150": (SWIN_T, *RANKSEG, TOPK, 150),
    "sem_swint_rank50": (SWIN_T, *RANKSEG, TOPK, 50),
    "sem_swint_rank150_share": (
        *(SWIN_T, *RANKSEG, TOPK, 150, SHARE, True),
        *("MODEL.RANKSEG.HIDDEN_DIM", 256),
    ),
    "sem_swint_gt": (SWIN_T, "MODEL.RANKSEG.USE_GT", True),
    "pan_r50_rank150": (PANOPTIC, *RANKSEG, TOPK, 150, *LOW),
}
CASES = {  # the images of a case
    "sem_r50_b2": 2,
    "sem_swint_rank150_b2": 2,
    "sem_swint_rank50_b2": 2,
    "pan_r50_rank150_b2": 2,
    "sem_r50_b1": 1,
    "sem_swint_rank150_b1": 1,
    "sem_swint_rank50_b1": 1,
    "sem_swint_rank150_share_b1": 1,
    "sem_swint_gt_b1": 1,
    "pan_r50_rank150_b1": 1,
}


@cache
def model_of(case: str):
    """The model of a case with the reference's weights; one of them at a time."""
    model_of.cache_clear()
    model = build(*MODELS[case.rpartition("_")[0]])
    assert model.load_state_dict(published_weights(model), strict=True) == ([], [])
    return model


def images(number: int) -> list[dict]:
    """One image, and a smaller one that is predicted at another size."""
    first = {"image": deterministic.image("m2f/input", 192, 256)}
    second = {
        "image": deterministic.image("m2f/input2", 160, 224),
        "height": 200,
        "width": 280,
    }
    first["instances"] = SimpleNamespace(gt_classes=torch.tensor([3, 17, 42, 99, 255]))
    return [first, second][:number]


def stages(model, batch: list[dict]) -> dict[str, Tensor]:
    """All intermediate results of images or clips, with the predictions after every layer."""
    images, head = model.to_batch(batch).tensor, model.sem_seg_head
    features = model.backbone(images.flatten(0, -4))
    mask_features, levels = head.pixel_decoder(features)
    decoded = head.predictor(levels, mask_features, True, *images.shape[1:-3])
    logits = [classes for classes, _ in decoded.predictions]
    found = {f"backbone/{name}": value for name, value in features.items()}
    found["pixel_decoder/mask_features"] = mask_features
    found |= {f"pixel_decoder/multi_scale_{i}": level for i, level in enumerate(levels)}
    found |= {f"head/query_feature_{i}": x.transpose(0, 1) for i, x in enumerate(decoded.states)}
    found["head/pred_logits_raw"], found["head/pred_logits_raw_aux0"] = logits[-1], logits[0]
    found["head/pred_masks"] = decoded.predictions[-1][1]
    if (ranked := model.rank(decoded, logits, batch)) is not None:
        found["rank/img_pred"] = ranked.category_logits
        found["rank/topk_index"] = ranked.selected
        found["rank/pred_logits_normed"] = ranked.logits[-1]
        found["rank/pred_logits_normed_aux0"] = ranked.logits[0]
    return found


def sliced(tensor: Tensor, golden: np.lib.npyio.NpzFile, name: str) -> tuple[Tensor, Tensor, float]:
    """Return the stored part of a tensor, found and expected, and the largest absolute value."""
    about = json.loads(str(golden["meta"]))["arrays"][name]
    assert [*tensor.shape] == about["shape"], name
    kept = tensor[tuple(slice(None, None, step) for step in about["stride"])]
    return kept, torch.from_numpy(golden[name]), about.get("absmax", 1.0)


def close(tensor: Tensor, golden: np.lib.npyio.NpzFile, name: str) -> None:
    found, expected, largest = sliced(tensor, golden, name)
    difference = (found - expected).abs().max().item()
    assert difference <= 5e-5 * largest, f"{name}: {difference / largest:.1e} of its maximum"


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_equals_reference(request, case: str) -> None:
    model, batch = model_of(case), images(CASES[case])
    predictions = model(batch)
    for i, table in enumerate(json.loads(SCORES.read_text())[case]):
        found = predictions[i]["sem_seg"].flatten()[torch.tensor(table["index"])]
        assert (found - torch.tensor(table["score"])).abs().max() <= 5e-5 * table["largest"]
    golden = _golden_case(request, case)
    if golden is None:
        return
    for name, tensor in stages(model, batch).items():
        if name == "rank/topk_index":
            assert torch.equal(tensor, torch.from_numpy(golden[name]))
        elif name in golden:
            close(tensor, golden, name)
    for i, prediction in enumerate(predictions):
        _compare_prediction(prediction, golden, f"out{i}")


def _golden_case(request, case: str):
    try:
        folder = request.getfixturevalue("golden")
    except pytest.skip.Exception:
        return None  # the committed scores are compared all the same
    return np.load(folder / "mask2former_rankseg" / f"fwd_{case}.npz")


def _compare_prediction(prediction: dict, golden: np.lib.npyio.NpzFile, out: str) -> None:
    close(prediction["sem_seg"], golden, f"{out}/sem_seg")
    best = torch.from_numpy(golden[f"{out}/sem_seg_argmax"]).long()
    assert (prediction["sem_seg"].argmax(dim=0) == best).float().mean() >= 1 - 5e-4
    if "rank/topk_index" in golden:
        row = int(out[3:])
        assert prediction["category_ids"].tolist() == golden["rank/topk_index"][row].tolist()
        logits = torch.from_numpy(golden["rank/img_pred"][row])
        torch.testing.assert_close(prediction["category_scores"], logits.sigmoid())
    if f"{out}/panoptic_seg" in golden:
        _compare_panoptic(prediction["panoptic_seg"], golden, out)
        _compare_instances(prediction["instances"], golden, out)


def _compare_panoptic(found: tuple[Tensor, list[dict]], golden, out: str) -> None:
    segments, info = found
    expected = torch.from_numpy(golden[f"{out}/panoptic_seg"])
    assert info == json.loads(str(golden["meta"]))["segments_info"][f"{out}/segments_info"]
    assert (segments == expected).float().mean() >= 1 - 5e-4


def _compare_instances(found, golden, out: str) -> None:
    assert found.pred_classes.tolist() == golden[f"{out}/instances_classes"].tolist()
    scores = torch.from_numpy(golden[f"{out}/instances_scores"])
    torch.testing.assert_close(found.scores, scores, rtol=1e-4, atol=1e-5)
    areas = found.pred_masks.flatten(1).sum(dim=1)
    assert (areas - torch.from_numpy(golden[f"{out}/instances_mask_area"])).abs().max() <= 5
    masks, expected, _ = sliced(found.pred_masks, golden, f"{out}/instances_masks")
    assert (masks != expected).float().mean() <= 5e-4
    assert torch.equal(found.pred_boxes.tensor, mask_boxes(found.pred_masks))


def write_scores(folder: Path) -> None:
    """Write forty scores of every image of every case to the table."""
    generator = np.random.default_rng(0)
    table = {}
    for case, number in CASES.items():
        golden = np.load(folder / "mask2former_rankseg" / f"fwd_{case}.npz")
        about = json.loads(str(golden["meta"]))["arrays"]
        table[case] = []
        for i in range(number):
            name = f"out{i}/sem_seg"
            kept, strides = golden[name], about[name]["stride"]
            flat = generator.choice(kept.size, 40, replace=False)
            position = np.unravel_index(flat, kept.shape)
            position = [step * axis for step, axis in zip(strides, position, strict=True)]
            index = np.ravel_multi_index(position, about[name]["shape"])
            scores = [float(f"{kept.flat[j]:.7g}") for j in flat]
            largest = about[name]["absmax"]
            table[case].append({"index": index.tolist(), "score": scores, "largest": largest})
    lines = [f"{json.dumps(case)}: {json.dumps(rows)}" for case, rows in table.items()]
    SCORES.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    write_scores(Path(sys.argv[1]))
