"""HAT, the hybrid attention transformer: SwinIR's windows with channel attention beside, and windows that overlap.

Chen et al., Activating More Pixels in Image Super-Resolution Transformer, CVPR 2023, arXiv:2205.04437. Keys are those
of XPixelGroup/HAT (Apache-2.0): layers.N.residual_group.{blocks.M,overlap_attn}, layers.N.conv and what `windows`
names.

The channel attention takes means over the whole picture. It enters with a hundredth of its weight, and the authors
enlarge by tiles themselves, so this network may be cut.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.blocks import conv3x3
from upscale_cli.zoo.layout import count, fitting, shuffle_scale, width
from upscale_cli.zoo.variant import Architecture, Shapes, Variant
from upscale_cli.zoo.windows import (
    MARGIN,
    Group,
    Mlp,
    Shift,
    SwinBlock,
    WindowNetwork,
    bias_table,
    block_numbers,
    convolved,
    coordinates,
    cut,
    joined,
    linear,
    residual_conv,
    without_constants,
)

CONV_SCALE = 0.01  # weight of the convolutions beside the attention
OVERLAP = 0.5  # what an overlapping window sees more than its own side, in sides


class ChannelAttention(nn.Module):
    """Every channel weighted by a sigmoid of all channels' means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )
        squeeze = self.attention[1]
        assert isinstance(squeeze, nn.Conv2d)
        assert squeeze.bias is not None
        # Above zero, unlike the authors': with signs by chance one block in 64 begins with all six ReLU off.
        nn.init.constant_(squeeze.bias, 0.1)

    def forward(self, features: Tensor) -> Tensor:
        return features * self.attention(features)


class ConvBlock(nn.Module):
    """conv - GELU - conv - channel attention, N x C x H x W."""

    def __init__(self, channels: int, compressed: int, squeezed: int) -> None:
        super().__init__()
        self.cab = nn.Sequential(
            conv3x3(channels, compressed),
            nn.GELU(),
            conv3x3(compressed, channels),
            ChannelAttention(channels, squeezed),
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.cab(features)


class HybridBlock(SwinBlock):
    """A block of windows with convolutions beside the attention."""

    def __init__(
        self, channels: int, *, heads: int, window: int, mlp_ratio: float, compressed: int, squeezed: int
    ) -> None:
        super().__init__(channels, heads=heads, window=window, mlp_ratio=mlp_ratio)
        self.conv_block = ConvBlock(channels, compressed, squeezed)

    def forward(self, features: Tensor, shift: Shift | None = None) -> Tensor:
        normed = self.norm1(features)
        features = features + self.attn(normed, shift) + convolved(self.conv_block, normed) * CONV_SCALE
        return features + self.mlp(self.norm2(features))


class OverlappingAttention(nn.Module):
    """Each pixel looks at those of its window and around it; then linear layers."""

    relative_position_index: Tensor

    def __init__(self, channels: int, *, heads: int, window: int, mlp_ratio: float) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.outer = window + int(window * OVERLAP)
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = linear(channels, 3 * channels)
        self.relative_position_bias_table = bias_table(window + self.outer - 1, heads)
        self.register_buffer("relative_position_index", overlapping_positions(window, self.outer), persistent=False)
        self.proj = linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, mlp_ratio)

    def forward(self, features: Tensor) -> Tensor:
        height, width, channels = features.shape[1:]
        query, around = self.qkv(self.norm1(features)).split((channels, 2 * channels), -1)
        query = cut(query, self.window).unflatten(-1, (self.heads, -1)).transpose(2, 3)
        padding = (self.outer - self.window) // 2
        around = F.unfold(around.permute(0, 3, 1, 2), self.outer, stride=self.window, padding=padding)
        key, value = around.unflatten(1, (2, self.heads, -1, self.outer**2)).permute(1, 0, 5, 2, 4, 3).flatten(1, 2)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        seen = F.scaled_dot_product_attention(query.flatten(0, 1), key, value, attn_mask=bias[None])
        seen = seen.unflatten(0, query.shape[:2]).transpose(2, 3).flatten(3)
        features = features + self.proj(joined(seen, self.window, height, width))
        return features + self.mlp(self.norm2(features))


