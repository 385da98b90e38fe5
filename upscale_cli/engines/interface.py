"""What every engine is to the pipeline: tiles in, tiles out, numpy on both sides."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

Tiles = npt.NDArray[np.float32]


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
    """Height and width of what the network folds or windows by; a picture is padded to it, and tiles start at it."""
    tileable: bool
    """False where the network must see the whole picture at once."""
    device: str
    precision: str
    """`fp32`, `bf16` or `fp16`; `bf16/fp32` where members differ."""

    def infer(self, tiles: Tiles) -> Tiles:
        """N x H x W x 3 in [0, 1] to N x sH x sW x 3 in [0, 1], float32.

        Raises OutOfMemoryError and NonFiniteOutputError; the caller decides what to try next.
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
