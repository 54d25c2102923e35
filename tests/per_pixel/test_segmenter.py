"""Segmenter's head: images of a batch are independent, dropped classes take no part."""

import pytest
import torch
from torch import Tensor

from per_pixel.criterion import Criterion
from per_pixel.encnet import ContextEncoding, EncNetSegmenterHead
from per_pixel.heads import PixelScores
from per_pixel.ranking import PixelRanking
from per_pixel.segmenter import MaskTransformer, SegmenterHead
from per_pixel.segmenter_essnet import EssnetSegmenterHead
from segcore.errors import UserError
from segcore.rankseg.heads import build_multilabel_head
from segcore.rankseg.scores import DROPPED, NormScores
from segcore.rankseg.selection import presence

WIDTH, CLASSES, KAPPA = 16, 11, 5
VARIANTS = ("plain", "encoder", "no pooling", "decoder", "gap", "encnet", "essnet")


def transformer(**options) -> MaskTransformer:
    return MaskTransformer(WIDTH, num_layers=2, num_heads=2, **options)


def ranked_head(kind: str = "encoder", *, pool: int = 2, **options) -> SegmenterHead:
    """A head with RankSeg; ``kind`` "oracle" selects by the ground truth."""
    torch.manual_seed(0)
    own_classes = options.pop("own_classes", True)
    encoder = kind == "encoder"
    head = None
    if kind != "oracle":
        head = build_multilabel_head(
            kind,
            WIDTH,
            CLASSES,
            hidden_dim=WIDTH,
            shared_width=None if kind == "gap" else WIDTH,
            num_heads=2,
            feedforward_dim=32,
            grid=(pool, pool),
            projection="none" if encoder else "linear",
        )
    kappa = CLASSES if kind == "oracle" else options.pop("kappa", KAPPA)
    ranking = PixelRanking(
        head,
        NormScores(kappa, no_object=False, unbiased=kind == "oracle"),
        kappa=kappa,
        test_kappa=options.pop("test_kappa", kappa),
        pool=pool,
        share_classes=kind != "gap",
        class_rows="refined" if encoder else "original",
        **options,
    )
    return randomised(
        SegmenterHead(
            WIDTH,
            CLASSES,
            transformer(),
            Criterion(multilabel_weight=float(kind != "oracle")),
            ranking=ranking,
            rank_projected=encoder,
            own_classes=own_classes,
        )
    )


def build(variant: str) -> SegmenterHead:
    torch.manual_seed(0)
    args = (WIDTH, CLASSES, transformer(), Criterion())
    match variant:
        case "plain":
            return randomised(SegmenterHead(*args))
        case "encnet":
            context = ContextEncoding(WIDTH, WIDTH, 4, CLASSES)
            return randomised(EncNetSegmenterHead(context, *args))
        case "essnet":
            return randomised(EssnetSegmenterHead(*args, neighbours=3))
        case "no pooling":
            return ranked_head("encoder", pool=0)
    return ranked_head(variant)


