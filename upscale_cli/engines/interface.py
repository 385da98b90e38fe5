"""What every engine is to the pipeline: tiles in, tiles out, numpy on both sides."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

Tiles = npt.NDArray[np.uint8 | np.uint16 | np.float32]
"""N x H x W x 3: integers as a picture holds them, or floats in [0, 1]."""
Floats = npt.NDArray[np.float32]


class Engine(Protocol):
    """One network, or several as one, on one device in one precision."""

    name: str
    """Rows of the manifest, or files, the weights came from: `edsr-x4`, `edsr-x4,improved-x4 (tta)`."""
    scale: int
    """Native scale of the network."""
    margin: int
    """Input pixels at a tile's inner edge whose output is not to be used."""
    exact: bool
    """True where tiles with that margin equal the whole image to rounding."""
    multiple_of: int
    """Side of the blocks of pixels that the network folds into one, else 1.

    The caller's part: tiles whose height and width are multiples of it, and that start at multiples of it in a picture
    padded to such a size.
    """
    tileable: bool
    """False where the network must see the whole picture at once."""
    device: str
    precision: str
    """`fp32`, `bf16`, `fp16` or `int8`; `bf16/fp32` where members differ."""
    backend: str
    """What runs it: `torch`, `openvino`; `openvino/torch` where members differ."""

    @property
    def remark(self) -> str:
        """Why this engine and not a faster one, for the user; mostly empty. What it finds as it runs is said then."""
        ...

    @property
    def operations(self) -> float:
        """Multiplications and additions for an input pixel, as this engine computes it, margins left out."""
        ...

    coarse: bool
    """True where pictures come out with few more than 8 significant bits: those of 16 bits are for its fp32 twin."""
    tile_px: int
    """Side of the tiles it is fastest with, as far as there is memory."""
    in_flight: int
    """Batches to submit before the first is asked for; 1 where asking is what runs it."""

    def infer(self, tiles: Tiles) -> Floats:
        """N x H x W x 3 to N x sH x sW x 3 in [0, 1].

        Raises OutOfMemoryError and NonFiniteOutputError; the caller decides what to try next. DeviceLostError where
        nothing is left to try.
        """
        ...

    def submit(self, tiles: Tiles) -> Callable[[], Floats]:
        """Begin, and return what waits for the end and gives and raises what `infer` does; to be asked in turn.

        `tiles` must stay as they are until then, and what is given stays until `in_flight` more are submitted, or for
        good where that is 1. What was not asked for, because an earlier one failed, is lost.
        """
        ...

    def tile_bytes(self, height: int, width: int) -> int:
        """Memory one tile of this size needs at its worst moment, an estimate."""
        ...

    def available_bytes(self) -> int:
        """Memory the device has free now."""
        ...

    def in_precision(self, precision: str) -> "Engine":
        """The same network in another precision; shares what it can."""
        ...


def unit_floats(tiles: Tiles) -> Floats:
    """The same in [0, 1], float32; floats as they are."""
    if tiles.dtype == np.float32:
        return np.asarray(tiles, np.float32)
    return np.divide(tiles, np.float32(65535 if tiles.dtype == np.uint16 else 255), dtype=np.float32)
