"""The models of :mod:`catrank.starting_configs`: which configs they start from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Start:
    """The config of a model for a task.

    Attributes:
        base: the name of a config that comes with CatRank.
        tiny: likewise, of a very small model that trains from scratch.
        batch: images in a step, for one GPU.
        published_batch: that of ``learning_rate``.
        learning_rate: the published one; None: it does not depend on the batch.
        weights: what to say of ``MODEL.WEIGHTS``: lines of YAML.
    """

    base: str
    tiny: str
    batch: int
    published_batch: int = 0
    learning_rate: float | None = None
    weights: str = ""


IMAGENET = "  # The backbone starts from ImageNet, as MODEL.WEIGHTS of the base says.\n"
M2F = "mask2former_rankseg/"
STARTS = {
    ("catseg", "semantic"): Start(
        "catseg_d2/vitb_384.yaml",
        "catseg_d2/scenes_60.yaml",
        4,
        weights="  # The published model: its scores before any training are the ones to improve.\n"
        "  WEIGHTS: catseg-vitb\n",
    ),
    ("mask2former", "semantic"): Start(
        f"{M2F}ade20k/semantic-segmentation/maskformer2_R50_bs16_160k.yaml",
        f"{M2F}scenes_60_rankseg.yaml",
        8, 16, 0.0001, IMAGENET,
    ),
    ("mask2former", "panoptic"): Start(
        f"{M2F}coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml",
        f"{M2F}scenes_60_panoptic_rankseg.yaml",
        8, 16, 0.0001, IMAGENET,
    ),
    ("mask2former", "instance"): Start(
        f"{M2F}coco/instance-segmentation/maskformer2_R50_bs16_50ep.yaml",
        f"{M2F}scenes_60_instance.yaml",
        8, 16, 0.0001, IMAGENET,
    ),
    ("mask2former", "video-semantic"): Start(
        f"{M2F}vspw/video_maskformer2_R50_bs16_8ep.yaml",
        f"{M2F}scenes_60_video_semantic_rankseg.yaml",
        4, 16, 0.0001, IMAGENET,
    ),
    ("mask2former", "video-instance"): Start(
        f"{M2F}youtubevis_2019/video_maskformer2_R50_bs16_8ep.yaml",
        f"{M2F}scenes_60_video_instance.yaml",
        4, 16, 0.0001, IMAGENET,
    ),
    ("segmenter", "semantic"): Start(
        "per_pixel/ade20k/segmenter_vit-b16_512x512_160k-rankseg.yaml",
        "per_pixel/scenes_60_segmenter.yaml",
        4, 8, 0.001,
        "  # From scratch a ViT needs far more images than most have. Set WEIGHTS to the file of\n"
        "  # timm's vit_base_patch16_384 (AugReg), or to a Segmenter's.\n",
    ),
    ("deeplabv3", "semantic"): Start(
        "per_pixel/ade20k/deeplabv3_r101-d8_512x512_80k-rankseg.yaml",
        "per_pixel/scenes_60_deeplabv3_rankseg.yaml",
        8, 16, 0.01,
        "  # From scratch it needs far more images than most have. Set WEIGHTS to the file of\n"
        "  # mmsegmentation's resnet101_v1c.\n",
    ),
}  # fmt: skip


def mask2former_part(name: str) -> str:
    """Return the name of a config that is put over others of Mask2Former."""
    return f"{M2F}parts/{name}.yaml"


def ranks(model: str, task: str, tiny: bool) -> bool:
    """Return whether the configs of a model have RankSeg."""
    plain = (("mask2former", "video-instance"), ("segmenter", "semantic")) if tiny else ()
    return model != "catseg" and task != "instance" and (model, task) not in plain
