"""CycleGAN: pictures of one kind turned into another kind, learned without pairs.

Zhu et al., Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks, ICCV 2017,
arXiv:1703.10593. The generator with nine residual blocks between two halvings and two doublings, instance
normalisation, mirrored borders, tanh; and the discriminator that judges patches of 70 x 70. Keys are those of
junyanz/pytorch-CycleGAN-and-pix2pix (BSD-2-Clause): model.N, model.N.conv_block.{1,5}; blocks with dropout (.6)
and the statistics that files of 2017 carry are translated. Generators with BatchNorm, which pix2pix has, are refused.

x1 translates at the size of the input. x4 is the same generator with two PixelShuffle steps (`upsample`) before its
last convolution: it translates small and enlarges last (after Yuan et al., CinCGAN, arXiv:1809.00437), and may start
from the weights of x1, which it contains. The networks work on [-1, 1] and these modules map from and to [0, 1].
"""

import re
from collections.abc import Collection, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.blocks import conv3x3, narrowed, shuffle_steps
from upscale_cli.zoo.layout import count, fitting, shuffle_scale, width
from upscale_cli.zoo.preupsampled import padded
from upscale_cli.zoo.variant import Architecture, Shapes, Variant


class ResidualBlock(nn.Module):
    """Twice mirrored border - conv - InstanceNorm, ReLU between; plus the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        return features + self.conv_block(features)


class Generator(nn.Module):
    """N x 3 x H x W -> N x 3 x sH x sW, [0, 1]. Sees the whole picture: its statistics normalise every layer."""

    def __init__(self, *, scale: int = 1, channels: int = 64, blocks: int = 9) -> None:
        super().__init__()
        self.scale = scale
        c = channels
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, c, 7), nn.InstanceNorm2d(c), nn.ReLU()]
        for inputs in (c, 2 * c):
            layers += [nn.Conv2d(inputs, 2 * inputs, 3, 2, 1), nn.InstanceNorm2d(2 * inputs), nn.ReLU()]
        layers += [ResidualBlock(4 * c) for _ in range(blocks)]
        for inputs in (4 * c, 2 * c):
            double = nn.ConvTranspose2d(inputs, inputs // 2, 3, 2, 1, output_padding=1)
            layers += [double, nn.InstanceNorm2d(inputs // 2), nn.ReLU()]
        self.model = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(c, 3, 7), nn.Tanh())
        self.upsample = nn.Sequential()
        for step in shuffle_steps(scale) if scale > 1 else ():
            self.upsample.extend((conv3x3(c, c * step**2), nn.PixelShuffle(step), nn.ReLU()))

    def forward(self, lr: Tensor) -> Tensor:
        height, width = (side * self.scale for side in lr.shape[-2:])
        # Two halvings, after which mirroring and statistics still need two pixels.
        features = self.model[:-3](narrowed(padded(lr, 4, least=8) * 2 - 1, self))
        features = self.model[-3](self.upsample(features)).to(lr.dtype)
        conv = self.model[-2]
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is not None
        # The last layer draws the picture itself, in the picture's precision.
        sr = F.conv2d(features, conv.weight.to(lr.dtype), conv.bias.to(lr.dtype))
        return (torch.tanh(sr[..., :height, :width]) + 1) / 2


class PatchDiscriminator(nn.Module):
    """N x 3 x H x W in [0, 1] to N x 1 x h x w scores, each of one 70 x 70 patch in steps of 8; H, W at least 24.

    Unbounded: the paper's loss is their squared distance to 1 (real) or 0 (made). 2,764,737 parameters.
    """

    def __init__(self, *, channels: int = 64) -> None:
        super().__init__()
        c, slope = channels, 0.2
        layers: list[nn.Module] = [nn.Conv2d(3, c, 4, 2, 1), nn.LeakyReLU(slope)]
        for inputs, stride in ((c, 2), (2 * c, 2), (4 * c, 1)):
            layers += [nn.Conv2d(inputs, 2 * inputs, 4, stride, 1), nn.InstanceNorm2d(2 * inputs), nn.LeakyReLU(slope)]
        self.model = nn.Sequential(*layers, nn.Conv2d(8 * c, 1, 4, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return self.model(narrowed(image * 2 - 1, self))


def _variant(name: str, module: partial[Generator], parameters: int) -> Variant:
    scale = module.keywords["scale"]
    return Variant(
        name,
        "cyclegan",
        module,
        scale=scale,
        margin=0,
        parameters=parameters,
        task="restore" if scale == 1 else "upscale",
        tileable=False,
        dtypes=("fp32", "fp16"),  # bf16 moved pixels by 8/255, measured untrained: every one is drawn anew
    )


VARIANTS = (
    _variant("cyclegan/x1", partial(Generator, scale=1), 11_378_179),
    _variant("cyclegan/x4", partial(Generator, scale=4), 11_673_603),
    _variant("cyclegan/x2-tiny", partial(Generator, scale=2, channels=8, blocks=1), 34_787),
)


def recognise(shapes: Shapes) -> Variant | None:
    """Any width, depth and PixelShuffle steps."""
    channels = width(shapes, "model.1.weight")
    blocks = count(shapes, "model.{}.conv_block.1.weight", first=10)
    scale = shuffle_scale(shapes, "upsample.{}.weight", step=3) if "upsample.0.weight" in shapes else 1
    if not (channels and blocks and scale):
        return None
    module = partial(Generator, scale=scale, channels=channels, blocks=blocks)
    return fitting(shapes, _variant(f"cyclegan/x{scale}-{channels}f-{blocks}b", module, 0), VARIANTS)


_STATISTIC = re.compile(r"model\.[0-9.]+(?:conv_block\.[0-9]+\.)?(?:running_mean|running_var|num_batches_tracked)")
_AFTER_DROPOUT = re.compile(r"(model\.[0-9]+\.conv_block)\.6\.")


def translate(keys: Collection[str]) -> Mapping[str, str] | None:
    """Without the statistics that nothing reads; blocks with dropout count one layer more."""
    if "model.10.conv_block.1.weight" not in keys:
        return None
    return {key: _AFTER_DROPOUT.sub(r"\1.5.", key) for key in keys if not _STATISTIC.fullmatch(key)}


ARCHITECTURE = Architecture("cyclegan", VARIANTS, recognise=recognise, translate=translate)
