"""The page says what was measured, and draws ground truth and prediction in the same colours."""

import html
import importlib
import json

import numpy as np
import pytest
from PIL import Image

from segcore.annotations.panoptic_png import PanopticFile, encode_ids
from segcore.drawing.page import Page
from segcore.vocabulary import Vocabulary

WORDS = Vocabulary.registered("scenes_60")
UNSEEN = WORDS.seen.index(False)
GRASS = WORDS.names.index("grass")


@pytest.fixture
def chapter():
    """A module of demo/chapters by its name."""
    return lambda name: importlib.import_module(f"chapters.{name}")


@pytest.fixture
def page(tmp_path) -> Page:
    return Page(tmp_path / "page", "title")


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


@pytest.fixture
def results(tmp_path):
    """What the commands of the chapters leave, with other numbers."""
    image = np.full((32, 32, 3), 90, dtype=np.uint8)
    ground_truth = np.full((32, 32), UNSEEN, dtype=np.uint16)
    guess = ground_truth.copy()
    guess[:8] = GRASS
    expected = [
        {"id": UNSEEN, "name": "<b>this</b>", "score": 0.9},
        {"id": 3, "name": "other", "score": 0.4},
    ]
    for predictions in ("drawings", "drawings_rankseg"):
        for name in (f"{i:06}" for i in range(12)):
            save(tmp_path / f"datasets/scenes-60/demo/images/{name}.png", image)
            save(tmp_path / f"datasets/scenes-60/demo/labels/{name}.png", ground_truth)
            save(tmp_path / predictions / f"{name}_labels.png", guess)
            (tmp_path / predictions / f"{name}_categories.json").write_text(json.dumps(expected))
    save(tmp_path / "photographs/cat.png", image)
    save(tmp_path / "segmented/cat_labels.png", np.zeros_like(ground_truth))
    names = [{"name": name} for name in ("cat", "wood", "<b>dog</b>")]
    (tmp_path / "segmented/vocabulary.json").write_text(
        json.dumps({"name": "words", "classes": names})
    )
    _write_scores(tmp_path)
    return tmp_path


def _write_scores(folder):
    (folder / "logs").mkdir()
    (folder / "logs/baseline.txt").write_text("mIoU-seen 13.7\nmIoU-unseen 4.5\n")
    found = {
        "evaluation/inference/scenes_60_test/sem_seg": {"mIoU-seen": 26.5, "mIoU-unseen": 22.9},
        "evaluation_rankseg/inference/scenes_60_test/sem_seg": {
            "mIoU-seen": 15.5,
            "mIoU-unseen": 0.0,
        },
        "evaluation_rankseg/inference/scenes_60_test/multilabel": {
            "recall@50": 61.0,
            "recall@5": 12.0,
            "mAP": 1.0,
        },
    }
    for name, scores in found.items():
        path = folder / f"{name}_evaluation.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"scores": scores}))


def test_cat_seg(chapter, results, page):
    outcome = chapter("open_vocabulary").write(page, results)
    text = page.write().read_text()
    assert html.escape(chapter("open_vocabulary").HONEST_LINE) in text
    for words in ("13.7", "24.6", "beats the baseline", "75% right", "(never seen)"):
        assert words in text
    assert "only wood, and those" in text and "<b>dog</b>" not in text
    assert outcome.error is None and "26.5" in outcome.lines[1]
    assert (page.folder / "sheet.png").exists()
    assert len(list((page.folder / "images").glob("*.png"))) == 12 * 3 + 2


@pytest.mark.parametrize("seen, unseen", [(30.0, 4.0), (13.0, 22.0)])
def test_a_model_that_fails_is_said_to_fail(chapter, page, seen, unseen):
    scores = chapter("scores").Scores
    baseline, model = scores("nearest mean colour", 13.7, 4.5), scores("CAT-Seg", seen, unseen)
    outcome = chapter("open_vocabulary").write_comparison(page, baseline, model)
    text = page.write().read_text()
    assert "does not beat" in text and 'class="best"' not in text
    assert "does not beat" in outcome.error


def test_the_harmonic_mean(chapter):
    scores = chapter("scores").Scores
    assert scores("", 30, 15).harmonic == pytest.approx(20)
    assert scores("", 0, 0).harmonic == 0


