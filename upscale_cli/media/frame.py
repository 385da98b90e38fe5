"""Frame: one upright picture in memory. Knows no file, no format and no network."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Pixels as they travel from a source to a sink.

    `color` is H x W x C, C = 3 (RGB) or 1 (grey), uint8 or uint16: the dtype is the bit depth. `alpha` is H x W of the
    same dtype, straight (not premultiplied), or None. `seconds` is how long an animation shows the frame. Raises
    ValueError for anything else.
    """

    color: np.ndarray
    alpha: np.ndarray | None = None
    seconds: float | None = None

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
