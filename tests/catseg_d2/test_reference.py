"""The whole model, compared with the reference implementation, stage by stage.

Tolerances: README of the reference outputs. Without that folder, fifty scores a case in
``reference_scores.json`` are compared, which
``PYTHONPATH=. python tests/catseg_d2/test_reference.py FOLDER`` wrote.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from catseg_d2.aggregator import cost_volume, scatter_logits, strongest_classes
from catseg_d2.patches import PatchGeometry
from segcore.vocabulary import Vocabulary

sys.path.insert(0, str(Path(__file__).parents[1]))
import deterministic

SCORES = Path(__file__).with_name("reference_scores.json")
VOCABULARIES = {"voc20": "voc20", "ade150": "ade20k_150", "ade847": "ade20k_847"}
CASES = [
    (vocabulary, pooling, mode)
    for vocabulary in VOCABULARIES
    for pooling in (1, 2)
    for mode in ("whole", "window")
]
QUICK = {(vocabulary, 2, "whole") for vocabulary in ("voc20", "ade150")} | {("voc20", 1, "window")}
HEIGHT, WIDTH = 480, 640


class Stages:
    """Records intermediate results of the model, crop by crop, on the grid that is stored."""

    def __init__(self, model, positions: np.ndarray) -> None:
        self.recorded: dict[str, list[Tensor]] = defaultdict(list)
        self.positions = torch.from_numpy(positions).long()
        self.model = model
        aggregator = model.aggregator
        self._handles = [
            aggregator.upsample[0].register_forward_hook(self._maps("res4", 6)),
            aggregator.upsample[1].register_forward_hook(self._maps("res5", 12)),
            aggregator.appearance_projection.register_forward_hook(self._maps("guidance_proj", 4)),
            aggregator.text_projection.register_forward_hook(self._text),
            aggregator.cost_embedding.register_forward_hook(self._embedded),
            aggregator.register_forward_hook(self._logits),
        ]
        for index, layer in enumerate(aggregator.layers):
            self._handles.append(
                layer.category.register_forward_hook(
                    lambda _, inputs, output, i=index: self._volumes(i, inputs[0], output)
                )
            )
        self._encode = model.clip.encode_image
        model.clip.encode_image = self._encode_image

    def close(self) -> dict[str, Tensor]:
        """Stop recording; the stages by name, crops stacked."""
        for handle in self._handles:
            handle.remove()
        del self.model.clip.encode_image  # of the instance: that of the class is back
        joined = {name: torch.cat(parts) for name, parts in self.recorded.items() if parts}
        count = len(joined["logits"])
        joined["embedded"] = joined["embedded"].unflatten(0, (count, -1))
        # The reference's global view is its last crop.
        joined = {name: x.roll(-1, 0) if len(x) == count else x for name, x in joined.items()}
        embedded = joined.pop("embedded")
        joined["corr_embed"] = embedded[:, self.positions].transpose(1, 2)
        return joined

    def _encode_image(self, crops: Tensor):
        features, guidance = self._encode(crops)
        self.recorded["features"].append(features)
        for index, x in enumerate(guidance):
            self.recorded[f"hook{index}"].append(x.flatten(2)[:, ::8, 15::16].transpose(1, 2))
        return features, guidance

    def _maps(self, name: str, stride: int):
        relu = F.relu if name == "guidance_proj" else lambda x: x
        return lambda _, __, output: self.recorded[name].append(
            relu(output[:, ::16, ::stride, ::stride])
        )

    def _text(self, _, __, output: Tensor) -> None:
        self.recorded["text_proj"].append(F.relu(output[:, self.positions, ::8]))

    def _embedded(self, _, __, output: Tensor) -> None:
        self.recorded["embedded"].append(output[:, ::16, ::4, ::4].clone())

    def _volumes(self, index: int, spatial: Tensor, category: Tensor) -> None:
        for name, volume in (("spatial", spatial), ("class", category)):
            cut = volume[:, self.positions, ::4, ::4, ::16]  # (1, t, h, w, c)
            self.recorded[f"agg{index}_{name}"].append(cut.permute(0, 4, 1, 2, 3).clone())

    def _logits(self, _, __, output: Tensor) -> None:
        self.recorded["logits"].append(output[:, :, ::6, ::6].clone())


def prediction(model, vocabulary: Vocabulary, pooling: int, mode: str) -> Tensor:
    """Scores (T, 480, 640) of the reference's image."""
    for layer in model.aggregator.layers:
        layer.category.pooling = (pooling, pooling)
    model.patches = PatchGeometry() if mode == "window" else None
    model.set_vocabulary(vocabulary)
    image = deterministic.image("catseg/input", HEIGHT, WIDTH)
    return model([{"image": image, "height": HEIGHT, "width": WIDTH}])[0]["sem_seg"]


