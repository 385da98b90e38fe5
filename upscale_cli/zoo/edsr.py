"""EDSR, the enhanced deep residual network.

Lim et al., Enhanced Deep Residual Networks for Single Image Super-Resolution, CVPR workshops 2017, arXiv:1707.02921.
Residual blocks without BatchNorm, the DIV2K mean taken off by a fixed 1 x 1 layer and put back at the end. Keys are
those of the authors' published checkpoints (sanghyun-son/EDSR-PyTorch, MIT): sub_mean, head.0, body.N.body.{0,2},
body.<last>, tail.0.{0,2,...}, tail.1, add_mean.

Published checkpoints work on [0, 255]; this module takes and gives [0, 1]. It reads the range from the checkpoint's
own mean layer, so that both kinds load strictly and mean the same. eugenesiow/super-image (Apache-2.0) publishes files
with the same keys and mean layers that its network never applies: they are right here with those biases at zero.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.blocks import DIV2K_MEAN, LinearEnd, as_given, conv3x3, narrowed, shuffle_steps
from upscale_cli.zoo.layout import count, fitting, shuffle_scale, width
from upscale_cli.zoo.variant import Architecture, Shapes, Variant


class MeanShift(nn.Module):
    """Add sign x the DIV2K mean: a 1 x 1 convolution whose weights are constants, kept as buffers."""

    weight: Tensor
    bias: Tensor

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.eye(3).reshape(3, 3, 1, 1))
        self.register_buffer("bias", sign * torch.tensor(DIV2K_MEAN))

    def forward(self, image: Tensor) -> Tensor:
        with as_given(image):
            return F.conv2d(image, self.weight.to(image.dtype), self.bias.to(image.dtype))


class ResidualBlock(nn.Module):
    """conv - ReLU - conv, scaled, plus the input."""

    def __init__(self, channels: int, residual_scale: float) -> None:
        super().__init__()
        self.body = nn.Sequential(conv3x3(channels, channels), nn.ReLU(inplace=True), conv3x3(channels, channels))
        self.residual_scale = residual_scale

    def forward(self, features: Tensor) -> Tensor:
        return features + self.body(features) * self.residual_scale


class EDSR(nn.Module):
    """N x 3 x H x W -> N x 3 x sH x sW, [0, 1]."""

    def __init__(self, *, scale: int, blocks: int = 16, channels: int = 64, residual_scale: float = 1.0) -> None:
        super().__init__()
        self.sub_mean = MeanShift(-1)
        self.add_mean = MeanShift(+1)
        self.head = nn.Sequential(conv3x3(3, channels))
        self.body = nn.Sequential(
            *(ResidualBlock(channels, residual_scale) for _ in range(blocks)), conv3x3(channels, channels)
        )
        upsample: list[nn.Module] = []
        for step in shuffle_steps(scale):
            upsample += [conv3x3(channels, channels * step**2), nn.PixelShuffle(step)]
        ends = nn.Sequential(*upsample), conv3x3(channels, 3)
        self.tail = nn.Sequential(*ends)
        self.end = LinearEnd(*ends)
        self.value_range = 1.0
        self.register_load_state_dict_post_hook(_read_value_range)

    def forward(self, lr: Tensor) -> Tensor:
        features = self.head(narrowed(self.sub_mean(lr * self.value_range), self))
        features = features + self.body(features)
        return self.add_mean(self.end(features, lr.dtype)) / self.value_range


def _read_value_range(module: nn.Module, _keys: object) -> None:
    """A mean near 0.4 belongs to [0, 1], one near 114 to [0, 255]."""
    assert isinstance(module, EDSR)
    if not module.add_mean.bias.is_meta:
        module.value_range = 255.0 if float(module.add_mean.bias.abs().max()) > 2 else 1.0


def _baseline(scale: int, parameters: int) -> Variant:
    return Variant(
        f"edsr/x{scale}",
        "edsr",
        partial(EDSR, scale=scale),
        scale=scale,
        margin=12,  # measured: within 0.004 of 1/255 of the whole picture; 0.012 at 8
        parameters=parameters,
    )


def _large(scale: int, parameters: int) -> Variant:
    return Variant(
        f"edsr-large/x{scale}",
        "edsr",
        partial(EDSR, scale=scale, blocks=32, channels=256, residual_scale=0.1),
        scale=scale,
        margin=32,
        parameters=parameters,
    )


VARIANTS = (
    _baseline(2, 1_369_859),
    _baseline(3, 1_554_499),
    _baseline(4, 1_517_571),
    _baseline(8, 1_665_283),
    _large(2, 40_729_603),
    _large(3, 43_680_003),
    _large(4, 43_089_923),
    _large(8, 45_450_243),
    Variant(
        "edsr/x2-tiny",
        "edsr",
        partial(EDSR, scale=2, blocks=1, channels=8),
        scale=2,
        margin=6,
        exact=True,
        parameters=4_531,
    ),
)


def recognise(shapes: Shapes) -> Variant | None:
    """Any width and depth. No tensor shows the residual scale: the authors' is 0.1 from 256 channels on."""
    blocks, channels = count(shapes, "body.{}.body.0.weight"), width(shapes, "head.0.weight")
    scale = shuffle_scale(shapes, "tail.0.{}.weight", step=2)
    if not (blocks and channels and scale):
        return None
    residual_scale = 0.1 if channels >= 256 else 1.0
    module = partial(EDSR, scale=scale, blocks=blocks, channels=channels, residual_scale=residual_scale)
    radius = 2 * blocks + 5
    name = f"edsr/x{scale}-{channels}f-{blocks}b"
    fresh = Variant(name, "edsr", module, scale=scale, margin=min(radius, 32), exact=radius <= 32, parameters=0)
    return fitting(shapes, fresh, VARIANTS)


ARCHITECTURE = Architecture("edsr", VARIANTS, recognise=recognise)
