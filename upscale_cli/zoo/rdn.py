"""RDN, the residual dense network: local dense blocks whose results are all fused at the end.

Zhang et al., Residual Dense Network for Image Super-Resolution, CVPR 2018, arXiv:1802.08797. Keys are those of mmagic
(Apache-2.0) and yjn870/RDN-pytorch (MIT): sfe1, sfe2, rdbs.N.{layers.M.conv,lff}, gff.{0,1}, upscale.N, output.

`rdn-small` is the network that idealo/image-super-resolution (Apache-2.0) publishes as psnr-small: 10 blocks of 3
layers, and instead of PixelShuffle a 5 x 5 and two 3 x 3 convolutions, UPN1 to UPN3, whose 3 s^2 channels are repeated
s times before the last one.
"""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.blocks import LinearEnd, conv3x3, narrowed, shuffle_steps
from upscale_cli.zoo.layout import count, fitting, shuffle_scale, width
from upscale_cli.zoo.variant import Architecture, Shapes, Variant

Head = Literal["shuffle", "nearest"]


class DenseLayer(nn.Module):
    """The input, and a convolution and ReLU of it behind."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.conv = conv3x3(inputs, growth)

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat((features, F.relu(self.conv(features))), 1)


class DenseBlock(nn.Module):
    """Dense layers and their local fusion, plus the input."""

    def __init__(self, channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(DenseLayer(channels + n * growth, growth) for n in range(layers)))
        self.lff = nn.Conv2d(channels + layers * growth, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.lff(self.layers(features))


class RDN(nn.Module):
    """N x 3 x H x W -> N x 3 x sH x sW, [0, 1]."""

    def __init__(
        self,
        *,
        scale: int,
        blocks: int = 16,
        layers: int = 8,
        channels: int = 64,
        growth: int = 64,
        head: Head = "shuffle",
    ) -> None:
        super().__init__()
        self.sfe1 = conv3x3(3, channels)
        self.sfe2 = conv3x3(channels, channels)
        self.rdbs = nn.ModuleList(DenseBlock(channels, growth, layers) for _ in range(blocks))
        self.gff = nn.Sequential(nn.Conv2d(blocks * channels, channels, 1), conv3x3(channels, channels))
        self.upscale = nn.Sequential(*(_shuffled if head == "shuffle" else _repeated)(channels, scale))
        self.output = conv3x3(channels if head == "shuffle" else 3 * scale**2, 3)
        self.end = LinearEnd(self.upscale, self.output)

    def forward(self, lr: Tensor) -> Tensor:
        first = self.sfe1(narrowed(lr, self))
        features = self.sfe2(first)
        local = []
        for block in self.rdbs:
            features = block(features)
            local.append(features)
        return self.end(first + self.gff(torch.cat(local, 1)), lr.dtype)


def _shuffled(channels: int, scale: int) -> list[nn.Module]:
    steps = shuffle_steps(scale)
    return [layer for step in steps for layer in (conv3x3(channels, channels * step**2), nn.PixelShuffle(step))]


def _repeated(channels: int, scale: int) -> list[nn.Module]:
    fine = [nn.Conv2d(channels, 64, 5, padding=2), nn.ReLU(), conv3x3(64, 32), nn.ReLU(), conv3x3(32, 3 * scale**2)]
    return [*fine, nn.Upsample(scale_factor=scale, mode="nearest")]


def _variant(name: str, module: partial[RDN], parameters: int) -> Variant:
    # Measured on idealo's weights: within 0.5 of 1/255 at 8, 0.03 at 12. The large network has no weights here.
    margin = 12 if name.startswith("rdn-small") else 24
    return Variant(name, "rdn", module, scale=module.keywords["scale"], margin=margin, parameters=parameters)


_SMALL = partial(RDN, blocks=10, layers=3, head="nearest")

VARIANTS = (
    _variant("rdn/x2", partial(RDN, scale=2), 22_123_395),
    _variant("rdn/x3", partial(RDN, scale=3), 22_308_035),
    _variant("rdn/x4", partial(RDN, scale=4), 22_271_107),
    _variant("rdn/x8", partial(RDN, scale=8), 22_418_819),
    _variant("rdn-small/x2", partial(_SMALL, scale=2), 2_619_635),
    _variant("rdn-small/x3", partial(_SMALL, scale=3), 2_624_375),
    _variant("rdn-small/x4", partial(_SMALL, scale=4), 2_631_011),
    Variant(
        "rdn/x4-tiny",
        "rdn",
        partial(RDN, scale=4, blocks=1, layers=2, channels=8, growth=8),
        scale=4,
        margin=8,  # seven convolutions at low resolution, two above it
        exact=True,
        parameters=8_299,
    ),
)


def recognise(shapes: Shapes) -> Variant | None:
    """Any width, depth and growth, with either head."""
    blocks, layers = count(shapes, "rdbs.{}.lff.weight"), count(shapes, "rdbs.0.layers.{}.conv.weight")
    channels, growth = width(shapes, "sfe1.weight"), width(shapes, "rdbs.0.layers.0.conv.weight")
    head: Head = "nearest" if width(shapes, "upscale.0.weight", 2) == 5 else "shuffle"
    if head == "nearest":
        scale = {12: 2, 27: 3, 48: 4, 192: 8}.get(width(shapes, "upscale.4.weight"), 0)
    else:
        scale = shuffle_scale(shapes, "upscale.{}.weight", step=2)
    if not (blocks and layers and channels and growth and scale):
        return None
    module = partial(RDN, scale=scale, blocks=blocks, layers=layers, channels=channels, growth=growth, head=head)
    family = "rdn-small" if head == "nearest" else "rdn"
    return fitting(shapes, _variant(f"{family}/x{scale}-{channels}f-{blocks}b-{layers}l", module, 0), VARIANTS)


ARCHITECTURE = Architecture("rdn", VARIANTS, recognise=recognise)
