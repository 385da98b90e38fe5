"""Tiles of earlier frames and what came of them, so that what stands still is inferred once. Knows no network, no file.

Holds one frame's tiles at most. What decides is the tile that was inferred, not the one before: a slow drift, of which
every step is too small to see, is inferred again as soon as it has gone further than the threshold.
"""

from typing import NamedTuple

import cv2

from upscale_cli.tiles import Floats, Pixels, Plan, Tile

_MOST_BYTES = 1 << 30  # of enlargements; an 8K frame in floats is 400 MB


class _Known(NamedTuple):
    lr: Pixels
    sr: Floats


class Recall:
    """The tile last inferred at every place of a grid, and its enlargement."""

    def __init__(self, threshold: float) -> None:
        """Tiles are one if no value of theirs differs by more than `threshold`, in levels of 255."""
        self._threshold = threshold
        self._known: dict[Tile, _Known] = {}
        self._grid: Plan | None = None
        self._bytes = 0

    def begin(self, grid: Plan) -> None:
        """From here on tiles are of this grid; what is known of another is forgotten."""
        if grid != self._grid:
            self._grid, self._bytes = grid, 0
            self._known.clear()

    def find(self, tile: Tile, lr: Pixels) -> Floats | None:
        """What came of this tile, H x W x 3, as it looks now; None where that is not known."""
        known = self._known.get(tile)
        if known is None or known.lr.dtype != lr.dtype:
            return None
        levels = self._threshold * (257 if lr.itemsize == 2 else 1)
        return known.sr if cv2.norm(known.lr, lr, cv2.NORM_INF) <= levels else None

    def add(self, tile: Tile, lr: Pixels, sr: Floats) -> None:
        """A tile that was inferred; both are copied. Beyond the memory there is for all, it is not kept."""
        if tile not in self._known:
            if self._bytes + sr.nbytes > _MOST_BYTES:
                return
            self._bytes += sr.nbytes
        self._known[tile] = _Known(lr.copy(), sr.copy())