def overlapping_positions(window: int, outer: int) -> Tensor:
    """Row of the bias table for each pixel of a window and each around it: window^2 x outer^2."""
    span = window + outer - 1
    rows, columns = coordinates(outer)[:, None, :] - coordinates(window)[:, :, None] + window - outer + 1
    # The authors' numbers begin below zero, and count from the end of the table there.
    return (rows * span + columns) % span**2


class HAT(WindowNetwork):
    """N x 3 x H x W -> N x 3 x sH x sW, [0, 1].

    `compressed` and `squeezed` are the channels within the convolutions beside, and within their channel attention.
    """

    def __init__(
        self,
        *,
        scale: int,
        channels: int = 180,
        groups: int = 6,
        depth: int = 6,
        heads: int = 6,
        window: int = 16,
        mlp_ratio: float = 2,
        compressed: int = 60,
        squeezed: int = 6,
        features: int = 64,
    ) -> None:
        shared = {"heads": heads, "window": window, "mlp_ratio": mlp_ratio}
        block = partial(HybridBlock, channels, compressed=compressed, squeezed=squeezed, **shared)
        overlap = partial(OverlappingAttention, channels, **shared)
        super().__init__(
            (Group((block() for _ in range(depth)), residual_conv(channels), overlap=overlap()) for _ in range(groups)),
            scale=scale,
            channels=channels,
            window=window,
            features=features,
        )


def _variant(name: str, module: partial[HAT], parameters: int) -> Variant:
    return Variant(name, "hat", module, scale=module.keywords["scale"], margin=MARGIN, parameters=parameters)


_SMALL = partial(HAT, channels=144, compressed=6)
_LARGE = partial(HAT, groups=12)
_TINY = partial(HAT, channels=4, groups=1, depth=2, heads=2, window=4, compressed=4, squeezed=2, features=16)

VARIANTS = (
    _variant("hat/x4", partial(HAT, scale=4), 20_772_507),
    _variant("hat-s/x4", partial(_SMALL, scale=4), 9_621_183),
    _variant("hat-l/x4", partial(_LARGE, scale=4), 40_846_575),
    _variant("hat/x2-tiny", partial(_TINY, scale=2), 12_241),
)


def recognise(shapes: Shapes) -> Variant | None:
    """Any width, depth and window, where all groups are alike and windows overlap by half."""
    groups = count(shapes, "layers.{}.residual_group.overlap_attn.norm1.weight")
    depth, channels = count(shapes, "layers.0.residual_group.blocks.{}.norm1.weight"), width(shapes, "norm.weight")
    first = "layers.0.residual_group.blocks.0"
    heads, window, inner = block_numbers(shapes, first)
    compressed = width(shapes, f"{first}.conv_block.cab.0.weight")
    squeezed = width(shapes, f"{first}.conv_block.cab.3.attention.1.weight")
    features = width(shapes, "conv_before_upsample.0.weight")
    scale = shuffle_scale(shapes, "upsample.{}.weight", step=2)
    if not (groups and depth and channels and window > 1 and heads and scale) or channels % heads:
        return None
    if not (inner and compressed and squeezed and features):
        return None
    module = partial(
        HAT,
        scale=scale,
        channels=channels,
        groups=groups,
        depth=depth,
        heads=heads,
        window=window,
        mlp_ratio=inner / channels,
        compressed=compressed,
        squeezed=squeezed,
        features=features,
    )
    return fitting(shapes, _variant(f"hat/x{scale}-{channels}f-{groups}g-{depth}b-w{window}", module, 0), VARIANTS)


ARCHITECTURE = Architecture("hat", VARIANTS, recognise=recognise, translate=without_constants)
