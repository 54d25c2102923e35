"""Class names in another order than the data set's are an error, other names a warning."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

import catseg_d2  # noqa: F401
import mask2former_rankseg  # noqa: F401
import segcore.datasets  # noqa: F401
from segcore.config import CONFIG_FOLDERS, load_config
from segcore.datasets.class_names import check_class_names
from segcore.engine.trainer import _check_train_vocabulary
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary

DATASET = "scenes_60_test"
NAMES = list(Vocabulary.load("scenes_60").names)
PUBLISHED = {
    "ade150": "ade20k_150_test_sem_seg",
    "ade847": "ade20k_full_sem_seg_freq_val_all",
    "coco": "coco_2017_test_stuff_all_sem_seg",
    "pc59": "context_59_test_sem_seg",
    "pc459": "context_459_test_sem_seg",
    "voc20": "voc_2012_test_sem_seg",
    "voc20b": "voc_2012_test_background_sem_seg",
}


def check(names: list[str], dataset: str = DATASET) -> None:
    check_class_names(Vocabulary.load(names), dataset, "TEST_CLASS_JSON")


@pytest.mark.parametrize(
    "names",
    [sorted(NAMES), NAMES[::-1], [*NAMES[1:], NAMES[0]], [NAMES[1], NAMES[0], *NAMES[2:]],
     ["a " + name for name in NAMES[:58]] + [NAMES[59].upper().replace(" ", "-"), NAMES[58]]],
)  # fmt: skip
def test_another_order_is_refused(names: list[str]) -> None:
    with pytest.raises(UserError, match=r"scenes_60_test: the classes are in another order.*there"):
        check(names)


def test_other_names_are_a_warning(caplog) -> None:
    check(NAMES)
    check([name.upper().replace(" ", "_") for name in NAMES])
    check([f"{name}, or so" for name in NAMES])
    assert not caplog.text
    check([*NAMES[:59], "something else"])
    assert "1 of 60 classes differ in name" in caplog.text and "'something else'" in caplog.text


def test_another_number_is_refused() -> None:
    with pytest.raises(UserError, match="59 classes, but data set scenes_60_test has 60"):
        check(NAMES[:59])
    with pytest.raises(UserError, match="has 21"):
        check(["a", "b"], "voc_2012_test_background_sem_seg")
    check(["a", "b"], "a data set without classes")


def test_prompts_of_the_background_do_not_count(caplog) -> None:
    names = [*Vocabulary.load("voc20b").names[:20], "wall", "sky"]
    check(names, "voc_2012_test_background_sem_seg")
    assert not caplog.text


def test_training_data_is_checked_before_training() -> None:
    cfg = load_config("catseg_d2/scenes_60.yaml", ["DATASETS.TRAIN", "('scenes_60_train',)"])
    model = SimpleNamespace(train_vocabulary=Vocabulary.load(NAMES))
    _check_train_vocabulary(cfg, model)
    model.train_vocabulary = Vocabulary.load(sorted(NAMES))
    with pytest.raises(UserError, match=r"TRAIN_CLASS_JSON, for data set scenes_60_train: .*order"):
        _check_train_vocabulary(cfg, model)
    _check_train_vocabulary(cfg, SimpleNamespace())


@pytest.mark.parametrize(("alias", "dataset"), PUBLISHED.items())
def test_published_lists_pass(golden: Path, alias: str, dataset: str, caplog) -> None:
    path = golden / "catseg" / "vocab" / f"{alias}.json"
    vocabulary = (
        Vocabulary.from_class_names(json.loads(path.read_text("utf-8"))) if path.exists() else alias
    )
    check_class_names(Vocabulary.load(vocabulary), dataset, "TEST_CLASS_JSON")
    assert "differ" not in caplog.text


def test_every_data_set_has_its_own_names(caplog) -> None:
    count = 0
    for name in DatasetCatalog.list():
        vocabulary = MetadataCatalog.get(name).get("vocabulary")
        if vocabulary and MetadataCatalog.get(name).get("stuff_classes"):
            check_class_names(Vocabulary.load(vocabulary), name, "x")
            count += 1
    assert count > 60 and "differ" not in caplog.text


@pytest.mark.parametrize("path", sorted((CONFIG_FOLDERS[0] / "catseg_d2").rglob("*.yaml")), ids=str)
def test_configs_that_ship_pass(path: Path, caplog) -> None:
    cfg = load_config(path)
    for names, key in (
        (cfg.DATASETS.TRAIN, "TRAIN_CLASS_JSON"),
        (cfg.DATASETS.TEST, "TEST_CLASS_JSON"),
    ):
        vocabulary = cfg.MODEL.SEM_SEG_HEAD[key]
        for name in names if vocabulary and cfg.MODEL.META_ARCHITECTURE == "CATSeg" else ():
            check_class_names(Vocabulary.load(vocabulary), name, key)
    assert "differ" not in caplog.text
