"""Less flicker: what a network added to a frame, mixed with what it added to the frame before, moved to its place.

Only the network's own detail, its picture minus plain interpolation, is averaged over time: what the source shows comes
from the frame itself, so that nothing of the one before stands behind what moves. Where the source differs from its own
frame before, moved alike, the weight falls to nothing. Knows no network and no file.
"""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from upscale_cli.media.frame import Frame
from upscale_cli.media.pixels import to_depth
from upscale_cli.motion import Motion
from upscale_cli.strips import Resize, whole
from upscale_cli.tiles import Pixels

_SHARE = 0.5  # of the frame before, at strength 1
_RESIDUAL = 5.0  # levels of 255 at which the weight has fallen to 1/e
_AROUND_PX = 5  # over which they are averaged
_CUT = 0.5  # a frame that shares less with the one before is another scene
_FINE = 64  # steps of a level that detail of 8-bit pictures is remembered in, in 16 bits


@dataclass(frozen=True, slots=True, eq=False)
class _Before:
    """What is remembered of the last frame."""

    color: Pixels
    grey: np.ndarray
    detail: np.ndarray
    """H x W x C at the size of the output: 16-bit integers, or floats for pictures of 16 bits."""


class Calm:
    """The frames of a film in their order, from a beginning on before which nothing is known."""

    def __init__(self, strength: float) -> None:
        """`strength` in [0, 1]: 0 changes nothing."""
        self._share = _SHARE * strength
        self._before: _Before | None = None

    def strips(self, source: Frame, made: Iterable[Frame], height: int, width: int) -> Iterator[Frame]:
        """The strips of an enlargement of `source`, `height` x `width` in all, calmed."""
        before, grey = self._before, _grey(source.color)
        motion, share = self._kept(before, source.color, grey)
        if motion is not None:
            motion, share = motion.enlarged(height, width), cv2.resize(share, (width, height))
        plain: Resize | None = None
        detail, top = np.empty(0), 0
        for strip in made:
            deep = strip.color.dtype == np.uint16
            if plain is None:
                plain = Resize(whole(source.color), height, width, dtype=strip.color.dtype)
                detail = np.empty((height, width, strip.channels), np.float32 if deep else np.int16)
            rows, band = (top, top + strip.height), slice(top, top + strip.height)
            below = plain.take(*rows).astype(np.float32)
            added = strip.color - below
            if motion is not None and before is not None:
                earlier = motion.warp(before.detail, rows) / np.float32(_unit(before.detail))
                added += share[band, :, None] * (earlier - added)
            detail[band] = added if deep else np.rint(added * _FINE)
            # Out of what is remembered, so that a frame that repeats comes out the same.
            color = np.rint(below + detail[band] / np.float32(_unit(detail))).clip(0, 65535 if deep else 255)
            top = rows[1]
            yield replace(strip, color=color.astype(strip.color.dtype))
        self._before = _Before(source.color, grey, detail)

    def _kept(self, before: _Before | None, color: Pixels, grey: np.ndarray) -> tuple[Motion | None, np.ndarray]:
        """The motion since the frame before, and how much of its detail is kept, both at the size of the source."""
        if before is None or before.color.shape != color.shape:
            return None, np.empty(0)
        if np.array_equal(before.color, color):
            return Motion.none(*grey.shape), np.ones(grey.shape, np.float32)
        motion = Motion.between(before.grey, grey)
        if motion.seen.mean() < _CUT:
            return None, np.empty(0)
        gap = cv2.absdiff(color, motion.warp(before.color))
        gap = functools.reduce(np.maximum, cv2.split(gap)).astype(np.float32)
        gap = cv2.blur(gap, (_AROUND_PX, _AROUND_PX)) / (_RESIDUAL * (257 if color.dtype == np.uint16 else 1))
        return motion, (self._share * np.exp(-np.square(gap)) * motion.seen).astype(np.float32)


def _unit(detail: np.ndarray) -> int:
    return _FINE if detail.dtype == np.int16 else 1


def _grey(color: Pixels) -> np.ndarray:
    """H x W of 8 bits."""
    color = to_depth(color, 8)
    return np.ascontiguousarray(color[..., 0]) if color.shape[2] == 1 else cv2.cvtColor(color, cv2.COLOR_RGB2GRAY)
