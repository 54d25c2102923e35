"""Draw predictions and records on an image, with PIL.

Images are (H, W, 3) uint8, RGB. Colours are three or four numbers in 0..1 or a name, coordinates
are pixels of the image whatever the scale of the output is. What is drawn follows Detectron2's
interface; its pixels are not Detectron2's, which draws with matplotlib.
"""

from collections.abc import Sequence
from enum import Enum, unique
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from detectron2._absent import absent_message
from detectron2.data import Metadata, MetadataCatalog
from detectron2.data.detection_utils import read_image
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils._drawing import (
    Color,
    GenericMask,
    VisImage,
    as_array,
    distinct_color,
    lighter,
    to_rgb,
)

_SMALLEST_LABELLED = 100  # pixels of an object whose label would hide it; it stands beside then


_OFF_WHITE = (1.0, 1.0, 240 / 255)  # of the edges between classes


@unique
class ColorMode(Enum):
    """How instances are coloured: one colour each, by class, or on a grey image."""

    IMAGE = 0
    SEGMENTATION = 1
    IMAGE_BW = 2


def _create_text_labels(
    classes: Sequence[int] | None,
    scores: Sequence[float] | None,
    class_names: Sequence[str] | None,
    is_crowd: Sequence[bool] | None = None,
) -> list[str] | None:
    """Return the labels of objects, like "cat 97%"; the id of a class without a name."""
    labels = None
    if classes is not None:
        names = class_names or ()
        labels = [names[i] if 0 <= i < len(names) else str(int(i)) for i in map(int, classes)]
    if scores is not None:
        percents = [f"{float(score) * 100:.0f}%" for score in scores]
        pairs = zip(labels, percents, strict=True) if labels is not None else zip(percents)
        labels = [" ".join(pair) for pair in pairs]
    if labels is not None and is_crowd is not None:
        labels = [f"{a}|crowd" if crowd else a for a, crowd in zip(labels, is_crowd, strict=True)]
    return labels


