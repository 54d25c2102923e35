"""Recall between images and captions: by hand, in chunks, in several processes, of bad models."""

import json
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from torch import Tensor
from torch.nn import functional as F

from segcore.config import default_config
from segcore.datasets import register_caption_dataset
from segcore.errors import UserError
from segcore.evaluation import RetrievalEvaluator, build_evaluator, retrieval
from segcore.evaluation.retrieval import ranks, retrieval_scores

NAME = "test_retrieval"


@pytest.fixture(autouse=True)
def dataset(tmp_path: Path):
    register_caption_dataset(NAME, tmp_path / "none.tsv", tmp_path)
    yield
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_ranks_by_hand() -> None:
    queries, candidates = (
        torch.eye(3),
        torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.7, 0.4], [0.3, 0, 0.2]]),
    )
    # Similarities: rows (0.9, 0.2, 0.3), (0.8, 0.7, 0), (0.1, 0.4, 0.2).
    assert ranks(queries, candidates, torch.arange(3)).tolist() == [0, 1, 1]
    # The second and the third are the same: either is right for both.
    assert ranks(queries, candidates, torch.tensor([0, 1, 1])).tolist() == [0, 1, 0]


def test_scores_by_hand() -> None:
    images = noise(12, 16)
    texts = images.roll(1, dims=0)  # the correct text is that of the next row
    captions = [str(i) for i in range(12)]
    perfect = retrieval_scores(images, images, captions)
    assert set(perfect.values()) == {100.0} and len(perfect) == 6
    assert retrieval_scores(images, texts, captions)["image_to_text_R@1"] == 0
    assert retrieval_scores(images, texts, ["the same"] * 12) == perfect
    half = torch.cat([images[:6], texts[6:]])
    assert retrieval_scores(images, half, captions)["text_to_image_R@1"] == 50


def test_both_directions() -> None:
    """All texts are nearest to the first image; the images' nearest texts are correct."""
    images = torch.eye(6)
    texts = F.normalize(torch.eye(6) + 2 * torch.eye(6)[:1], dim=-1)
    scores = retrieval_scores(images, texts, list("abcdef"))
    assert scores["text_to_image_R@1"] == pytest.approx(100 / 6)
    assert scores["image_to_text_R@1"] == 100


@pytest.mark.parametrize("value", [0.5, float("nan")])
def test_a_model_with_equal_embeddings_has_no_recall(value: float) -> None:
    same = torch.full((20, 4), value)
    scores = retrieval_scores(same, same, [str(i) for i in range(20)])
    assert set(scores.values()) == {0.0}


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images, texts, groups = noise(50, 8), noise(50, 8, seed=1), torch.arange(50) // 2
    whole = ranks(images, texts, groups)
    for chunk in (1, 50 * 7):
        monkeypatch.setattr(retrieval, "CHUNK", chunk)
        assert torch.equal(ranks(images, texts, groups), whole)


WORKER = """
import json, sys
import torch
from segcore.datasets import register_caption_dataset
from segcore.evaluation import RetrievalEvaluator

folder, rank, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if size > 1:
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", store, rank=rank, world_size=size)
register_caption_dataset("pairs", folder + "/captions.tsv", folder)
evaluator = RetrievalEvaluator("pairs")
generator = torch.Generator().manual_seed(0)
images = torch.randn(90, 8, generator=generator)
texts = images + torch.randn(90, 8, generator=generator)
bounds = {1: [0, 90], 3: [0, 61, 61, 90]}[size]  # one has no images
for i in range(bounds[rank], bounds[rank + 1]):
    output = {"image_embedding": images[i], "text_embedding": texts[i]}
    evaluator.process([{"caption": str(i // 2)}], [output])
print(json.dumps(evaluator.evaluate()))
"""


def test_three_processes_give_the_scores_of_one(run_processes, tmp_path: Path) -> None:
    one, three = (run_processes(WORKER, tmp_path, size) for size in (1, 3))
    assert three == [*one, None, None]
    assert 0 < one[0]["retrieval"]["image_to_text_R@1"] < 100


def test_by_the_type_of_the_data_set_and_into_a_file(tmp_path: Path) -> None:
    cfg = default_config()
    cfg.OUTPUT_DIR = str(tmp_path / "out")
    evaluator = build_evaluator(cfg, NAME)
    assert isinstance(evaluator, RetrievalEvaluator)
    output = {"image_embedding": torch.ones(4).half(), "text_embedding": torch.ones(4).half()}
    evaluator.process([{"caption": "a"}], [output])
    scores = evaluator.evaluate()["retrieval"]
    report = json.loads((tmp_path / f"out/inference/{NAME}/retrieval_evaluation.json").read_text())
    assert report == {"dataset": NAME, "num_pairs": 1, "scores": scores}
    evaluator.reset()
    with pytest.raises(UserError, match="no image of dataset"):
        evaluator.evaluate()


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nearest registered one is 'test_retrieval'"):
        RetrievalEvaluator("test_retrievel")
    evaluator = RetrievalEvaluator(NAME)
    with pytest.raises(UserError, match=r"META_ARCHITECTURE ContrastiveCLIP"):
        evaluator.process([{"caption": "a"}], [{"sem_seg": torch.zeros(2, 4, 4)}])
    (tmp_path / "file").touch()
    evaluator = RetrievalEvaluator(NAME, output_dir=tmp_path / "file")
    evaluator.process(
        [{"caption": "a"}], [{"image_embedding": torch.ones(4), "text_embedding": torch.ones(4)}]
    )
    with pytest.raises(UserError, match="cannot write"):
        evaluator.evaluate()
