"""Outlines of masks that lie on the edges of pixels, so that they enclose exactly these.

Coordinates are x, y of pixel corners: the pixel of row r and column c is the square from (c, r) to
(c + 1, r + 1). Pixels that only touch by their corners belong to different polygons.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

Point = tuple[int, int]
Ring = list[Point]  # its corners; the last one is joined to the first one

# Patterns of the four pixels around a corner of the grid: one bit each, upper left to lower right.
UPPER_LEFT, UPPER_RIGHT, LOWER_LEFT, LOWER_RIGHT = 1, 2, 4, 8
FALLING, RISING = UPPER_LEFT | LOWER_RIGHT, UPPER_RIGHT | LOWER_LEFT  # two that touch by a corner
SINGLE = (1, 2, 4, 8, 7, 11, 13, 14)  # one pixel, or all but one: the outline turns
CORNERS = np.zeros(16, dtype=np.int64)  # rings that turn at a corner of the grid, by its pattern
CORNERS[[*SINGLE]], CORNERS[[FALLING, RISING]] = 1, 2


@dataclass(frozen=True)
class Polygon:
    """A region of pixels that hang together by their sides.

    Attributes:
        exterior: its outer ring, counterclockwise in the plane of x and y.
        holes: rings that are left out, clockwise; a ring may touch another in a point.
    """

    exterior: Ring
    holes: list[Ring]


def mask_polygons(mask: np.ndarray) -> list[Polygon]:
    """Return the polygons of a mask (H, W) bool."""
    return [_polygon(region, left, top) for region, left, top in _regions(mask)]


def polygons_without_holes(mask: np.ndarray) -> list[Ring]:
    """Return rings that together enclose the pixels of a mask, for formats without holes: regions
    with holes are cut along rows of pixels, once through each hole."""
    rings = []
    for region, left, top in _regions(mask):
        polygon = _polygon(region, left, top)
        rows = sorted({min(y for _, y in hole) + 1 - top for hole in polygon.holes})
        if not rows:
            rings.append(polygon.exterior)
            continue
        for start, stop in zip([0, *rows], [*rows, len(region)], strict=True):
            for part, x, y in _regions(region[start:stop]):
                rings.append(_polygon(part, left + x, top + start + y).exterior)
    return rings


def _regions(mask: np.ndarray) -> Iterator[tuple[np.ndarray, int, int]]:
    """The regions of a mask, each cut out (h, w) bool, and the corner where it was: x, y."""
    labels, _ = ndimage.label(mask)
    for number, window in enumerate(ndimage.find_objects(labels), 1):
        yield labels[window] == number, window[1].start, window[0].start


def _polygon(region: np.ndarray, left: int, top: int) -> Polygon:
    """The polygon of one region, cut out at (left, top)."""
    rings = _simple_rings(region, left, top)
    areas = [signed_area(ring) for ring in rings]
    outer = max(range(len(rings)), key=lambda index: abs(areas[index]))
    turned = [
        ring if (area > 0) == (index == outer) else ring[::-1]
        for index, (ring, area) in enumerate(zip(rings, areas, strict=True))
    ]
    return Polygon(turned.pop(outer), turned)


def inclusive(ring: Ring) -> list[Point]:
    """Return a ring through the centres of the outermost pixels inside of it, by their indices.

    Programs that fill a polygon with its border, as PIL does, paint the ring's pixels then.
    """
    ring = ring if signed_area(ring) > 0 else ring[::-1]
    points = []
    for index, (x, y) in enumerate(ring):
        before, after = ring[index - 1], ring[(index + 1) % len(ring)]
        across, along = (before, after) if before[1] == y else (after, before)
        # Inside lies below a side to the right, left of one downwards, and so on.
        right = (across[0] < x) == (across is before)
        down = (along[1] < y) == (along is before)
        points.append((x - down, y - (not right)))
    return points


def signed_area(ring: Sequence[Point]) -> float:
    """Return the area of a ring, positive where it is counterclockwise in the plane of x and y."""
    x, y = np.asarray(ring, dtype=np.int64).T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def _simple_rings(mask: np.ndarray, left: int, top: int) -> list[Ring]:
    """The rings between the pixels of one region and all others, none of which meets itself.

    A ring turns at each of its corners, so the corners of a row of the grid, sorted, are the two
    ends of one horizontal side after the other, and those of a column of vertical sides.
    """
    grid = np.pad(mask, 1).astype(np.uint8)
    pattern = grid[:-1, :-1] + 2 * grid[:-1, 1:] + 4 * grid[1:, :-1] + 8 * grid[1:, 1:]
    rows, columns = CORNERS[pattern].nonzero()
    pattern = pattern[rows, columns]
    # Where two rings meet, a corner stands for each: the first copy ends the side from the left.
    rows, columns, pattern = (
        np.repeat(array, CORNERS[pattern]) for array in (rows, columns, pattern)
    )
    copy = np.zeros(len(rows), dtype=np.int64)
    copy[1:] = (rows[1:] == rows[:-1]) & (columns[1:] == columns[:-1])
    # Around the upper left of two pixels the side from the left goes on upwards, around the lower
    # left one downwards: so the two stay apart.
    from_above = np.where(pattern == RISING, 1 - copy, copy)
    horizontal = _partners(np.lexsort((copy, columns, rows)))
    vertical = _partners(np.lexsort((from_above, rows, columns)))
    xs, ys = (columns + left).tolist(), (rows + top).tolist()
    rings: list[Ring] = []
    seen = [False] * len(xs)
    for start in range(len(xs)):
        if seen[start]:
            continue
        ring, corner = [], start
        while not seen[corner]:
            partner = horizontal[corner]
            seen[corner] = seen[partner] = True
            ring += [(xs[corner], ys[corner]), (xs[partner], ys[partner])]
            corner = vertical[partner]
        rings += _split(ring)
    return rings


def _partners(order: np.ndarray) -> list[int]:
    """For each corner the other end of its side, where ``order`` lists the ends of sides."""
    partner = np.empty_like(order)
    partner[order[::2]], partner[order[1::2]] = order[1::2], order[::2]
    found: list[int] = partner.tolist()
    return found


def _split(ring: Ring) -> Iterator[Ring]:
    """A ring as rings that pass no point twice."""
    path: Ring = []
    positions: dict[Point, int] = {}
    for point in ring:
        if point in positions:
            start = positions[point]
            yield path[start:]
            for left in path[start + 1 :]:
                del positions[left]
            del path[start + 1 :]
        else:
            positions[point] = len(path)
            path.append(point)
    yield path
