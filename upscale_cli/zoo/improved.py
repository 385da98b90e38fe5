"""Improved CNN: 594,371 parameters at x2, the step between lightweight and EDSR.

3 -> 64, twelve 64 -> 64 convolutions with a residual connection every four, 64 -> 64 s^2 with PixelShuffle (in steps of
2 at x4 and x8), 64 -> 3, ReLU between them; and the input repeated underneath, so that the network only draws the
detail (Kim et al. 2016, VDSR).

Keys: head, body.N, upsample.N, tail.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.blocks import conv3x3, enlarge_nearest, narrowed, shuffle_steps
from upscale_cli.zoo.layout import count, fitting, shuffle_scale, width
from upscale_cli.zoo.variant import Architecture, Shapes, Variant


class Improved(nn.Module):
    """N x 3 x H x W -> N x 3 x sH x sW, [0, 1]."""

    def __init__(self, *, scale: int, channels: int = 64, layers: int = 12, residual_every: int = 4) -> None:
        super().__init__()
        if layers % residual_every:
            raise ValueError(f"{layers} layers do not divide into residual groups of {residual_every}")
        self.scale = scale
        self.residual_every = residual_every
        self.steps = shuffle_steps(scale)
        self.head = conv3x3(3, channels)
        self.body = nn.ModuleList(conv3x3(channels, channels) for _ in range(layers))
        self.upsample = nn.ModuleList(conv3x3(channels, channels * step**2) for step in self.steps)
        self.tail = conv3x3(channels, 3)

    def forward(self, lr: Tensor) -> Tensor:
        features = F.relu(self.head(narrowed(lr, self)))
        for start in range(0, len(self.body), self.residual_every):
            skip = features
            for conv in self.body[start : start + self.residual_every]:
                features = F.relu(conv(features))
            features = features + skip
        for conv, step in zip(self.upsample, self.steps, strict=True):
            features = F.relu(F.pixel_shuffle(conv(features), step))
        return self.tail(features) + enlarge_nearest(lr, self.scale)


def _variant(scale: int, parameters: int) -> Variant:
    return Variant(
        f"improved/x{scale}",
        "improved",
        partial(Improved, scale=scale),
        scale=scale,
        margin=15,  # head, twelve layers, first upsampling: 14; what runs at high resolution needs less than one more
        exact=True,
        parameters=parameters,
    )


VARIANTS = (
    _variant(2, 594_371),
    _variant(3, 779_011),
    _variant(4, 742_083),
    _variant(8, 889_795),
    Variant(
        "improved/x2-tiny",
        "improved",
        partial(Improved, scale=2, channels=8, layers=2, residual_every=2),
        scale=2,
        margin=5,
        exact=True,
        parameters=3_947,
    ),
)


def recognise(shapes: Shapes) -> Variant | None:
    """Any width, and any depth of whole residual groups, which no tensor shows: of four, or one group of fewer."""
    layers, channels = count(shapes, "body.{}.weight"), width(shapes, "head.weight")
    scale = shuffle_scale(shapes, "upsample.{}.weight")
    group = min(layers, 4)
    if not (layers and channels and scale) or layers % group:
        return None
    module = partial(Improved, scale=scale, channels=channels, layers=layers, residual_every=group)
    radius = layers + 3
    name = f"improved/x{scale}-{channels}f-{layers}l"
    fresh = Variant(name, "improved", module, scale=scale, margin=min(radius, 40), exact=radius <= 40, parameters=0)
    return fitting(shapes, fresh, VARIANTS)


ARCHITECTURE = Architecture("improved", VARIANTS, recognise=recognise)
