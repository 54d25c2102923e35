"""Training: MixReorg switched off, precision, recomputed blocks, learning, two processes."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
import groupvit_models
from groupvit_models import MIXED, build, items

from groupvit_mixreorg.mixing import draw_sources
from groupvit_mixreorg.objective import Weights, training_losses
from segcore.datasets import register_caption_dataset
from segcore.datasets.custom import register_custom_file
from segcore.engine import Trainer
from segcore.engine.seeding import seed_step
from segcore.scenes import SCENES_60, Settings, write_scenes
from segcore.vocabulary import Vocabulary

NAMES = ["loss_contrastive", "loss_multi_label", "loss_restored", "loss_mixed"]


def step(model: torch.nn.Module, batch: list[dict], seed: int = 0) -> dict[str, Tensor]:
    seed_step(seed, 0, 0)
    losses = model.train()(batch)
    sum(losses.values()).backward()
    return losses


def gradient(model: torch.nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def test_losses_and_gradients() -> None:
    model = build(MIXED)
    losses = step(model, items(4))
    assert [*losses] == NAMES
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    assert all(p.grad is not None for p in model.parameters())
    assert all(p.grad.any() for p in model.mixreorg.parameters())


def test_switched_off_it_is_groupvit() -> None:
    """Without MixReorg there are the keys and numbers of a model that never knew of it."""
    plain, off = build(), build(MIXED, MODEL__MIXREORG__FLAG=False)
    assert off.mixreorg is None and off.state_dict().keys() == plain.state_dict().keys()
    ours, expected = (step(model, items(4)) for model in (off, plain))
    assert [*ours] == NAMES[:2] and ours == expected
    assert torch.equal(gradient(off), gradient(plain))


def test_losses_of_the_original_images_are_those_of_groupvit() -> None:
    """In evaluation mode, where nothing is random, MixReorg adds losses and changes none."""
    model, mixreorg = groupvit_models.model().eval(), groupvit_models.mixreorg().eval()
    images = groupvit_models.images(4)
    tokens = torch.randint(1, 400, (4, 3, 8))
    plain = training_losses(model, images, tokens)
    mixed = training_losses(model, images, tokens, mixreorg)
    assert [*mixed] == NAMES and [*plain] == NAMES[:2]
    for name in NAMES[:2]:
        torch.testing.assert_close(mixed[name], plain[name])


def test_weights_and_negatives() -> None:
    model, mixreorg = groupvit_models.model().eval(), groupvit_models.mixreorg().eval()
    images, tokens = groupvit_models.images(4), torch.randint(1, 400, (4, 1, 8))
    sources = draw_sources(2, 2, (4, 4))
    args = (model, images, tokens, mixreorg)
    one = training_losses(*args, Weights(), sources)
    two = training_losses(*args, Weights(2.0, 3.0, "batch"), sources)
    torch.testing.assert_close(two["loss_restored"], 2 * one["loss_restored"])
    assert two["loss_mixed"] > 3 * one["loss_mixed"]  # more texts to choose from


@pytest.mark.parametrize("config", [groupvit_models.CONFIG, MIXED])
def test_recomputed_blocks_change_nothing(config: str) -> None:
    models = [build(config, MODEL__GROUPVIT__ACTIVATION_CHECKPOINTING=on) for on in (False, True)]
    first, second = (step(model, items(4)) for model in models)
    assert first == second
    torch.testing.assert_close(*map(gradient, models), atol=1e-6, rtol=1e-4)


def test_half_precision() -> None:
    model, exact = build(MIXED), step(build(MIXED), items(4))
    with torch.autocast("cpu", torch.bfloat16):
        losses = step(model, items(4))
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(exact[name].item(), rel=0.3), name
    assert gradient(model).isfinite().all()


def test_it_learns_to_match_captions() -> None:
    torch.manual_seed(0)
    model = groupvit_models.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    images, tokens = groupvit_models.images(4), torch.randint(1, 400, (4, 2, 6))
    values = []
    for _ in range(30):
        losses = training_losses(model.train(), images, tokens)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        values.append(losses["loss_contrastive"].item())
    assert values[-1] < 0.5 < values[0]


def test_training_with_captions_and_evaluation_with_labels(
    tmp_path, monkeypatch, forget_datasets
) -> None:
    """The whole run of a config: captions of Scenes, then zero-shot segmentation of its labels."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    write_scenes(tmp_path, SCENES_60, Settings(num_train=4, num_test=2, size=32), workers=1)
    folder = tmp_path / "scenes-60"
    names = {"train": "groupvit_captions", "test": "groupvit_labels"}
    train = folder / "train"
    register_caption_dataset(names["train"], train / "captions.tsv", train / "images")
    labels = {
        "name": "scenes",
        "classes": [{"name": n} for n in Vocabulary.load("scenes_60").names],
    }
    test = {"images": "test/images", "labels": "test/labels"}
    (folder / "own.json").write_text(
        json.dumps(labels | {"ignore_label": 65535, "datasets": {names["test"]: test}})
    )
    register_custom_file(folder / "own.json")
    cfg = groupvit_models.small_config(
        MIXED,
        DATASETS__TRAIN=(names["train"],),
        DATASETS__TEST=(names["test"],),
        DATALOADER__NUM_WORKERS=0,
        INPUT__MIN_SIZE_TRAIN=(32,),
        INPUT__MIN_SIZE_TEST=32,
        SOLVER__IMS_PER_BATCH=4,
        SOLVER__MAX_ITER=2,
        SOLVER__WARMUP_ITERS=0,
        OUTPUT_DIR=str(tmp_path / "out"),
    )
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert 0 <= trainer._last_eval_results["sem_seg"]["mIoU"] <= 100
    metrics = (tmp_path / "out" / "metrics.json").read_text().splitlines()
    assert any("loss_mixed" in line for line in metrics)
    resumed = Trainer(cfg)
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 2


