"""Tiles of earlier frames and what came of them, so that what stands still is inferred once. Knows no network, no file.

Holds one frame's tiles at most. What decides is the tile that was inferred, not the one before: a slow drift, of which
every step is too small to see, is inferred again as soon as it has gone further than the threshold.
"""

from dataclasses import dataclass

import cv2

from upscale_cli.tiles import Floats, Pixels, Plan, Tile

_MOST_BYTES = 1 << 30  # of enlargements; an 8K frame in floats is 400 MB


@dataclass(slots=True, eq=False)
class Inferred:
    """A tile that went to the network."""

    lr: Pixels
    sr: Floats | None = None
    """H x W x 3, once it has come back."""


class Recall:
    """The tile last inferred at every place of a grid, and its enlargement."""

    def __init__(self, threshold: float) -> None:
        """Tiles are one if no value of theirs differs by more than `threshold`, in levels of 255."""
        self._threshold = threshold
        self._known: dict[Tile, Inferred] = {}
        self._grid: Plan | None = None
        self._bytes = 0

    def begin(self, grid: Plan) -> None:
        """From here on tiles are of this grid; what is known of another is forgotten."""
        if grid != self._grid:
            self.forget()
            self._grid = grid

    def forget(self) -> None:
        """Everything: of tiles that are under way nothing may come back."""
        self._known.clear()
        self._bytes = 0

    def find(self, tile: Tile, lr: Pixels) -> Inferred | None:
        """The one that this tile, as it looks now, counts as; None where it is new."""
        known = self._known.get(tile)
        if known is None or known.lr.dtype != lr.dtype:
            return None
        levels = self._threshold * (257 if lr.itemsize == 2 else 1)
        return known if cv2.norm(known.lr, lr, cv2.NORM_INF) <= levels else None

    def add(self, tile: Tile, lr: Pixels, scale: int) -> Inferred | None:
        """A tile, copied, that goes to a network of this scale; what comes back is to be kept in what is returned.

        Beyond the memory there is for all, it is not kept, which is None.
        """
        if tile not in self._known:
            size = lr.size * scale**2 * 4
            if self._bytes + size > _MOST_BYTES:
                return None
            self._bytes += size
        self._known[tile] = known = Inferred(lr.copy())
        return known
