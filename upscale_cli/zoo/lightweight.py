"""Lightweight CNN: about 46 K parameters, for speed first.

Six 3 x 3 convolutions at low resolution (3 -> 32, 4 x 32 -> 32, 32 -> 3 s^2), PReLU between them, one PixelShuffle
(Shi et al. 2016, ESPCN), and the input repeated underneath, so that the network only draws the detail (Wang et al.
2021, the SRVGGNetCompact of Real-ESRGAN). Nothing runs at high resolution: that is what makes it fast.

Keys: head, body.N, tail (convolutions), act.N (PReLU).
"""

import math
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.blocks import conv3x3, enlarge_nearest, narrowed
from upscale_cli.zoo.layout import count, fitting, width
from upscale_cli.zoo.variant import Architecture, Shapes, Variant


class Lightweight(nn.Module):
    """N x 3 x H x W -> N x 3 x sH x sW, [0, 1]."""

    def __init__(self, *, scale: int, channels: int = 32, layers: int = 4) -> None:
        super().__init__()
        self.scale = scale
        self.head = conv3x3(3, channels)
        self.body = nn.ModuleList(conv3x3(channels, channels) for _ in range(layers))
        self.act = nn.ModuleList(nn.PReLU(channels) for _ in range(layers + 1))
        self.tail = conv3x3(channels, 3 * scale**2)

    def forward(self, lr: Tensor) -> Tensor:
        features = self.act[0](self.head(narrowed(lr, self)))
        for conv, act in zip(self.body, self.act[1:], strict=True):
            features = act(conv(features))
        return F.pixel_shuffle(self.tail(features), self.scale) + enlarge_nearest(lr, self.scale)


def _variant(scale: int, parameters: int) -> Variant:
    return Variant(
        f"lightweight/x{scale}",
        "lightweight",
        partial(Lightweight, scale=scale),
        scale=scale,
        margin=6,  # six 3 x 3 convolutions
        exact=True,
        parameters=parameters,
    )


VARIANTS = (
    _variant(2, 41_516),
    _variant(3, 45_851),
    _variant(4, 51_920),
    Variant(
        "lightweight/x2-tiny",
        "lightweight",
        partial(Lightweight, scale=2, channels=8, layers=1),
        scale=2,
        margin=3,
        exact=True,
        parameters=1_700,
    ),
)


def recognise(shapes: Shapes) -> Variant | None:
    """Any width, depth and scale."""
    layers, channels = count(shapes, "body.{}.weight"), width(shapes, "head.weight")
    scale = math.isqrt(width(shapes, "tail.weight") // 3)
    if not (layers and channels and scale):
        return None
    module = partial(Lightweight, scale=scale, channels=channels, layers=layers)
    radius = layers + 2
    name = f"lightweight/x{scale}-{channels}f-{layers}l"
    fresh = Variant(name, "lightweight", module, scale=scale, margin=min(radius, 40), exact=radius <= 40, parameters=0)
    return fitting(shapes, fresh, VARIANTS)


ARCHITECTURE = Architecture("lightweight", VARIANTS, recognise=recognise)
