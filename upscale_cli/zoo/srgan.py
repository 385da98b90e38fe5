"""The critics that super-resolution networks are trained against: SRGAN's, and Real-ESRGAN's U-Net.

The generator of SRGAN is SRResNet, trained further: the variants of `srresnet.py`. Those of ESRGAN and Real-ESRGAN are
in `rrdb.py`. Nothing here makes a picture, so there are no variants.

Ledig et al., SRGAN, CVPR 2017, arXiv:1609.04802: keys of leftthomas/SRGAN (MIT), net.N. Wang et al., Real-ESRGAN, ICCV
workshops 2021, arXiv:2107.10833: keys of BasicSR (Apache-2.0), conv0 to conv9, with the tensors that spectral
normalisation adds. Both give logits: the loss has the sigmoid.
"""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

SLOPE = 0.2  # of every leaky ReLU


class Discriminator(nn.Module):
    """N x 3 x H x W in [0, 1] -> N logits, the greater the more like a photograph.

    Eight convolutions, half of them with stride 2; the mean over the picture in place of a fixed size; 1024 -> 1.
    """

    def __init__(self, *, channels: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1), nn.LeakyReLU(SLOPE)]
        inputs = channels
        for index in range(1, 8):
            outputs, stride = channels * 2 ** (index // 2), 1 + index % 2
            layers += [nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.BatchNorm2d(outputs), nn.LeakyReLU(SLOPE)]
            inputs = outputs
        dense = [nn.Conv2d(inputs, 16 * channels, 1), nn.LeakyReLU(SLOPE), nn.Conv2d(16 * channels, 1, 1)]
        self.net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), *dense)

    def forward(self, image: Tensor) -> Tensor:
        return self.net(image).flatten()


class UNetDiscriminatorSN(nn.Module):
    """N x 3 x H x W in [0, 1] -> N x 1 x H x W logits, one a pixel; H and W of at least 8."""

    def __init__(self, *, channels: int = 64) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, channels, 3, padding=1)
        self.conv1 = _down(channels, 2 * channels)
        self.conv2 = _down(2 * channels, 4 * channels)
        self.conv3 = _down(4 * channels, 8 * channels)
        self.conv4 = _flat(8 * channels, 4 * channels)
        self.conv5 = _flat(4 * channels, 2 * channels)
        self.conv6 = _flat(2 * channels, channels)
        self.conv7 = _flat(channels, channels)
        self.conv8 = _flat(channels, channels)
        self.conv9 = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        skips = [F.leaky_relu(self.conv0(image), SLOPE)]
        for conv in (self.conv1, self.conv2, self.conv3):
            skips.append(F.leaky_relu(conv(skips[-1]), SLOPE))
        features = skips.pop()
        for conv in (self.conv4, self.conv5, self.conv6):
            skip = skips.pop()
            # To the skip's size: twice as large, and one less where that was odd.
            features = F.interpolate(features, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            features = F.leaky_relu(conv(features), SLOPE) + skip
        for conv in (self.conv7, self.conv8):
            features = F.leaky_relu(conv(features), SLOPE)
        return self.conv9(features)


def _down(inputs: int, outputs: int) -> nn.Conv2d:
    return spectral_norm(nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False))


def _flat(inputs: int, outputs: int) -> nn.Conv2d:
    return spectral_norm(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False))
