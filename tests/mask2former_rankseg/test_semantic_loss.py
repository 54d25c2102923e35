"""The loss of semantic logits that a backbone returns, as SeMask does: alone and in the model."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.structures import Instances

from mask2former_rankseg.semantic_loss import IGNORED, label_maps, semantic_loss
from segcore.backbones.auxiliary import SEMANTIC_LOGITS

SEMASK = {
    "MODEL.BACKBONE.NAME": "D2SeMaskSwinTransformer",
    "MODEL.SWIN.SEM_WINDOW_SIZE": 3,
    "MODEL.MASK_FORMER.CATE_WEIGHT": 0.25,
}


def objects(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the classes of a label map and their masks; 255 is no class."""
    classes = labels.unique()
    classes = classes[classes != 255]
    return classes, labels == classes[:, None, None]


def test_label_maps_of_images_and_clips() -> None:
    masks = torch.tensor([[[1, 1, 0, 0]], [[0, 1, 1, 0]]]).bool()
    labels = torch.tensor([4, 7])
    expected = torch.tensor([[[4, 7, 7, IGNORED]]])
    assert torch.equal(label_maps(labels, masks), expected)
    clip = torch.stack([masks, masks.flip(-1)], dim=1)
    found = label_maps(labels, clip)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], torch.tensor([[IGNORED, 7, 7, 4]]))
    assert (label_maps(labels[:0], masks[:0]) == IGNORED).all()


def test_it_is_the_cross_entropy_of_the_labelled_pixels() -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 5, (2, 6, 7))
    labels[0, :2] = 255
    logits = torch.randn(2, 5, 6, 7, requires_grad=True)
    classes, masks = zip(*map(objects, labels), strict=True)
    loss = semantic_loss(logits, classes, masks)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels, ignore_index=255))
    empty = semantic_loss(logits, [classes[0][:0]] * 2, [masks[0][:0]] * 2)
    empty.backward()
    assert empty == 0 and not logits.grad.any()


def batch() -> list[dict]:
    torch.manual_seed(0)
    items = []
    for height, width in ((64, 96), (48, 80)):
        labels = torch.randint(0, 12, (height // 16, width // 16)).repeat_interleave(16, 0)
        classes, masks = objects(labels.repeat_interleave(16, 1))
        instances = Instances((height, width), gt_classes=classes, gt_masks=masks)
        items.append({"image": torch.rand(3, height, width) * 255, "instances": instances})
    return items


@pytest.mark.parametrize("ranked", [False, True])
def test_the_model_trains_with_it(tiny, ranked: bool) -> None:
    """And predicts without it."""
    rankseg = {"MODEL.RANKSEG.FLAG": ranked, "MODEL.RANKSEG.TOPK": 5}
    model, items = tiny(SEMASK | rankseg), batch()
    model.train()
    torch.manual_seed(0)
    losses = model(items)
    images = model.to_batch(items).tensor
    torch.manual_seed(0)
    logits = model.backbone(images)[SEMANTIC_LOGITS]
    assert logits.shape == (2, 12, *images.shape[-2:])
    labels, masks = model.targets(items, images.shape[-2:])
    torch.testing.assert_close(losses["loss_cate"], 0.25 * semantic_loss(logits, labels, masks))
    assert ("loss_ml" in losses) == ranked
    losses["loss_cate"].backward()
    assert model.backbone.layers[3].semantic_layer.query.weight.grad.any()
    model.eval()
    assert SEMANTIC_LOGITS not in model.backbone(images)
    assert model(items)[0]["sem_seg"].shape == (12, 64, 96)


def test_other_backbones_have_none(tiny) -> None:
    assert "loss_cate" not in tiny().train()(batch())
