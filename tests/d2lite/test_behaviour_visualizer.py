"""Overlays on images and frames: coloured pixels, and constant colours of objects."""

import numpy as np
import pytest
import torch
from detectron2.data import Metadata
from detectron2.data.detection_utils import read_image
from detectron2.structures import Boxes, BoxMode, Instances
from pycocotools import mask as rle

pytest.importorskip("detectron2.utils.visualizer", reason="Detectron2's own needs OpenCV")
from detectron2.utils.video_visualizer import VideoVisualizer
from detectron2.utils.visualizer import (
    ColorMode,
    GenericMask,
    VisImage,
    Visualizer,
    _create_text_labels,
)

HEIGHT, WIDTH = 120, 160


@pytest.fixture
def metadata() -> Metadata:
    return Metadata(
        name="overlay",
        thing_classes=["cat", "dog"],
        thing_colors=[(220, 20, 60), (0, 82, 255)],
        stuff_classes=["sky", "grass", "water"],
        stuff_colors=[(0, 0, 250), (0, 250, 0), (250, 0, 0)],
    )


@pytest.fixture
def image() -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), 128, dtype=np.uint8)


def rectangle(top: int, left: int, bottom: int, right: int) -> torch.Tensor:
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def objects(*masks: torch.Tensor, classes: tuple[int, ...] = (0, 1)) -> Instances:
    masks = torch.stack(masks)
    corners = [(mask.nonzero().min(dim=0)[0], mask.nonzero().max(dim=0)[0] + 1) for mask in masks]
    return Instances(
        (HEIGHT, WIDTH),
        pred_masks=masks,
        pred_classes=torch.tensor(classes[: len(masks)]),
        scores=torch.tensor([0.97, 0.5][: len(masks)]),
        pred_boxes=Boxes(torch.stack([torch.cat([a.flip(0), b.flip(0)]) for a, b in corners])),
    )


def changed(overlay: VisImage, image: np.ndarray) -> np.ndarray:
    """(H, W) bool."""
    drawing = overlay.get_image()
    assert drawing.shape == image.shape and drawing.dtype == np.uint8
    return (np.abs(drawing.astype(int) - image) > 3).any(axis=2)


def test_names_of_objects() -> None:
    names = ["cat", "dog"]
    assert _create_text_labels([1, 0], [0.5, 0.974], names) == ["dog 50%", "cat 97%"]
    assert _create_text_labels([1], None, None) == ["1"]
    assert _create_text_labels([0, 1], None, names, [0, 1]) == ["cat", "dog|crowd"]
    assert _create_text_labels(None, None, names) is None


def test_masks_of_every_form(image) -> None:
    mask = rectangle(10, 20, 30, 50).numpy()
    encoded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    polygon = [np.array([20, 10, 50, 10, 50, 30, 20, 30])]
    for form in (mask, encoded, polygon):
        found = GenericMask(form, HEIGHT, WIDTH)
        assert found.mask.shape == (HEIGHT, WIDTH) and found.area() == pytest.approx(600, abs=80)
        assert found.bbox() == pytest.approx([20, 10, 50, 30], abs=1)


def test_instances(metadata, image) -> None:
    masks = rectangle(20, 20, 100, 60), rectangle(40, 90, 110, 150)
    overlay = Visualizer(image, metadata).draw_instance_predictions(objects(*masks))
    found = changed(overlay, image)
    assert all(found[mask.numpy()].mean() > 0.9 for mask in masks)
    assert not found[115:, 62:88].any()
    inside = overlay.get_image()[95, 30], overlay.get_image()[105, 100]
    assert (inside[0] != inside[1]).any()  # a colour each


def test_instances_without_any(metadata, image) -> None:
    overlay = Visualizer(image, metadata).draw_instance_predictions(Instances((HEIGHT, WIDTH)))
    assert not changed(overlay, image).any()


def test_instances_of_a_class_have_its_colour(metadata, image) -> None:
    visualizer = Visualizer(image, metadata, instance_mode=ColorMode.SEGMENTATION)
    mask = rectangle(10, 10, 110, 150)
    overlay = visualizer.draw_instance_predictions(objects(mask), jittering=False).get_image()
    assert overlay[100, 140] == pytest.approx(0.2 * 128 + 0.8 * np.array([220, 20, 60]), abs=4)


def test_colours_stay_in_the_mask(metadata) -> None:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0] = 240
    visualizer = Visualizer(image, metadata, instance_mode=ColorMode.IMAGE_BW)
    overlay = visualizer.draw_instance_predictions(objects(rectangle(0, 0, 60, 80))).get_image()
    assert len(set(overlay[110, 150].tolist())) == 1


