"""Draw label maps: overlays, names on regions, legends, contact sheets.

Functions take and return images as (H, W, 3) uint8 arrays, RGB. Label maps are (H, W) arrays of
class ids; the ignore label, if any, means "no class". PIL and numpy draw with a few bytes per
pixel, so that images of 100 megapixels fit.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]

_WHITE, _INK, _GREY = (255, 255, 255), (26, 28, 32), (110, 116, 124)
_BORDER = (250, 250, 250)


def text_color(background: Color) -> Color:
    """Return black or white, whichever has more contrast on `background` (RGB, 0..255).

    The contrast is WCAG's: the ratio of relative luminances, each increased by 0.05.
    """
    channels = [value / 255 for value in background]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else _WHITE


def present_classes(labels: np.ndarray, ignore_label: int | None = None) -> list[tuple[int, float]]:
    """Return classes of a label map (H, W) as (id, fraction of labelled pixels), largest first."""
    ids, counts = np.unique(labels, return_counts=True)
    counts = counts[ids != ignore_label]
    ids = ids[ids != ignore_label]
    order = np.argsort(-counts, kind="stable")
    return [(int(ids[i]), float(counts[i] / counts.sum())) for i in order]


def color_map(
    labels: np.ndarray, colors: Sequence[Color], ignore_label: int | None = None
) -> np.ndarray:
    """Paint a label map (H, W) with its class colours: (H, W, 3) uint8, ignored pixels black.

    Raises:
        ValueError: a label has no colour and is not the ignore label.
    """
    ignored = labels == ignore_label
    ids = np.where(ignored, 0, labels)
    if ids.size and not 0 <= ids.min() <= ids.max() < len(colors):
        raise ValueError(f"labels {ids.min()}..{ids.max()} do not fit {len(colors)} colors")
    painted = np.asarray(colors, dtype=np.uint8).reshape(-1, 3)[ids]
    painted[ignored] = 0
    return painted


def region_borders(labels: np.ndarray, thickness: int = 1) -> np.ndarray:
    """Return the borders between regions of a label map (H, W), `thickness` wide: (H, W) bool."""
    borders = np.zeros(labels.shape, dtype=bool)
    borders[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    borders[1:] |= labels[1:] != labels[:-1]
    for _ in range(thickness - 1):
        borders[:, :-1] |= borders[:, 1:]
        borders[:-1] |= borders[1:]
    return borders


def overlay(
    image: np.ndarray,
    labels: np.ndarray,
    colors: Sequence[Color],
    *,
    alpha: float = 0.55,
    ignore_label: int | None = None,
) -> np.ndarray:
    """Return an image with its label map on it: blended colours, light borders.

    Args:
        image: (H, W, 3) uint8, RGB.
        labels: (H, W) class ids.
        colors: one RGB colour per class.
        alpha: weight of the colours, 0 (image alone) to 1 (colours alone).
        ignore_label: the id of pixels without a class, if any; they stay unchanged.

    Returns:
        (H, W, 3) uint8.
    """
    if image.shape[:2] != labels.shape:
        raise ValueError(f"image {image.shape[:2]} and labels {labels.shape} differ in size")
    painted = color_map(labels, colors, ignore_label)
    blended = np.array(Image.blend(Image.fromarray(image), Image.fromarray(painted), alpha))
    ignored = labels == ignore_label
    blended[ignored] = image[ignored]
    # A border stays visible when the image fills a screen, about 800 pixels wide.
    blended[region_borders(labels, thickness=max(1, round(max(labels.shape) / 800)))] = _BORDER
    return blended


def interior_point(mask: np.ndarray) -> tuple[int, int]:
    """Return (row, column) of a pixel as far inside a non-empty mask (H, W) as possible.

    The mask is eroded until nothing is left; the last pixels to go are the innermost. At most 64
    samples per side are eroded, which is precise enough for the position of a name.
    """
    step = max(1, -(-max(mask.shape) // 64))
    coarse = mask[::step, ::step]
    if not coarse.any():  # too thin for the samples: any pixel of it
        row, column = np.argwhere(mask)[0]
        return int(row), int(column)
    inner = np.pad(coarse, 1)
    while inner.any():
        last = inner
        inner = last.copy()
        inner[1:-1, 1:-1] &= last[:-2, 1:-1] & last[2:, 1:-1] & last[1:-1, :-2] & last[1:-1, 2:]
    innermost = np.argwhere(last) - 1
    row, column = innermost[len(innermost) // 2] * step
    return int(row), int(column)


def name_regions(
    image: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    colors: Sequence[Color],
    *,
    smallest: float = 0.02,
    ignore_label: int | None = None,
) -> np.ndarray:
    """Write the name of each class into its region, on a plate of the class colour.

    Args:
        image: (H, W, 3) uint8, usually an :func:`overlay`.
        labels: (H, W) class ids.
        names: one name per class.
        colors: one RGB colour per class.
        smallest: classes with a smaller fraction of the labelled pixels stay unnamed.
        ignore_label: the id of pixels without a class, if any.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = labels.shape
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    size = min(max(11, round(max(height, width) / 45)), 96)
    font = ImageFont.load_default(size)
    padding = size // 3
    for class_id, fraction in present_classes(labels, ignore_label):
        if fraction < smallest:
            break  # sorted by area: the others are smaller still
        text = _shortened(names[class_id], font, width / 2 - 2 * padding)
        text_width = font.getlength(text)
        row, column = interior_point(labels == class_id)
        half = text_width / 2 + padding
        x = min(max(column, half), max(width - half, half))
        y = min(max(row, size), max(height - size, size))
        color = tuple(int(value) for value in colors[class_id])
        plate = (x - half, y - 0.75 * size, x + half, y + 0.75 * size)
        draw.rounded_rectangle(plate, radius=size // 3, fill=color)
        draw.text((x, y), text, fill=text_color(color), font=font, anchor="mm")
    return np.asarray(canvas)


def legend(
    names: Sequence[str],
    colors: Sequence[Color],
    fractions: Sequence[tuple[int, float]],
    *,
    rows: int = 24,
    column_width: int = 300,
) -> np.ndarray:
    """Return the legend of an overlay: colour, name and fraction of each class, in columns.

    Args:
        names: one name per class.
        colors: one RGB colour per class.
        fractions: (id, fraction) of the classes to show, in this order: :func:`present_classes`.
        rows: maximum number of entries in a column.
        column_width: pixels; a longer name is cut and ends in an ellipsis.

    Returns:
        (h, w, 3) uint8; without classes the line "no class".
    """
    line, font = 26, ImageFont.load_default(15)
    columns = max(1, -(-len(fractions) // rows))
    height = line * max(1, min(rows, len(fractions))) + 16
    canvas = Image.new("RGB", (columns * column_width, height), _WHITE)
    draw = ImageDraw.Draw(canvas)
    if not fractions:
        draw.text((10, height / 2), "no class", fill=_GREY, font=font, anchor="lm")
    for index, (class_id, fraction) in enumerate(fractions):
        x = index // rows * column_width + 10
        y = index % rows * line + 8 + line / 2
        color = tuple(int(value) for value in colors[class_id])
        swatch = (x, y - 8, x + 22, y + 8)
        draw.rounded_rectangle(swatch, radius=4, fill=color, outline=_GREY)
        percent = f"{100 * fraction:.1f} %"
        right = x + column_width - 20
        draw.text((right, y), percent, fill=_GREY, font=font, anchor="rm")
        room = right - font.getlength(percent) - (x + 40)
        name = _shortened(names[class_id], font, room)
        draw.text((x + 30, y), name, fill=_INK, font=font, anchor="lm")
    return np.asarray(canvas)


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str] = (),
    *,
    cell: int = 240,
    gap: int = 6,
) -> np.ndarray:
    """Return rows of images in a grid, to compare them.

    Args:
        rows: (H, W, 3) uint8 images of any sizes, the same number in every row.
        titles: one per column, written above it; none: no line for titles.
        cell: pixels of the square that each image is scaled to fit into.
        gap: pixels between the squares.

    Returns:
        (h, w, 3) uint8.
    """
    font = ImageFont.load_default(15)
    top = 28 if titles else 0
    width = len(rows[0]) * (cell + gap) + gap
    canvas = Image.new("RGB", (width, top + len(rows) * (cell + gap) + gap), _WHITE)
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(titles):
        x = gap + column * (cell + gap) + cell / 2
        draw.text((x, top / 2 + 2), _shortened(title, font, cell), _INK, font=font, anchor="mm")
    for i, images in enumerate(rows):
        for j, image in enumerate(images):
            fitted = Image.fromarray(fit(image, cell))
            x = gap + j * (cell + gap) + (cell - fitted.width) // 2
            y = top + gap + i * (cell + gap) + (cell - fitted.height) // 2
            canvas.paste(fitted, (x, y))
    return np.asarray(canvas)


def fit(image: np.ndarray, side: int) -> np.ndarray:
    """Resize an image (H, W, 3) or a label map (H, W) so that its longer side is `side`.

    Images are resized with antialiasing; label maps by nearest neighbour.
    """
    height, width = image.shape[:2]
    scale = side / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    if image.ndim == 2:
        rows = (np.arange(new_height) + 0.5) * height / new_height
        columns = (np.arange(new_width) + 0.5) * width / new_width
        return image[rows.astype(int)[:, None], columns.astype(int)[None, :]]
    resized = Image.fromarray(image).resize(
        (new_width, new_height), Image.Resampling.LANCZOS, reducing_gap=3.0
    )
    return np.asarray(resized)


def _shortened(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """Return the text, cut with an ellipsis if it is wider than `room` pixels."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text.rstrip() + "…"
