"""Which pixels a score is taken on. A score without its protocol is not comparable, so every one carries it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from upscale_cli.motion import Motion

Pixels = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float64]

Scores = Mapping[str, float]
"""Name of a metric -> its value, in the order of the table; NaN where it has none."""

# Studio range, as MATLAB's rgb2ycbcr: Y in [16, 235] for 8-bit RGB.
BT601_LUMA = np.array([65.481, 128.553, 24.966]) / 255


@dataclass(frozen=True, slots=True)
class Protocol:
    """What every metric looks at: 8-bit output, a border cut."""

    crop_border: int
    """Pixels cut from every side before scoring; by custom the scale."""

    def __str__(self) -> str:
        return f"8-bit RGB output; border of {self.crop_border} px cut"

    def inside(self, image: Pixels) -> Pixels:
        """What is left of an H x W x 3 image; ValueError where nothing is."""
        border = self.crop_border
        if min(image.shape[:2]) <= 2 * border:
            raise ValueError(f"{image.shape[1]} x {image.shape[0]} pixels are all border of {border} px")
        return image[border : image.shape[0] - border, border : image.shape[1] - border]


@dataclass(frozen=True)
class Comparison:
    """A picture beside its reference, both H x W x 3 8-bit RGB of one size; planes are made when asked for."""

    image: Pixels
    reference: Pixels
    since: "Since | None" = None
    """Of a film, from its second frame on."""

    def __post_init__(self) -> None:
        if self.image.shape != self.reference.shape:
            raise ValueError(f"sizes differ: {self.image.shape} and {self.reference.shape}")

    @cached_property
    def luma(self) -> tuple[Plane, Plane]:
        """Of picture and reference; see `luma`."""
        return luma(self.image), luma(self.reference)


def luma(image: Pixels) -> Plane:
    """H x W x 3 8-bit RGB to H x W BT.601 luma in [16, 235], unrounded."""
    return 16 + image @ BT601_LUMA


@dataclass(frozen=True, eq=False)
class Since:
    """What a frame of a film is compared with that was before it, all of the frame's size."""

    before: Pixels
    """What the same maker made of the frame before, H x W x 3 8-bit RGB."""
    motion: Motion
    """Of the source, from this frame to that one."""
    source: float
    """The warping error of the source itself, enlarged by bicubic; NaN at a cut."""


class NoValueError(ValueError):
    """A metric has no value for this picture: it is too small, or too plain."""
