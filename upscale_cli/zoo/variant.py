"""What the rest of the house may know of a network: one frozen row a variant."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

Precision = Literal["fp32", "bf16", "fp16"]
Task = Literal["upscale", "enhance", "restore"]
Shapes = Mapping[str, torch.Size]  # key -> shape of a state dict

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
    tileable: bool = True
    """False where the network looks at the whole picture (instance normalisation): it is never cut into tiles."""
    multiple_of: int = 1
    """Height and width given to the module must be multiples of this."""
    coarse: bool = False
    """True where the picture itself goes through the narrow layers, and none lies underneath what they draw: in bf16 it
    has few more than 8 bits."""
    dtypes: tuple[Precision, ...] = FLOATS
    """Precisions the network is sound in, best first for nothing; fp32 always."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """One file of the zoo: its table, and how a state dict is known to belong to it."""

    name: str
    variants: tuple[Variant, ...]
    recognise: Callable[[Shapes], Variant | None] | None = None
    """The variant, with hyperparameters that no row of the table has, of a state dict with these keys and shapes; None
    for a state dict of another architecture. May trust nothing: keys and shapes come from a stranger's file."""
    translate: Callable[[Collection[str]], Mapping[str, str] | None] | None = None
    """For keys of another published layout: their keys -> ours, dropped ones left out; None for any other."""
