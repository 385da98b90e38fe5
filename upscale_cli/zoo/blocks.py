"""Layers, and a mean of colours, that several architectures share."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.kernels import RIM_PX, Layer, Values, product, product_shape

BAND_VALUES = 1 << 26
"""In the largest enlarged features of a band."""
_LEAST_ROWS = 8
_AROUND = 2  # rows that an enlarged one sees beside its own: by a convolution, and by those that are enlarged further
SLOPE = 0.2
"""Of the leaky ReLUs of ESRGAN and those after it."""
DIV2K_MEAN = (0.4488, 0.4371, 0.4040)  # RGB, in [0, 1]


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """3 x 3 convolution that keeps height and width (zero padding)."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def narrowed(image: Tensor, network: nn.Module) -> Tensor:
    """The picture in the precision of the network's weights, for its first layer."""
    return image.to(next(network.parameters()).dtype)


def widened(conv: nn.Module, features: Tensor, dtype: torch.dtype) -> Tensor:
    """A convolution in another precision than its weights', and than a training's: the last layer draws the picture."""
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    with as_given(features):
        return F.conv2d(features.to(dtype), conv.weight.to(dtype), conv.bias.to(dtype), padding=conv.padding)


def as_given(image: Tensor) -> torch.autocast:
    """What is computed within is so in the precision it is in, also where a training is in another.

    bf16 has no more steps than 8 bits, and a loss of such a picture ends anywhere between two of them.
    """
    return torch.autocast("cpu" if image.is_meta else image.device.type, enabled=False)


class LinearEnd(nn.Module):
    """What enlarges features and draws the picture of them; where that is convolutions and pixel shuffles alone, it can
    be folded into one convolution. Holds no weights: they are those of the layers it is given.
    """

    kernel: Tensor | None
    bias: Tensor | None

    def __init__(self, upsample: nn.Sequential, last: nn.Conv2d) -> None:
        super().__init__()
        self._layers = (upsample, last)  # in a tuple, or they would be in the state dict twice
        self.register_buffer("kernel", None, persistent=False)
        self.register_buffer("bias", None, persistent=False)

    def forward(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        """N x C x H x W to N x 3 x sH x sW, the last layer in `dtype`."""
        if self.kernel is None or self.bias is None:
            return self._as_they_are(features, dtype)
        around = self.kernel.shape[-1] // 2
        inner = F.conv2d(features.to(dtype), self.kernel.to(dtype), self.bias.to(dtype), padding=around)
        scale = math.isqrt(len(self.kernel) // self._layers[1].out_channels)
        inner = F.pixel_shuffle(inner, scale)[..., scale:-scale, scale:-scale]
        # Of one row, which is the first and the last, nothing is left where it is the last.
        top, left = (self._as_they_are(part, dtype) for part in (features[..., :RIM_PX, :], features[..., :RIM_PX]))
        bottom, right = (
            self._as_they_are(part, dtype) for part in (features[..., -RIM_PX:, :], features[..., -RIM_PX:])
        )
        left, right = left[..., scale:-scale, :scale], right[..., scale:-scale, scale:][..., -scale:]
        middle = torch.cat((left, inner, right), 3)
        return torch.cat((top[..., :scale, :], middle, bottom[..., scale:, :][..., -scale:, :]), 2)

    def fold(self) -> None:
        """From now on all is one convolution, of the weights as they are now; where it cannot be, nothing changes."""
        upsample, last = list(self._layers[0]), self._layers[1]
        layers = [
            Layer(*_values(conv), shuffle.upscale_factor)
            for conv, shuffle in zip(upsample[::2], upsample[1::2], strict=False)
            if isinstance(conv, nn.Conv2d) and isinstance(shuffle, nn.PixelShuffle)
        ]
        if not layers or 2 * len(layers) < len(upsample):
            return
        layers.append(Layer(*_values(last), 1))
        if last.weight.is_meta:
            self.kernel = last.weight.new_empty(product_shape(layers))
            self.bias = last.weight.new_empty(len(self.kernel))
        else:
            self.kernel, self.bias = map(torch.from_numpy, product(layers))

    def _as_they_are(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        upsample, last = self._layers
        return widened(last, upsample(features), dtype)


class Banded(nn.Module):
    """A network that enlarges features by nearest neighbours, each time with a convolution that `enlargements` names,
    and ends in `conv_hr` and `conv_last`; for some rows at a time where it is `banded`: enlarged features of a whole
    tile, 64 to each of sixteen pixels, are then never in memory.
    """

    enlargements: tuple[str, ...] = ()
    banded = False

    def draw(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        """N x C x H x W to N x 3 x sH x sW, the last layer in `dtype`."""
        for name in self.enlargements:
            features = F.leaky_relu(self.get_submodule(name)(enlarge_nearest(features, 2)), SLOPE)
        features = F.leaky_relu(self.get_submodule("conv_hr")(features), SLOPE)
        return widened(self.get_submodule("conv_last"), features, dtype)

    def drawn(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        """What `draw` makes, of as many rows at a time as there is to be memory for."""
        if not self.banded:  # nor may what is traced look at numbers
            return self.draw(features, dtype)
        rows, factor = features.shape[-2], 2 ** len(self.enlargements)
        height = max(_LEAST_ROWS, BAND_VALUES // (features[..., :1, :].numel() * factor**2))
        made = []
        for top in range(0, rows, height):
            first, bottom = max(0, top - _AROUND), min(top + height, rows)
            band = self.draw(features[..., first : bottom + _AROUND, :], dtype)
            made.append(band[..., (top - first) * factor : (bottom - first) * factor, :])
        return torch.cat(made, 2) if len(made) > 1 else made[0]


def as_engines_run_it(network: nn.Module) -> None:
    """Fold the ends that can be, and have others be computed by bands, in place: the same pictures, in less."""
    for module in network.modules():
        if isinstance(module, LinearEnd):
            module.fold()
        elif isinstance(module, Banded):
            module.banded = True


def _values(conv: nn.Conv2d) -> tuple[Values, Values]:
    assert conv.bias is not None
    values = (conv.weight.detach(), conv.bias.detach())
    weight, bias = (np.broadcast_to(np.float32(0), each.shape) if each.is_meta else each.numpy() for each in values)
    return weight, bias


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
