"""RealPLKSR, the large-kernel network of many restoration models: 17 x 17 convolutions on a part of the channels.

Lee et al., Partial Large Kernel CNNs for Efficient Super-Resolution, arXiv:2404.11848, in the form of muslll/neosr
(Apache-2.0), whose keys these are: feats.0, feats.N.{channel_mixer,lk,attn,refine,norm}, the last of feats, and to_img
where the picture is sampled (DySample, Liu et al., arXiv:2308.15085) instead of shuffled.

The first networks normalise groups of channels over the whole picture, which is why they are not cut into tiles and
overflow in fp16; later ones (-ln, traiNNer-redux) each pixel by itself. Which of the two, the sampling, the width, the
depth and the kernel show in the keys; the number of groups, 4, does not. The paper's own PLKSR, whose keys are spelt
`channe_mixer`, is another network and refused.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.blocks import conv3x3, narrowed
from upscale_cli.zoo.layout import count, fitting, width
from upscale_cli.zoo.variant import FLOATS, Architecture, Shapes, Variant

SCALES = (1, 2, 3, 4, 8)
GROUPS = 4  # of the normalisation over the picture


class LayerNorm(nn.Module):
    """Each pixel's channels to mean 0 and variance 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        last = features.permute(0, 2, 3, 1)
        return F.layer_norm(last, self.weight.shape, self.weight, self.bias, eps=1e-6).permute(0, 3, 1, 2)


class LargeKernel(nn.Module):
    """A large convolution of the first channels; the others as they are."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv = _started(nn.Conv2d(channels, channels, kernel, padding=kernel // 2))

    def forward(self, features: Tensor) -> Tensor:
        channels = self.conv.in_channels
        return torch.cat((self.conv(features[:, :channels]), features[:, channels:]), 1)


class Attention(nn.Module):
    """Every element weighted by a sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.f = nn.Sequential(_started(conv3x3(channels, channels)), nn.Sigmoid())

    def forward(self, features: Tensor) -> Tensor:
        return features * self.f(features)


class Block(nn.Module):
    """Local mixing, large kernel, attention, 1 x 1, normalised before or after; plus the input."""

    def __init__(self, channels: int, part: int, kernel: int, *, attention: bool, layer_norm: bool) -> None:
        super().__init__()
        self.layer_norm = LayerNorm(channels) if layer_norm else nn.Identity()
        self.channel_mixer = nn.Sequential(
            conv3x3(channels, 2 * channels), nn.Mish(), _started(conv3x3(2 * channels, channels))
        )
        self.lk = LargeKernel(part, kernel)
        self.attn = Attention(channels) if attention else nn.Identity()
        self.refine = _started(nn.Conv2d(channels, channels, 1))
        self.norm = nn.Identity() if layer_norm else nn.GroupNorm(GROUPS, channels)

    def forward(self, features: Tensor) -> Tensor:
        mixed = self.lk(self.channel_mixer(self.layer_norm(features)))
        return features + self.norm(self.refine(self.attn(mixed)))