def randomised(head: SegmenterHead) -> SegmenterHead:
    """Scale class embeddings and norms, which are nearly equal at first."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return head.eval()


def maps(batch: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"tokens": 3 * torch.randn(batch, WIDTH, 4, 6)}


def labels(batch: int = 3) -> Tensor:
    torch.manual_seed(2)
    found = torch.randint(CLASSES, (batch, 8, 12))
    found[:, :2] = 255
    return found


def close(found, expected) -> None:
    """Scores are differences of cosines that float32 rounds, times up to ten."""
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def only(features: dict[str, Tensor], i: int) -> dict[str, Tensor]:
    return {name: value[i : i + 1] for name, value in features.items()}


def row(found: PixelScores, i: int) -> PixelScores:
    return PixelScores(*(None if value is None else value[i : i + 1] for value in found))


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_equals_its_images(variant: str) -> None:
    head, features = build(variant), maps()
    together = head(features)
    selections = []
    for i in range(3):
        alone = head(only(features, i))
        close(tuple(alone), tuple(row(together, i)))
        selections.append(alone.classes)
    if together.classes is not None:
        assert len({str(classes) for classes in selections}) > 1


@pytest.mark.parametrize("variant", [*VARIANTS, "oracle"])
def test_losses_have_gradients(variant: str) -> None:
    head, targets = build(variant).train(), labels()
    present = presence(list(targets), CLASSES)
    losses, found = head.losses(maps(), targets, present)
    multilabel = {"encnet": {"loss_context"}, "plain": set(), "essnet": set(), "oracle": set()}
    assert losses.keys() == {"loss_ce"} | multilabel.get(variant, {"loss_ml"})
    sum(losses.values()).backward()
    assert found.scores.shape[-2:] == (4, 6)
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@torch.no_grad()
@pytest.mark.parametrize("pool", [0, 2])
def test_dynamic_kappa_equals_the_kept_classes_alone(pool: int) -> None:
    full, features = ranked_head(pool=pool), maps()
    logits = full(features).category_logits
    seconds = logits.sigmoid().topk(2, dim=1).values[:, 1].sort().values
    threshold = seconds[-2:].mean().item()  # one image keeps two classes at least, the others one
    dynamic = ranked_head(pool=pool, confidence=threshold)
    found = dynamic(features)
    numbers = (logits.sigmoid() > threshold).sum(dim=1).clamp(1, KAPPA).tolist()
    assert len(set(numbers)) > 1 and found.scores.shape[1] == max(numbers)
    for i, number in enumerate(numbers):
        alone = ranked_head(pool=pool, test_kappa=number)(only(features, i))
        close(found.scores[i, :number], alone.scores[0])
        assert torch.equal(found.classes[i, :number], alone.classes[0])
        assert (found.scores[i, number:] == DROPPED).all()


@torch.no_grad()
def test_kappa_of_evaluation_beyond_that_of_training() -> None:
    """Further ranks repeat the scale and bias of the last one."""
    features = maps()
    more = ranked_head(test_kappa=8)
    found = more(features)
    assert found.scores.shape[1] == found.classes.shape[1] == 8
    same = ranked_head(kappa=8)
    same.load_state_dict({**more.state_dict(), **norm_of_eight(more)})
    close(tuple(same(features)), tuple(found))
    assert more.train()(features).scores.shape[1] == KAPPA


def norm_of_eight(head: SegmenterHead) -> dict[str, Tensor]:
    scores = head.ranking.scores
    last = {"weight": scores.weight, "bias": scores.bias}
    return {
        f"ranking.scores.{name}": torch.cat([value, value[-1:].expand(3)])
        for name, value in last.items()
    }


@torch.no_grad()
def test_all_classes_may_be_selected() -> None:
    found = ranked_head(kappa=CLASSES)(maps())
    assert (found.classes.sort(dim=1).values == torch.arange(CLASSES)).all()


def test_more_classes_than_there_are() -> None:
    with pytest.raises(UserError, match="select 12 of 11 classes"):
        ranked_head(kappa=12)(maps())


@torch.no_grad()
def test_the_oracle_selects_the_present_classes_alone() -> None:
    head, features = build("oracle"), maps()
    present = torch.zeros(3, CLASSES, dtype=torch.bool)
    present[0, [1, 4, 9]] = True
    present[1, 7] = True
    found = head(features, present)
    assert found.classes[0].tolist() == [1, 4, 9]
    assert found.classes[1, 0] == 7 and found.classes[2, 0] == 0  # without labels the first class
    assert (found.scores[1:, 1:] == DROPPED).all()
    for i in range(3):
        alone = head(only(features, i), present[i : i + 1]).scores
        close(found.scores[i, : alone.shape[1]], alone[0])


@torch.no_grad()
def test_class_tokens_of_the_backbone() -> None:
    """Each image has its own; the same for all are those of a head."""
    own, features = ranked_head(), maps()
    backbone = ranked_head(own_classes=False)
    state = own.state_dict()
    tokens = state.pop("class_embeddings")
    backbone.load_state_dict(state)
    features["classes"] = tokens.expand(3, -1, -1)
    close(tuple(backbone(features)), tuple(own(features)))
    features["classes"] = torch.randn(3, CLASSES, WIDTH)
    together = backbone(features)
    for i in range(3):
        close(tuple(backbone(only(features, i))), tuple(row(together, i)))


@torch.no_grad()
def test_essnet_keeps_the_nearest_classes_of_a_pixel() -> None:
    head, features = build("essnet"), maps()
    scores, everything = head(features).scores, SegmenterHead.forward(head, features).scores
    kept = scores > DROPPED
    assert (kept.sum(dim=1) == 3).all()
    assert torch.equal(scores[kept], everything[kept])
    assert torch.equal(scores.argmax(dim=1), everything.argmax(dim=1))


def test_essnet_compares_with_other_classes_in_the_strict_form() -> None:
    """All others together are the cross-entropy over all classes."""
    head, targets, features = build("essnet"), labels(), maps()
    head.own_class, head.neighbours = "strict", CLASSES - 1
    present = presence(list(targets), CLASSES)
    strict = head.losses(features, targets, present)[0]["loss_ce"]
    plain = SegmenterHead.losses(head, features, targets, present)
    scores = SegmenterHead.forward(head, features)
    close(strict, head.criterion(scores, targets, present)["loss_ce"])
    assert plain[0].keys() == {"loss_ce"}


@pytest.mark.parametrize("pixels", ["all", "valid"])
def test_essnet_divides_by_pixels_as_the_other_losses(pixels: str) -> None:
    head, targets = build("essnet"), labels()
    present = presence(list(targets), CLASSES)
    by_all = head.losses(maps(), targets, present)[0]["loss_ce"]
    head.criterion = Criterion(pixels=pixels)
    ratio = head.losses(maps(), targets, present)[0]["loss_ce"] / by_all
    assert ratio.item() == pytest.approx(1.0 if pixels == "all" else 8 / 6)


def test_essnet_without_a_labelled_pixel() -> None:
    head, nothing = build("essnet"), torch.full((2, 8, 12), 255)
    losses, _ = head.losses(maps(2), nothing, presence(list(nothing), CLASSES))
    losses["loss_ce"].backward()
    assert losses["loss_ce"] == 0 and head.input_proj.weight.grad.abs().max() == 0


def test_essnet_with_too_many_neighbours() -> None:
    with pytest.raises(UserError, match=r"ESSNET\.NEIGHBOURS is 11, but 11 classes leave 10"):
        EssnetSegmenterHead(WIDTH, CLASSES, transformer(), Criterion(), neighbours=CLASSES)


@torch.no_grad()
def test_encnet_is_the_formula_of_the_paper() -> None:
    encoding = build("encnet").context.encoding
    x = torch.randn(2, 7, WIDTH)
    residuals = x[:, :, None] - encoding.codewords
    weights = (encoding.smoothing * residuals.square().sum(dim=-1)).softmax(dim=-1)
    close(encoding(x), (weights[..., None] * residuals).sum(dim=1))