def test_rankseg_tells_the_classes_that_it_expects(chapter, results, page):
    outcome = chapter("categories").write(page, results)
    text = page.write().read_text()
    assert "12 % among the 5 likeliest, 61 % among the 50 likeliest" in text
    assert "&lt;b&gt;this&lt;/b&gt; (there)" in text and "other (there)" not in text
    assert outcome.error is None
    path = results / "logs/baseline.txt"
    path.write_text(path.read_text().replace("13.7", "16.0"))
    assert "does not beat" in chapter("categories").write(page, results).error


def test_ground_truth_and_prediction_share_colours(chapter, results):
    cards = chapter("cards")
    drawing = cards.examples(
        results / "datasets/scenes-60/demo/images", results / "drawings", with_ground_truth=True
    )[0]
    (_, image), (_, ground_truth), (_, guess) = cards.label_card(
        "1", "CAT-Seg", drawing, WORDS
    ).images
    assert (image == 90).all()
    assert (ground_truth[-20, 5] == guess[-20, 5]).all()
    assert (ground_truth[5, 5] != guess[5, 5]).any()


def test_segments_of_one_class_share_its_colour_and_are_told_apart(chapter, tmp_path):
    ids = np.full((32, 32), 54000)
    ids[:8, :10], ids[:8, 10:20] = 7001, 7002
    save(tmp_path / "panoptic/000003.png", encode_ids(ids))
    kinds = {7001: 7, 7002: 7, 54000: 54}
    listed = [{"id": number, "category_id": kind} for number, kind in kinds.items()]
    categories = [{"id": i, "name": n, "isthing": int(i < 54)} for i, n in enumerate(WORDS.names)]
    annotation = {"image_id": 3, "file_name": "000003.png", "segments_info": listed}
    json_file = tmp_path / "panoptic.json"
    json_file.write_text(json.dumps({"categories": categories, "annotations": [annotation]}))
    image = save(tmp_path / "images/000003.png", np.full((32, 32, 3), 90, dtype=np.uint8))
    save(tmp_path / "predictions/000003_labels.png", np.where(ids == 54000, 2, 1).astype(np.uint16))
    found = [{"id": i, "category_id": c, "isthing": c < 54} for i, c in ((1, 7), (2, 54))]
    (tmp_path / "predictions/000003_segments.json").write_text(json.dumps(found))

    card = chapter("segments").segments_card(
        "3", image, PanopticFile(json_file, tmp_path / "panoptic"), tmp_path / "predictions"
    )
    (_, _), (true_title, ground_truth), (found_title, prediction) = card.images
    assert true_title == "ground truth, 3 segments" and found_title == "Mask2Former, 2 segments"
    step = ground_truth.shape[0] // 32
    middle = ground_truth[4 * step, 5 * step]
    assert (ground_truth[4 * step, 15 * step] == middle).all() and (
        prediction[4 * step, 5 * step] == middle
    ).all()
    edge = ground_truth[4 * step, 9 * step : 11 * step]
    assert (edge != middle).any() and (prediction[4 * step, 9 * step : 11 * step] == middle).all()


def test_panoptic_quality_of_what_was_seen_and_what_was_not(chapter, tmp_path):
    names = {"grass": 90.0, WORDS.names[WORDS.seen.index(True)]: 40.0, WORDS.names[UNSEEN]: 0.0}
    scores = {name: {"PQ": value, "SQ": value, "RQ": value} for name, value in names.items()}
    (tmp_path / "panoptic_evaluation.json").write_text(json.dumps({"categories": scores}))
    quality = chapter("segments").read_quality(tmp_path)
    assert [row[0] for row in quality.values()] == [90.0, 40.0, 0.0]


def test_the_page_tells_how_it_was_made(chapter, tmp_path):
    page = importlib.import_module("result_page")
    step = importlib.import_module("steps").Step("train", "Train", ["train_net.py"], [])
    told = importlib.import_module("chapters").Outcome(("a line",))

    class Chapter:
        @staticmethod
        def write(page, folder):
            page.heading("a chapter")
            return told

    path, outcomes = page.write_page([Chapter], tmp_path, [(step, 150.4)])
    text = path.read_text()
    assert "a chapter" in text and "150" in text and "python train_net.py" in text
    assert outcomes == [told]
