"""What goes on from one frame of a film to the next: where everything went, how well it matches, what was added to it.

Owns what tells a scene from another, and how additions to a picture are remembered. Knows no network and no file.
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from upscale_cli.media.pixels import to_depth
from upscale_cli.motion import Motion
from upscale_cli.tiles import Pixels

_RESIDUAL = 5.0  # levels of 255 at which a match has fallen to 1/e
_AROUND_PX = 5  # over which they are averaged
_CUT = 0.5  # a frame that shares less with the one before is another scene
_FINE = 64  # steps of a level that additions to 8-bit pictures are remembered in, in 16 bits


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What of the frame before is in this one, at the size of the source."""

    motion: Motion
    match: np.ndarray
    """H x W floats from 0, another thing or hidden before, to 1, the same."""
    same: np.ndarray
    """H x W of bool: pixels that did not change by a level."""


class Scene:
    """The frames of a film in their order, from a beginning on before which nothing is known."""

    def __init__(self) -> None:
        self._before: tuple[Pixels, np.ndarray] | None = None

    def take(self, color: Pixels) -> Kept | None:
        """The next frame, H x W x 3 or 1 of 8 or 16 bits: what is kept of the last; None where it is another scene."""
        before, grey = self._before, _grey(color)
        self._before = color, grey
        if before is None or before[0].shape != color.shape:
            return None
        same = np.logical_and.reduce(before[0] == color, axis=2)
        if same.all():
            return Kept(Motion.none(*grey.shape), np.ones(grey.shape, np.float32), same)
        motion = Motion.between(before[1], grey)
        if motion.seen.mean() < _CUT:
            return None
        gap = cv2.absdiff(color, motion.warp(before[0]))
        gap = functools.reduce(np.maximum, cv2.split(gap)).astype(np.float32)
        gap = cv2.blur(gap, (_AROUND_PX, _AROUND_PX)) / (_RESIDUAL * (257 if color.dtype == np.uint16 else 1))
        return Kept(motion, (np.exp(-np.square(gap)) * motion.seen).astype(np.float32), same)


class Added:
    """What was added to every value of a picture, in levels; in 64ths of one where the picture has 8 bits."""

    def __init__(self, height: int, width: int, channels: int, *, deep: bool) -> None:
        self._values = np.empty((height, width, channels), np.float32 if deep else np.int16)
        self._unit = np.float32(1 if deep else _FINE)

    def put(self, rows: tuple[int, int], levels: np.ndarray) -> np.ndarray:
        """Rows from the first to before the second; as they are remembered, so that who shows these shows the same
        when a frame repeats.
        """
        self._values[slice(*rows)] = levels if self._unit == 1 else np.rint(levels * self._unit)
        return self.take(rows)

    def take(self, rows: tuple[int, int]) -> np.ndarray:
        """Rows of it."""
        return self._values[slice(*rows)] / self._unit

    def moved(self, motion: Motion, rows: tuple[int, int]) -> np.ndarray:
        """Rows of it with everything where it is now."""
        return motion.warp(self._values, rows) / self._unit


def _grey(color: Pixels) -> np.ndarray:
    """H x W of 8 bits."""
    color = to_depth(color, 8)
    return np.ascontiguousarray(color[..., 0]) if color.shape[2] == 1 else cv2.cvtColor(color, cv2.COLOR_RGB2GRAY)
