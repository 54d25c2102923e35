"""DeepLabv3, UPerNet and RankSeg on them, compared with outputs of the published code."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
import deterministic
import host_configs
import host_models
from detectron2.modeling import build_model

from per_pixel import PerPixelSegmenter
from per_pixel.aspp import ASPP
from per_pixel.checkpoint import PublishedNames, convert_published
from per_pixel.classifier import PixelHead, RankedClassifier
from per_pixel.criterion import Criterion
from per_pixel.losses import accuracy, resize
from per_pixel.names.decoders import PAIRS
from per_pixel.ranking import PixelRanking
from segcore.checkpoint.renaming import Renaming
from segcore.rankseg.heads import build_multilabel_head
from segcore.rankseg.scores import build_rank_scores, scatter_columns
from segcore.rankseg.selection import presence

NAMES = Renaming(PAIRS)
REPOSITORY = Path(__file__).parents[2]
GOLDEN = Path(os.environ.get("CATRANK_GOLDEN", REPOSITORY / ".." / "shared" / "golden"))


def load(module: nn.Module, keys: Mapping[str, list[int]]) -> None:
    """Load the published weights of a head; their names and ours match one to one."""
    own = module.state_dict()
    assert {NAMES.to_published(name) for name in own} == set(keys)
    weights = host_models.published_weights(keys)
    renamed = {NAMES.to_ours(name): value for name, value in weights.items()}
    shaped = {name: value.view_as(own[name]) for name, value in renamed.items()}
    assert module.load_state_dict(shaped, strict=False).unexpected_keys == []


def close(found: Tensor, expected: np.ndarray, atol: float, rtol: float = 0.0) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected).to(found), atol=atol, rtol=rtol)


def ranked_classifier(
    channels: int, width: int, num_classes: int, kappa: int, *, pool: int = 0, **head: object
) -> RankedClassifier:
    """Build RankSeg's classifier with the class table as tokens of the multi-label head."""
    options = {"hidden_dim": channels, "shared_width": channels, "projection": "separable"}
    ranking = PixelRanking(
        build_multilabel_head("encoder", width, num_classes, **options, **head),
        build_rank_scores("norm", kappa, no_object=False),
        kappa=kappa,
        test_kappa=kappa,
        pool=pool,
        share_classes=True,
    )
    return RankedClassifier(channels, num_classes, ranking)


def deeplab_head(config: Mapping) -> PixelHead:
    width, channels = config["in_channels"], config["channels"]
    gamma_neg, gamma_pos, *_ = config["asymmetric"]
    return PixelHead(
        ASPP(width, channels, dilations=config["dilations"]),
        ranked_classifier(
            channels,
            width,
            config["num_classes"],
            config["topk_cls"],
            pool=config["downsample"],
            num_heads=config["n_heads"],
            feedforward_dim=config["d_ff"],
        ),
        Criterion(multilabel_weight=config["img_loss_weight"], gammas=(gamma_neg, gamma_pos)),
        in_features=["res5"],
        dropout=0.0,
    )


HOSTS = host_models.cases_of(
    "hosts/cases.json",
    lambda _, case: (
        case.get("model", {}).get("decode_head", {}).get("type") in host_configs.DECODERS
    ),
    ("deeplabv3_r101d8", "upernet_swin", "upernet_beit"),
)
DEEPLABV3 = host_models.cases_of(
    "per_pixel/cases.json",
    lambda name, _: name.startswith("deeplabv3_head_rankseg"),
    ("deeplabv3_head_rankseg",),
)
DECODER_HOSTS = host_models.cases_of(
    "hosts/rankseg_spec_cases.json",
    lambda name, _: name.startswith("decoder_host"),
    ("decoder_host",),
)


