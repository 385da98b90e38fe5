"""ResNet18 U-Net: ImageNet's ResNet18 going down, five convolutions coming up, on a picture enlarged before.

Ronneberger et al., U-Net, MICCAI 2015, arXiv:1505.04597, with the encoder of He et al., arXiv:1512.03385
(encoders/resnet.py). Coming up, every step is a transposed 3 x 3 convolution to twice the size and ReLU: 512 -> 256,
beside layer3; 512 -> 128, beside layer2; 256 -> 64, beside layer1; 128 -> 32 and 32 -> 16, beside nothing. 16 -> 3 is
added to the enlarged picture. 13,135,843 parameters, of which 12,452,771 learn: stem, layer1 and layer2 are frozen.

Bilinear steps with plain convolutions would count the same, and hardly draw detail: a patch that these learn to 0.05 of
bicubic's error they leave at 0.9.

Every BatchNorm keeps ImageNet's statistics while training too: patches are few, and a picture is enlarged alone.

Keys: encoder.* (timm's), decoder.N, tail. A file says nothing of its scale: without a name it is taken for x2.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.blocks import conv3x3
from upscale_cli.zoo.encoders.resnet import ResNet
from upscale_cli.zoo.layout import count, fitting, width
from upscale_cli.zoo.preupsampled import Bicubic, padded
from upscale_cli.zoo.variant import Architecture, Shapes, Variant


class ResNet18UNet(nn.Module):
    """N x 3 x H x W -> N x 3 x sH x sW, [0, 1]."""

    def __init__(self, *, scale: int, channels: int = 64, blocks: Sequence[int] = (2, 2, 2, 2)) -> None:
        super().__init__()
        c = channels
        self.enlarge = Bicubic(scale=scale)
        self.encoder = ResNet(channels=c, blocks=blocks).eval()
        for part in (self.encoder.conv1, self.encoder.bn1, self.encoder.layer1, self.encoder.layer2):
            part.requires_grad_(False)
        steps = ((8 * c, 4 * c), (8 * c, 2 * c), (4 * c, c), (2 * c, c // 2), (c // 2, c // 4))
        self.decoder = nn.ModuleList(
            nn.ConvTranspose2d(inputs, outputs, 3, 2, padding=1, output_padding=1) for inputs, outputs in steps
        )
        self.tail = conv3x3(c // 4, 3)

    def train(self, mode: bool = True) -> "ResNet18UNet":
        """All but the statistics of the encoder; layer3 and layer4 learn nevertheless."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, lr: Tensor) -> Tensor:
        image = self.enlarge(lr)
        height, width = image.shape[-2:]
        _, *skips, features = self.encoder(padded(image, self.encoder.stride))
        for conv in self.decoder:
            features = F.relu(conv(features))
            if skips:
                features = torch.cat((features, skips.pop()), 1)
        return image + self.tail(features)[..., :height, :width].to(lr.dtype)


def _variant(name: str, module: partial[ResNet18UNet], parameters: int) -> Variant:
    return Variant(
        name,
        "resnet18-unet",
        module,
        scale=module.keywords["scale"],
        margin=128 // module.keywords["scale"],  # estimated: half of what the encoder can see around it
        parameters=parameters,
    )


VARIANTS = (
    _variant("resnet18-unet/x2", partial(ResNet18UNet, scale=2), 13_135_843),
    _variant("resnet18-unet/x4", partial(ResNet18UNet, scale=4), 13_135_843),
    _variant("resnet18-unet/x2-tiny", partial(ResNet18UNet, scale=2, channels=16, blocks=(1, 1, 1, 1)), 432_091),
)


def recognise(shapes: Shapes) -> Variant | None:
    """Any width and depth."""
    channels = width(shapes, "encoder.conv1.weight")
    blocks = tuple(count(shapes, f"encoder.layer{stage}.{{}}.conv1.weight") for stage in (1, 2, 3, 4))
    if channels < 4 or not all(blocks):
        return None
    name = f"resnet18-unet/x2-{channels}f-{''.join(map(str, blocks))}"
    module = partial(ResNet18UNet, scale=2, channels=channels, blocks=blocks)
    return fitting(shapes, _variant(name, module, 0), VARIANTS)


ARCHITECTURE = Architecture("resnet18-unet", VARIANTS, recognise=recognise)
