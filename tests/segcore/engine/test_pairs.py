"""Training on tar shards: order, processes, resuming in the middle of a shard, broken images."""

import io
import logging
import tarfile
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from PIL import Image
from torch import nn

import catseg_d2  # noqa: F401
from segcore.config import load_config
from segcore.datasets import register_custom_datasets
from segcore.engine import Trainer
from segcore.engine.pairs import PairBatches, SkippedPairs, pair_order
from segcore.errors import UserError

pytestmark = pytest.mark.usefixtures("forget_datasets")

LENGTHS = (7, 0, 5, 12, 3)
TOTAL = sum(LENGTHS)


# ---- order -----------------------------------------------------------------------------------


@pytest.mark.parametrize("buffer", [0, 2, 6, 1000])
def test_every_epoch_has_every_pair_once_in_another_order(buffer: int) -> None:
    pairs = list(islice(pair_order(LENGTHS, 3, 0, buffer=buffer), 3 * TOTAL))
    epochs = [pairs[i : i + TOTAL] for i in range(0, 3 * TOTAL, TOTAL)]
    assert all(sorted(epoch) == list(range(TOTAL)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_shards_are_read_one_after_the_other() -> None:
    """Without a buffer the pairs of a shard follow each other; a buffer moves a pair little."""
    plain = list(islice(pair_order(LENGTHS, 3, 0, buffer=1), TOTAL))
    assert sum(b != a + 1 for a, b in pairwise(plain)) <= 3
    mixed = list(islice(pair_order(LENGTHS, 3, 0, buffer=6), TOTAL))
    assert mixed != plain
    assert all(abs(mixed.index(pair) - plain.index(pair)) < 6 for pair in range(TOTAL))


@pytest.mark.parametrize("start", [1, TOTAL - 1, TOTAL, 2 * TOTAL + 5])
def test_the_order_can_begin_anywhere(start: int) -> None:
    whole = list(islice(pair_order(LENGTHS, 3, 0, buffer=6), start + 2 * TOTAL))
    assert list(islice(pair_order(LENGTHS, 3, start, buffer=6), 2 * TOTAL)) == whole[start:]


def test_processes_divide_the_batches_of_one(monkeypatch) -> None:
    def batches(rank: int, processes: int, start: int) -> list:
        monkeypatch.setattr(comm, "get_rank", lambda: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: processes)
        sampler = PairBatches(LENGTHS, 6 // processes, buffer=6)
        sampler.begin(7, start)
        return list(islice(sampler, 8 - start))

    whole = batches(0, 1, 0)
    parts = [batches(rank, 3, 0) for rank in range(3)]
    for batch, *mine in zip(whole, *parts, strict=True):
        assert sorted(batch) == sorted(sample for part in mine for sample in part)
    assert batches(0, 1, 5) == whole[5:]
    seen = Counter(sample.image for batch in whole for sample in batch)
    assert max(seen.values()) == 2 and len(seen) == TOTAL  # 48 samples of 27 pairs


@META_ARCH_REGISTRY.register()
class ColourOfCaptions(nn.Module):
    """Predicts the length of captions, and something random, from mean colours."""

    def __init__(self, cfg) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, batch: list[dict]) -> dict[str, torch.Tensor]:
        colours = torch.stack([item["image"].float().mean(dim=(1, 2)) for item in batch]) / 255
        lengths = torch.tensor([[len(item["caption"])] for item in batch]) + torch.rand(())
        return {"loss": (self.linear(colours) - lengths).square().mean()}


# ---- training --------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path: Path, monkeypatch) -> Path:
    """Three shards of four pairs each; in the second one an image is damaged."""
    monkeypatch.setenv("CATRANK_CACHE", str(tmp_path / "cache"))
    for shard in range(3):
        with tarfile.open(tmp_path / f"web-{shard}.tar", "w") as archive:
            for index in range(4):
                file = io.BytesIO()
                colour = (80 * shard, 60 * index, 0)
                Image.new("RGB", (16, 16), colour).save(file, "PNG")
                image = file.getvalue()[: 50 if (shard, index) == (1, 2) else None]
                for end, data in (("png", image), ("txt", f"colour {shard} {index}".encode())):
                    member = tarfile.TarInfo(f"{index}.{end}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return tmp_path


def configure(folder: Path, **changes: object):
    settings = {
        "DATASETS.OWN": (str(folder / "web-{0..2}.tar"),),
        "DATASETS.TRAIN": ("web",),
        "DATASETS.TEST": (),
        "DATALOADER.NUM_WORKERS": 0,
        "DATALOADER.SHUFFLE_BUFFER": 5,
        "INPUT.MIN_SIZE_TRAIN": (16,),
        "INPUT.CAPTION.AUGMENTATION": "deit",
        "MODEL.META_ARCHITECTURE": "ColourOfCaptions",
        "MODEL.DEVICE": "cpu",
        "SOLVER.IMS_PER_BATCH": 3,
        "SOLVER.WARMUP_ITERS": 0,
        "SOLVER.MAX_ITER": 6,
        "SOLVER.CHECKPOINT_PERIOD": 2,
        "OUTPUT_DIR": str(folder / "out"),
    } | {name.replace("__", "."): value for name, value in changes.items()}
    cfg = load_config(
        "catseg_d2/scenes_contrastive.yaml", [part for pair in settings.items() for part in pair]
    )
    register_custom_datasets(cfg)
    return cfg


def train(cfg, resume: bool = False) -> Trainer:
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def test_resuming_in_the_middle_of_a_shard_is_exact(shards: Path, caplog) -> None:
    """Also with another number of workers, and after a broken image was skipped."""
    with caplog.at_level(logging.WARNING, "segcore.engine.pairs"):
        train(configure(shards))
    assert "1 pairs skipped so far; the last: cannot read" in caplog.text
    assert "web-1.tar/2.png: it is damaged" in caplog.text
    out = shards / "out"
    whole = torch.load(out / "model_final.pth", weights_only=True)["model"]
    (out / "last_checkpoint").write_text("model_0000001.pth")
    resumed = train(configure(shards, DATALOADER__NUM_WORKERS=2), resume=True)
    assert resumed.start_iter == 2
    again = torch.load(out / "model_final.pth", weights_only=True)["model"]
    assert all(tensor.equal(again[name]) for name, tensor in whole.items())


def test_shards_and_tables_train_together(shards: Path) -> None:
    Image.new("RGB", (16, 16)).save(shards / "a.png")
    (shards / "few.tsv").write_text("file\tcaption\na.png\tblack\na.png\tdark\n")
    own = (str(shards / "web-{0..2}.tar"), str(shards / "few.tsv"))
    cfg = configure(shards, DATASETS__OWN=own, DATASETS__TRAIN=("few", "web"))
    loader = Trainer.build_train_loader(cfg)
    batches = list(islice(loader, 5))
    SkippedPairs().note([item for batch in batches for item in batch])
    found = Counter(item["caption"] for batch in batches for item in batch)
    assert {"black", "dark", "colour 0 0", "colour 2 3"} <= found.keys()
    assert {item["image"].shape for batch in batches for item in batch} == {(3, 16, 16)}
    assert "skipped" not in batches[0][0]


def test_shards_without_a_sound_image_are_an_error(shards: Path) -> None:
    with tarfile.open(shards / "bad.tar", "w") as archive:
        for end, data in (("png", b"\x89PNG\r\n\x1a\n damaged"), ("txt", b"a cat")):
            member = tarfile.TarInfo(f"x.{end}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    own = (str(shards / "bad.tar"),)
    cfg = configure(shards, DATASETS__OWN=own, DATASETS__TRAIN=("bad",))
    with pytest.raises(UserError, match=r"100 pairs in a row cannot be read, the first: .*x\.png"):
        next(iter(Trainer.build_train_loader(cfg)))
