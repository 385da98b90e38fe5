"""SPAN, the swift parameter-free attention network: blocks whose own output says where to add.

Wan et al., Swift Parameter-free Attention Network for Efficient Super-Resolution, arXiv:2311.12770. Keys are those of
hongyuanyu/SPAN and neosr (both Apache-2.0): conv_1, block_{1..6}.{c1_r,c2_r,c3_r}, conv_cat, conv_2, upsampler.0.

Every 3 x 3 convolution is trained as a chain 1 x 1, 3 x 3, 1 x 1 and a 1 x 1 beside it. Together they are one 3 x 3,
which is made of them at each call, so that training and use see the same network. Published files also hold it, as
eval_conv, made when their network was last validated and perhaps older than the rest: it is left out. What is made
for use alone, as ncnn's models are, holds nothing but the 3 x 3: the variants called merged, with the paper's 498 K
parameters at x4, 426 K with 48 channels. The other rows count what is trained.

The published networks lose themselves in text, dots and noise: a block's output is a product, and what is larger than
in any photograph grows from block to block, into the hundreds. The variants called bounded are the merged ones with the
result of every convolution held within what it reaches where the network does well (`benchmarks/span_bounds.py`).
"""

import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.blocks import DIV2K_MEAN, conv3x3, narrowed, widened
from upscale_cli.zoo.layout import count, fitting, width
from upscale_cli.zoo.variant import Architecture, Shapes, Variant

Form = Literal["trained", "merged", "bounded"]
SCALES = (1, 2, 3, 4, 8)
GAIN = 2  # channels within the chain, in those outside
WIDE = 1e4  # no bound, and a number in fp16


class Conv3XC(nn.Module):
    """A 3 x 3 convolution trained as a chain of three with a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.sk = nn.Conv2d(inputs, outputs, 1)
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, GAIN * inputs, 1),
            nn.Conv2d(GAIN * inputs, GAIN * outputs, 3),
            nn.Conv2d(GAIN * outputs, outputs, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        weight, bias = self.merged()
        return F.conv2d(features, weight.to(features.dtype), bias.to(features.dtype), padding=1)

    def merged(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the one convolution, in fp32: products of rounded numbers are not rounded again."""
        (first, middle, last, shortcut), biases = zip(*map(_wide, (*self.conv, self.sk)), strict=True)
        inner = torch.einsum("mkyx,ki->miyx", middle, first[..., 0, 0])
        weight = torch.einsum("om,miyx->oiyx", last[..., 0, 0], inner) + F.pad(shortcut, (1, 1, 1, 1))
        # Zeros around the picture pass the first 1 x 1 too, and become its bias there: the same bias everywhere.
        inner_bias = middle.sum((2, 3)) @ biases[0] + biases[1]
        return weight, last[..., 0, 0] @ inner_bias + biases[2] + biases[3]


