"""Best and worst images: correct, few, and independent of the number of processes."""

import io
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from segcore.annotations.panoptic_png import encode_ids
from segcore.benchmarks.examples import NONE, ExampleKeeper, Regions, image_iou
from segcore.evaluation import SemanticEvaluator, StatefulEvaluator
from segcore.outlines import encode_masks

DATASET = "example_images"
NUMBER = 40


@pytest.fixture
def names():
    names = [DATASET]
    yield names
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def images(tmp_path, names):
    """Images of 10 x 10 pixels, half of class 0, half of class 1, and one ignored row."""
    ground_truth = np.repeat([0, 1, 255], [50, 40, 10]).reshape(10, 10).astype(np.uint8)
    items = []
    for i in range(NUMBER):
        path = tmp_path / f"{i:02}.png"
        Image.fromarray(ground_truth).save(path)
        items.append({"file_name": str(path), "sem_seg_file_name": str(path)})
    DatasetCatalog.register(DATASET, lambda: items)
    MetadataCatalog.get(DATASET).set(stuff_classes=["a", "b", "c"], ignore_label=255)
    return items


def prediction(number):
    """The ground truth, of which ``number`` pixels of class 0 are wrong."""
    labels = np.repeat([0, 1, 0], [50, 40, 10])
    labels[:number] = 2
    return {"sem_seg_labels": torch.from_numpy(labels.reshape(10, 10))}


def keeper(number=3):
    return ExampleKeeper(SemanticEvaluator(DATASET), DATASET, number)


def test_the_score_of_an_image():
    ground_truth = np.array([[0, 0, 1, NONE], [0, 0, 1, NONE]])
    assert image_iou(ground_truth, ground_truth) == 100
    # class 0: 3 of 5 in the union; class 1: 1 of 2; class 2 is not in the ground truth
    prediction = np.array([[0, 0, 0, 1], [0, 2, 1, 1]])
    assert image_iou(ground_truth, prediction) == pytest.approx(100 * (3 / 5 + 1 / 2) / 2)
    assert math.isnan(image_iou(np.full((2, 2), NONE), np.zeros((2, 2), int)))


def test_few_are_kept_and_the_right_ones(images):
    kept = keeper()
    order = np.random.default_rng(0).permutation(NUMBER)
    for seen, i in enumerate(order, 1):
        kept.process([images[i]], [prediction(i)])
        assert len(kept.state()["examples"]) == min(seen, 6)
    results = kept.evaluate()
    assert 0 < results["sem_seg"]["mIoU"] < 100, "those of the evaluator behind it"
    worst, best = kept.examples()
    assert [each.image for each in worst] == [images[i]["file_name"] for i in (39, 38, 37)]
    assert [each.image for each in best] == [images[i]["file_name"] for i in (0, 1, 2)]
    assert best[0].score == 100 and worst[0].score == pytest.approx(100 * (11 / 50 + 1) / 2)
    assert (worst[0].ground_truth.numbers[-1] == NONE).all() and worst[0].ground_truth.numbers[
        0, 0
    ] == 0
    assert (worst[0].prediction.numbers == prediction(39)["sem_seg_labels"].numpy()).all()


