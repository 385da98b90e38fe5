"""SwinIR: attention within shifted windows, for enlarging, denoising and removing JPEG artifacts.

Liang et al., SwinIR: Image Restoration Using Swin Transformer, ICCV workshops 2021, arXiv:2108.10257. Keys are those of
JingyunLiang/SwinIR (Apache-2.0): layers.N.residual_group.blocks.M, layers.N.conv and what `windows` names.

The classical networks enlarge by PixelShuffle, the light ones in one step to the colours, those for real photographs
by nearest neighbour; the x1 networks add to their input. Those against JPEG artifacts are known by their windows of 7
pixels, and work on [0, 255]. Grey networks are refused.
"""

from functools import partial
from typing import Literal

from upscale_cli.zoo.layout import count, fitting, shuffle_scale, width
from upscale_cli.zoo.variant import Architecture, Shapes, Variant
from upscale_cli.zoo.windows import (
    MARGIN,
    Group,
    Head,
    SwinBlock,
    WindowNetwork,
    block_numbers,
    residual_conv,
    without_constants,
)


class SwinIR(WindowNetwork):
    """N x 3 x H x W -> N x 3 x sH x sW, [0, 1]."""

    def __init__(
        self,
        *,
        scale: int,
        channels: int = 180,
        groups: int = 6,
        depth: int = 6,
        heads: int = 6,
        window: int = 8,
        mlp_ratio: float = 2,
        head: Head = "shuffle",
        features: int = 64,
        conv_steps: Literal[1, 3] = 1,
    ) -> None:
        block = partial(SwinBlock, channels, heads=heads, window=window, mlp_ratio=mlp_ratio)
        super().__init__(
            (Group((block() for _ in range(depth)), residual_conv(channels, steps=conv_steps)) for _ in range(groups)),
            scale=scale,
            channels=channels,
            window=window,
            head=head,
            features=features,
            conv_steps=conv_steps,
            value_range=255.0 if window == 7 else 1.0,
        )


def _variant(name: str, module: partial[SwinIR], parameters: int) -> Variant:
    scale = module.keywords["scale"]
    return Variant(
        name,
        "swinir",
        module,
        scale=scale,
        margin=MARGIN,
        parameters=parameters,
        task="restore" if scale == 1 else "upscale",
    )


_LIGHT = partial(SwinIR, channels=60, groups=4, head="direct")
_REAL = partial(SwinIR, head="nearest")
_REAL_LARGE = partial(SwinIR, channels=240, groups=9, heads=8, head="nearest", conv_steps=3)
_TINY = partial(SwinIR, channels=4, groups=1, depth=2, heads=2, window=4, features=16)

VARIANTS = (
    _variant("swinir/x1", partial(SwinIR, scale=1, head="same"), 11_504_163),
    _variant("swinir/x2", partial(SwinIR, scale=2), 11_752_487),
    _variant("swinir/x3", partial(SwinIR, scale=3), 11_937_127),
    _variant("swinir/x4", partial(SwinIR, scale=4), 11_900_199),
    _variant("swinir-light/x2", partial(_LIGHT, scale=2), 910_152),
    _variant("swinir-light/x3", partial(_LIGHT, scale=3), 918_267),
    _variant("swinir-light/x4", partial(_LIGHT, scale=4), 929_628),
    _variant("swinir-real/x4", partial(_REAL, scale=4), 11_715_559),
    _variant("swinir-real-large/x4", partial(_REAL_LARGE, scale=4), 28_013_059),
    _variant("swinir/x2-tiny", partial(_TINY, scale=2), 11_271),
)


def recognise(shapes: Shapes) -> Variant | None:
    """Any width, depth, window and head, where all groups are alike."""
    groups = count(shapes, "layers.{}.residual_group.blocks.0.norm1.weight")
    depth, channels = count(shapes, "layers.0.residual_group.blocks.{}.norm1.weight"), width(shapes, "norm.weight")
    heads, window, inner = block_numbers(shapes, "layers.0.residual_group.blocks.0")
    head, scale, features = _head(shapes)
    conv_steps = 1 if "conv_after_body.weight" in shapes else 3
    if not (groups and depth and window > 1 and heads and inner and scale and features):
        return None
    if channels < 4 or channels % heads:  # a quarter of them is the least within three convolutions
        return None
    module = partial(
        SwinIR,
        scale=scale,
        channels=channels,
        groups=groups,
        depth=depth,
        heads=heads,
        window=window,
        mlp_ratio=inner / channels,
        head=head,
        features=features,
        conv_steps=conv_steps,
    )
    name = f"swinir/x{scale}-{channels}f-{groups}g-{depth}b-w{window}-{head}"
    return fitting(shapes, _variant(name, module, 0), VARIANTS)


def _head(shapes: Shapes) -> tuple[Head, int, int]:
    """The head, its scale, 0 for none of these, and its channels, which are the usual where it has none."""
    features = width(shapes, "conv_before_upsample.0.weight")
    if "conv_up1.weight" in shapes:
        enlargements = count(shapes, "conv_up{}.weight", first=1)
        return "nearest", 2**enlargements if enlargements <= 3 else 0, features
    if features:
        return "shuffle", shuffle_scale(shapes, "upsample.{}.weight", step=2), features
    if "upsample.0.weight" in shapes:
        return "direct", {12: 2, 27: 3, 48: 4, 192: 8}.get(width(shapes, "upsample.0.weight"), 0), 64
    return "same", 1, 64


ARCHITECTURE = Architecture("swinir", VARIANTS, recognise=recognise, translate=without_constants)
