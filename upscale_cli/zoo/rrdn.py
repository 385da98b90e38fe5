"""RRDN, the residual in residual dense network of idealo/image-super-resolution (Apache-2.0).

ESRGAN's body (arXiv:1809.00219, `rrdb.py`) with 32 channels, 10 blocks and ReLU, enlarged by one convolution and
PixelShuffle. The publisher's files are TensorFlow's; the keys here are ESRGAN's, with conv_shuffle for PreShuffle and
conv_last for SR. TensorFlow's depth_to_space counts colours fastest, PixelShuffle slowest: the 3 s^2 outputs of
PreShuffle change places on the way.
"""

import math
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.blocks import conv3x3, narrowed, widened
from upscale_cli.zoo.layout import count, fitting, width
from upscale_cli.zoo.rrdb import RRDB
from upscale_cli.zoo.variant import Architecture, Shapes, Variant


class RRDN(nn.Module):
    """N x 3 x H x W -> N x 3 x sH x sW, [0, 1]."""

    def __init__(self, *, scale: int, blocks: int = 10, channels: int = 32, growth: int = 32) -> None:
        super().__init__()
        self.scale = scale
        self.conv_first = conv3x3(3, channels)
        self.body = nn.Sequential(*(RRDB(channels, growth, slope=0) for _ in range(blocks)))
        self.conv_body = conv3x3(channels, channels)
        self.conv_shuffle = conv3x3(channels, 3 * scale**2)
        self.conv_last = conv3x3(3, 3)

    def forward(self, lr: Tensor) -> Tensor:
        features = self.conv_first(narrowed(lr, self))
        features = features + self.conv_body(self.body(features))
        features = F.pixel_shuffle(self.conv_shuffle(features), self.scale)
        return widened(self.conv_last, features, lr.dtype)


def _variant(name: str, module: partial[RRDN], parameters: int) -> Variant:
    # Measured on idealo's weights: all pixels within 0.4 of 1/255 at 16; 99.95 % within one at 12.
    return Variant(name, "rrdn", module, scale=module.keywords["scale"], margin=16, parameters=parameters)


VARIANTS = (
    _variant("rrdn/x2", partial(RRDN, scale=2), 4_165_696),
    _variant("rrdn/x4", partial(RRDN, scale=4), 4_176_100),
    Variant(
        "rrdn/x4-tiny",
        "rrdn",
        partial(RRDN, scale=4, blocks=1, channels=12, growth=4),
        scale=4,
        margin=19,  # 18 convolutions at low resolution, one above it
        exact=True,
        parameters=23_892,
    ),
)


def recognise(shapes: Shapes) -> Variant | None:
    """Any width, depth, growth and scale."""
    blocks = count(shapes, "body.{}.rdb1.conv1.weight")
    channels, growth = width(shapes, "conv_first.weight"), width(shapes, "body.0.rdb1.conv1.weight")
    scale = math.isqrt(width(shapes, "conv_shuffle.weight") // 3)
    if not (blocks and channels and growth) or scale not in (2, 3, 4, 8):
        return None
    module = partial(RRDN, scale=scale, blocks=blocks, channels=channels, growth=growth)
    return fitting(shapes, _variant(f"rrdn/x{scale}-{channels}f-{blocks}b", module, 0), VARIANTS)


ARCHITECTURE = Architecture("rrdn", VARIANTS, recognise=recognise)
