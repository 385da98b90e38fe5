"""Kernels of convolutions and pixel shuffles that follow each other, multiplied out to one.

EDSR (Lim et al. 2017, arXiv:1707.02921) and its descendants enlarge by a convolution and a pixel shuffle, once or
twice, and end in a convolution, with no activation between. All that is one convolution from the features to the s x s
pixels of each: a tenth of the products, and the enlarged features are never made. It differs at the rim, since each
layer pads its own input with zeros: there the layers stay as they are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float32]

RIM_PX = 3
"""Features that a rim of one is made from: the first row sees two others."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution that keeps the size by zeros, and the factor by which its result is shuffled; 1 where it is not."""

    kernel: Values
    """Out x in x k x k."""
    bias: Values
    factor: int


def product(layers: Sequence[Layer]) -> tuple[Values, Values]:
    """The kernel of all as (3 s s) x in x k x k, and its bias, of what a depth-to-space by s then puts in its place."""
    kernel = np.eye(layers[-1].kernel.shape[0])[:, None, None, :, None, None]  # out, pixel y, x, in, k, k
    bias = np.zeros((kernel.shape[0], 1, 1))
    for layer in reversed(layers):
        kernel = lifted(kernel, layer.factor)
        bias = np.tile(bias, (1, layer.factor, layer.factor))
        bias = bias + np.einsum("cyxmkl,m->cyx", kernel, layer.bias)
        kernel = _composed(kernel, layer.kernel.astype(np.float64))
    return kernel.reshape(-1, *kernel.shape[3:]).astype(np.float32), bias.reshape(-1).astype(np.float32)


def product_shape(layers: Sequence[Layer]) -> tuple[int, int, int, int]:
    """Of that kernel."""
    scale, size = math.prod(layer.factor for layer in layers), 1
    for layer in reversed(layers):
        size = 2 * -(-(size // 2) // layer.factor) + layer.kernel.shape[-1]
    return layers[-1].kernel.shape[0] * scale**2, layers[0].kernel.shape[1], size, size


def lifted(kernel: Any, factor: int) -> Any:
    """A kernel on shuffled pixels as one on those they were made of."""
    if factor == 1:
        return kernel
    out, phases, _, channels, size, _ = kernel.shape
    radius = size // 2
    wide = -(-radius // factor)
    made = np.zeros((out, factor, phases, factor, phases, channels, factor, factor, 2 * wide + 1, 2 * wide + 1))
    for y in range(factor):
        for x in range(factor):
            for down in range(-radius, radius + 1):
                for right in range(-radius, radius + 1):
                    (from_y, row), (from_x, column) = divmod(y + down, factor), divmod(x + right, factor)
                    made[:, y, :, x, :, :, row, column, wide + from_y, wide + from_x] += kernel[
                        ..., radius + down, radius + right
                    ]
    return made.reshape(out, factor * phases, factor * phases, channels * factor**2, 2 * wide + 1, 2 * wide + 1)


def _composed(kernel: Any, before: Any) -> Any:
    """One kernel that makes what `kernel` makes of what `before` made."""
    reach, size = kernel.shape[-1], before.shape[-1]
    made = np.zeros((*kernel.shape[:3], before.shape[1], reach + size - 1, reach + size - 1))
    for row in range(reach):
        for column in range(reach):
            product = np.einsum("cyxm,mikl->cyxikl", kernel[..., row, column], before, optimize=True)
            made[..., row : row + size, column : column + size] += product
    return made
