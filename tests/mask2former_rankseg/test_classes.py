"""The classes of a closed-vocabulary model belong to it: config, checkpoint, then data set."""

import json

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor
from detectron2.utils.visualizer import Visualizer

from segcore.checkpoint import Checkpointer, convert_for_detectron2
from segcore.config import load_config
from segcore.errors import UserError
from segcore.scenes import SCENES_60, plan_scene, render
from segcore.vocabulary import Vocabulary

PANOPTIC = "mask2former_rankseg/scenes_60_panoptic.yaml"
NO_DATA_SET = ["DATASETS.TRAIN", "()", "DATASETS.TEST", "()", "MODEL.DEVICE", "cpu"]
NAMES = tuple(entry.name for entry in SCENES_60.classes)
LETTERS = Vocabulary.from_class_names([f"class {letter}" for letter in "abcdefghijkl"], "letters")
TASK = "MODEL.MASK_FORMER.TEST"
PANOPTIC_TASK = {f"{TASK}.PANOPTIC_ON": True, f"{TASK}.SEMANTIC_ON": False}
UNKNOWN = {"DATASETS.TRAIN": (), "DATASETS.TEST": ()}
IMAGE = [{"image": torch.zeros(3, 64, 64)}]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CATRANK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def letters(tmp_path) -> str:
    """A JSON file of twelve classes, of which the first four are things."""
    classes = [{"name": name, "isthing": i < 4} for i, name in enumerate(LETTERS.names)]
    path = tmp_path / "letters.json"
    path.write_text(json.dumps({"name": "letters", "classes": classes}))
    return str(path)


def test_an_app_names_what_a_shipped_model_finds_with_no_data_set(repository) -> None:
    weights = repository / "demo/models/scenes_60_panoptic.safetensors"
    predictor = DefaultPredictor(
        load_config(PANOPTIC, [*NO_DATA_SET, "MODEL.WEIGHTS", str(weights)])
    )
    assert predictor.model.vocabulary.names == NAMES
    image = render(plan_scene(SCENES_60, 0, "train", 0), 96).image
    prediction = predictor(image[:, :, ::-1])
    _, segments = prediction["panoptic_seg"]
    objects = {i for i, entry in enumerate(SCENES_60.classes) if entry.is_object}
    assert segments
    assert all(segment["isthing"] == (segment["category_id"] in objects) for segment in segments)
    canvas = Visualizer(image, predictor.model.metadata)
    drawn = canvas.draw_instance_predictions(prediction["instances"].to("cpu")).get_image()
    assert drawn.shape == image.shape and not np.array_equal(drawn, image)


@pytest.mark.parametrize("name", ["scenes_60_rankseg", "scenes_60_video_instance"])
def test_every_shipped_closed_model_names_its_classes(repository, name) -> None:
    weights = repository / f"demo/models/{name}.safetensors"
    cfg = load_config(
        f"mask2former_rankseg/{name}.yaml", [*NO_DATA_SET, "MODEL.WEIGHTS", str(weights)]
    )
    model = DefaultPredictor(cfg).model
    assert model.vocabulary.names == NAMES[: cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES]
    assert model.metadata.stuff_classes == list(model.vocabulary.names)


def test_a_checkpoint_of_training_carries_the_classes_of_its_data_set(
    tiny, tmp_path, dataset_name
) -> None:
    MetadataCatalog.get(dataset_name).set(
        thing_classes=list(LETTERS.names),
        thing_dataset_id_to_contiguous_id={number + 1: number for number in (1, 2)},
    )
    trained = tiny({"DATASETS.TRAIN": (dataset_name,), "DATASETS.TEST": ()})
    assert trained.vocabulary.names == LETTERS.names
    Checkpointer(trained, str(tmp_path)).save("model")
    path = str(tmp_path / "model.pth")
    for load in (
        lambda model: Checkpointer(model).load_for_use(path),
        lambda model: DetectionCheckpointer(model).load(path),
        lambda model: DetectionCheckpointer(model).load(convert_for_detectron2(path)),
    ):
        model = tiny(UNKNOWN | PANOPTIC_TASK)
        assert model.vocabulary is None
        load(model)
        assert model.vocabulary == trained.vocabulary
        assert model.classes.things == {1, 2}
        assert "panoptic_seg" in model(IMAGE)[0]


def test_the_config_names_them_above_all(tiny, tmp_path, letters, dataset_name) -> None:
    MetadataCatalog.get(dataset_name).stuff_classes = [f"other {i}" for i in range(12)]
    data = {"DATASETS.TRAIN": (dataset_name,), "DATASETS.TEST": ()}
    Checkpointer(tiny(data), str(tmp_path)).save("model")
    model = tiny(data | PANOPTIC_TASK | {"MODEL.SEM_SEG_HEAD.CLASSES": letters})
    Checkpointer(model).load_for_use(str(tmp_path / "model.pth"))
    assert model.vocabulary.names == LETTERS.names
    assert model.classes.things == {0, 1, 2, 3}


def test_a_data_set_of_other_classes_names_none(tiny, dataset_name) -> None:
    MetadataCatalog.get(dataset_name).stuff_classes = ["only", "two"]
    model = tiny(UNKNOWN | {"DATASETS.TEST": (dataset_name,)})
    assert model.vocabulary is None
    assert not hasattr(model.metadata, "stuff_classes")


def test_weights_to_start_from_do_not_name_them(tiny, tmp_path, dataset_name, letters) -> None:
    MetadataCatalog.get(dataset_name).stuff_classes = [f"other {i}" for i in range(12)]
    Checkpointer(tiny({"MODEL.SEM_SEG_HEAD.CLASSES": letters}), str(tmp_path)).save("model")
    model = tiny({"DATASETS.TRAIN": (dataset_name,)}).train()
    Checkpointer(model).resume_or_load(str(tmp_path / "model.pth"), resume=False)
    assert model.vocabulary.names[0] == "other 0"


def test_wrong_numbers_of_classes_are_user_errors(tiny) -> None:
    with pytest.raises(UserError, match=r"SEM_SEG_HEAD\.CLASSES words has 2 classes, but .* is 12"):
        tiny({"MODEL.SEM_SEG_HEAD.CLASSES": "sky, tree"})


def test_panoptic_segmentation_needs_things_once_it_predicts(tiny) -> None:
    model = tiny(UNKNOWN | PANOPTIC_TASK)
    with pytest.raises(UserError, match=r"into things and stuff, .*set MODEL\.SEM_SEG_HEAD\.CLA"):
        model(IMAGE)
    model = tiny(UNKNOWN | PANOPTIC_TASK | {"MODEL.SEM_SEG_HEAD.CLASSES": ", ".join(LETTERS.names)})
    with pytest.raises(UserError, match=r"into things and stuff"):
        model(IMAGE)