@pytest.mark.parametrize(
    ("name", "pooling", "mode"),
    [pytest.param(*c, marks=() if c in QUICK else pytest.mark.slow) for c in CASES],
)
def test_equals_reference(published_vitb, request, name: str, pooling: int, mode: str) -> None:
    case = f"vitb_{name}_pool{pooling}_{mode}"
    golden = _golden_case(request, case)
    scores, stages = _run(
        published_vitb, Vocabulary.load(VOCABULARIES[name]), pooling, mode, golden
    )
    _compare(case, scores, stages, golden)


def _run(model, vocabulary: Vocabulary, pooling: int, mode: str, golden) -> tuple[Tensor, dict]:
    """The scores and, if there is a reference, all stages."""
    if golden is None:
        return prediction(model, vocabulary, pooling, mode), {}
    recording = Stages(model, golden["agg_positions"])
    scores = prediction(model, vocabulary, pooling, mode)
    return scores, _stages(model, vocabulary, recording.close(), golden)


def _compare(case: str, scores: Tensor, stages: dict, golden) -> None:
    table = json.loads(SCORES.read_text())[case]
    found = scores.flatten()[torch.tensor(table["index"])]
    assert (found - torch.tensor(table["score"])).abs().max() <= 2e-5
    if golden is None:
        return
    for stage, (found, expected, tolerance) in stages.items():
        difference = (found - torch.from_numpy(expected)).abs().max()
        assert difference <= tolerance, f"{stage}: {difference:.2e} above {tolerance:.2e}"
    _compare_scores(scores, golden)


def _golden_case(request, case: str):
    try:
        folder = request.getfixturevalue("golden")
    except pytest.skip.Exception:
        return None  # the committed scores are compared all the same
    return np.load(folder / "catseg" / f"{case}.npz")


def _stages(model, vocabulary: Vocabulary, recorded: dict[str, Tensor], golden) -> dict:
    """Found and expected values and the tolerance of every stage."""
    text = model.text_cache.get(model.clip, vocabulary, model.templates)
    features = recorded.pop("features")
    recorded["clip_dense"] = features.flatten(2)[:, ::8, 15::16].transpose(1, 2)
    cost = cost_volume(features, text)
    ids = torch.from_numpy(golden["corr_classes"]).long()
    stages = {
        "text": (text[:20, 0], golden["text_embeds"], 2e-6),
        "corr": (cost[:, ids, 0, ::3, ::3], golden["corr"], 2e-6),
    }
    kept = strongest_classes(cost, model.max_classes)
    if "kept" in golden:
        assert torch.equal(kept, torch.from_numpy(golden["kept"]).long())
    logits = scatter_logits(recorded.pop("logits"), kept, len(text))
    recorded["logits"] = logits[:, torch.from_numpy(golden["logit_classes"]).long()]
    for stage, found in recorded.items():
        expected = golden[stage]
        if stage in ("clip_dense", "hook0", "hook1"):
            if stage != "clip_dense":
                expected = expected.transpose(1, 0, 2)
            expected = expected[:, 1:]  # without the class token
        stages[stage] = found, expected, 2e-5 * max(1.0, expected.std())
    return stages


