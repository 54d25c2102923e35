"""The page says what was measured, and draws truth and prediction in the same colours."""

import html
import importlib

import numpy as np
import pytest
from PIL import Image

from segcore.vocabulary import Vocabulary

WORDS = Vocabulary.registered("scenes_60")
PHOTOGRAPH_WORDS = Vocabulary.from_words(["cat", "wood", "<b>dog</b>"])


@pytest.fixture
def result_page():
    return importlib.import_module("result_page")


@pytest.fixture
def results(result_page, tmp_path):
    def save(name, array):
        Image.fromarray(array).save(tmp_path / name)
        return tmp_path / name

    unseen = WORDS.seen.index(False)
    picture = save("picture.png", np.full((32, 32, 3), 90, dtype=np.uint8))
    truth = np.full((32, 32), unseen, dtype=np.uint16)
    guess = truth.copy()
    guess[:8] = 59
    drawing = result_page.Example(picture, save("guess.png", guess), save("truth.png", truth))
    photograph = result_page.Example(picture, save("photo.png", np.zeros_like(truth)))
    return result_page.Results(
        baseline=result_page.Scores("nearest mean colour", 13.7, 4.5),
        model=result_page.Scores("CAT-Seg, very small", 26.5, 22.9),
        drawings=[drawing] * 12,
        drawing_words=WORDS,
        photographs=[photograph],
        photograph_words=PHOTOGRAPH_WORDS,
        seconds=[("Train", 150.4)],
        commands=["python train_net.py"],
    )


def test_scores(result_page):
    low, high = result_page.Scores("low", 10, 5), result_page.Scores("high", 20, 6)
    assert high.beats(low) and not low.beats(high)
    assert not result_page.Scores("uneven", 30, 4).beats(low)
    assert result_page.Scores("", 30, 15).harmonic == pytest.approx(20)
    assert result_page.Scores("", 0, 0).harmonic == 0


def test_the_page_tells_it_all(result_page, results, tmp_path):
    text = result_page.write_page(results, tmp_path / "page").read_text()
    assert html.escape(result_page.HONEST_LINE) in text
    for words in ("13.7", "24.6", "beats the baseline", "75% right", "(never seen)", "150"):
        assert words in text
    assert "only wood, and those" in text and "<b>dog</b>" not in text
    assert (tmp_path / "page" / "sheet.png").exists()
    assert len(list((tmp_path / "page" / "pictures").glob("*.png"))) == 12 * 3 + 2


def test_a_model_that_fails_is_said_to_fail(result_page, results, tmp_path):
    worse = result_page.Scores("CAT-Seg, very small", 30.0, 4.0)
    results = result_page.Results(**{**vars(results), "model": worse})
    text = result_page.write_page(results, tmp_path / "page").read_text()
    assert "does not beat" in text and 'class="best"' not in text


def test_truth_and_prediction_share_colors(result_page, results):
    card = result_page.drawing_card("Drawing 1", results.drawings[0], WORDS)
    (_, picture), (_, truth), (_, prediction) = card.pictures
    assert (picture == 90).all()
    assert (truth[-20, 5] == prediction[-20, 5]).all()
    assert (truth[5, 5] != prediction[5, 5]).any()
