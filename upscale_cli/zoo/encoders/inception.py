"""The Inception network that Frechet Inception Distances are measured with.

Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016, arXiv:1512.00567, as frozen in
TensorFlow on 2015-12-05; Heusel et al., arXiv:1706.08500, made it the measure. Not the classifier of later years: its
weights, its average pooling (what lies outside does not count) and its last pooling (a maximum) are its own. Keys are
those of mseitzer/pytorch-fid (Apache-2.0) and torch-fidelity without `fc`: Conv2d_1a_3x3.conv, Mixed_5b.branch1x1.bn.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 299

Protocol = Literal["pytorch-fid", "tensorflow"]
"""How a picture becomes 299 x 299 in [-1, 1]. Scores of the two are not comparable.

pytorch-fid: bilinear between pixel centres, 2 x - 1. tensorflow: as the first implementation, and torch-fidelity, do
it; bilinear between corners, and 8-bit values less 128, over 128. Neither widens its kernel for a smaller picture.
"""

Kernel = int | tuple[int, int]


class Conv(nn.Module):
    """conv - BatchNorm - ReLU; the size stays, unless `valid` (or a stride) drops what the kernel has no room for."""

    def __init__(self, inputs: int, outputs: int, kernel: Kernel = 1, *, stride: int = 1, valid: bool = False) -> None:
        super().__init__()
        height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        padding = (0, 0) if valid or stride > 1 else (height // 2, width // 2)
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(features)))


class MixedA(nn.Module):
    """1 x 1, 5 x 5, twice 3 x 3, pooling: Mixed_5b to 5d."""

    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(inputs, 64)
        self.branch5x5_1 = Conv(inputs, 48)
        self.branch5x5_2 = Conv(48, 64, 5)
        self.branch3x3dbl_1 = Conv(inputs, 64)
        self.branch3x3dbl_2 = Conv(64, 96, 3)
        self.branch3x3dbl_3 = Conv(96, 96, 3)
        self.branch_pool = Conv(inputs, pooled)

    def forward(self, features: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(features))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(features)))
        return torch.cat((self.branch1x1(features), five, double, self.branch_pool(_average(features))), 1)


class MixedB(nn.Module):
    """3 x 3, twice 3 x 3, pooling, to half the size: Mixed_6a."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1 = Conv(inputs, 64)
        self.branch3x3dbl_2 = Conv(64, 96, 3)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(features)))
        return torch.cat((self.branch3x3(features), double, F.max_pool2d(features, 3, stride=2)), 1)


