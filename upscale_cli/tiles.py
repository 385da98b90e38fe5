"""Geometry of tiles: where they lie, and how their enlargements join. Knows no network and no file.

One axis, three tiles; between two of them the weight passes from one to the other over a ramp, in the middle of what
they share, so that a margin of at least `margin` pixels at every inner edge counts for nothing:

    tile 0  |===========\\....|
    tile 1       |....../=====\\....|        . weight 0    = weight 1    \\ / ramp
    tile 2             |....../===========|

A weight is the difference of two ramps, and neighbours share a ramp, so weights add up to one by construction and the
sum needs no division. Ramps do not meet: no pixel lies in three tiles of an axis. The grid is the product of two axes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from upscale_cli.errors import UsageError

RAMP_PX = 8
"""Input pixels over which one tile passes to the next."""
_ALIGN_PX = 8  # sides are rounded up to this, so that images of nearly one size share a tile shape
_CACHED_ROWS = 16  # floats become 16-bit integers by rows that stay in the processor's cache

Pixels = npt.NDArray[np.uint8 | np.uint16]
Floats = npt.NDArray[np.float32]
Depth = np.dtype[np.uint8 | np.uint16]


class Window(NamedTuple):
    """Where one tile counts along one axis of the output: from `first` to `stop`, alone from `full` to `fade`.

    Its weight rises to 1 before `full`, which is the `stop` of the tile before, and falls from `fade`, which is the
    `first` of the next one.
    """

    first: int
    full: int
    fade: int
    stop: int
    rising: Floats
    """full - first values in (0, 1)."""
    falling: Floats
    """stop - fade values in (0, 1)."""


@dataclass(frozen=True)
class Axis:
    """Tiles along one axis: equal, evenly spread, the first at 0 and the last ending at `length`."""

    length: int
    side: int
    starts: tuple[int, ...]
    ramp: int

    def windows(self, scale: int) -> tuple[Window, ...]:
        """One window a tile, in output pixels (`scale` to an input pixel). At every output pixel they sum to 1.

        A window is 0 within the margin of an inner edge, and 1 wherever no ramp passes. Where tiles follow each other
        closely, ramps are as much shorter as keeps them apart.
        """
        seams = [(left + self.side + right) / 2 * scale for left, right in pairwise(self.starts)]
        ramp = min([self.ramp * scale, *(right - left for left, right in pairwise(seams))])
        ramp = max(ramp, 1e-6)  # without a ramp, a step
        edges = [(math.floor(seam - (ramp + 1) / 2) + 1, math.ceil(seam + (ramp - 1) / 2)) for seam in seams]
        shares = [
            ((np.arange(first, full) + 0.5 - seam) / ramp + 0.5).astype(np.float32)
            for seam, (first, full) in zip(seams, edges, strict=True)
        ]
        whole, none = self.length * scale, np.empty(0, np.float32)
        left, right = [(0, 0), *edges], [*edges, (whole, whole)]
        rising, falling = [none, *shares], [*(1 - share for share in shares), none]
        return tuple(Window(*a, *b, up, down) for a, b, up, down in zip(left, right, rising, falling, strict=True))


class Tile(NamedTuple):
    """One tile of a plan: its place in the grid and its first input pixel."""

    row: int
    column: int
    top: int
    left: int


@dataclass(frozen=True)
class Plan:
    """A grid of equal tiles that covers an image; iterates row by row."""

    rows: Axis
    columns: Axis

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)

    def __iter__(self) -> Iterator[Tile]:
        for row, top in enumerate(self.rows.starts):
            for column, left in enumerate(self.columns.starts):
                yield Tile(row, column, top, left)

    @property
    def tile_px(self) -> int:
        """The longer side of a tile."""
        return max(self.rows.side, self.columns.side)

    def cut(self, image: npt.NDArray, tile: Tile) -> npt.NDArray:
        """The view of an H x W x C image that `tile` covers."""
        return image[tile.top : tile.top + self.rows.side, tile.left : tile.left + self.columns.side]


def smallest_tile(margin: int, ramp: int = RAMP_PX, multiple: int = 1) -> int:
    """The least side a tile may have: its margins, its ramp, and as much again that is wholly its own."""
    return (-(-(2 * margin + ramp) // multiple) - (-max(ramp, 2) // multiple)) * multiple


def plan(
    height: int,
    width: int,
    *,
    tile_px: int,
    margin: int,
    ramp: int = RAMP_PX,
    multiple: int = 1,
    rows_px: int | None = None,
) -> Plan:
    """Cover `height` x `width` input pixels with equal tiles of at most `tile_px` a side, and `rows_px` high.

    Every pixel is covered; all tiles have one shape; neighbours share at least 2 margin + ramp pixels; no tile is
    larger than the number of them demands, so nothing is a sliver and little is done twice. An image that fits into
    one tile is that tile. Tiles start at multiples of `multiple`, which divides `height` and `width`: a network that
    folds blocks of pixels must fold the same ones in every tile. UsageError if tiles this small would be all margin.
    """
    smallest = smallest_tile(margin, ramp, multiple)
    if max(height, width) > tile_px < smallest:
        raise UsageError(
            f"Tiles of {tile_px} px are too small: this network needs {smallest} px. "
            f"Use --tile {smallest} or more, or --tile 0 to have it chosen."
        )
    overlap = 2 * margin + ramp
    rows = _spread(height, min(tile_px, rows_px or tile_px), overlap, ramp, multiple)
    return Plan(rows, _spread(width, tile_px, overlap, ramp, multiple))


def _spread(length: int, tile_px: int, overlap: int, ramp: int, multiple: int) -> Axis:
    if length <= tile_px:
        return Axis(length, length, (0,), ramp)
    if multiple > 1:  # the same in units of `multiple`
        units = _spread(length // multiple, tile_px // multiple, -(-overlap // multiple), ramp, 1)
        return Axis(length, units.side * multiple, tuple(start * multiple for start in units.starts), ramp)
    count = math.ceil((length - overlap) / (tile_px - overlap))
    side = math.ceil((length + (count - 1) * overlap) / count)
    side = min(tile_px, math.ceil(side / _ALIGN_PX) * _ALIGN_PX)
    gaps = count - 1
    return Axis(length, side, tuple((2 * i * (length - side) + gaps) // (2 * gaps) for i in range(count)), ramp)


class Blend:
    """Joins the enlarged tiles of a plan into strips of integers, from top to bottom.

    Tiles come in the plan's order. What lies in one tile alone is rounded straight into the strip; floats are kept of
    the seams only, so memory holds one strip and two seams, whatever the height.
    """

    def __init__(self, plan: Plan, *, scale: int, channels: int, dtype: Depth) -> None:
        self.scale = scale
        self.channels = channels
        self.dtype = dtype
        self._rows = plan.rows.windows(scale)
        self._columns = plan.columns.windows(scale)
        self._samples = plan.columns.length * scale * channels  # of a row; channels lie side by side: long inner loops
        self._strip: Pixels | None = None
        self._above = self._below = self._beside = np.empty((0, 0), np.float32)

    def add(self, tile: Tile, pixels: Floats) -> Pixels | None:
        """Add one tile: its enlargement, scale side x scale side x C in [0, 1].

        Returns the strip, rows x width x C, of all rows that are complete with it, where it is the last of its row.
        """
        rows, columns, count = self._rows[tile.row], self._columns[tile.column], self.channels
        if self._strip is None:
            self._strip = np.empty((rows.fade - rows.first, self._samples), self.dtype)
            self._above, self._below = self._below, np.empty((rows.stop - rows.fade, self._samples), np.float32)
        top, left = tile.top * self.scale, tile.left * self.scale
        block = pixels.reshape(len(pixels), -1)[rows.first - top : rows.stop - top]
        block = block[:, (columns.first - left) * count : (columns.stop - left) * count]
        lead, trail = (columns.full - columns.first) * count, (columns.fade - columns.first) * count
        if lead:
            self._beside += block[:, :lead] * columns.rising.repeat(count)
            self._settle(rows, columns.first * count, self._beside)
        self._settle(rows, columns.full * count, block[:, lead:trail])
        self._beside = block[:, trail:] * columns.falling.repeat(count)
        if columns.stop * count < self._samples:
            return None
        strip, self._strip = self._strip, None
        return strip.reshape(len(strip), -1, count)

    def _settle(self, rows: Window, left: int, block: Floats) -> None:
        """Samples that no tile beside this one reaches: into the strip, or to the seam with the row of tiles below."""
        assert self._strip is not None
        place = np.s_[:, left : left + block.shape[1]]
        lead, trail = rows.full - rows.first, rows.fade - rows.first
        if lead:
            seam = self._above[place]
            seam += block[:lead] * rows.rising[:, None]
            quantise(seam, self._strip[:lead][place])
        quantise(block[lead:trail], self._strip[lead:][place])
        np.multiply(block[trail:], rows.falling[:, None], out=self._below[place])


def quantise(source: Floats, target: Pixels) -> None:
    """Round H x W floats in [0, 1] to the nearest integers of `target`, same shape: 0 to 0, 1 to its greatest value."""
    if not source.size:
        return
    if target.dtype == np.uint8:
        cv2.convertScaleAbs(source, target, 255)
        return
    for top in range(0, len(source), _CACHED_ROWS):
        strip = source[top : top + _CACHED_ROWS] * np.float32(65535)
        strip += np.float32(0.5)
        target[top : top + _CACHED_ROWS] = strip
