"""Frame: one upright picture in memory, or a strip of one. Knows no file, no format and no network."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Pixels as they travel from a source to a sink.

    `color` is H x W x C, C = 3 (RGB) or 1 (grey), uint8 or uint16: the dtype is the bit depth. `alpha` is H x W of the
    same dtype, straight (not premultiplied), or None. `seconds` is how long an animation shows the frame; `pts` and
    `ticks` are when and how long a video does, in its time base. `mark` is for the source that gave the frame: by it
    another run goes on after it without decoding all before. Raises ValueError for anything else.
    """

    color: np.ndarray
    alpha: np.ndarray | None = None
    seconds: float | None = None
    pts: int | None = None
    ticks: int = 0
    mark: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.color.ndim != 3 or self.color.shape[2] not in (1, 3) or self.color.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"color must be H x W x 1 or 3, uint8 or uint16: {self.color.shape} {self.color.dtype}")
        if self.alpha is not None and (
            self.alpha.shape != self.color.shape[:2] or self.alpha.dtype != self.color.dtype
        ):
            raise ValueError(f"alpha must be {self.color.shape[:2]} {self.color.dtype}: {self.alpha.shape}")

    @property
    def height(self) -> int:
        return self.color.shape[0]

    @property
    def width(self) -> int:
        return self.color.shape[1]

    @property
    def depth(self) -> int:
        """Bits per sample: 8 or 16."""
        return self.color.dtype.itemsize * 8

    @property
    def channels(self) -> int:
        """3 (RGB) or 1 (grey); alpha is not counted."""
        return self.color.shape[2]


class Canvas:
    """A frame that is put together from strips, from top to bottom."""

    def __init__(self, height: int) -> None:
        self._height = height
        self._done = 0
        self._frame: Frame | None = None

    def add(self, strip: Frame) -> Frame | None:
        """The whole frame, where this strip was its last. A strip that is all of it is handed back as it is."""
        if strip.height == self._height:
            return strip
        if self._frame is None:
            alpha = None if strip.alpha is None else self._room(strip.alpha)
            self._frame = replace(strip, color=self._room(strip.color), alpha=alpha)
        rows = slice(self._done, self._done + strip.height)
        self._frame.color[rows] = strip.color
        if self._frame.alpha is not None:
            self._frame.alpha[rows] = strip.alpha
        self._done += strip.height
        return self._frame if self._done == self._height else None

    def _room(self, pixels: np.ndarray) -> np.ndarray:
        return np.empty((self._height, *pixels.shape[1:]), pixels.dtype)
