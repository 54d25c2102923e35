"""Predictions, training and evaluation on a GPU equal those on the CPU: very small models."""

import copy
import os
import socket

import pytest
import torch
import torch.distributed as dist
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import Instances
from detectron2.utils.events import EventStorage
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_leaves

import catseg_d2  # noqa: F401  (adds its models and its config keys)
import groupvit_mixreorg  # noqa: F401
import mask2former_rankseg  # noqa: F401
import per_pixel  # noqa: F401
from segcore.config import load_config
from segcore.datasets import register_semantic_dataset
from segcore.engine import AutocastTrainer, build_optimizer
from segcore.engine.batch_norm import synchronize_on_cpu
from segcore.engine.step import autocast_dtype
from segcore.evaluation import SemanticEvaluator
from segcore.scenes import SCENES_60, Settings, write_scenes

pytestmark = pytest.mark.gpu

DEVICE = os.environ.get("CATRANK_GPU_TESTS_ON", "cuda")
DEVICES = ("cpu", DEVICE)
CATSEG = "catseg_d2/scenes_60.yaml"
MASK2FORMER = "mask2former_rankseg/scenes_60"
CONFIGS = {
    "CAT-Seg": CATSEG,
    "Mask2Former": f"{MASK2FORMER}_panoptic.yaml",
    "RankSeg": f"{MASK2FORMER}_rankseg.yaml",
    "video": f"{MASK2FORMER}_video_instance.yaml",
    "video, RankSeg": f"{MASK2FORMER}_video_semantic_rankseg.yaml",
    "CAT-Seg, RankSeg": "catseg_d2/scenes_1k_rank_joint.yaml",
    "Segmenter, RankSeg": "per_pixel/scenes_1k_segmenter_rankseg.yaml",
    "DeepLabv3, RankSeg": "per_pixel/scenes_60_deeplabv3_rankseg.yaml",
    "ESSNet": "per_pixel/scenes_1k_essnet.yaml",
    "GroupViT": "groupvit_mixreorg/scenes_60_groupvit.yaml",
    "MixReorg": "groupvit_mixreorg/scenes_60_mixreorg.yaml",
}
DRAWN_ON_THE_DEVICE = {"GroupViT", "MixReorg"}  # their assignment has noise in training
TEST = "MODEL.MASK_FORMER.TEST"
SEMANTIC = (f"{TEST}.SEMANTIC_ON", True, f"{TEST}.PANOPTIC_ON", False, f"{TEST}.INSTANCE_ON", False)
SIDE, CLASSES = 96, 60


def build(config: str, device: str, *options: object) -> tuple:
    """Return a config and its model; the weights do not depend on the device."""
    cfg = load_config(config, ["MODEL.DEVICE", "cpu", *options])
    torch.manual_seed(0)
    weights = build_model(cfg).state_dict()
    cfg.MODEL.DEVICE = device
    model = build_model(cfg)
    model.load_state_dict(weights)
    return cfg, model


def image(seed: int) -> Tensor:
    return torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * 255


def objects() -> Instances:
    """Return three rectangles."""
    masks = torch.zeros(3, SIDE, SIDE, dtype=torch.bool)
    for mask, (top, left) in zip(masks, [(0, 0), (30, 20), (60, 40)], strict=True):
        mask[top : top + 30, left : left + 50] = True
    return Instances((SIDE, SIDE), gt_classes=torch.tensor([3, 17, 41]), gt_masks=masks)


def example(name: str, seed: int = 1) -> dict:
    """Return an input of a model of ``CONFIGS``, with the ground truth for training."""
    if name.startswith("video"):
        return {"image": [image(seed), image(seed + 1)], "instances": [objects(), objects()]}
    if name in DRAWN_ON_THE_DEVICE:
        words = ["red plain circle", "grass"][:seed]
        return {"image": image(seed), "caption": " on ".join(words), "words": words}
    labels = torch.randint(0, CLASSES, (12, 12), generator=torch.Generator().manual_seed(3))
    labels = labels.repeat_interleave(8, 0).repeat_interleave(8, 1)
    return {"image": image(seed), "sem_seg": labels, "instances": objects()}


def batch(name: str) -> list[dict]:
    return [example(name, seed) for seed in (1, 2)]


def scores(name: str, device: str, *options: object) -> Tensor:
    """Return the scores of pixels of a model, on the CPU."""
    tasks = [] if name == "CAT-Seg" else SEMANTIC
    _, model = build(CONFIGS[name], device, "TEST.SEM_SEG_OUTPUT", "scores", *tasks, *options)
    return scores_of(model.eval(), name)


def scores_of(model: torch.nn.Module, name: str) -> Tensor:
    (prediction,) = model([{"image": example(name)["image"], "height": 80, "width": 120}])
    return prediction["sem_seg"].detach().float().cpu()