class MixedC(nn.Module):
    """1 x 1, 7 x 7 and twice 7 x 7 in rows and columns, pooling: Mixed_6b to 6e."""

    def __init__(self, inputs: int, inner: int) -> None:
        super().__init__()
        row, column = (1, 7), (7, 1)
        self.branch1x1 = Conv(inputs, 192)
        self.branch7x7_1 = Conv(inputs, inner)
        self.branch7x7_2 = Conv(inner, inner, row)
        self.branch7x7_3 = Conv(inner, 192, column)
        self.branch7x7dbl_1 = Conv(inputs, inner)
        self.branch7x7dbl_2 = Conv(inner, inner, column)
        self.branch7x7dbl_3 = Conv(inner, inner, row)
        self.branch7x7dbl_4 = Conv(inner, inner, column)
        self.branch7x7dbl_5 = Conv(inner, 192, row)
        self.branch_pool = Conv(inputs, 192)

    def forward(self, features: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(features)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(features)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat((self.branch1x1(features), seven, double, self.branch_pool(_average(features))), 1)


class MixedD(nn.Module):
    """3 x 3, 7 x 7 then 3 x 3, pooling, to half the size: Mixed_7a."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1 = Conv(inputs, 192)
        self.branch3x3_2 = Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Conv(inputs, 192)
        self.branch7x7x3_2 = Conv(192, 192, (1, 7))
        self.branch7x7x3_3 = Conv(192, 192, (7, 1))
        self.branch7x7x3_4 = Conv(192, 192, 3, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(features))
        seven = self.branch7x7x3_2(self.branch7x7x3_1(features))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(seven))
        return torch.cat((three, seven, F.max_pool2d(features, 3, stride=2)), 1)


class MixedE(nn.Module):
    """1 x 1, 3 x 3 and twice 3 x 3 split into row beside column, pooling: Mixed_7b, and 7c with a maximum."""

    def __init__(self, inputs: int, *, maximum: bool) -> None:
        super().__init__()
        row, column = (1, 3), (3, 1)
        self.maximum = maximum
        self.branch1x1 = Conv(inputs, 320)
        self.branch3x3_1 = Conv(inputs, 384)
        self.branch3x3_2a = Conv(384, 384, row)
        self.branch3x3_2b = Conv(384, 384, column)
        self.branch3x3dbl_1 = Conv(inputs, 448)
        self.branch3x3dbl_2 = Conv(448, 384, 3)
        self.branch3x3dbl_3a = Conv(384, 384, row)
        self.branch3x3dbl_3b = Conv(384, 384, column)
        self.branch_pool = Conv(inputs, 192)

    def forward(self, features: Tensor) -> Tensor:
        three = self.branch3x3_1(features)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(features))
        pooled = F.max_pool2d(features, 3, stride=1, padding=1) if self.maximum else _average(features)
        branches = (
            self.branch1x1(features),
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(pooled),
        )
        return torch.cat(branches, 1)


class FIDInception(nn.Module):
    """N x 3 x H x W in [0, 1] to N x 2048: the mean over the last map. Frozen, and in eval mode whatever is asked."""

    def __init__(self, *, protocol: Protocol = "pytorch-fid") -> None:
        super().__init__()
        self.protocol = protocol
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3, valid=True)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = Conv(64, 80)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3, valid=True)
        self.Mixed_5b = MixedA(192, 32)
        self.Mixed_5c = MixedA(256, 64)
        self.Mixed_5d = MixedA(288, 64)
        self.Mixed_6a = MixedB(288)
        self.Mixed_6b = MixedC(768, 128)
        self.Mixed_6c = MixedC(768, 160)
        self.Mixed_6d = MixedC(768, 160)
        self.Mixed_6e = MixedC(768, 192)
        self.Mixed_7a = MixedD(768)
        self.Mixed_7b = MixedE(1280, maximum=False)
        self.Mixed_7c = MixedE(2048, maximum=True)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "FIDInception":
        """Stays as it is: batch statistics would make a score depend on what else is in the batch."""
        super().train(False)
        return self

    def forward(self, image: Tensor) -> Tensor:
        if self.protocol == "tensorflow":
            features = (255 * between_corners(image, SIDE) - 128) / 128
        else:
            features = 2 * F.interpolate(image, size=(SIDE, SIDE), mode="bilinear") - 1
        features = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(features)))
        features = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(features, 3, stride=2)))
        features = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(features, 3, stride=2))))
        features = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(features)))
        features = self.Mixed_6e(self.Mixed_6d(features))
        features = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(features)))
        return features.mean((2, 3))


def between_corners(image: Tensor, side: int) -> Tensor:
    """N x C x H x W to N x C x side x side as TensorFlow 1 resized: pixel i of the result lies at i x H / side."""
    for axis in (2, 3):
        size = image.shape[axis]
        at = torch.arange(side, device=image.device) * (size / side)
        low = at.long()
        high = (low + 1).clamp(max=size - 1)
        share = (at - low).to(image.dtype).reshape((-1, 1) if axis == 2 else (-1,))
        image = torch.lerp(image.index_select(axis, low), image.index_select(axis, high), share)
    return image


def _average(features: Tensor) -> Tensor:
    """Mean of 3 x 3, of what lies inside."""
    return F.avg_pool2d(features, 3, stride=1, padding=1, count_include_pad=False)
