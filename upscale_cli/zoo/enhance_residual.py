"""Residual enhancement: a photograph retouched by a plain residual network at full resolution.

A 3 x 3 convolution from 3 to 64 channels with ReLU, eight blocks of convolution, ReLU, BatchNorm, convolution,
BatchNorm, skip, ReLU, a convolution from 64 to 3, and the photograph added: the network draws what the retouch changes.
After He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385.

A checkpoint holds 598,467 values: weights and biases of all 18 convolutions, and of each of the 16 BatchNorms scale,
shift, mean and variance. 2,048 of them are means and variances, which are counted, not learned: 596,419 parameters. The
16 counters `num_batches_tracked` come on top. Keys: head, blocks.N.{conv1,bn1,conv2,bn2}, tail.

It sees 18 pixels around each and none of the rest, so exposure and colour are decided from a patch: see lut3d.py.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.blocks import conv3x3, narrowed, widened
from upscale_cli.zoo.layout import count, fitting, width
from upscale_cli.zoo.variant import Architecture, Shapes, Variant


class ResidualBlock(nn.Module):
    """conv - ReLU - BatchNorm - conv - BatchNorm, plus the input, ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(features + self.bn2(self.conv2(self.bn1(F.relu(self.conv1(features))))))


class EnhanceResidual(nn.Module):
    """N x 3 x H x W -> N x 3 x H x W, [0, 1]."""

    def __init__(self, *, channels: int = 64, blocks: int = 8) -> None:
        super().__init__()
        self.head = conv3x3(3, channels)
        self.blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.tail = conv3x3(channels, 3)

    def forward(self, image: Tensor) -> Tensor:
        features = self.blocks(F.relu(self.head(narrowed(image, self))))
        return image + widened(self.tail, features, image.dtype)


def _variant(name: str, module: partial[EnhanceResidual], parameters: int) -> Variant:
    radius = 2 * module.keywords.get("blocks", 8) + 2
    return Variant(
        name,
        "enhance-residual",
        module,
        scale=1,
        margin=radius,
        exact=True,
        parameters=parameters,
        task="enhance",
    )


VARIANTS = (
    _variant("enhance-residual/x1", partial(EnhanceResidual), 596_419),
    _variant("enhance-residual/x1-tiny", partial(EnhanceResidual, channels=8, blocks=1), 1_643),
)


def recognise(shapes: Shapes) -> Variant | None:
    """Any width and depth."""
    channels, blocks = width(shapes, "head.weight"), count(shapes, "blocks.{}.bn1.weight")
    if not (channels and blocks):
        return None
    name = f"enhance-residual/x1-{channels}f-{blocks}b"
    module = partial(EnhanceResidual, channels=channels, blocks=blocks)
    return fitting(shapes, _variant(name, module, 0), VARIANTS)


ARCHITECTURE = Architecture("enhance-residual", VARIANTS, recognise=recognise)