def test_no_image_is_in_both(images):
    for number in range(1, 8):
        kept = keeper()
        for i in range(number):
            kept.process([images[i]], [prediction(i)])
        worst, best = kept.examples()
        assert len(worst) == min(3, (number + 1) // 2) and len(best) == min(3, number // 2)
        assert not {each.image for each in worst} & {each.image for each in best}
        assert all(a.score <= b.score for a in worst for b in best)


def test_equal_scores_do_not_depend_on_the_order(images):
    def order_of(order):
        kept = keeper()
        for i in order:
            kept.process([images[i]], [prediction(5)])
        return [[each.image for each in part] for part in kept.examples()]

    assert order_of(range(NUMBER)) == order_of(reversed(range(NUMBER)))


def test_interrupted(images):
    def process(kept, part):
        for i in part:
            kept.process([images[i]], [prediction(i)])
        return kept

    whole = process(keeper(), range(20))
    file = io.BytesIO()
    torch.save(process(keeper(), range(9)).state(), file)
    file.seek(0)
    resumed = keeper()
    resumed.load_state(torch.load(file, weights_only=True))
    process(resumed, range(9, 20))
    assert str(resumed.evaluate()) == str(whole.evaluate())
    for mine, theirs in zip(resumed.examples(), whole.examples(), strict=True):
        assert [each.score for each in mine] == [each.score for each in theirs]
        for a, b in zip(mine, theirs, strict=True):
            assert (a.prediction.numbers == b.prediction.numbers).all()


def test_labels_alone_suffice_where_they_do_for_the_evaluator(images):
    assert keeper().labels_suffice
    assert not ExampleKeeper(StatefulEvaluator(), DATASET, 1).labels_suffice


def test_no_examples(images):
    kept = keeper(0)
    kept.process([images[0]], [prediction(3)])
    assert kept.examples() == ([], []) and not kept.state()["examples"]


def test_maps_are_kept_small():
    numbers = np.random.default_rng(0).integers(0, 1000, (1000, 1500))
    numbers[0, 0] = NONE
    small = Regions.of_small(Regions(numbers, (4, 5)).small())
    assert small.numbers.shape == (256, 384) and small.classes == (4, 5)
    assert set(np.unique(small.numbers)) <= {*range(1000), NONE}
    tiny = Regions(numbers[:3, :5])
    assert (Regions.of_small(tiny.small()).numbers == tiny.numbers).all(), "never enlarged"


class Nothing(StatefulEvaluator):
    """An evaluator without scores."""

    def reset(self):
        pass

    def process(self, inputs, outputs):
        pass


def test_segments(tmp_path, names):
    ids = np.repeat([7, 9, 0], [40, 40, 20]).reshape(10, 10)
    path = tmp_path / "segments.png"
    Image.fromarray(encode_ids(ids)).save(path)
    listed = [
        {"id": 7, "category_id": 1, "isthing": True},
        {"id": 9, "category_id": 0, "isthing": False},
    ]
    record = {"file_name": "a.jpg", "pan_seg_file_name": str(path), "segments_info": listed}
    DatasetCatalog.register(DATASET, lambda: [record])
    kept = ExampleKeeper(Nothing(), DATASET, 1)
    predicted = torch.from_numpy(np.where(ids == 7, 1, 0))
    found = [{"id": 1, "category_id": 1, "isthing": True}]
    kept.process([{"file_name": "a.jpg"}], [{"panoptic_seg": (predicted, found)}])
    (worst,), _ = kept.examples()
    assert worst.score == 50, "one class is found, one is not"
    assert worst.ground_truth.classes == (1, 0) and worst.prediction.classes == (1,)
    assert worst.prediction.numbers[0, 0] == 0 and worst.prediction.numbers[-1, -1] == NONE


def test_frames_of_videos(tmp_path, names):
    """Classes are stored from 1 on; each frame is an image."""
    stored = np.repeat([1, 2, 255], [50, 40, 10]).reshape(10, 10).astype(np.uint8)
    labels = [str(tmp_path / f"{t}.png") for t in range(3)]
    for path in labels:
        Image.fromarray(stored).save(path)
    frames = [f"{t}.jpg" for t in range(3)]
    video = {"video_id": 1, "file_names": frames, "sem_seg_file_names": labels}
    DatasetCatalog.register(DATASET, lambda: [video])
    kept = ExampleKeeper(Nothing(), DATASET, 1)
    predictions = torch.stack([prediction(t)["sem_seg_labels"] for t in (0, 20, 10)])
    kept.process([video], [{"sem_seg_labels": predictions}])
    (worst,), (best,) = kept.examples()
    assert (worst.image, best.image, best.score) == ("1.jpg", "0.jpg", 100)


def square(top, size=4):
    mask = np.zeros((10, 10), dtype=bool)
    mask[top : top + size, :size] = True
    return mask


def runs(mask):
    return encode_masks(torch.from_numpy(mask)[None])[0]


def test_objects(names):
    """Objects of low scores do not count; objects of high scores cover others."""
    polygon = [[0, 0, 4, 0, 4, 4, 0, 4]]
    ground_truth = [
        {"category_id": 0, "segmentation": runs(np.ones((10, 10), dtype=bool))},
        {"category_id": 1, "segmentation": polygon},
    ]
    DatasetCatalog.register(DATASET, lambda: [{"file_name": "a.jpg", "annotations": ground_truth}])
    instances = SimpleNamespace(
        pred_masks=torch.from_numpy(np.stack([square(0), square(0), square(6)])),
        scores=torch.tensor([0.9, 0.2, 0.6]),
        pred_classes=torch.tensor([1, 0, 1]),
    )
    kept = ExampleKeeper(Nothing(), DATASET, 1)
    kept.process([{"file_name": "a.jpg"}], [{"instances": instances}])
    (worst,), _ = kept.examples()
    # class 1: a match and a false positive; class 0: a false negative
    assert worst.score == pytest.approx(100 * (1 / 1.5 + 0) / 2)
    assert sorted(worst.prediction.classes) == [1, 1]
    classes = np.array(worst.ground_truth.classes)[worst.ground_truth.numbers]
    assert (classes == square(0).astype(int)).all()


def test_tracks(names):
    """Frame by frame; no examples if the ground truth is not public."""
    frames = ["a.jpg", "b.jpg"]
    video = {"video_id": 3, "file_names": frames, "height": 10, "width": 10}
    seen = {"category_id": 0, "segmentation": runs(square(0))}
    known = video | {"frame_annotations": [[seen], []]}
    DatasetCatalog.register(DATASET, lambda: [known, video | {"video_id": 4}])
    prediction = {
        "pred_scores": [0.8],
        "pred_labels": [0],
        "pred_masks": [[runs(square(0)), runs(square(5))]],
    }
    kept = ExampleKeeper(Nothing(), DATASET, 2)
    kept.process([known], [prediction])
    kept.process([video | {"video_id": 4}], [prediction])
    (worst,), (best,) = kept.examples()
    kept.process([known], [{"pred_scores": [], "pred_labels": [], "pred_masks": []}])
    assert [[each.score for each in part] for part in kept.examples()] == [[0, 0], [100]]
    assert (worst.image, worst.score) == ("b.jpg", 0) and worst.ground_truth.classes == ()
    assert (best.image, best.score) == ("a.jpg", 100)