class Visualizer:
    """Draws predictions of a model, or annotations of a data set, on an image.

    Args:
        img_rgb: (H, W, 3), RGB, 0..255.
        metadata: of the data set: names and colours of its classes.
        scale: sides of the output, in those of the image.
        instance_mode: see :class:`ColorMode`.
        font_size_scale: size of texts, in the usual one.
    """

    def __init__(
        self,
        img_rgb: np.ndarray,
        metadata: Metadata | None = None,
        scale: float = 1.0,
        instance_mode: ColorMode = ColorMode.IMAGE,
        font_size_scale: float = 1.0,
    ) -> None:
        self.img = np.asarray(img_rgb).clip(0, 255).astype(np.uint8)
        self.metadata = MetadataCatalog.get("__nonexist__") if metadata is None else metadata
        self.output = VisImage(self.img, scale=scale)
        self.cpu_device = torch.device("cpu")
        self._instance_mode = instance_mode
        area = self.output.height * self.output.width
        self._default_font_size = max(area**0.5 / 45, 10 / scale) * font_size_scale

    def __getattr__(self, name: str) -> Any:
        text = f"{type(self).__name__} has no attribute {name!r}"
        if name.startswith(("draw_", "overlay_")):
            text = absent_message(f"{type(self).__name__}.{name}")
        raise AttributeError(text)

    def get_output(self) -> VisImage:
        """The image with what has been drawn."""
        return self.output

    # ---- predictions and records

    def draw_instance_predictions(self, predictions: Instances, jittering: bool = True) -> VisImage:
        """Draw ``pred_masks`` and ``pred_boxes``, labelled by ``pred_classes`` and ``scores``."""
        boxes, scores, classes, masks = (
            predictions.get(name) if predictions.has(name) else None
            for name in ("pred_boxes", "scores", "pred_classes", "pred_masks")
        )
        labels = _create_text_labels(classes, scores, self.metadata.get("thing_classes"))
        masks = None if masks is None else self._convert_masks(masks)
        colors, alpha = None, 0.5
        if self._instance_mode == ColorMode.SEGMENTATION and classes is not None:
            colors = [self._class_color("thing_colors", int(label)) for label in classes]
            colors = [self._jitter(color) for color in colors] if jittering else colors
            alpha = 0.8
        if self._instance_mode == ColorMode.IMAGE_BW:
            found = None if not masks else np.any([each.mask for each in masks], axis=0)
            self.output.reset_image(self._create_grayscale_image(found))
            alpha = 0.3
        self.overlay_instances(
            boxes=boxes, labels=labels, masks=masks, assigned_colors=colors, alpha=alpha
        )
        return self.output

    def draw_sem_seg(
        self,
        sem_seg: torch.Tensor | np.ndarray,
        area_threshold: int | None = None,
        alpha: float = 0.8,
        draw_text: bool = True,
        edge_color: Color = _OFF_WHITE,
    ) -> VisImage:
        """Draw a map (H, W) of class ids; regions of less than ``area_threshold`` get no name."""
        labels = as_array(sem_seg)
        names = self.metadata.get("stuff_classes") or ()
        ids, areas = np.unique(labels, return_counts=True)
        for index in np.argsort(-areas, kind="stable"):
            label = int(ids[index])
            if label < 0 or (names and label >= len(names)):
                continue
            self.draw_binary_mask(
                labels == label,
                color=self._class_color("stuff_colors", label),
                edge_color=edge_color,
                text=(names[label] if names else str(label)) if draw_text else None,
                alpha=alpha,
                area_threshold=area_threshold,
            )
        return self.output

    def draw_panoptic_seg(
        self,
        panoptic_seg: torch.Tensor | np.ndarray,
        segments_info: Sequence[dict] | None,
        area_threshold: int | None = None,
        alpha: float = 0.7,
    ) -> VisImage:
        """Draw a map (H, W) of segment ids.

        Args:
            panoptic_seg: the map.
            segments_info: "id", "category_id" and "isthing" of each segment; None: the ids are
                ``category_id * metadata.label_divisor`` and more.
            area_threshold: pixels that a segment of stuff needs to be named.
            alpha: opacity.
        """
        ids = as_array(panoptic_seg)
        segments = self._segments_of(ids) if segments_info is None else segments_info
        return self._draw_segments(ids, segments, area_threshold, alpha, {})

    draw_panoptic_seg_predictions = draw_panoptic_seg

    def _draw_segments(
        self,
        ids: np.ndarray,
        segments: Sequence[dict],
        area_threshold: int | None,
        alpha: float,
        thing_colors: dict[int, Color],
    ) -> VisImage:
        """:meth:`draw_panoptic_seg`, with colours of some things by segment id."""
        if self._instance_mode == ColorMode.IMAGE_BW:
            known = np.isin(ids, [segment["id"] for segment in segments])
            self.output.reset_image(self._create_grayscale_image(known))
        # Things cover the stuff behind them.
        for number, segment in enumerate(sorted(segments, key=lambda each: bool(each["isthing"]))):
            label, is_thing = segment["category_id"], bool(segment["isthing"])
            names = self.metadata.get("thing_classes" if is_thing else "stuff_classes")
            scores = [segment["score"]] if segment.get("score") is not None else None
            color = thing_colors.get(segment["id"], distinct_color(number))
            self.draw_binary_mask(
                ids == segment["id"],
                color=color if is_thing else self._class_color("stuff_colors", label),
                text=_create_text_labels([label], scores, names)[0],
                alpha=alpha,
                area_threshold=None if is_thing else area_threshold,
            )
        return self.output

    def draw_dataset_dict(self, dic: dict) -> VisImage:
        """Draw the annotations of a record in Detectron2's format."""
        annotations = dic.get("annotations")
        if annotations:
            outlines = [each.get("segmentation") for each in annotations]
            boxes = [
                BoxMode.convert(each["bbox"], BoxMode(each["bbox_mode"]), BoxMode.XYXY_ABS)
                for each in annotations
                if "bbox" in each
            ]
            classes = [each["category_id"] for each in annotations]
            crowd = [each.get("iscrowd", 0) for each in annotations]
            names = self.metadata.get("thing_classes")
            self.overlay_instances(
                labels=_create_text_labels(classes, None, names, crowd),
                boxes=boxes if len(boxes) == len(annotations) else None,
                masks=outlines if all(outlines) else None,
            )
        sem_seg = dic.get("sem_seg")
        if sem_seg is None and "sem_seg_file_name" in dic:
            sem_seg = read_image(dic["sem_seg_file_name"])
        if sem_seg is not None:
            self.draw_sem_seg(sem_seg, area_threshold=0, alpha=0.5)
        if "pan_seg_file_name" in dic:
            parts = read_image(dic["pan_seg_file_name"], "RGB").astype(np.int64)
            self.draw_panoptic_seg(parts @ (1, 256, 256**2), dic["segments_info"], 0, 0.5)
        return self.output

    def overlay_instances(
        self,
        *,
        boxes: Boxes | np.ndarray | Sequence | None = None,
        labels: Sequence[str] | None = None,
        masks: Any = None,
        keypoints: Any = None,
        assigned_colors: Sequence[Color] | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Draw N objects, the large ones first.

        Args:
            boxes: (N, 4), x0, y0, x1, y1.
            labels: of each object.
            masks: anything that :class:`GenericMask` takes, of each object.
            keypoints: not drawn here.
            assigned_colors: of each object; by default one of its own.
            alpha: opacity of masks.
        """
        if keypoints is not None:
            raise NotImplementedError(absent_message("Drawing key points"))
        boxes = None if boxes is None else self._convert_boxes(boxes)
        masks = None if masks is None else self._convert_masks(masks)
        given = [each for each in (boxes, masks, labels) if each is not None]
        if not given or not len(given[0]):
            return self.output
        number = len(given[0])
        if any(len(each) != number for each in given):
            raise AssertionError(f"boxes, masks and labels differ in number: {[*map(len, given)]}")
        colors = assigned_colors or [distinct_color(index) for index in range(number)]
        corners = [mask.bbox() for mask in masks] if boxes is None and masks else boxes
        areas = np.zeros(number)
        if corners is not None:
            corners = np.asarray(corners)
            areas = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
        for index in np.argsort(-areas, kind="stable"):
            if masks is not None:
                self.draw_binary_mask(masks[index].mask, colors[index], alpha=alpha)
            if boxes is not None:
                self.draw_box(boxes[index], edge_color=colors[index])
        for index in np.argsort(-areas, kind="stable"):  # no object hides a label
            if labels is not None and corners is not None:
                self._label_box(labels[index], corners[index], areas[index], colors[index])
        return self.output

    # ---- shapes

    def draw_binary_mask(
        self,
        binary_mask: np.ndarray,
        color: Color | None = None,
        *,
        edge_color: Color | None = None,
        text: str | None = None,
        alpha: float = 0.5,
        area_threshold: int | None = 10,
    ) -> VisImage:
        """Draw a mask (H, W).

        Args:
            binary_mask: the mask.
            color: by default a new one.
            edge_color: of its edge, by default the mask's own.
            text: written on it.
            alpha: opacity.
            area_threshold: a smaller mask is drawn, but gets no text.
        """
        mask = as_array(binary_mask).astype(bool)
        if not mask.any():
            return self.output
        color = distinct_color(int(mask.sum())) if color is None else color
        self.output.paint(self._coverage(255 * mask), color, alpha)
        inner = np.pad(mask, 1, mode="edge")
        inner = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
        self.output.paint(self._coverage(255 * (mask & ~inner)), edge_color or color, 1.0)
        if text is not None and mask.sum() >= (area_threshold or 0):
            rows, columns = mask.nonzero()
            middle = np.abs(rows - np.median(rows)) + np.abs(columns - np.median(columns))
            nearest = middle.argmin()  # a point of the mask, which the centre of a ring is not
            self.draw_text(text, (columns[nearest], rows[nearest]), color=lighter(color))
        return self.output

    def draw_polygon(
        self,
        segment: np.ndarray,
        color: Color,
        edge_color: Color | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Draw a polygon, points (n, 2) of x and y."""
        points = self._points(np.asarray(segment))
        self._shape("polygon", points, color, alpha)
        self._shape("line", [*points, points[0]], edge_color or color, 1.0, width=1)
        return self.output

    def draw_box(
        self,
        box_coord: Sequence[float],
        alpha: float = 0.5,
        edge_color: Color = "g",
        line_style: str = "-",
    ) -> VisImage:
        """Draw the edges of a box x0, y0, x1, y1; every line style is a full line here."""
        x0, y0, x1, y1 = (float(value) for value in box_coord)
        corners = [(min(x0, x1), min(y0, y1)), (max(x0, x1), max(y0, y1))]
        width = max(round(self._default_font_size * self.output.scale / 4), 1)
        return self._shape("rectangle", self._points(corners), edge_color, alpha, width=width)

    def draw_line(
        self,
        x_data: Sequence[float],
        y_data: Sequence[float],
        color: Color,
        linestyle: str = "-",
        linewidth: float | None = None,
    ) -> VisImage:
        """Draw a line through points; every line style is a full line here."""
        width = self._default_font_size / 3 if linewidth is None else linewidth
        points = self._points(np.stack([x_data, y_data], axis=1))
        return self._shape("line", points, color, 1.0, width=round(max(width, 1)))

    def draw_circle(
        self, circle_coord: Sequence[float], color: Color, radius: float = 3
    ) -> VisImage:
        """Draw a disc around a point x, y."""
        x, y = (float(value) for value in circle_coord)
        corners = [(x - radius, y - radius), (x + radius, y + radius)]
        return self._shape("ellipse", self._points(corners), color, 1.0)

    def draw_text(
        self,
        text: str,
        position: Sequence[float],
        *,
        font_size: float | None = None,
        color: Color = "g",
        horizontal_alignment: str = "center",
        rotation: float = 0,
    ) -> VisImage:
        """Write a text in a dark box below a point x, y.

        Args:
            text: what to write.
            position: x, y of the top of the box: its left, centre or right as
                ``horizontal_alignment`` says.
            font_size: pixels of the image.
            color: of the text.
            horizontal_alignment: "left", "center" or "right".
            rotation: degrees, counter-clockwise.
        """
        size = (font_size or self._default_font_size) * self.output.scale
        font = ImageFont.load_default(max(size, 6))
        left, top, right, bottom = (round(each) for each in font.getbbox(text))
        patch = Image.new("RGBA", (right - left + 4, bottom - top + 4), (0, 0, 0, 204))
        draw = ImageDraw.Draw(patch)
        draw.text((2 - left, 2 - top), text, fill=to_rgb(color), font=font)
        patch = patch.rotate(rotation, expand=True) if rotation else patch
        (x, y), width = self._points([position])[0], patch.width
        x -= {"left": 0, "center": width / 2, "right": width}[horizontal_alignment]
        # As much of it inside as fits.
        x = round(max(min(x, self.output.canvas.width - width), 0))
        y = round(max(min(y, self.output.canvas.height - patch.height), 0))
        self.output.canvas.paste(patch, (x, y), patch)
        return self.output

    # ---- parts

    def _shape(
        self, kind: str, points: Any, color: Color, alpha: float, width: int | None = None
    ) -> VisImage:
        """Draw a shape of PIL; without ``width`` it is filled."""
        coverage = Image.new("L", self.output.canvas.size)
        draw = getattr(ImageDraw.Draw(coverage), kind)
        if kind == "line":
            draw(points, fill=255, width=width)
        elif width is None:
            draw(points, fill=255)
        else:
            draw(points, outline=255, width=width)
        self.output.paint(coverage, color, alpha)
        return self.output

    def _points(self, points: Any) -> list[tuple[float, float]]:
        """Points of the image in those of the output."""
        return [(float(x) * self.output.scale, float(y) * self.output.scale) for x, y in points]

    def _coverage(self, mask: np.ndarray) -> Image.Image:
        """A map (H, W) of 0..255 in the size of the output."""
        coverage = Image.fromarray(mask.astype(np.uint8))
        size = self.output.canvas.size
        return coverage if coverage.size == size else coverage.resize(size, Image.NEAREST)

    def _label_box(self, text: str, box: np.ndarray, area: float, color: Color) -> None:
        x, y = box[0], box[1]
        if area < _SMALLEST_LABELLED:
            y = box[3]
        self.draw_text(text, (x, y), color=lighter(color), horizontal_alignment="left")

    def _class_color(self, field: str, label: int) -> tuple[float, ...]:
        colors = self.metadata.get(field) or ()
        if 0 <= label < len(colors):
            return tuple(value / 255 for value in colors[label])
        return distinct_color(label)

    def _jitter(self, color: Sequence[float]) -> tuple[float, ...]:
        """Return a similar colour, so that objects of a class differ."""
        shift = np.random.uniform(-0.15, 0.15, 3)
        return tuple(np.clip(np.asarray(color[:3]) + shift, 0, 1).tolist())

    def _create_grayscale_image(self, mask: np.ndarray | None = None) -> np.ndarray:
        """The image without colours outside of a mask (H, W)."""
        grey = self.img.mean(axis=2, keepdims=True).repeat(3, axis=2).astype(np.uint8)
        return grey if mask is None else np.where(np.asarray(mask, bool)[..., None], self.img, grey)

    def _convert_boxes(self, boxes: Any) -> np.ndarray:
        boxes = boxes.tensor if isinstance(boxes, Boxes) else boxes
        return as_array(boxes).astype(np.float64).reshape(-1, 4)

    def _convert_masks(self, masks: Any) -> list[GenericMask]:
        size = self.output.height, self.output.width
        return [
            mask if isinstance(mask, GenericMask) else GenericMask(mask, *size) for mask in masks
        ]

    def _segments_of(self, ids: np.ndarray) -> list[dict]:
        divisor = self.metadata.label_divisor
        things = set((self.metadata.get("thing_dataset_id_to_contiguous_id") or {}).values())
        labels = {int(number): int(number) // divisor for number in np.unique(ids) if number >= 0}
        return [
            {"id": number, "category_id": label, "isthing": label in things}
            for number, label in labels.items()
        ]