def _compare_scores(scores: Tensor, golden) -> None:
    stride = int(golden["sem_seg_stride"])
    ids = torch.from_numpy(golden["sem_seg_classes"]).long()
    difference = (scores[ids, ::stride, ::stride] - torch.from_numpy(golden["sem_seg"])).abs()
    assert difference.max() <= 2e-5
    assert difference.mean() <= 2e-6
    equal = scores.argmax(0) == torch.from_numpy(golden["argmax"].astype(np.int64))
    assert equal.float().mean() >= 0.995
    best, second = scores.topk(2, dim=0).values
    assert equal[best - second > 5e-5].all()


def test_published_files_load(published_vitb, golden) -> None:
    """No missing and no unexpected key, with and without the buffers of published files."""
    keys = json.loads((golden / "catseg" / "keys_vitb.json").read_text())
    with_buffers = {name: torch.zeros(shape) for name, shape in keys["keys"].items()}
    bare = {k: v for k, v in with_buffers.items() if k not in keys["buffers"]}
    assert len(bare) < len(with_buffers)
    before = {k: v.clone() for k, v in published_vitb.state_dict().items()}
    try:
        for checkpoint in (with_buffers, bare):
            assert published_vitb.load_state_dict(checkpoint, strict=True) == ([], [])
    finally:
        published_vitb.load_state_dict(before)


@pytest.mark.parametrize("size", ["vitb", "vitl"])
def test_parameters_are_the_published_ones(golden, size: str) -> None:
    """Names, shapes, and CLIP's trainable parameters per mode; built without memory for weights."""
    from detectron2.modeling import build_model

    from catseg_d2.checkpoint import from_published, to_published
    from catseg_d2.encoders import set_trainable
    from segcore.config import load_config

    keys = json.loads((golden / "catseg" / f"keys_{size}.json").read_text())
    prompted = keys["trainable_in_clip"]["prompt, PROMPT_DEPTH 3, PROMPT_LENGTH 4"]
    assert [from_published(name) for name in prompted] == ["clip.prompt_tokens"]
    config = {"vitb": "catseg_d2/vitb_384.yaml", "vitl": "catseg_d2/vitl_336.yaml"}[size]
    with torch.device("meta"):
        model = build_model(load_config(config, ["MODEL.CLIP_WEIGHTS", "", "MODEL.DEVICE", "meta"]))
    ours = {to_published(name): list(p.shape) for name, p in model.named_parameters()}
    assert ours == {k: v for k, v in keys["keys"].items() if k not in keys["buffers"]}
    assert all(from_published(to_published(n)) == n for n, _ in model.named_parameters())
    for mode in ("attention", "full"):
        set_trainable(model.clip, mode)
        trainable = {
            to_published(n) for n, p in model.clip.named_parameters("clip") if p.requires_grad
        }
        assert trainable == set(keys["trainable_in_clip"][mode])


def write_scores(folder: Path) -> None:
    """Write fifty scores of every reference case to the table."""
    generator = np.random.default_rng(0)
    table = {}
    for name, pooling, mode in CASES:
        case = f"vitb_{name}_pool{pooling}_{mode}"
        golden = np.load(folder / "catseg" / f"{case}.npz")
        stride, kept = int(golden["sem_seg_stride"]), golden["sem_seg"]
        flat = generator.choice(kept.size, 50, replace=False)
        row, y, x = np.unravel_index(flat, kept.shape)
        index = (golden["sem_seg_classes"][row] * HEIGHT + y * stride) * WIDTH + x * stride
        scores = [round(float(kept.flat[i]), 7) for i in flat]
        table[case] = {"index": index.tolist(), "score": scores}
    SCORES.write_text(json.dumps(table, separators=(",", ":")).replace("},", "},\n") + "\n")


if __name__ == "__main__":
    write_scores(Path(sys.argv[1]))
