"""ResNet18, features only.

He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385. Keys are those of timm and
torchvision (timm/resnet18.tv_in1k, BSD-3-Clause) without `fc`: conv1, bn1, layer{1..4}.N.{conv1,bn1,conv2,bn2,
downsample.{0,1}}.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.blocks import narrowed
from upscale_cli.zoo.encoders.imagenet import Normalise, start


class BasicBlock(nn.Module):
    """conv - BatchNorm - ReLU - conv - BatchNorm, plus the input, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.downsample.extend((nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)))

    def forward(self, features: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(features)))))
        return F.relu(inner + self.downsample(features))


class ResNet(nn.Module):
    """N x 3 x H x W in [0, 1] to five maps, at 1/2, 1/4, 1/8, 1/16 and 1/32 of H x W, rounded up.

    They have c, c, 2c, 4c and 8c channels: the stem before its pooling, and the four stages. Any H, W >= 1.
    """

    stride = 32

    def __init__(self, *, channels: int = 64, blocks: Sequence[int] = (2, 2, 2, 2)) -> None:
        super().__init__()
        self.normalise = Normalise()
        self.conv1 = nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layer1 = _stage(channels, channels, blocks[0], 1)
        self.layer2 = _stage(channels, 2 * channels, blocks[1], 2)
        self.layer3 = _stage(2 * channels, 4 * channels, blocks[2], 2)
        self.layer4 = _stage(4 * channels, 8 * channels, blocks[3], 2)
        start(self)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        stem = F.relu(self.bn1(self.conv1(narrowed(self.normalise(image), self))))
        first = self.layer1(F.max_pool2d(stem, 3, stride=2, padding=1))
        second = self.layer2(first)
        third = self.layer3(second)
        return stem, first, second, third, self.layer4(third)


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    rest = (BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1))
    return nn.Sequential(BasicBlock(inputs, outputs, stride), *rest)
