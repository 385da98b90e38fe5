"""Geometry of tiles: where they lie, and how their enlargements join. Knows no network and no file.

One axis, three tiles; between two of them the weight passes from one to the other over a ramp, in the middle of what
they share, so that a margin of at least `margin` pixels at every inner edge counts for nothing:

    tile 0  |===========\\....|
    tile 1       |....../=====\\....|        . weight 0    = weight 1    \\ / ramp
    tile 2             |....../===========|

A weight is the difference of two ramps, and neighbours share a ramp, so weights add up to one by construction and the
sum needs no division. The grid is the product of two such axes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from upscale_cli.errors import UsageError

RAMP_PX = 8
"""Input pixels over which one tile passes to the next."""
_ALIGN_PX = 8  # sides are rounded up to this, so that images of nearly one size share a tile shape
_STRIP_ROWS = 16  # floats become integers by strips that stay in the processor's cache

Pixels = npt.NDArray[np.uint8 | np.uint16]
Floats = npt.NDArray[np.float32]


class Window(NamedTuple):
    """Where one tile counts along one axis of the output."""

    first: int
    stop: int
    weights: Floats
    """stop - first values in [0, 1], none outside."""


@dataclass(frozen=True)
class Axis:
    """Tiles along one axis: equal, evenly spread, the first at 0 and the last ending at `length`."""

    length: int
    side: int
    starts: tuple[int, ...]
    ramp: int

    def windows(self, scale: int) -> tuple[Window, ...]:
        """One window a tile, in output pixels (`scale` to an input pixel). At every output pixel they sum to 1.

        A window is 0 within the margin of an inner edge, and 1 wherever no ramp passes.
        """
        centres = np.arange(self.length * scale) + 0.5
        seams = [(left + self.side + right) / 2 * scale for left, right in pairwise(self.starts)]
        ramp = max(self.ramp * scale, 1e-6)  # without a ramp, a step
        shares = [np.clip((centres - seam) / ramp + 0.5, 0, 1) for seam in seams]
        shares = [np.ones_like(centres), *shares, np.zeros_like(centres)]
        found = []
        for before, after in pairwise(shares):
            weights = (before - after).astype(np.float32)
            used = np.flatnonzero(weights)
            first, stop = int(used[0]), int(used[-1]) + 1
            found.append(Window(first, stop, weights[first:stop]))
        return tuple(found)


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

    @cached_property
    def work(self) -> float:
        """Pixels that pass through the network for one pixel of the image; 1 when it goes whole."""
        return len(self) * self.rows.side * self.columns.side / (self.rows.length * self.columns.length)

    def cut(self, image: npt.NDArray, tile: Tile) -> npt.NDArray:
        """The view of an H x W x C image that `tile` covers."""
        return image[tile.top : tile.top + self.rows.side, tile.left : tile.left + self.columns.side]


def smallest_tile(margin: int, ramp: int = RAMP_PX, multiple: int = 1) -> int:
    """The least side a tile may have: its margins, its ramp, and as much again that is wholly its own."""
    return (-(-(2 * margin + ramp) // multiple) - (-max(ramp, 2) // multiple)) * multiple


def plan(height: int, width: int, *, tile_px: int, margin: int, ramp: int = RAMP_PX, multiple: int = 1) -> Plan:
    """Cover `height` x `width` input pixels with equal tiles of at most `tile_px` a side.

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
    rows, columns = (_spread(length, tile_px, 2 * margin + ramp, ramp, multiple) for length in (height, width))
    return Plan(rows, columns)


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
    """Joins the enlarged tiles of a plan into one picture of integers.

    Tiles come in the plan's order. Rows that no later tile reaches are rounded and handed to `picture` at once, so
    memory holds the picture and one row of tiles in float32, whatever the height.
    """

    def __init__(self, plan: Plan, *, scale: int, channels: int, dtype: npt.DTypeLike) -> None:
        self.plan = plan
        self.scale = scale
        self.picture: Pixels = np.empty((plan.rows.length * scale, plan.columns.length * scale, channels), dtype)
        self._rows = plan.rows.windows(scale)
        self._columns = plan.columns.windows(scale)
        band_rows = max(window.stop - window.first for window in self._rows) if len(plan) > 1 else 0
        # Two-dimensional, channels side by side: long inner loops for the multiply-add.
        self._band = np.zeros((band_rows, self.picture.shape[1] * channels), np.float32)
        self._done = 0

    def add(self, tile: Tile, pixels: Floats) -> None:
        """Add one tile: its enlargement, scale side x scale side x C in [0, 1]. Complete after the last."""
        if len(self.plan) == 1:
            quantise(pixels, self.picture)
            return
        rows, columns = self._rows[tile.row], self._columns[tile.column]
        if rows.first > self._done:
            self._finish(rows.first)
        channels = self.picture.shape[2]
        top, left = tile.top * self.scale, tile.left * self.scale
        flat = pixels.reshape(len(pixels), -1)[rows.first - top : rows.stop - top]
        flat = flat[:, (columns.first - left) * channels : (columns.stop - left) * channels]
        weights = np.multiply.outer(rows.weights, np.repeat(columns.weights, channels))
        band = self._band[rows.first - self._done : rows.stop - self._done]
        cv2.accumulateProduct(flat, weights, band[:, columns.first * channels : columns.stop * channels])
        if tile.row + 1 == len(self._rows) and tile.column + 1 == len(self._columns):
            self._finish(len(self.picture))

    def _finish(self, stop: int) -> None:
        """Rows before `stop` are complete: round them, and move those after them to the band's top."""
        count = stop - self._done
        quantise(self._band[:count].reshape(count, *self.picture.shape[1:]), self.picture[self._done : stop])
        rest = len(self._band) - count
        self._band[:rest] = self._band[count:]
        self._band[rest:] = 0
        self._done = stop


def quantise(source: Floats, target: Pixels) -> None:
    """Round floats in [0, 1] to the integers of `target`, same shape: 0 to 0, 1 to its greatest value, halves up."""
    greatest = np.float32(np.iinfo(target.dtype).max)
    for top in range(0, len(source), _STRIP_ROWS):
        strip = source[top : top + _STRIP_ROWS] * greatest
        strip += np.float32(0.5)
        target[top : top + _STRIP_ROWS] = strip
