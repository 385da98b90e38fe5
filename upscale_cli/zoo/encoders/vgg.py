"""VGG16 and VGG19, features only: what perceptual losses and LPIPS look through.

Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015, arXiv:1409.1556.
Keys are those of timm and torchvision (timm/vgg16.tv_in1k, timm/vgg19.tv_in1k, BSD-3-Clause) without the classifier:
features.N. Layers are called as the losses' papers call them: conv<block>_<number>, relu<block>_<number>, pool<block>.
"""

from collections.abc import Collection
from typing import Literal

from torch import Tensor, nn

from upscale_cli.zoo.blocks import conv3x3, narrowed
from upscale_cli.zoo.encoders.imagenet import Normalise

DEPTHS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # convolutions in each of five blocks
CHANNELS = (64, 128, 256, 512, 512)

LPIPS_TAPS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
"""Of VGG16: Zhang et al., arXiv:1801.03924. Its scaling layer on [-1, 1] is ImageNet's mean and deviation on [0, 1]."""
SRGAN_TAPS = ("relu5_4",)
"""Of VGG19: Ledig et al., arXiv:1609.04802, the loss VGG54."""
ESRGAN_TAPS = ("conv5_4",)
"""Of VGG19: Wang et al., arXiv:1809.00219, before the activation."""
REAL_ESRGAN_TAPS = ("conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4")
"""Of VGG19: Wang et al., arXiv:2107.10833; weighted 0.1, 0.1, 1, 1, 1."""


def layer_names(depth: Literal[16, 19]) -> tuple[str, ...]:
    """In the order they run."""
    blocks = enumerate(DEPTHS[depth], 1)
    return tuple(name for block, count in blocks for name in (*_of_block(block, count), f"pool{block}"))


def _of_block(block: int, count: int) -> list[str]:
    return [f"{kind}{block}_{number}" for number in range(1, count + 1) for kind in ("conv", "relu")]


class VGG(nn.Module):
    """N x 3 x H x W in [0, 1] to the activations called `taps`, by name.

    Frozen: gradients reach the picture, never the weights. Layers behind the last tap hold weights and do not run.
    H and W at least 2 to the number of pools before the last tap: 16 for one in the fifth block.
    """

    def __init__(self, *, depth: Literal[16, 19], taps: Collection[str]) -> None:
        super().__init__()
        self.normalise = Normalise()
        self.names = layer_names(depth)
        self.features = nn.Sequential()
        width = 3
        for count, channels in zip(DEPTHS[depth], CHANNELS, strict=True):
            for _ in range(count):
                self.features.extend((conv3x3(width, channels), nn.ReLU()))
                width = channels
            self.features.append(nn.MaxPool2d(2))
        unknown = sorted(set(taps).difference(self.names))
        if unknown or not taps:
            raise ValueError(f"VGG{depth} has no layers {unknown}; choose taps among {list(self.names)}")
        self.taps = frozenset(taps)
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        seen: dict[str, Tensor] = {}
        features = narrowed(self.normalise(image), self)
        for name, layer in zip(self.names, self.features, strict=True):
            features = layer(features)
            if name in self.taps:
                seen[name] = features
                if len(seen) == len(self.taps):
                    break
        return seen
