"""SRVGGNetCompact, the fast network of Real-ESRGAN: realesr-general with 32 convolutions, realesr-animevideov3 with 16.

Wang et al., Real-ESRGAN, ICCV workshops 2021, arXiv:2107.10833. 3 x 3 convolutions with PReLU at low resolution, one
PixelShuffle, and the input repeated underneath. Keys are those of BasicSR (Apache-2.0) and Real-ESRGAN (BSD-3-Clause):
body.N, convolutions at even N, PReLU at odd.

Variants with ReLU or leaky ReLU leave no trace of which in their files, and are refused.
"""

import math
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.blocks import conv3x3, enlarge_nearest, narrowed
from upscale_cli.zoo.layout import count, fitting, width
from upscale_cli.zoo.variant import Architecture, Shapes, Variant

SCALES = (1, 2, 3, 4, 8)


class SRVGGNetCompact(nn.Module):
    """N x 3 x H x W -> N x 3 x sH x sW, [0, 1]; `convs` between the first and the last."""

    def __init__(self, *, scale: int, convs: int, channels: int = 64) -> None:
        super().__init__()
        self.scale = scale
        body: list[nn.Module] = [conv3x3(3, channels), nn.PReLU(channels)]
        for _ in range(convs):
            body += [conv3x3(channels, channels), nn.PReLU(channels)]
        self.body = nn.Sequential(*body, conv3x3(channels, 3 * scale**2))

    def forward(self, lr: Tensor) -> Tensor:
        detail = F.pixel_shuffle(self.body(narrowed(lr, self)), self.scale)
        return detail + enlarge_nearest(lr, self.scale)


def _variant(name: str, module: partial[SRVGGNetCompact], parameters: int) -> Variant:
    scale, radius = module.keywords["scale"], module.keywords["convs"] + 2
    return Variant(
        name,
        "srvgg",
        module,
        scale=scale,
        margin=min(radius, 40),
        exact=radius <= 40,
        parameters=parameters,
        task="restore" if scale == 1 else "upscale",
    )


VARIANTS = (
    _variant("srvgg/x4", partial(SRVGGNetCompact, scale=4, convs=32), 1_213_296),
    _variant("srvgg/x1-16c", partial(SRVGGNetCompact, scale=1, convs=16), 595_459),
    _variant("srvgg/x2-16c", partial(SRVGGNetCompact, scale=2, convs=16), 600_652),
    _variant("srvgg/x3-16c", partial(SRVGGNetCompact, scale=3, convs=16), 609_307),
    _variant("srvgg/x4-16c", partial(SRVGGNetCompact, scale=4, convs=16), 621_424),
    _variant("srvgg/x2-tiny", partial(SRVGGNetCompact, scale=2, convs=1, channels=8), 1_700),
)


def recognise(shapes: Shapes) -> Variant | None:
    """Any width, depth and scale; the scale from the outputs of the last convolution."""
    last = count(shapes, "body.{}.weight") - 1
    convs, channels = last // 2 - 1, width(shapes, "body.0.weight")
    scale = math.isqrt(width(shapes, f"body.{last}.weight") // 3)
    if last < 2 or not channels or scale not in SCALES:
        return None
    module = partial(SRVGGNetCompact, scale=scale, convs=convs, channels=channels)
    return fitting(shapes, _variant(f"srvgg/x{scale}-{channels}f-{convs}c", module, 0), VARIANTS)


ARCHITECTURE = Architecture("srvgg", VARIANTS, recognise=recognise)