class Host:
    """A case of a whole model with its published weights."""

    def __init__(self, golden: Path, name: str) -> None:
        self.about = json.loads((golden / "hosts" / "cases.json").read_text())[name]
        with np.load(golden / "hosts" / f"{name}.npz") as arrays:
            self.arrays = dict(arrays)
        self.model: PerPixelSegmenter = build_model(host_configs.model_config(self.about))
        weights = host_models.published_weights(self.about["keys"])
        assert self.model.load_state_dict(weights) == ([], [])
        self.images = host_models.images(self.about)

    def labels(self) -> Tensor:
        """Return the label maps of the reference's training part, (B, H, W)."""
        number, _, height, width = self.images.shape
        b = torch.arange(number)[:, None, None]
        y, x = torch.arange(height)[:, None], torch.arange(width)
        labels = (7 * (y // 8) + 13 * (x // 8) + 31 * b) % self.model.num_classes
        return labels.masked_fill((y // 16 + x // 24 + b) % 7 == 0, 255)


@pytest.mark.parametrize("name", HOSTS)
@torch.no_grad()
def test_hosts_predict_as_the_reference(golden: Path, name: str) -> None:
    host = Host(golden, name)
    model, arrays = host.model.eval(), host.arrays
    features = model.backbone(host.images)
    scores = model.decode_head(features).scores
    found = {"logits": scores}
    if "aux_logits" in arrays:
        found["aux_logits"] = model.auxiliary_head(features).scores[:, ::2, ::2, ::2]
    for key, maps in found.items():
        close(maps, arrays[key], 2e-5 * max(1.0, float(arrays[key].std())))
    maps = resize(scores, host.images.shape[-2:], model.align_corners)
    labels = maps.argmax(dim=1)[:, ::2, ::2]
    assert (labels == torch.from_numpy(arrays["argmax"])).float().mean() >= 0.995


@pytest.mark.parametrize("name", HOSTS)
def test_hosts_train_as_the_reference(golden: Path, name: str) -> None:
    """Losses, accuracy, running statistics and gradients of a batch in training."""
    host = Host(golden, name)
    model, arrays, labels = host.model.train(), host.arrays, host.labels()
    present = presence(list(labels), model.num_classes)
    features = model.backbone(host.images)
    losses, found = model.decode_head.losses(features, labels, present)
    loss = losses["loss_ce"]
    close(loss, arrays["loss_decode"], 0, 1e-5)
    if "loss_aux_weighted" in arrays:
        auxiliary, _ = model.auxiliary_head.losses(features, labels, present)
        weighted = model.auxiliary_weight * auxiliary["loss_ce"]
        close(weighted, arrays["loss_aux_weighted"], 0, 1e-5)
        loss = loss + weighted
    correct = accuracy(found.scores, labels, None, model.num_classes, model.align_corners)
    close(100 * correct, arrays["acc"][0], 1e-3)
    if "running_mean_after" in arrays:
        last = [m for m in model.backbone.modules() if isinstance(m, nn.BatchNorm2d)][-1]
        close(last.running_mean, arrays["running_mean_after"], 2e-5)
    loss.backward()
    compare_gradients(model, host.about)


def compare_gradients(model: PerPixelSegmenter, about: Mapping) -> None:
    """Compare norms of gradients, and their products with noise of the published shapes."""
    names, parameters = PublishedNames(model), dict(model.named_parameters())
    keys = about["keys"].items()
    probes = {name: deterministic.noise(f"probe/{name}", shape) for name, shape in keys}
    probes = convert_published(model, probes)
    for published, (norm, probe) in about["grad_norm_and_probe"].items():
        name = names.to_ours(published)
        gradient = parameters[name].grad
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-3), published
        found = (gradient * probes[name]).sum().item()
        assert found == pytest.approx(probe, rel=1e-3, abs=1e-3 * norm), published


@pytest.mark.parametrize("name", DEEPLABV3)
def test_rankseg_on_deeplabv3(golden: Path, name: str) -> None:
    """A batch of two images, each with its own selection; the published head takes one."""
    case = json.loads((golden / "per_pixel" / "cases.json").read_text())[name]
    reference = np.load(golden / "per_pixel" / f"{name}.npz")
    head, features = deeplab_head(case["config"]), host_models.noise_of(case["input"])
    load(head, case["keys"])
    for module in head.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    labels = torch.from_numpy(reference["labels"]).long()[:, 0]
    present = presence(list(labels), head.num_classes)
    losses, found = head.losses({"res5": features}, labels, present)
    close(found.category_logits, reference["train_img_pred"], 1e-4)
    assert torch.equal(found.classes, torch.from_numpy(reference["train_topk_index"]).long())
    close(found.scores, reference["train_logits"], 1e-4)
    close(losses["loss_ml"], reference["loss_img"], 0, 1e-4)
    close(losses["loss_ce"], reference["loss_seg"], 0, 1e-4)
    sum(losses.values()).backward()
    parameters = dict(head.named_parameters())
    names = ("cls_emb", "cls_bias_emb", "norm.weight", "bottleneck.conv.weight")
    norms = torch.stack([parameters[NAMES.to_ours(name)].grad.norm() for name in names])
    close(norms, reference["grad_norms"], 1e-6, 1e-3)

    load(head, case["keys"])
    head.eval()
    with torch.no_grad():
        found = head({"res5": features})
    scores = scatter_columns(found.scores.movedim(1, -1), found.classes, head.num_classes)
    close(scores.movedim(-1, 1), reference["eval_full_logits"], 1e-4)


@pytest.mark.parametrize("name", DECODER_HOSTS)
@pytest.mark.parametrize("project_tokens", [False, True])
@torch.no_grad()
def test_rankseg_on_a_decoder(golden: Path, name: str, project_tokens: bool) -> None:
    """With the class table as tokens, and with its projection."""
    case = json.loads((golden / "hosts" / "rankseg_spec_cases.json").read_text())[name]
    reference = np.load(golden / "hosts" / "rankseg_spec_cases.npz")
    classifier = ranked_classifier(
        case["hidden"],
        case["encoder_width"],
        case["K"],
        case["kappa"],
        num_heads=case["heads"],
        feedforward_dim=case["ffn"],
        project_tokens=project_tokens,
    )
    head = PixelHead(nn.Identity(), classifier, Criterion(), in_features=["res5"]).eval()
    keys = case["keys"]
    if not project_tokens:
        keys = {name: shape for name, shape in keys.items() if ".proj_cls_emb." not in name}
    load(head, keys)
    features, pixels = map(host_models.noise_of, case["inputs"].values())
    found = classifier(pixels, features, None)
    suffix = int(project_tokens)
    close(found.category_logits, reference[f"{name}_img_pred_{suffix}"], 2e-5)
    expected = torch.from_numpy(reference[f"{name}_index_{suffix}"]).long()
    assert torch.equal(found.classes, expected)
    close(found.scores, reference[f"{name}_ranked_{suffix}"], 2e-5)
    labels = found.classes.gather(1, found.scores.argmax(dim=1).flatten(1)).view(
        len(pixels), *pixels.shape[-2:]
    )
    expected = torch.from_numpy(reference[f"{name}_argmax_{suffix}"])
    assert (labels == expected).float().mean() >= 0.995
