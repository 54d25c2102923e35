"""CAT-Seg with EVA-02-CLIP and SigLIP, compared with reference outputs stage by stage.

Tolerances: README of the reference outputs. The encoders have few blocks, of the published widths.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from detectron2.modeling import build_model
from torch import Tensor

from catseg_d2.aggregator import cost_volume
from catseg_d2.checkpoint import to_published
from catseg_d2.encoders import EncoderOptions, ImageTextEncoder, build_encoders
from segcore.config import load_config

sys.path.insert(0, str(Path(__file__).parents[1]))
import deterministic

FOLDER = Path(os.environ.get("CATRANK_GOLDEN", Path(__file__).parents[3] / "shared/golden"))
FOLDER = FOLDER / "catseg_vlm"
MANIFEST = FOLDER / "manifest.json"
CASES = json.loads(MANIFEST.read_text())["cases"] if MANIFEST.is_file() else {}
QUICK = {"eva02_l14_336_whole", "siglip_l16_384_whole"}
CONFIGS = {
    "EVA02-L-14-336": "catseg_d2/eva02_l14_336.yaml",
    "EVA02-L-14": "catseg_d2/eva02_l14_336.yaml",
    "ViT-L-16-SigLIP-384": "catseg_d2/vitl_siglip_384.yaml",
    "ViT-L-16-SigLIP-256": "catseg_d2/vitl_siglip_384.yaml",
}
ENCODERS = "sem_seg_head.predictor.clip_model."
LARGE = "google/siglip-large-patch16-384"

pytestmark = pytest.mark.skipif(not CASES, reason=f"no reference outputs at {FOLDER}")


def published_keys(model: str) -> dict[str, list[int]]:
    """Return the names and shapes of published weights, of open_clip's or transformers' files."""
    for path in FOLDER.glob("keys_*.json"):
        table = json.loads(path.read_text())
        if model in (table.get("open_clip_model"), table.get("transformers_model")):
            return table["keys"]
    raise AssertionError(model)


def reduced(model: str, vision_blocks: int, text_layers: int, folder: Path) -> str:
    """Register a model of open_clip with fewer blocks; return its name."""
    config = open_clip.get_model_config(model)
    config["vision_cfg"]["timm_kwargs"] = {"depth": vision_blocks}
    config["text_cfg"]["layers"] = text_layers
    name = f"{model}-of-{vision_blocks}-and-{text_layers}"
    (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return name


def reduced_keys(model: str, vision_blocks: int, text_layers: int) -> dict[str, list[int]]:
    """Return the names and shapes of the weights of :func:`reduced`."""

    def is_kept(name: str) -> bool:
        parts = name.split(".")
        if "resblocks" in parts:
            return int(parts[parts.index("resblocks") + 1]) < text_layers
        return "blocks" not in parts or int(parts[parts.index("blocks") + 1]) < vision_blocks

    return {name: shape for name, shape in published_keys(model).items() if is_kept(name)}


class GivenTokens:
    """A tokenizer that returns the ids of a reference case, in the order of its class names."""

    def __init__(self, tokens: Tensor) -> None:
        self.tokens, self.context_length = tokens, tokens.shape[1]

    def __call__(self, prompts: list[str]) -> Tensor:
        assert len(prompts) == len(self.tokens)
        return self.tokens

    def lengths(self, tokens: Tensor) -> Tensor:
        return tokens.new_full((len(tokens),), self.context_length)


def model_of(case: dict, folder: Path) -> torch.nn.Module:
    """Build the model of a case, with its weights under the names of a published checkpoint."""
    depths = case["vision_blocks"], case["text_layers"]
    name = reduced(case["open_clip_model"], *depths, folder)
    options = {
        "MODEL.CLIP_WEIGHTS": "",
        "MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED": name,
        "MODEL.SEM_SEG_HEAD.POOLING_SIZES": "[1, 1]",
        "TEST.SLIDING_WINDOW": str(case["mode"] == "window"),
    }
    flat = [text for option in options.items() for text in option]
    model = build_model(load_config(CONFIGS[case["open_clip_model"]], flat)).eval()
    others = {to_published(n): p.shape for n, p in model.named_parameters() if n[:5] != "clip."}
    inside = reduced_keys(case["open_clip_model"], *depths)
    weights = deterministic.weights(inside)
    for key, factor in case["overrides"].items():
        if key in inside:
            weights[key] = factor * deterministic.noise(key, tuple(inside[key]))
    model.load_state_dict(
        deterministic.weights(others) | {ENCODERS + key: value for key, value in weights.items()}
    )
    return model


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in CASES]
)
@torch.no_grad()
def test_equals_reference(name: str, tmp_path: Path, monkeypatch) -> None:
    case, golden = CASES[name], np.load(FOLDER / f"{name}.npz")
    model = model_of(case, tmp_path)
    clip: ImageTextEncoder = model.clip
    assert list(clip.guidance_blocks) == case["guidance_after_blocks"]
    tokens = torch.from_numpy(golden["text_tokens"]).long()
    if case["open_clip_model"].startswith("EVA"):
        prompts = [f"A photo of a {word} in the scene" for word in case["words"]]
        assert torch.equal(clip.tokenizer(prompts), tokens)
    monkeypatch.setattr(type(clip), "tokenizer", GivenTokens(tokens))
    text = clip.encode_text(tokens)
    close(text, golden["text_embeds"], 2e-6, "text")

    crops, encoded, logits = [], [], []
    encode = clip.encode_image

    def recorded(batch: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        crops.append(batch)
        encoded.append(encode(batch))
        return encoded[-1]

    clip.encode_image = recorded
    model.aggregator.register_forward_hook(lambda _, __, output: logits.append(output))
    _, height, width = case["image"]
    image = deterministic.image(*case["image"])
    model.set_vocabulary(case["words"])
    scores = model([{"image": image, "height": height, "width": width}])[0]["sem_seg"]

    crops, features = _in_order(crops), _in_order([x for x, _ in encoded])
    assert crops.shape[-1] == case["crop_side"]
    _compare_features(features, golden["dense"], "dense", 5e-5)
    norms = features.flatten(2).transpose(1, 2)[:, ::5].norm(dim=-1)
    close(norms, golden["dense_norm"], 2e-4, "dense_norm")
    for index in (0, 1):
        guidance = _in_order([pair[index] for _, pair in encoded])
        _compare_features(guidance, golden[f"guidance{index}"], f"guidance{index}", 5e-5)
    close(clip.embed_image(crops), golden["image_embed"], 2e-6, "image_embed")
    if "dense_own_residual" in golden:
        clip.options = EncoderOptions(dense_residual="own")
        _compare_features(encode(crops)[0], golden["dense_own_residual"], "own residual", 5e-5)

    windows = case["mode"] == "window"
    cost = cost_volume(features, text[:, None])[:, :, 0]
    cost = cost[:, ::4, ::3, ::3] if windows else cost[:, :, ::2, ::2]
    close(cost, golden["corr"], 2e-6, "corr")
    close(_in_order(logits)[:, :: 4 if windows else 1, ::6, ::6], golden["logits"], 2e-4, "logits")
    close(scores[:, ::16, ::16], golden["sem_seg"], 2e-5, "sem_seg")
    equal = scores.argmax(0)[::4, ::4] == torch.from_numpy(golden["argmax"].astype(np.int64))
    assert equal.float().mean() >= 0.99


@pytest.mark.parametrize("name", sorted({case["open_clip_model"] for case in CASES.values()}))
def test_published_names_load(name: str) -> None:
    """All published names and shapes become ours, none is left over; built without memory."""
    layouts = [published_keys(name)]
    if name == "ViT-L-16-SigLIP-384":
        layouts.append(published_keys(LARGE))
    with torch.device("meta"):
        encoders = build_encoders(name)
        ours = {key: parameter.shape for key, parameter in encoders.named_parameters()}
        for keys in layouts:
            weights = {key: torch.empty(shape) for key, shape in keys.items()}
            found = {key: value.shape for key, value in encoders.from_published(weights).items()}
            assert found == ours
    assert sum(shape.numel() for shape in ours.values()) == parameter_count(name)


def parameter_count(name: str) -> int:
    tables = (json.loads(path.read_text()) for path in FOLDER.glob("keys_*.json"))
    return next(table["parameters"] for table in tables if table.get("open_clip_model") == name)


def _in_order(parts: list[Tensor]) -> Tensor:
    """Join the crops in the order of the reference, whose global view is the last one."""
    return torch.cat(parts).roll(-1, 0)


def _compare_features(found: Tensor, expected: np.ndarray, stage: str, tolerance: float) -> None:
    tokens = found.flatten(2).transpose(1, 2)
    close(tokens[:, ::17, ::16], expected, tolerance, stage)


def close(found: Tensor, expected: np.ndarray, tolerance: float, stage: str) -> None:
    assert found.shape == expected.shape, stage
    difference = (found - torch.from_numpy(expected)).abs().max()
    assert difference <= tolerance, f"{stage}: {difference:.2e} above {tolerance:.2e}"
