"""MobileNetV2, features only.

Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018, arXiv:1801.04381. Keys are those of
timm (timm/mobilenetv2_100.ra_in1k, Apache-2.0) without `classifier`: conv_stem, bn1, blocks.0.0.{conv_dw,bn1,conv_pw,
bn2}, blocks.N.M.{conv_pw,bn1,conv_dw,bn2,conv_pwl,bn3}, conv_head, bn2. torchvision's have other names and are refused.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.blocks import narrowed
from upscale_cli.zoo.encoders.imagenet import Normalise, start


class Stage(NamedTuple):
    """Inverted residuals in a row; the first of them has the stride. The first stage of all does not expand."""

    expansion: int
    channels: int
    blocks: int
    stride: int


STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)


class Separable(nn.Module):
    """Depthwise conv - BatchNorm - ReLU6 - 1 x 1 conv - BatchNorm: the first block."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, features: Tensor) -> Tensor:
        return self.bn2(self.conv_pw(F.relu6(self.bn1(self.conv_dw(features)))))


class InvertedResidual(nn.Module):
    """1 x 1 conv to more channels, depthwise conv, 1 x 1 conv to few; plus the input where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.conv_pw = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv_dw = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv_pwl = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)

    def forward(self, features: Tensor) -> Tensor:
        inner = F.relu6(self.bn1(self.conv_pw(features)))
        inner = self.bn3(self.conv_pwl(F.relu6(self.bn2(self.conv_dw(inner)))))
        return features + inner if self.residual else inner


class MobileNetV2(nn.Module):
    """N x 3 x H x W in [0, 1] to N x `channels` x H/32 x W/32, rounded up, after the last ReLU6. Any H, W >= 1."""

    def __init__(
        self, *, stages: Sequence[Stage] = STAGES, stem: int = 32, channels: int = 1280, stem_stride: int = 2
    ) -> None:
        super().__init__()
        self.channels = channels
        self.stride = stem_stride
        self.normalise = Normalise()
        self.conv_stem = nn.Conv2d(3, stem, 3, stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.blocks = nn.Sequential()
        width = stem
        for stage in stages:
            self.blocks.append(_stage(width, stage))
            width = stage.channels
            self.stride *= stage.stride
        self.conv_head = nn.Conv2d(width, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        start(self)

    def forward(self, image: Tensor) -> Tensor:
        features = F.relu6(self.bn1(self.conv_stem(narrowed(self.normalise(image), self))))
        return F.relu6(self.bn2(self.conv_head(self.blocks(features))))


def _stage(inputs: int, stage: Stage) -> nn.Sequential:
    blocks = nn.Sequential()
    for number in range(stage.blocks):
        width, stride = (stage.channels, 1) if number else (inputs, stage.stride)
        if stage.expansion == 1:
            blocks.append(Separable(width, stage.channels, stride))
        else:
            blocks.append(InvertedResidual(width, stage.channels, stride, stage.expansion))
    return blocks
