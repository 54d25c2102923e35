"""docs/tutorials/custom_dataset.md does what it says: its files and commands as they stand."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

import catseg_d2  # noqa: F401  (adds its config keys)
from segcore.config import load_config
from segcore.datasets import register_custom_datasets, semantic_metadata
from segcore.images import read_image, read_labels
from segcore.scenes import SCENES_60, Settings, write_scenes
from segcore.vocabulary import Vocabulary

FILES = {"pets.json": 0, "small.yaml": 1, "pets.yaml": 2}  # the blocks of json and yaml, in order
QUICK = "SOLVER.MAX_ITER 2 SOLVER.IMS_PER_BATCH 2 DATALOADER.NUM_WORKERS 0"


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs/tutorials/custom_dataset.md").read_text("utf-8")


@pytest.fixture(scope="module")
def workplace(page: str, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like that of CatRank, with a tiny data set of the page's layout."""
    root = tmp_path_factory.mktemp("catrank")
    pets = root / "datasets/pets"
    pets.mkdir(parents=True)
    for name in ("train_net.py", "configs", "demo", "datasets/check.py"):
        (root / name).symlink_to(repository / name)
    blocks = re.findall(r"```(?:json|yaml)\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == len(FILES)
    for name, index in FILES.items():
        (pets / name).write_text(blocks[index])
    drawings = write_drawings(tmp_path_factory.mktemp("drawings"))
    copy(drawings / "train", pets / "train")
    copy(drawings / "test", pets / "test")
    shutil.copytree(pets / "test/images", pets / "new")
    return root


def write_drawings(folder: Path) -> Path:
    write_scenes(folder, SCENES_60, Settings(num_train=4, num_test=2, size=96), workers=1)
    return folder / SCENES_60.name


def copy(source: Path, target: Path) -> None:
    """Drawings as photographs are stored, with circles for cats and other shapes for dogs."""
    names = Vocabulary.registered("scenes_60").names
    ids = np.array([1 if "circle" in n else 2 if " " in n else 0 for n in names], dtype=np.uint8)
    for name in ("images", "labels"):
        (target / name).mkdir(parents=True)
    for path in (source / "images").iterdir():
        image = Image.fromarray(read_image(path))
        image.save(target / "images" / f"{path.stem}.jpg", quality=95)
        labels = ids[read_labels(source / "labels" / path.name)]
        Image.fromarray(labels).save(target / "labels" / f"{path.stem}.png")


@pytest.mark.slow
def test_the_commands(page: str, workplace: Path, repository: Path) -> None:
    scripts = "".join(re.findall(r"```bash\n(.*?)```", page, re.DOTALL)).replace("\\\n", "")
    commands = [shlex.split(line) for line in scripts.splitlines()]
    assert [words[1] for words in commands] == [
        *["datasets/check.py"] * 2,
        *["train_net.py"] * 2,
        "demo/demo.py",
    ]
    environment = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    for words in commands:
        quick = QUICK.split() if words[1] == "train_net.py" else []
        done = subprocess.run(
            [sys.executable, *words[1:], *quick],
            cwd=workplace,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    for name in (
        "check_pets/index.html",
        "pets_small/inference/pets_test/sem_seg_evaluation.json",
        "pets_small/new/000001_overlay.png",
    ):
        assert (workplace / "output" / name).is_file()


def test_the_config_for_a_published_checkpoint(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    settings = ["MODEL.WEIGHTS", ""]  # it is not at hand here
    cfg = load_config("datasets/pets/pets.yaml", settings)
    try:
        register_custom_datasets(cfg)
        metadata = semantic_metadata("pets_train")
        assert metadata.ignore_label == cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
        assert len(DatasetCatalog.get("pets_train")) == 4
        assert cfg.DATASETS.TEST == ("pets_test",)
    finally:
        for name in ("pets_train", "pets_test"):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