def _wide(conv: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    return conv.weight.float(), conv.bias.float()


class Bounded(nn.Conv2d):
    """A 3 x 3 convolution whose result stays within bounds, a pair for every channel."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", torch.full((outputs, 1, 1), -WIDE))
        self.register_buffer("high", torch.full((outputs, 1, 1), WIDE))

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).maximum(self.low).minimum(self.high)


CONVOLUTIONS: dict[Form, Callable[[int, int], nn.Module]] = {
    "trained": Conv3XC,
    "merged": conv3x3,
    "bounded": Bounded,
}


class SPAB(nn.Module):
    """Three convolutions, the input added, times how far the result is from zero; and what the first one gave.

    The first one's after its SiLU: published networks compute that in place, and so pass it on.
    """

    def __init__(self, channels: int, conv: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.c1_r = conv(channels, channels)
        self.c2_r = conv(channels, channels)
        self.c3_r = conv(channels, channels)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        first = F.silu(self.c1_r(features))
        last = self.c3_r(F.silu(self.c2_r(first)))
        # The sigmoid less one half, which in bf16 would cancel.
        return (last + features) * torch.tanh(last / 2) / 2, first


class SPAN(nn.Module):
    """N x 3 x H x W -> N x 3 x sH x sW, [0, 1]. With `norm` the DIV2K mean is taken off, and 1 is 255 inside.

    Merged, or bounded, which is merged too, it says itself what mean it takes off, and its tensors are in the order in
    which ncnn's files hold them.
    """

    def __init__(
        self, *, scale: int, channels: int = 48, blocks: int = 6, norm: bool = True, form: Form = "trained"
    ) -> None:
        super().__init__()
        conv = CONVOLUTIONS[form]
        self.scale = scale
        self.range = 255 if norm else 1
        if not norm:  # the mark that files of such networks carry
            self.register_buffer("no_norm", torch.zeros(1))
        mean = torch.tensor(DIV2K_MEAN if norm else (0.0, 0.0, 0.0)).view(3, 1, 1)
        self.mean: Tensor
        self.register_buffer("mean", mean, persistent=form != "trained")
        self.conv_1 = conv(3, channels)
        self.blocks = tuple(f"block_{n}" for n in range(1, blocks + 1))
        for name in self.blocks:
            self.add_module(name, SPAB(channels, conv))
        self.conv_2 = conv(channels, channels)
        self.conv_cat = nn.Conv2d(4 * channels, channels, 1)
        self.upsampler = nn.Sequential(conv3x3(channels, 3 * scale**2))

    def forward(self, lr: Tensor) -> Tensor:
        shallow = self.conv_1(narrowed((lr - self.mean.to(lr.dtype)) * self.range, self))
        features, inner = early, _ = self.get_submodule(self.blocks[0])(shallow)
        for name in self.blocks[1:]:
            features, inner = self.get_submodule(name)(features)
        features = self.conv_cat(torch.cat((shallow, self.conv_2(features), early, inner), 1))
        return F.pixel_shuffle(widened(self.upsampler[0], features, lr.dtype), self.scale)


def _variant(name: str, module: partial[SPAN], parameters: int) -> Variant:
    scale, radius = module.keywords["scale"], 3 * module.keywords.get("blocks", 6) + 3
    return Variant(
        name,
        "span",
        module,
        scale=scale,
        margin=min(radius, 32),
        exact=radius <= 32,
        parameters=parameters,
        coarse=True,
        task="restore" if scale == 1 else "upscale",
    )


VARIANTS = (
    _variant("span/x2", partial(SPAN, scale=2), 1_824_900),
    _variant("span/x4", partial(SPAN, scale=4), 1_840_488),
    _variant("span/x2-52f", partial(SPAN, scale=2, channels=52), 2_140_252),
    _variant("span/x4-52f", partial(SPAN, scale=4, channels=52), 2_157_136),
    _variant("span/x2-merged", partial(SPAN, scale=2, form="merged"), 410_700),
    _variant("span/x4-merged", partial(SPAN, scale=4, form="merged"), 426_288),
    _variant("span/x2-bounded", partial(SPAN, scale=2, form="bounded"), 410_700),
    _variant("span/x4-bounded", partial(SPAN, scale=4, form="bounded"), 426_288),
    _variant("span/x2-52f-merged", partial(SPAN, scale=2, channels=52, form="merged"), 481_324),
    _variant("span/x4-52f-merged", partial(SPAN, scale=4, channels=52, form="merged"), 498_208),
    _variant("span/x8-tiny", partial(SPAN, scale=8, channels=8, blocks=1, norm=False), 26_040),
)


def recognise(shapes: Shapes) -> Variant | None:
    """Any width, depth and scale. No tensor shows the range inside: that of the authors, where no mark says another."""
    form: Form = "bounded" if "conv_1.high" in shapes else "merged" if "conv_1.weight" in shapes else "trained"
    kernel = "sk.weight" if form == "trained" else "weight"
    blocks, channels = count(shapes, f"block_{{}}.c1_r.{kernel}", first=1), width(shapes, f"conv_1.{kernel}")
    scale, norm = math.isqrt(width(shapes, "upsampler.0.weight") // 3), "no_norm" not in shapes
    if not (blocks and channels) or scale not in SCALES:
        return None
    module = partial(SPAN, scale=scale, channels=channels, blocks=blocks, norm=norm, form=form)
    name = f"span/x{scale}-{channels}f-{blocks}b" + "-plain" * (not norm) + f"-{form}" * (form != "trained")
    return fitting(shapes, _variant(name, module, 0), VARIANTS)


def translate(keys: Collection[str]) -> Mapping[str, str] | None:
    """Without the merged convolutions, which are made here."""
    if "conv_1.eval_conv.weight" not in keys or "conv_1.sk.weight" not in keys:
        return None
    return {key: key for key in keys if ".eval_conv." not in key}


ARCHITECTURE = Architecture("span", VARIANTS, recognise=recognise, translate=translate)