class DySample(nn.Module):
    """N x 3 s^2 x H x W -> N x 3 x sH x sW: every pixel looks for its place, and a 1 x 1 makes colours of the samples.

    All in the precision of what comes in: 16 bits do not tell the pixels of a large picture apart.
    """

    init_pos: Tensor

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.groups = 3 if scale % 2 else 4
        channels, offsets = 3 * scale**2, 2 * self.groups * scale**2
        if scale > 1:
            self.end_conv = nn.Conv2d(channels, 3, 1)
        self.offset = _started(nn.Conv2d(channels, offsets, 1))
        self.scope = nn.Conv2d(channels, offsets, 1, bias=False)
        nn.init.zeros_(self.scope.weight)
        # Where PixelShuffle would have each, x before y; kept in files.
        steps = (torch.arange(scale) - (scale - 1) / 2) / scale
        places = torch.stack(torch.meshgrid(steps, steps, indexing="xy"))
        self.register_buffer("init_pos", places.repeat(1, self.groups, 1).reshape(1, -1, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        height, width = features.shape[-2:]
        offset = _wide(self.offset, features) * _wide(self.scope, features).sigmoid() * 0.5 + self.init_pos
        offset = F.pixel_shuffle(offset, self.scale).unflatten(1, (2, self.groups))
        x, y = (torch.arange(size, device=features.device, dtype=features.dtype) + 0.5 for size in (width, height))
        x = x.repeat_interleave(self.scale) + offset[:, 0]
        y = y.repeat_interleave(self.scale)[:, None] + offset[:, 1]
        grid = torch.stack((2 * x / width - 1, 2 * y / height - 1), -1).flatten(0, 1)
        groups = features.unflatten(1, (self.groups, -1)).flatten(0, 1)
        sampled = F.grid_sample(groups, grid, padding_mode="border", align_corners=False)
        sampled = sampled.unflatten(0, (-1, self.groups)).flatten(1, 2)
        return _wide(self.end_conv, sampled) if self.scale > 1 else sampled


def _started(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.trunc_normal_(conv.weight, std=0.02)
    return conv


def _wide(conv: nn.Conv2d, features: Tensor) -> Tensor:
    bias = None if conv.bias is None else conv.bias.to(features.dtype)
    return F.conv2d(features, conv.weight.to(features.dtype), bias)


class RealPLKSR(nn.Module):
    """N x 3 x H x W -> N x 3 x sH x sW, [0, 1]."""

    def __init__(
        self,
        *,
        scale: int,
        channels: int = 64,
        blocks: int = 28,
        kernel: int = 17,
        part: int = 16,
        attention: bool = True,
        layer_norm: bool = False,
        dysample: bool = False,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.feats = nn.Sequential(
            _started(conv3x3(3, channels)),
            *(Block(channels, part, kernel, attention=attention, layer_norm=layer_norm) for _ in range(blocks)),
            nn.Identity(),  # where published networks drop features in training
            _started(conv3x3(channels, 3 * scale**2)),
        )
        self.to_img = DySample(scale) if dysample else nn.PixelShuffle(scale)

    def forward(self, lr: Tensor) -> Tensor:
        detail = self.feats(narrowed(lr, self)).to(lr.dtype)
        return self.to_img(detail + lr.repeat_interleave(self.scale**2, 1))


def _variant(name: str, module: partial[RealPLKSR], parameters: int) -> Variant:
    scale, layer_norm = module.keywords["scale"], module.keywords.get("layer_norm", False)
    return Variant(
        name,
        "realplksr",
        module,
        scale=scale,
        # Not measured: no weights at hand. Three of the 28 blocks reach as far, and what is near counts most.
        margin=32 if layer_norm else 0,
        parameters=parameters,
        task="restore" if scale == 1 else "upscale",
        tileable=layer_norm,
        dtypes=FLOATS if layer_norm else ("fp32", "bf16"),
    )


_LAYER_NORM = partial(RealPLKSR, layer_norm=True)
_DYSAMPLE = partial(RealPLKSR, dysample=True)

VARIANTS = (
    _variant("realplksr/x1", partial(RealPLKSR, scale=1), 7_363_715),
    _variant("realplksr/x2", partial(RealPLKSR, scale=2), 7_368_908),
    _variant("realplksr/x4", partial(RealPLKSR, scale=4), 7_389_680),
    _variant("realplksr/x4-dysample", partial(_DYSAMPLE, scale=4), 7_402_243),
    _variant("realplksr/x4-ln", partial(_LAYER_NORM, scale=4), 7_389_680),
    _variant("realplksr/x2-tiny", partial(_LAYER_NORM, scale=2, channels=8, blocks=1, kernel=7, part=4), 4_888),
)


def recognise(shapes: Shapes) -> Variant | None:
    """Any width, depth, kernel and part; attention, normalisation and sampling by their keys."""
    blocks, channels = count(shapes, "feats.{}.refine.weight", first=1), width(shapes, "feats.0.weight")
    part, kernel = (width(shapes, "feats.1.lk.conv.weight", axis) for axis in (0, 2))
    scale = math.isqrt(width(shapes, f"feats.{blocks + 2}.weight") // 3)
    layer_norm, dysample = "feats.1.layer_norm.weight" in shapes, "to_img.init_pos" in shapes
    if not (blocks and channels and part and kernel % 2) or scale not in SCALES:
        return None
    if part > channels or (channels % GROUPS and not layer_norm):
        return None
    module = partial(
        RealPLKSR,
        scale=scale,
        channels=channels,
        blocks=blocks,
        kernel=kernel,
        part=part,
        attention="feats.1.attn.f.0.weight" in shapes,
        layer_norm=layer_norm,
        dysample=dysample,
    )
    name = f"realplksr/x{scale}-{channels}f-{blocks}b-{kernel}k"
    name += "-ln" * layer_norm + "-dysample" * dysample
    return fitting(shapes, _variant(name, module, 0), VARIANTS)


ARCHITECTURE = Architecture("realplksr", VARIANTS, recognise=recognise)
