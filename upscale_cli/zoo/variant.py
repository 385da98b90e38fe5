"""What the rest of the house may know of a network: one frozen row a variant."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

Precision = Literal["fp32", "bf16", "fp16"]
Task = Literal["upscale", "enhance", "restore"]

FLOATS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")


@dataclass(frozen=True, slots=True)
class Variant:
    """One network of the zoo with its hyperparameters fixed.

    The built module maps N x 3 x H x W in [0, 1] RGB to N x 3 x (scale H) x (scale W), nominally in [0, 1], unclamped.
    Both are float32 whatever precision the weights are held in: the module narrows what enters its first layer, and
    what ends in the picture stays wide, or a 16-bit photograph would come out with the eight bits that bf16 has.
    """

    name: str
    """Architecture and variant, `edsr/x4`."""
    architecture: str
    build: Callable[[], nn.Module]
    scale: int
    """Native scale: output side / input side."""
    margin: int
    """Input pixels a tile needs around it, so that what lies inside equals the whole image (99.9 % within 1/255)."""
    parameters: int
    """Exact count; fixed constants such as a mean shift are buffers and do not count."""
    exact: bool = False
    """True where `margin` is at least the receptive radius: tiled then equals whole to rounding."""
    task: Task = "upscale"
    multiple_of: int = 1
    """Height and width given to the module must be multiples of this."""
    dtypes: tuple[Precision, ...] = FLOATS
    """Precisions the network is sound in, best first for nothing; fp32 always."""
