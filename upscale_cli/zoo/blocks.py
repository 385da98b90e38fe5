"""Layers, and a mean of colours, that several architectures share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)  # RGB, in [0, 1]


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """3 x 3 convolution that keeps height and width (zero padding)."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def narrowed(image: Tensor, network: nn.Module) -> Tensor:
    """The picture in the precision of the network's weights, for its first layer."""
    return image.to(next(network.parameters()).dtype)


def widened(conv: nn.Module, features: Tensor, dtype: torch.dtype) -> Tensor:
    """A convolution in another precision than its weights': the last layer draws the picture itself."""
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    return F.conv2d(features.to(dtype), conv.weight.to(dtype), conv.bias.to(dtype), padding=conv.padding)


def shuffle_steps(scale: int) -> tuple[int, ...]:
    """Factors of the PixelShuffle steps that make `scale`: 2 and 3 in one step, 4 and 8 in steps of 2."""
    steps = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}
    if scale not in steps:
        raise ValueError(f"scale {scale} has no PixelShuffle steps; choose one of {sorted(steps)}")
    return steps[scale]


def enlarge_nearest(lr: Tensor, scale: int) -> Tensor:
    """N x C x H x W repeated to N x C x sH x sW: the base a residual network adds its detail to."""
    return F.interpolate(lr, scale_factor=scale, mode="nearest")


def symmetric_pad(image: Tensor, pad: int) -> Tensor:
    """Mirror with the edge pixel repeated, as MATLAB's imresize does; any size down to 1 x 1."""
    height, width = image.shape[-2:]
    return image[..., _mirror(height, pad), :][..., _mirror(width, pad)]


def _mirror(size: int, pad: int) -> Tensor:
    index = torch.arange(-pad, size + pad) % (2 * size)
    return torch.minimum(index, 2 * size - 1 - index)