@pytest.mark.parametrize("alpha", [0.4, 0.8])
def test_semantic_maps(metadata, image, alpha: float) -> None:
    labels = torch.zeros(HEIGHT, WIDTH, dtype=torch.int64)
    labels[:, 80:] = 2
    labels[:10, :10] = 255  # no class
    overlay = Visualizer(image, metadata).draw_sem_seg(labels, alpha=alpha)
    drawing = overlay.get_image()
    for pixel, color in (((100, 20), (0, 0, 250)), ((20, 150), (250, 0, 0))):
        expected = (1 - alpha) * 128 + alpha * np.array(color)
        assert drawing[pixel] == pytest.approx(expected, abs=4)
    assert (drawing[4, 4] == 128).all()


def test_panoptic_maps(metadata, image) -> None:
    ids = torch.ones(HEIGHT, WIDTH, dtype=torch.int32)
    ids[30:90, 40:120] = 2
    ids[:10] = 0
    segments = [
        {"id": 1, "isthing": False, "category_id": 1},
        {"id": 2, "isthing": True, "category_id": 1, "score": 0.9},
    ]
    visualizer = Visualizer(image, metadata)
    overlay = visualizer.draw_panoptic_seg_predictions(ids, segments)
    drawing = overlay.get_image()
    assert drawing[100, 20] == pytest.approx(0.3 * 128 + 0.7 * np.array([0, 250, 0]), abs=4)
    assert (drawing[85, 50] != drawing[100, 20]).any() and (drawing[4, 100] == 128).all()
    assert visualizer.get_output() is overlay


def test_a_record_of_a_data_set(metadata, image) -> None:
    record = {
        "annotations": [
            {
                "bbox": [20, 30, 60, 50],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": 1,
                "segmentation": [[20, 30, 80, 30, 80, 80, 20, 80]],
                "iscrowd": 0,
            }
        ]
    }
    found = changed(Visualizer(image, metadata).draw_dataset_dict(record), image)
    assert found[40:75, 25:75].mean() > 0.9 and not found[90:].any()


def test_shapes(image) -> None:
    visualizer = Visualizer(image)
    visualizer.draw_box((20, 20, 60, 60), edge_color="r", alpha=1.0)
    visualizer.draw_circle((100, 40), color="b", radius=6)
    visualizer.draw_line([5, 150], [100, 100], color=(0.0, 1.0, 0.0), linewidth=3)
    visualizer.draw_polygon(np.array([[120, 60], [150, 60], [150, 90]]), "w", alpha=1.0)
    drawing = visualizer.draw_text("name", (40, 75), color="w").get_image().astype(int)
    assert drawing[20, 40, 0] > 200 > 60 > drawing[20, 40, 2]
    assert (drawing[40, 40] == 128).all()  # a box is its edges
    assert drawing[40, 100, 2] > 200 and drawing[100, 80, 1] > 200 and drawing[70, 145].min() > 200
    assert (drawing[75:95, 25:56] != 128).any()


def test_scale_and_files(metadata, image, tmp_path) -> None:
    visualizer = Visualizer(image, metadata, scale=2.0)
    overlay = visualizer.draw_instance_predictions(objects(rectangle(20, 20, 100, 60)))
    assert overlay.get_image().shape == (2 * HEIGHT, 2 * WIDTH, 3)
    assert (overlay.height, overlay.width) == (HEIGHT, WIDTH)
    assert (overlay.get_image()[180, 100] != 128).any()
    overlay.save(str(tmp_path / "overlay.png"))
    written = read_image(str(tmp_path / "overlay.png"), "RGB")
    assert (written == overlay.get_image()).all()


def test_an_object_of_a_video_keeps_its_colour(metadata, image) -> None:
    """Whatever the order of the objects in a frame."""
    visualizer = VideoVisualizer(metadata)
    drawings = []
    for shift in range(4):
        masks = [rectangle(30, 10 + shift, 70, 60), rectangle(60, 90, 110, 150 - shift)]
        found = objects(*masks)
        overlay = visualizer.draw_instance_predictions(
            image, found[[0, 1] if shift % 2 else [1, 0]]
        )
        drawings.append(overlay.get_image())
    for pixel in ((65, 55), (105, 100)):
        assert len({tuple(drawing[pixel].tolist()) for drawing in drawings}) == 1
    assert (drawings[0][65, 55] != drawings[0][105, 100]).any()


def test_maps_of_a_video(metadata, image) -> None:
    visualizer = VideoVisualizer(metadata)
    labels = torch.full((HEIGHT, WIDTH), 1)
    assert changed(visualizer.draw_sem_seg(image, labels), image).mean() > 0.9
    colors = set()
    for number in (1, 4):  # ids of segments are not those of the frame before
        ids = torch.zeros(HEIGHT, WIDTH, dtype=torch.int32)
        ids[20:100, 40:120] = number
        segments = [{"id": number, "isthing": True, "category_id": 0}]
        overlay = visualizer.draw_panoptic_seg_predictions(image, ids, segments)
        colors.add(tuple(overlay.get_image()[90, 50].tolist()))
    assert len(colors) == 1
