"""SRResNet, the generator of SRGAN trained for PSNR.

Ledig et al., Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network, CVPR 2017,
arXiv:1609.04802. 9 x 9 head and tail, residual blocks with BatchNorm and PReLU, PixelShuffle steps, tanh. Keys are
those of leftthomas/SRGAN (MIT): block1.{0,1}, block<n>.{conv1,bn1,prelu,conv2,bn2}, a 3 x 3 pair, the upsampling.

The network works on [-1, 1] and this module maps from and to [0, 1]. leftthomas' checkpoints read their input in
[0, 1]: `signed_input=False`. They have 5 blocks: the -5b variants.
"""

from functools import partial

import torch
from torch import Tensor, nn

from upscale_cli.zoo.blocks import conv3x3, narrowed, shuffle_steps, widened
from upscale_cli.zoo.layout import count, fitting, shuffle_scale, width
from upscale_cli.zoo.variant import Architecture, Shapes, Variant


class ResidualBlock(nn.Module):
    """conv - BatchNorm - PReLU - conv - BatchNorm, plus the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU()
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.bn2(self.conv2(self.prelu(self.bn1(self.conv1(features)))))


class UpsampleBlock(nn.Module):
    """conv - PixelShuffle - PReLU."""

    def __init__(self, channels: int, step: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels * step**2)
        self.pixel_shuffle = nn.PixelShuffle(step)
        self.prelu = nn.PReLU()

    def forward(self, features: Tensor) -> Tensor:
        return self.prelu(self.pixel_shuffle(self.conv(features)))


class SRResNet(nn.Module):
    """N x 3 x H x W -> N x 3 x sH x sW, [0, 1]."""

    def __init__(self, *, scale: int, blocks: int = 16, channels: int = 64, signed_input: bool = True) -> None:
        super().__init__()
        self.blocks = blocks
        self.signed_input = signed_input
        self.block1 = nn.Sequential(nn.Conv2d(3, channels, 9, padding=4), nn.PReLU())
        for number in range(2, blocks + 2):
            self.add_module(f"block{number}", ResidualBlock(channels))
        self.add_module(f"block{blocks + 2}", nn.Sequential(conv3x3(channels, channels), nn.PReLU()))
        upsample: list[nn.Module] = [UpsampleBlock(channels, step) for step in shuffle_steps(scale)]
        self.add_module(f"block{blocks + 3}", nn.Sequential(*upsample, nn.Conv2d(channels, 3, 9, padding=4)))

    def forward(self, lr: Tensor) -> Tensor:
        first = self.block1(narrowed(lr * 2 - 1 if self.signed_input else lr, self))
        features = first
        for number in range(2, self.blocks + 3):
            features = self.get_submodule(f"block{number}")(features)
        tail = self.get_submodule(f"block{self.blocks + 3}")
        assert isinstance(tail, nn.Sequential)
        sr = widened(tail[-1], tail[:-1](first + features), lr.dtype)
        return (torch.tanh(sr) + 1) / 2


def _variant(scale: int, parameters: int) -> Variant:
    return Variant(
        f"srresnet/x{scale}",
        "srresnet",
        partial(SRResNet, scale=scale),
        scale=scale,
        margin=24,
        parameters=parameters,
    )


def _published(scale: int, parameters: int) -> Variant:
    return Variant(
        f"srresnet/x{scale}-5b",
        "srresnet",
        partial(SRResNet, scale=scale, blocks=5, signed_input=False),
        scale=scale,
        margin=18,
        exact=True,
        parameters=parameters,
    )


VARIANTS = (
    _variant(2, 1_401_622),
    _variant(3, 1_586_262),
    _variant(4, 1_549_335),
    _variant(8, 1_697_048),
    _published(2, 586_379),
    _published(4, 734_092),
    Variant(
        "srresnet/x2-tiny",
        "srresnet",
        partial(SRResNet, scale=2, blocks=1, channels=8),
        scale=2,
        margin=10,
        exact=True,
        parameters=8_023,
    ),
)


def recognise(shapes: Shapes) -> Variant | None:
    """Any width and depth. No tensor shows the range of the input: that of the published files, unless a row says."""
    blocks, channels = count(shapes, "block{}.conv1.weight", first=2), width(shapes, "block1.0.weight")
    scale = shuffle_scale(shapes, f"block{blocks + 3}.{{}}.conv.weight")
    if not (blocks and channels and scale):
        return None
    module = partial(SRResNet, scale=scale, blocks=blocks, channels=channels, signed_input=False)
    radius = 2 * blocks + 8
    name = f"srresnet/x{scale}-{channels}f-{blocks}b"
    fresh = Variant(name, "srresnet", module, scale=scale, margin=min(radius, 24), exact=radius <= 24, parameters=0)
    return fitting(shapes, fresh, VARIANTS)


ARCHITECTURE = Architecture("srresnet", VARIANTS, recognise=recognise)
