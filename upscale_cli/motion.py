"""Motion between two frames: where each pixel was in the frame before, and whether it was to be seen there at all.

Knows no file, no network and no film: two planes in, and pictures of any size warped.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

METHOD = "DIS flow, preset medium (Kroeger 2016), forward and backward consistent (Sundaram 2010)"
_SMALLEST_PX = 16  # below it there is no room for the pyramid of patches
_INCONSISTENT = 0.01, 0.5  # of Sundaram, Brox and Keutzer, ECCV 2010: share of the squared flows, squared pixels


@dataclass(frozen=True, eq=False)
class Motion:
    """From a frame to the one before it."""

    flow: npt.NDArray[np.float32]
    """H x W x 2: how many pixels to the right and down of its place now each pixel was."""
    known: npt.NDArray[np.bool_]
    """H x W: flow there and back agree, so that this was to be seen before."""

    @classmethod
    def between(cls, before: npt.NDArray[np.uint8], now: npt.NDArray[np.uint8]) -> "Motion":
        """Of two H x W 8-bit planes of one size. Frames below 16 pixels a side are taken not to move."""
        shape = now.shape[:2]
        if min(shape) < _SMALLEST_PX:
            return cls.none(*shape)
        flow, back = _flow(now, before), _flow(before, now)
        returned = cls(flow, np.empty(shape, np.bool_)).warp(back, by=cv2.INTER_LINEAR)
        share, least = _INCONSISTENT
        return cls(flow, _square(flow + returned) <= share * (_square(flow) + _square(returned)) + least)

    @classmethod
    def none(cls, height: int, width: int) -> "Motion":
        """Everything is where it was."""
        return cls(np.zeros((height, width, 2), np.float32), np.ones((height, width), np.bool_))

    @cached_property
    def seen(self) -> npt.NDArray[np.bool_]:
        """H x W: known, and inside the frame before."""
        height, width = self.known.shape
        x, y = cv2.split(self._places(0, height))
        return self.known & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)

    def _places(self, top: int, stop: int) -> np.ndarray:
        """Of rows `top` to `stop`, where each pixel was."""
        across, down = (np.arange(side, dtype=np.float32) for side in (self.known.shape[1], stop))
        return self.flow[top:stop] + np.stack(np.meshgrid(across, down[top:]), axis=-1)

    def enlarged(self, height: int, width: int) -> "Motion":
        """The same motion in frames of another size."""
        before = self.known.shape
        if (height, width) == before:
            return self
        flow = np.asarray(cv2.resize(self.flow, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
        flow *= np.array((width / before[1], height / before[0]), np.float32)
        known = cv2.resize(self.known.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        return Motion(flow, np.asarray(known, np.bool_))

    def inside(self, border: int) -> "Motion":
        """Of frames of which so many pixels are cut from every side."""
        height, width = self.known.shape
        rows, columns = slice(border, height - border), slice(border, width - border)
        return Motion(self.flow[rows, columns], self.known[rows, columns])

    def warp(self, before: np.ndarray, rows: tuple[int, int] | None = None, *, by: int = cv2.INTER_CUBIC) -> np.ndarray:
        """The frame before, H x W (x C) of 8 or 16 bits or floats of 32, with everything where it is now, or the rows
        between two of it. Beyond the border the last pixel goes on.
        """
        places = self._places(*(rows or (0, len(self.flow))))
        moved = cv2.remap(before, places, None, by, borderMode=cv2.BORDER_REPLICATE)  # type: ignore
        return moved.reshape(*places.shape[:2], *before.shape[2:])  # which it takes a last side of 1 from


def _square(flow: np.ndarray) -> np.ndarray:
    x, y = cv2.split(flow)
    return x * x + y * y


def _flow(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """How far what is in the first is moved in the second. The same at any number of threads."""
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(estimator.calc(*map(np.ascontiguousarray, (first, second)), None), np.float32)  # type: ignore