def assert_alike(one: Tensor, other: Tensor) -> None:
    """Compare with the tolerance of products in TF32, which has ten bits of mantissa."""
    scale = one.abs().max()
    assert one.std() > 1e-3 * scale, "something to compare"
    torch.testing.assert_close(one / scale, other / scale, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("name", CONFIGS)
def test_scores(name: str, monkeypatch) -> None:
    """Without TF32, whose rounding may change which classes RankSeg selects."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    assert_alike(*(scores(name, device) for device in DEVICES))


def test_scores_of_windows_whose_crops_pass_together() -> None:
    options = ["TEST.SLIDING_WINDOW", "True", "TEST.PATCH_INFERENCE.OUTPUT_SIZE", "160"]
    options += ["TEST.PATCH_INFERENCE.TILE", "96"]
    assert_alike(*(scores("CAT-Seg", device, *options) for device in DEVICES))


@pytest.mark.parametrize("name", CONFIGS)
def test_predictions_stay_on_the_device(name: str) -> None:
    """Panoptic maps, tracks and label maps as well; those of videos go to the CPU."""
    _, model = build(CONFIGS[name], DEVICE)
    (prediction,) = model.eval()([{"image": example(name)["image"]}])
    tensors = [leaf for leaf in tree_leaves(prediction) if isinstance(leaf, Tensor)]
    expected = "cpu" if name.startswith("video") else DEVICE
    assert all(tensor.device.type == expected for tensor in tensors)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_training_step_under_autocast(name: str) -> None:
    losses = []
    for device in DEVICES:
        cfg, model = build(CONFIGS[name], device)
        model.train()
        same_points(model)
        before = copy.deepcopy(model.state_dict())
        # The CPU in float32, as the reference.
        dtype = None if not losses else autocast_dtype(torch.device(device))
        batches = [batch(name)]
        step = AutocastTrainer(model, batches, build_optimizer(cfg, model), dtype=dtype)
        with EventStorage() as storage:
            step.run_step()
        losses.append(storage.latest()["total_loss"][0])
        after = model.state_dict()
        assert all(torch.isfinite(value).all() for value in after.values())
        moved = [key for key in before if not torch.equal(before[key], after[key])]
        assert len(moved) > len(before) / 2
    if name not in DRAWN_ON_THE_DEVICE:
        assert losses[1] == pytest.approx(losses[0], rel=0.05)


def same_points(model: torch.nn.Module) -> None:
    """Sample all random numbers on the CPU: the generators of two devices differ."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout) or type(module).__name__ == "DropPath":
            module.p = module.drop_prob = 0.0
    if hasattr(model, "criterion"):
        points = model.criterion.points
        generator = torch.Generator().manual_seed(4)
        points.uniform = lambda number, device: torch.rand(
            number, points.num_points, 2, generator=generator
        ).to(device)
        points.uncertain = lambda logits: points.uniform(len(logits), logits.device)


def test_out_of_memory_halves_the_chunks() -> None:
    """All classes of all crops at once need too much memory; smaller chunks give equal scores."""
    if DEVICE == "cpu":
        pytest.skip("the memory of a GPU can be limited, that of the machine is not")
    windows = ["TEST.SLIDING_WINDOW", "True", "MODEL.SEM_SEG_HEAD.MAX_CLASSES", "0"]
    _, model = build(CATSEG, DEVICE, *windows, "TEST.SEM_SEG_OUTPUT", "labels")
    model.eval().set_vocabulary([f"thing {number}" for number in range(4000)])
    item = {"image": image(1)}
    expected = model([item])[0]["sem_seg_labels"]
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    try:
        model.class_chunk.size = 1 << 20
        torch.cuda.set_per_process_memory_fraction(
            (torch.cuda.memory_reserved() + (3 << 30)) / total
        )
        found = model([item])[0]["sem_seg_labels"]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert model.class_chunk.size < 1 << 20
    assert (found != expected).float().mean() < 1e-2


@pytest.fixture
def one_process():
    """Create a process group of this process alone: NCCL on a GPU."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    backend = "gloo" if DEVICE == "cpu" else "nccl"
    dist.init_process_group(backend, f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_over_the_network_of_one_process(name: str, one_process) -> None:
    _, model = build(CONFIGS[name], DEVICE)
    devices = None if DEVICE == "cpu" else [torch.cuda.current_device()]
    if devices is None:
        synchronize_on_cpu(model)
    wrapped = DistributedDataParallel(model.train(), device_ids=devices)
    sum(wrapped(batch(name)).values()).backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(g is not None and g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("name", ["CAT-Seg", "RankSeg"])
def test_compiled(name: str) -> None:
    _, model = build(CONFIGS[name], DEVICE, "TEST.SEM_SEG_OUTPUT", "scores")
    model.eval()
    part = model.aggregator if name == "CAT-Seg" else model.backbone
    expected = scores_of(model, name)
    part.compile()
    assert_alike(expected, scores_of(model, name))


def test_the_evaluator_has_the_same_results(tmp_path) -> None:
    write_scenes(tmp_path, SCENES_60, Settings(num_train=0, num_test=4, size=32), workers=1)
    folder = tmp_path / "scenes-60" / "test"
    name = "scenes_for_the_gpu"
    register_semantic_dataset(
        name, folder / "images", folder / "labels", "scenes_60", image_suffix=".png"
    )
    try:
        generator = torch.Generator().manual_seed(2)
        records = DatasetCatalog.get(name)
        scores = [torch.rand(60, 32, 32, generator=generator) for _ in records]
        results = []
        for device in DEVICES:
            evaluator = SemanticEvaluator(name, distributed=False)
            evaluator.reset()
            for record, score in zip(records, scores, strict=True):
                evaluator.process([record], [{"sem_seg": score.to(device)}])
            results.append(evaluator.evaluate()["sem_seg"])
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    assert len(records) == 4
    torch.testing.assert_close(*results, atol=0, rtol=0, equal_nan=True)
