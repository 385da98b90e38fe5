"""Seams: how far the picture made of tiles is from the one made whole, by what the tiles share.

Both go through the Upscaler, in 16 bits, so that the network is compared and not the rounding. Times nothing.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from upscale_cli.engines import Engine
from upscale_cli.enlarge import Upscaler
from upscale_cli.media.frame import Frame
from upscale_cli.tiles import RAMP_PX, smallest_tile

Pixels = npt.NDArray[np.uint8]

TILE_PX = 96
SHARE = 0.999
"""Of all values, those that must lie within one step of 8 bits for a margin to be enough."""
_STEP = 65535 / 255  # one step of 8 bits in the 16-bit pictures compared


@dataclass(frozen=True, slots=True)
class Seam:
    """One network with one overlap."""

    margin: int
    """Input pixels at a tile's inner edge that count for nothing."""
    overlap_px: int
    """What neighbours share: two margins and the ramp between them."""
    tile_px: int
    worst: float
    """Largest difference, in steps of 8 bits."""
    beyond: float
    """Share of values that differ by more than one step."""

    @property
    def enough(self) -> bool:
        """Whether nobody will see it."""
        return self.beyond <= 1 - SHARE


def margins_for(margin: int, *, exact: bool) -> list[int]:
    """A declared margin, shares of it, and for a measured one half as much again."""
    shares = (0, 0.25, 0.5, 0.75, 1) if exact else (0, 0.25, 0.5, 0.75, 1, 1.5)
    return sorted({round(margin * share) for share in shares})


def side_of(margin: int, tile_px: int = TILE_PX) -> tuple[int, int]:
    """Of the tiles that a margin is measured with, `tile_px` or what it takes, and of the picture that three fill.

    That many pixels leave no slack: evenly spread over more or fewer, tiles would share more than was asked.
    """
    side = max(tile_px, math.ceil(1.5 * smallest_tile(margin) / 8) * 8)
    return side, 3 * side - 2 * overlap_of(margin)


def overlap_of(margin: int) -> int:
    """What neighbours share, in pixels."""
    return 2 * margin + RAMP_PX


def measure(engine: Engine, photo: Pixels, margins: Iterable[int], tile_px: int = TILE_PX) -> Iterator[Seam]:
    """The middle of a photograph (H x W x 3) whole, then in 3 x 3 tiles, with each margin."""
    for margin in margins:
        side, length = side_of(margin, tile_px)
        overlap = overlap_of(margin)
        crop = centre(photo, length, length)
        frame = Frame(crop.astype(np.uint16) * 257)
        height, width = crop.shape[0] * engine.scale, crop.shape[1] * engine.scale
        whole = Upscaler([engine], tile_px=max(crop.shape)).enlarge(frame, height, width).color.astype(np.int32)
        tiled = Upscaler([engine], tile_px=side, overlap_px=overlap).enlarge(frame, height, width).color
        off = np.abs(tiled - whole)
        yield Seam(margin, overlap, side, float(off.max()) / _STEP, float((off > _STEP).mean()))


def centre(photo: Pixels, height: int, width: int) -> Pixels:
    """The middle of a picture, at most this large."""
    top, left = (max(0, (length - side) // 2) for length, side in zip(photo.shape, (height, width), strict=False))
    return np.ascontiguousarray(photo[top : top + height, left : left + width])
