"""The meta-architecture ``Query2Label``: images in, the classes that are in them out.

Its scores select the classes of a segmenter in RankSeg's independent scheme.

Source: Liu et al., "Query2Label: A Simple Transformer Way to Multi-Label Classification", 2021; He
et al., "RankSeg", ECCV 2022, section 4.

Shapes: B images, K classes.
"""

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from torch import Tensor, nn

from segcore.checkpoint.vocabulary import carry_vocabulary
from segcore.checkpoint.weights import guard
from segcore.config.numerics import precision_from_config, refuse_compile
from segcore.config.rankseg import start_head
from segcore.datasets.model_classes import HasClasses, ModelClasses, classes_from_config
from segcore.errors import UserError, printable
from segcore.inference.precision import FLOAT32, Precision, in_precision
from segcore.rankseg.losses import asymmetric_loss
from segcore.rankseg.selection import presence

from .checkpoint import rename_query2label
from .query2label import Query2LabelHead


@META_ARCH_REGISTRY.register()
class Query2Label(HasClasses, nn.Module):
    """A backbone and a head that classifies which classes are in an image.

    Attributes:
        segments: False; applications that segment images refuse the model.
    """

    segments = False

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        head: nn.Module,
        num_classes: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        feature: str = "res5",
        gammas: Sequence[float] = (2.0, 0.0),
        clip: float = 0.0,
        focus_gradient: bool = False,
        loss_weight: float = 1000.0,
        precision: Precision = FLOAT32,
        classes: ModelClasses | None = None,
    ) -> None:
        """
        Args:
            backbone: images -> feature maps by name.
            head: a map (B, D, h, w) -> logits (B, K).
            num_classes: K.
            pixel_mean, pixel_std: per channel, 0..255.
            feature: name of the map.
            gammas, clip, focus_gradient: of :func:`segcore.rankseg.losses.asymmetric_loss`.
            loss_weight: factor on its mean.
            precision: of the network, for predictions.
            classes: their names.
        """
        super().__init__()
        self.backbone, self.head = backbone, head
        self.num_classes, self.feature = num_classes, feature
        self.gammas, self.clip, self.focus_gradient = tuple(gammas), clip, focus_gradient
        self.loss_weight, self.precision = loss_weight, precision
        self.classes = classes or ModelClasses()
        # Logits and ground truth of the last training batch, for logging.
        self.category_predictions: tuple[Tensor, Tensor] | None = None
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        guard(self)
        carry_vocabulary(self)
        self.register_load_state_dict_pre_hook(rename_query2label)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Translate a config into the arguments of the constructor."""
        refuse_compile(cfg)
        node, num_classes = cfg.MODEL.QUERY2LABEL, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        if node.IN_FEATURE not in shapes:
            raise UserError(
                f"MODEL.QUERY2LABEL.IN_FEATURE is {node.IN_FEATURE!r}, but the maps of the "
                f"backbone are {', '.join(shapes)}."
            )
        width = shapes[node.IN_FEATURE].channels
        _check_width(node, node.HIDDEN_DIM or width)
        head = Query2LabelHead(
            width,
            num_classes,
            hidden_dim=node.HIDDEN_DIM or None,
            num_heads=node.NUM_HEADS,
            feedforward_dim=node.FEEDFORWARD_DIM,
            dropout=node.DROPOUT,
            encoder_layers=node.ENCODER_LAYERS,
            decoder_layers=node.DECODER_LAYERS,
        )
        start_head(cfg, head.decoder)
        return {
            "backbone": backbone,
            "head": head,
            "num_classes": num_classes,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "feature": node.IN_FEATURE,
            "gammas": node.GAMMAS,
            "clip": node.CLIP,
            "focus_gradient": node.FOCUS_GRADIENT,
            "loss_weight": node.LOSS_WEIGHT,
            "precision": precision_from_config(cfg),
            "classes": classes_from_config(cfg),
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Classify images, or in training return the loss.

        Args:
            batched_inputs: one dict an image: "image" (3, H, W), 0..255; in training all of one
                size, with "category_ids" (n,) int64, the classes that are present.
        Returns:
            training: {"loss_ml"}. inference: one dict an image, with "category_logits" (K,) and
            "category_scores" (K,), the probabilities that a class is in the image.
        """
        images = [
            (item["image"].to(self.device) - self.pixel_mean) / self.pixel_std
            for item in batched_inputs
        ]
        if self.training:
            return self._losses(self._logits(images), batched_inputs)
        # Images of one size pass through the network together; others are not padded.
        same = len({image.shape for image in images}) == 1
        logits = self._logits(images) if same else torch.cat([self._logits([i]) for i in images])
        return [
            {"category_logits": row, "category_scores": row.sigmoid()} for row in logits.float()
        ]

    @in_precision
    def _logits(self, images: list[Tensor]) -> Tensor:
        """Return (B, K) of images of one size."""
        return self.head(self.backbone(torch.stack(images))[self.feature])

    def _losses(self, logits: Tensor, batched_inputs: list[dict]) -> dict[str, Tensor]:
        for item in batched_inputs:
            if "category_ids" not in item:
                name = printable(item.get("file_name", "a training image"))
                raise UserError(
                    f"{name} has no classes: set INPUT.DATASET_MAPPER_NAME to image_classes"
                )
        ids = [item["category_ids"].to(self.device) for item in batched_inputs]
        present = presence(ids, self.num_classes)
        self.category_predictions = logits.detach(), present
        negative, positive = self.gammas
        loss = asymmetric_loss(
            logits,
            present,
            gamma_neg=negative,
            gamma_pos=positive,
            clip=self.clip,
            focus_gradient=self.focus_gradient,
        )
        return {"loss_ml": self.loss_weight * loss}


def _check_width(node: CfgNode, width: int) -> None:
    """Raise UserError unless the head can have this width."""
    if node.NUM_HEADS < 1 or width % node.NUM_HEADS or width % 4:
        raise UserError(
            f"Query2Label's head has width {width}, which has to be a multiple of 4 and of "
            f"MODEL.QUERY2LABEL.NUM_HEADS, {node.NUM_HEADS}: set that, or HIDDEN_DIM for a "
            "projection to another width"
        )
