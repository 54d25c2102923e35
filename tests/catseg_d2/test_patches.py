"""Geometry of patch inference, and merging, compared with a direct implementation."""

import itertools

import pytest
import torch
from torch import Tensor

from catseg_d2.merging import MAX_WINDOW, CropLogits, _windows, merge_crops
from catseg_d2.patches import PatchGeometry, PatchPlan, WholeImage
from catseg_d2.resampling import resize
from segcore.errors import UserError
from segcore.inference.predictions import SCORES, PredictionKind, SemanticPrediction
from segcore.inference.windows import Window, WindowResize
from segcore.memory import Chunk


def merged(
    crops: list[tuple[Tensor, Tensor]],
    plan: PatchPlan | WholeImage,
    num_classes: int,
    size: tuple[int, int],
    kind: PredictionKind = SCORES,
    elements: int = 1 << 20,
) -> dict[str, Tensor]:
    prediction = SemanticPrediction(kind, num_classes, size, crops[0][0].device)
    logits = (CropLogits(*crop) for crop in crops)
    merge_crops(logits, plan, size, prediction, Chunk(elements, ""))
    return prediction.result()


def direct_merge(
    crops: list[tuple[Tensor, Tensor]], plan: PatchPlan, num_classes: int, size: tuple[int, int]
) -> Tensor:
    """As described in the paper: every class of every crop at full size."""
    scores = []
    for logits, kept in crops:
        full = torch.full((num_classes, *logits.shape[1:]), -100.0)
        full[kept] = logits
        scores.append(resize(full[None], (plan.tile, plan.tile))[0].sigmoid())
    total, count = torch.zeros(num_classes, *plan.size), torch.zeros(plan.size)
    origins = itertools.product(*plan.starts)
    for (y, x), score in zip(origins, scores[plan.global_view :], strict=True):
        total[:, y : y + plan.tile, x : x + plan.tile] += score
        count[y : y + plan.tile, x : x + plan.tile] += 1
    total /= count
    if plan.global_view:
        total = (total + resize(scores[0][None], plan.size)[0]) / 2
    return resize(total[None], size)[0]


def random_crops(number: int, kept: int, num_classes: int) -> list[tuple[Tensor, Tensor]]:
    return [
        (3 * torch.randn(kept, 8, 8), torch.randperm(num_classes)[:kept].sort().values)
        for _ in range(number)
    ]


def test_published_geometry() -> None:
    plan = PatchGeometry().plan(480, 854)
    assert plan.size == (640, 640)
    assert plan.starts == ((0, 256), (0, 256))
    assert len(plan) == 5
    assert [crop.shape for crop in plan.cut(torch.zeros(3, 480, 854))] == 5 * [(3, 384, 384)]


def test_kept_aspect_ratio_covers_the_image() -> None:
    plan = PatchGeometry(keep_aspect_ratio=True, global_view=False).plan(300, 1000)
    assert plan.size == (640, 2133)
    covered = torch.zeros(plan.size)
    for index in range(len(plan)):
        tile = plan.tile_window(index)
        assert tile.bottom <= 640 and tile.right <= 2133
        tile.of(covered).add_(1)
    assert (covered > 0).all()
    assert len(list(plan.cut(torch.zeros(3, 300, 1000)))) == len(plan)


def test_tiles_at_native_size_are_not_resized() -> None:
    geometry = PatchGeometry(output_size=0, tile=40, global_view=False)
    image = torch.randint(0, 256, (3, 90, 130), dtype=torch.uint8)
    plan = geometry.plan(90, 130)
    assert plan.size == (90, 130)
    for index, crop in enumerate(plan.cut(image)):
        assert torch.equal(crop, plan.tile_window(index).of(image).float())
    # A side that is shorter than a tile is enlarged to it, and the other in proportion.
    assert geometry.plan(20, 100).size == (40, 200)


@pytest.mark.parametrize("global_view", [True, False])
def test_crops_within_a_window(global_view: bool) -> None:
    plan = PatchGeometry(output_size=0, tile=40, global_view=global_view).plan(90, 130)
    for window in (Window(0, 1, 0, 1), Window(26, 41, 39, 80), Window(89, 90, 0, 130)):
        found = [
            index
            for index in range(len(plan))
            if plan.tile_window(index) is None or window.within(plan.tile_window(index))
        ]
        assert plan.crops_within(window) == found