PROGRAM = """
import json, sys
from datetime import timedelta
from pathlib import Path
import torch
from torch import distributed
folder, rank, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
sys.path.insert(0, "tests")
import groupvit_models
from groupvit_mixreorg.objective import Weights, training_losses
from segcore.engine.batch_norm import synchronize_on_cpu
distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size
)
model, mixreorg = groupvit_models.model().eval(), groupvit_models.mixreorg()
for projector in (model.image_projector, model.text_projector):
    synchronize_on_cpu(projector.train())
images, tokens, sources = (x.chunk(size)[rank] for x in torch.load(folder / "batch.pt"))
losses = training_losses(
    model, images, tokens, mixreorg, Weights(negatives="batch"), sources
)
sum(losses.values()).backward()
for module in (model, mixreorg):
    for parameter in module.parameters():
        distributed.all_reduce(parameter.grad)
        parameter.grad /= size
if rank == 0:
    modules = (*model.parameters(), *mixreorg.parameters())
    torch.save([parameter.grad for parameter in modules], folder / "gradients.pt")
print(json.dumps([loss.item() for loss in losses.values()]))
"""


@pytest.mark.slow  # three processes import everything
def test_two_processes_equal_one(run_processes, tmp_path, monkeypatch, repository) -> None:
    """Batch norm, gathered texts and mixed images included."""
    monkeypatch.chdir(repository)
    monkeypatch.setenv("PYTHONPATH", str(repository))
    batch = groupvit_models.images(4), torch.randint(1, 400, (4, 3, 8)), draw_sources(2, 2, (4, 4))
    torch.save(batch, tmp_path / "batch.pt")
    two = run_processes(PROGRAM, tmp_path, 2)
    model, mixreorg = groupvit_models.model().eval(), groupvit_models.mixreorg()
    model.image_projector.train(), model.text_projector.train()
    images, tokens, sources = batch
    losses = training_losses(model, images, tokens, mixreorg, Weights(negatives="batch"), sources)
    sum(losses.values()).backward()
    for loss, one, other in zip(losses.values(), *two, strict=True):
        assert (one + other) / 2 == pytest.approx(loss.item(), rel=1e-4)
    parameters = (*model.parameters(), *mixreorg.parameters())
    expected = [parameter.grad for parameter in parameters]
    largest = max(each.abs().max().item() for each in expected)
    found = torch.load(tmp_path / "gradients.pt")
    torch.testing.assert_close(found, expected, atol=1e-4 * largest, rtol=1e-2)
    assert two[0] != two[1]
