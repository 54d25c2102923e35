"""A window of a resized map equals that window of the whole resized map."""

import pytest
import torch
import torch.nn.functional as F

from segcore.inference.windows import Window, WindowResize

SIZES = (
    ((5, 7), (16, 33)),
    ((33, 16), (9, 5)),
    ((4, 4), (4, 4)),
    ((1, 3), (5, 1)),
    ((3, 6), (1, 6)),
)


@pytest.mark.parametrize(("source", "target"), SIZES)
@pytest.mark.parametrize("align_corners", [False, True])
def test_any_window(source: tuple[int, int], target: tuple[int, int], align_corners: bool) -> None:
    maps = torch.randn(2, *source, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(maps[None], target, mode="bilinear", align_corners=align_corners)[0]
    height, width = target
    for window in (Window(0, height, 0, width), Window(height // 2, height, 0, (width + 1) // 2)):
        resize = WindowResize(source, target, window, align_corners)
        torch.testing.assert_close(resize(resize.needs.of(maps)), window.of(whole))


def test_points_that_an_inference_has_cached_serve_training() -> None:
    args = (6, 7), (17, 19), Window(1, 15, 2, 18)
    with torch.inference_mode():
        WindowResize(*args)(torch.rand(1, 6, 7))
    maps = torch.rand(1, 6, 7, requires_grad=True)
    resize = WindowResize(*args)
    resize(resize.needs.of(maps)).sum().backward()
    assert maps.grad.sum() == pytest.approx(14 * 16)