@pytest.mark.parametrize(
    ("source", "target", "window"),
    [
        ((7, 9), (20, 31), Window(3, 17, 0, 31)),
        ((40, 30), (11, 30), Window(2, 5, 7, 8)),
        ((5, 5), (5, 5), Window(0, 5, 2, 4)),
    ],
)
def test_a_resized_window_equals_the_whole_resized(source, target, window: Window) -> None:
    maps = torch.randn(3, *source)
    part = WindowResize(source, target, window)
    torch.testing.assert_close(part(part.needs.of(maps)), window.of(resize(maps[None], target)[0]))


GEOMETRIES = {
    "published": PatchGeometry(output_size=64, tile=40),
    "much overlap": PatchGeometry(output_size=64, tile=40, overlap=0.7),
    "tiles alone": PatchGeometry(output_size=64, tile=40, global_view=False),
    "ratio kept": PatchGeometry(output_size=48, tile=40, keep_aspect_ratio=True),
    "native": PatchGeometry(output_size=0, tile=40),
}


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("size", [(50, 90), (9, 120), (1, 1)])
@pytest.mark.parametrize("on_gpu", [False, True], ids=["small windows", "windows of a GPU"])
def test_merging_equals_a_direct_implementation(name: str, size, on_gpu, monkeypatch) -> None:
    """Windows, chunks and dropped classes change no score; labels are the arg-max everywhere."""
    torch.manual_seed(0)
    monkeypatch.setattr("catseg_d2.merging.batches_crops", lambda device: on_gpu)
    monkeypatch.setattr("catseg_d2.merging.MAX_WINDOW", 23)
    monkeypatch.setattr("catseg_d2.merging.GPU_WINDOW", 60)
    plan = GEOMETRIES[name].plan(50, 90)
    crops = random_crops(len(plan), kept=6, num_classes=15)
    scores = merged(crops, plan, 15, size)["sem_seg"]
    torch.testing.assert_close(scores, direct_merge(crops, plan, 15, size), rtol=1e-5, atol=1e-6)
    for elements in (1500, 1 << 30):
        prediction = merged(crops, plan, 15, size, PredictionKind("labels"), elements)
        assert prediction.keys() == {"sem_seg_labels"}
        assert torch.equal(prediction["sem_seg_labels"], scores.argmax(dim=0))


def test_whole_image() -> None:
    image = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)
    plan = WholeImage((MAX_WINDOW + 9, 8))
    assert torch.equal(*plan.cut(image), image.float())
    logits, kept = torch.randn(2, 4, 4), torch.tensor([0, 2])
    scores = merged([(logits, kept)], plan, 3, plan.size)["sem_seg"]
    assert (scores[1] == 0).all()
    torch.testing.assert_close(scores[kept], resize(logits[None].sigmoid(), plan.size)[0])


def test_a_gpu_merges_an_image_in_one_window() -> None:
    """And a larger one in the fewest windows that start where a tile starts."""
    for geometry, size in ((PatchGeometry(), (480, 640)), (PatchGeometry(), (3000, 100))):
        windows = list(_windows(geometry.plan(*size), size, on_gpu=True))
        assert [window.size for window in windows] == (
            [size] if size[0] < 2048 else [(1200, 100), (1800, 100)]
        )
        assert len(windows) < len(list(_windows(geometry.plan(*size), size, on_gpu=False)))


def test_crops_are_read_late_and_freed_early() -> None:
    """A long image never keeps more than two columns of tiles and the global view."""
    plan = PatchGeometry(output_size=0, tile=40, overlap=0.5).plan(400, 40)
    alive = set()

    class Counted(CropLogits):
        def __del__(self) -> None:
            alive.discard(id(self))

    def produce():
        for logits, kept in random_crops(len(plan), 2, 2):
            crop = Counted(logits, kept)
            alive.add(id(crop))
            most.append(len(alive))
            yield crop
            del crop

    most: list[int] = []
    prediction = SemanticPrediction(SCORES, 2, (400, 40), torch.device("cpu"))
    merge_crops(produce(), plan, (400, 40), prediction, Chunk(1 << 20, ""))
    assert len(most) == len(plan) == 20
    assert max(most) <= 4


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"overlap": 1.0}, "OVERLAP"), ({"overlap": -0.1}, "OVERLAP"), ({"tile": 700}, "TILE")],
)
def test_invalid_geometry_is_one_message(settings, key) -> None:
    with pytest.raises(UserError, match=key):
        PatchGeometry(**settings)


@pytest.mark.parametrize("geometry", [{"keep_aspect_ratio": True}, {"output_size": 0}])
def test_a_very_narrow_image_is_one_message(geometry) -> None:
    with pytest.raises(UserError, match=r"2560 x 1 pixels.*KEEP_ASPECT_RATIO"):
        PatchGeometry(**geometry).plan(1, 2560)
