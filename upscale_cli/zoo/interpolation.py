"""Bicubic and Lanczos enlargement as networks without parameters: the floor every model is compared with.

Enlarging by a whole factor is one fixed convolution a phase and a PixelShuffle, so the classics run, tile and export
like any network. Kernels: Keys, Cubic convolution interpolation, 1981 (a = -0.5, as MATLAB's imresize and Pillow), and
Lanczos with 3 lobes. Borders are mirrored with the edge pixel repeated, as MATLAB does.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.blocks import symmetric_pad
from upscale_cli.zoo.variant import Architecture, Variant

Kernel = Callable[[float], float]


def cubic(x: float) -> float:
    """Keys' cubic with a = -0.5; support 2."""
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def lanczos3(x: float) -> float:
    """Windowed sinc with three lobes; support 3."""
    if abs(x) < 1e-12:
        return 1.0
    return 3 * math.sin(math.pi * x) * math.sin(math.pi * x / 3) / (math.pi * x) ** 2 if abs(x) < 3 else 0.0


class Interpolation(nn.Module):
    """N x 3 x H x W -> N x 3 x sH x sW by a separable kernel of the given support in input pixels."""

    weight: Tensor

    def __init__(self, *, scale: int, kernel: Kernel, support: int) -> None:
        super().__init__()
        self.scale = scale
        self.support = support
        phases = [((phase + 0.5) / scale - 0.5) for phase in range(scale)]
        taps = torch.tensor([[kernel(tap - at) for tap in range(-support, support + 1)] for at in phases])
        taps = taps / taps.sum(1, keepdim=True)
        weight = torch.einsum("ai,bj->abij", taps, taps).flatten(0, 1)[
            :, None
        ]  # phase (row, column), tap (row, column)
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, lr: Tensor) -> Tensor:
        batch, channels, height, width = lr.shape
        planes = symmetric_pad(lr, self.support).reshape(batch * channels, 1, height + 2 * self.support, -1)
        fine = F.pixel_shuffle(F.conv2d(planes, self.weight), self.scale)
        return fine.reshape(batch, channels, height * self.scale, width * self.scale)


def _variant(name: str, kernel: Kernel, support: int, scale: int) -> Variant:
    return Variant(
        f"{name}/x{scale}",
        name,
        partial(Interpolation, scale=scale, kernel=kernel, support=support),
        scale=scale,
        margin=support,
        exact=True,
        parameters=0,
        dtypes=("fp32",),  # one cheap convolution: rounding it to 16 bits would only lose
    )


VARIANTS = tuple(
    _variant(name, kernel, support, scale)
    for name, kernel, support in (("bicubic", cubic, 2), ("lanczos", lanczos3, 3))
    for scale in (2, 3, 4, 8)
)

ARCHITECTURE = Architecture("interpolation", VARIANTS)
