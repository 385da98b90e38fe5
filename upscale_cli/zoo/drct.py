"""DRCT, the dense-residual-connected transformer: SwinIR's windows, each on all that came before it.

Hsu et al., DRCT: Saving Image Super-Resolution away from Information Bottleneck, CVPR workshops 2024, arXiv:2404.00722.
Keys are those of ming053l/DRCT (MIT): layers.N.{swin1..5,adjust1..5} and what `windows` names. The small one, drct-s,
is that of muslll/neosr (Apache-2.0).
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.layout import count, fitting, shuffle_scale, width
from upscale_cli.zoo.variant import Architecture, Shapes, Variant
from upscale_cli.zoo.windows import (
    MARGIN,
    SLOPE,
    Shift,
    SwinBlock,
    WindowNetwork,
    block_numbers,
    convolved,
    without_constants,
)

RESIDUAL_SCALE = 0.2
STEPS = 5  # of a dense group


class DenseGroup(nn.Module):
    """Five blocks of attention, each on all that came before it, every second one shifted; scaled, plus the input."""

    def __init__(
        self, channels: int, *, growth: int, heads: int, window: int, mlp_ratio: float, qkv_bias: bool
    ) -> None:
        super().__init__()
        for step in range(STEPS):
            inputs = channels + step * growth
            block = SwinBlock(
                inputs,
                heads=_heads(heads, inputs, step),
                window=window,
                mlp_ratio=mlp_ratio if step < 3 else 1,
                qkv_bias=qkv_bias,
            )
            self.add_module(f"swin{step + 1}", block)
            self.add_module(f"adjust{step + 1}", nn.Conv2d(inputs, growth if step < STEPS - 1 else channels, 1))

    def forward(self, features: Tensor, shift: Shift) -> Tensor:
        seen = result = features
        for step in range(1, STEPS + 1):
            result = self.get_submodule(f"swin{step}")(seen, shift if step % 2 == 0 else None)
            result = convolved(self.get_submodule(f"adjust{step}"), result)
            if step < STEPS:
                seen = torch.cat((seen, F.leaky_relu(result, SLOPE)), -1)
        return features + result * RESIDUAL_SCALE


def _heads(heads: int, inputs: int, step: int) -> int:
    """As many heads less as there are channels too many, which the authors do from the second block on."""
    return heads - inputs % heads if step else heads


class DRCT(WindowNetwork):
    """N x 3 x H x W -> N x 3 x sH x sW, [0, 1]."""

    def __init__(
        self,
        *,
        scale: int,
        channels: int = 180,
        groups: int = 6,
        growth: int = 32,
        heads: int = 6,
        window: int = 16,
        mlp_ratio: float = 2,
        qkv_bias: bool = True,
        features: int = 64,
    ) -> None:
        group = partial(
            DenseGroup,
            channels,
            growth=growth,
            heads=heads,
            window=window,
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
        )
        super().__init__(
            (group() for _ in range(groups)), scale=scale, channels=channels, window=window, features=features
        )


def _variant(name: str, module: partial[DRCT], parameters: int) -> Variant:
    return Variant(name, "drct", module, scale=module.keywords["scale"], margin=MARGIN, parameters=parameters)


_SMALL = partial(DRCT, channels=48, groups=4)
_LARGE = partial(DRCT, groups=12)
_TINY = partial(DRCT, channels=4, groups=1, growth=2, heads=2, window=4, features=16)

VARIANTS = (
    _variant("drct/x2", partial(DRCT, scale=2), 13_991_867),
    _variant("drct/x3", partial(DRCT, scale=3), 14_176_507),
    _variant("drct/x4", partial(DRCT, scale=4), 14_139_579),
    _variant("drct-s/x4", partial(_SMALL, scale=4), 2_459_787),
    _variant("drct-l/x4", partial(_LARGE, scale=4), 27_580_719),
    _variant("drct/x2-tiny", partial(_TINY, scale=2), 13_999),
)


def recognise(shapes: Shapes) -> Variant | None:
    """Any width, depth, growth and window."""
    groups, channels = count(shapes, "layers.{}.adjust1.weight"), width(shapes, "norm.weight")
    growth = width(shapes, "layers.0.adjust1.weight")
    heads, window, inner = block_numbers(shapes, "layers.0.swin1")
    features = width(shapes, "conv_before_upsample.0.weight")
    scale = shuffle_scale(shapes, "upsample.{}.weight", step=2)
    if not (groups and channels and growth and heads and window > 1 and inner and features and scale):
        return None
    inputs = [channels + step * growth for step in range(STEPS)]
    if any(size % _heads(heads, size, step) for step, size in enumerate(inputs)):
        return None
    module = partial(
        DRCT,
        scale=scale,
        channels=channels,
        groups=groups,
        growth=growth,
        heads=heads,
        window=window,
        mlp_ratio=inner / channels,
        qkv_bias="layers.0.swin1.attn.qkv.bias" in shapes,
        features=features,
    )
    return fitting(shapes, _variant(f"drct/x{scale}-{channels}f-{groups}g-w{window}", module, 0), VARIANTS)


ARCHITECTURE = Architecture("drct", VARIANTS, recognise=recognise, translate=without_constants)
