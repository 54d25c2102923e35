"""All parts against reference outputs: a small Segmenter with RankSeg, all three heads.

Segmenter itself (a linear layer, two blocks, normalised products) is built here from the
layers of the multi-label heads.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from deterministic import noise, weights
from torch import Tensor, nn

from segcore.rankseg.heads import build_multilabel_head
from segcore.rankseg.labels import pixels_to_ranks
from segcore.rankseg.layers import EncoderBlock
from segcore.rankseg.losses import asymmetric_loss
from segcore.rankseg.oracle import oracle_logits
from segcore.rankseg.scores import NormScores, gather_columns, scatter_columns
from segcore.rankseg.selection import confident_ranks, presence, select_top

CLASSES, WIDTH, IGNORE = 171, 192, 255


def load(module: nn.Module, published: dict[str, str], unit: bool = False) -> nn.Module:
    """Fill a module by the published names of its parameters; other names are unchanged.

    ``published`` maps the start of a name to the start of its published one.
    """
    state = {}
    for name, own in module.state_dict().items():
        start = max((s for s in published if name.startswith(s)), key=len)
        key = published[start] + name[len(start) :]
        value = noise(key, _published_shape(key, own.shape))
        if key == "cls_emb":
            value *= 0.5
        elif key.endswith("fc.W"):
            value /= math.sqrt(own.shape[-1])
        elif key.endswith("fc.b"):
            value *= 0.05
        elif key.endswith(".gamma"):
            value = 1 + 0.1 * value
        else:
            value = weights({key: value.shape})[key]
        state[name] = value.reshape(own.shape)
    module.load_state_dict(state)
    return module.eval()


def _published_shape(key: str, shape: torch.Size) -> tuple[int, ...]:
    """1 x 1 convolutions are linear layers here."""
    convolution = key.startswith(("img_cls_head.1", "img_cls_head.2", "img_cls_head.input_proj"))
    return (*shape, 1, 1) if convolution and len(shape) == 2 else tuple(shape)


def case(golden: Path, name: str) -> tuple[dict[str, Tensor], dict]:
    folder = golden / "per_pixel"
    with np.load(folder / f"segmenter_head_{name}.npz") as arrays:
        tensors = {key: torch.from_numpy(arrays[key]) for key in arrays}
    cases = json.loads((folder / "cases.json").read_text("utf-8"))
    return tensors, cases.get("cases", cases)[f"segmenter_head_{name}"]["config"]


def tokens(image: Tensor, pooled: int | None = None) -> Tensor:
    """(B, D, H, W) -> (B, H W, D)."""
    if pooled is not None:
        image = F.adaptive_avg_pool2d(image, pooled)
    return image.flatten(2).transpose(1, 2)


class Segmenter(nn.Module):
    """The mask transformer behind the selection: pixels (B, L, D) and class rows (B, n, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(EncoderBlock(WIDTH, 3, 4 * WIDTH, 0.0) for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)
        self.patch = nn.Parameter(torch.empty(WIDTH, WIDTH))
        self.classes = nn.Parameter(torch.empty(WIDTH, WIDTH))

    def forward(self, pixels: Tensor, rows: Tensor) -> Tensor:
        x = torch.cat([pixels, rows], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        left, right = x[:, : pixels.shape[1]] @ self.patch, x[:, pixels.shape[1] :] @ self.classes
        return F.normalize(left, dim=-1) @ F.normalize(right, dim=-1).transpose(1, 2)


def segmenter(first_block: int) -> Segmenter:
    names = {f"blocks.{i}": f"blocks.{i + first_block}" for i in range(2)}
    names |= {"norm": "decoder_norm", "patch": "proj_patch", "classes": "proj_classes"}
    return load(Segmenter(), names)


def project() -> nn.Module:
    return load(nn.Linear(WIDTH, WIDTH), {"": "proj_dec."})


def losses(logits: Tensor, ids: Tensor, masks: Tensor, labels: Tensor, config: dict) -> tuple:
    """The multi-label and the pixel loss of each image, each weighted as published."""
    gammas = dict(zip(("gamma_neg", "gamma_pos", "clip", "eps"), config["asymmetric"], strict=True))
    ranks = pixels_to_ranks(labels[:, 0].long(), ids, CLASSES, IGNORE)
    maps = F.interpolate(masks, labels.shape[-2:], mode="bilinear", align_corners=False)
    pixel = F.cross_entropy(maps, ranks, ignore_index=IGNORE, reduction="none").mean(dim=(1, 2))
    present = presence([label.long() for label in labels], CLASSES)
    image = [
        asymmetric_loss(*pair, **gammas)
        for pair in zip(logits[:, None], present[:, None], strict=True)
    ]
    return config["img_loss_weight"] * torch.stack(image), pixel


@pytest.mark.parametrize("name", ["rankseg", "rankseg_sortonly"])
def test_the_encoder_head(golden: Path, name: str) -> None:
    expected, config = case(golden, name)
    options = {"num_heads": 3, "dropout": 0.0}
    head = load(
        build_multilabel_head("encoder", WIDTH, CLASSES, hidden_dim=WIDTH, **options),
        {
            "input_proj": "proj_dec",
            "class_embeddings": "cls_emb",
            "block": "blocks.0",
            "norm": "decoder_norm2",
            "classifier.weight": "ml_fc.W",
            "classifier.bias": "ml_fc.b",
        },
    )
    kappa = config["topk_cls"]
    norm = load(NormScores(kappa, no_object=False), {"": "mask_norm."})
    image = noise("pp/x23", (2, WIDTH, 12, 12))

    refined = head.refine(tokens(image, config["downsample"]))
    logits = head.classifier(refined)
    ids = select_top(logits, kappa)
    rows = refined.gather(1, ids[..., None].expand(-1, -1, WIDTH))
    masks = norm(segmenter(first_block=1)(project()(tokens(image)), rows))
    masks = masks.transpose(1, 2).unflatten(-1, (12, 12))

    torch.testing.assert_close(logits, expected["img_pred"], atol=1e-4, rtol=0)
    assert torch.equal(ids, expected["topk_index"].long())
    torch.testing.assert_close(masks, expected["masks"], atol=1e-4, rtol=0)
    image_loss, pixel_loss = losses(logits, ids, masks, expected["labels"], config)
    torch.testing.assert_close(image_loss, expected["loss_img"], atol=0, rtol=1e-4)
    torch.testing.assert_close(pixel_loss, expected["loss_seg"], atol=0, rtol=1e-4)
    pixel_loss.sum().backward()
    gradient = expected["grad_mask_norm_weight"].sum(dim=0)  # each image alone
    torch.testing.assert_close(norm.weight.grad, gradient, atol=1e-6, rtol=1e-3)
    labels = scatter_columns(masks.movedim(1, -1), ids, CLASSES).argmax(dim=-1)
    assert (labels == expected["eval_argmax"]).float().mean() >= 0.995


def test_the_decoder_head(golden: Path) -> None:
    expected, config = case(golden, "rankseg_trandec")
    head = build_multilabel_head(
        "decoder",
        WIDTH,
        CLASSES,
        hidden_dim=WIDTH,
        shared_width=WIDTH,
        num_heads=config["img_cls_head"]["nhead"],
        feedforward_dim=config["img_cls_head"]["dim_feedforward"],
        grid=(config["downsample"], config["downsample"]),
    )
    names = {
        "input_proj": "img_cls_head.input_proj",
        "norm": "img_cls_head.transformer.decoder.norm",
        "classifier.weight": "img_cls_head.fc.W",
        "classifier.bias": "img_cls_head.fc.b",
    }
    for i in range(2):
        published = f"img_cls_head.transformer.decoder.layers.{i}."
        names |= {
            f"layers.{i}.cross_attn.": f"{published}multihead_attn.",
            f"layers.{i}.linear": f"{published}linear",
            f"layers.{i}.norm1": f"{published}norm2",  # published ones leave out self-attention's
            f"layers.{i}.norm2": f"{published}norm3",
        }
    table = 0.5 * noise("cls_emb", (1, CLASSES, WIDTH))
    logits = load(head, names)(tokens(noise("pp/x23", (2, WIDTH, 12, 12)), 6), table)
    torch.testing.assert_close(logits, expected["img_pred"], atol=1e-4, rtol=0)
    assert torch.equal(select_top(logits, 50), expected["topk_index"].long())


def test_the_pooling_head(golden: Path) -> None:
    expected, _ = case(golden, "rankseg_gap")
    head = load(
        build_multilabel_head("gap", WIDTH, CLASSES, hidden_dim=WIDTH),
        {"input_proj": "img_cls_head.1.conv", "classifier": "img_cls_head.2"},
    )
    shift = 2 * noise("pp/gap_shift7", (2, WIDTH, 1, 1))
    logits = head(tokens(noise("pp/x23", (2, WIDTH, 12, 12)) + shift))
    torch.testing.assert_close(logits, expected["img_pred"], atol=1e-4, rtol=0)
    assert torch.equal(select_top(logits, 50), expected["topk_index"].long())


def test_the_oracle_of_training_and_evaluation(golden: Path) -> None:
    """Present classes in order of ids, normalised over as many as there are, one batch."""
    expected, _ = case(golden, "gt_oracle")
    logits = oracle_logits(presence([label.long() for label in expected["labels"]], CLASSES))
    ids = select_top(logits, CLASSES)
    kept = confident_ranks(logits, ids, 0.5)
    norm = NormScores(CLASSES, no_object=False, unbiased=True)
    load(norm, {"weight": "mask_norm.gamma", "bias": "mask_norm.beta"})
    pixels = project()(tokens(noise("pp/x23", (2, WIDTH, 12, 12))))
    table = 0.5 * noise("cls_emb", (CLASSES, WIDTH))
    model = segmenter(first_block=0)
    scores = torch.zeros(2, pixels.shape[1], CLASSES)
    for i in range(2):
        present = ids[i, kept[i]]
        assert torch.equal(present, expected[f"present_{i}"].long())
        scores[i, :, : len(present)] = model(pixels[i : i + 1], table[present][None])[0]
    masks = norm(scores, kept)
    for i in range(2):
        mask = masks[i, :, : kept[i].sum()].T.unflatten(-1, (12, 12))
        torch.testing.assert_close(mask, expected[f"masks_{i}"], atol=1e-4, rtol=0)
    labels = scatter_columns(masks, ids, CLASSES).argmax(dim=-1).unflatten(-1, (12, 12))
    assert (labels == expected["eval_argmax"]).float().mean() >= 0.995
    assert gather_columns(scatter_columns(masks, ids, CLASSES), ids).equal(masks)
