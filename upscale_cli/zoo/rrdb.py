"""RRDBNet, the generator of ESRGAN and Real-ESRGAN: residual in residual dense blocks.

Wang et al., ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks, ECCV workshops 2018, arXiv:1809.00219;
Wang et al., Real-ESRGAN, ICCV workshops 2021, arXiv:2107.10833. Keys are those of BasicSR (Apache-2.0) and
Real-ESRGAN (BSD-3-Clause): conv_first, body.N.rdb{1,2,3}.conv{1..5}, conv_body, conv_up{1,2}, conv_hr, conv_last. The
first ESRGAN's (model.N, model.1.sub.N.RDB1.conv1.0) and BSRGAN's (RRDB_trunk.N.RDB1.conv1) are translated.

Always enlarged by whole factors of 2 with nearest neighbour and a convolution: x8 has a conv_up3. x2 and x1 of
Real-ESRGAN are the x4 network on a picture folded by PixelUnshuffle, 12 and 48 channels, and so see blocks of 2 and 4
pixels. The 1 x 1 shortcuts of ESRGAN+ are refused.
"""

import re
from collections.abc import Collection, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.blocks import SLOPE, Banded, conv3x3, narrowed
from upscale_cli.zoo.layout import count, fitting, width
from upscale_cli.zoo.variant import Architecture, Shapes, Variant

RESIDUAL_SCALE = 0.2


class DenseBlock(nn.Module):
    """Five convolutions, each on all that came before it; the last, scaled, plus the input."""

    def __init__(self, channels: int, growth: int, slope: float = SLOPE) -> None:
        super().__init__()
        self.slope = slope
        self.conv1 = conv3x3(channels, growth)
        self.conv2 = conv3x3(channels + growth, growth)
        self.conv3 = conv3x3(channels + 2 * growth, growth)
        self.conv4 = conv3x3(channels + 3 * growth, growth)
        self.conv5 = conv3x3(channels + 4 * growth, channels)

    def forward(self, features: Tensor) -> Tensor:
        seen = features
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen = torch.cat((seen, F.leaky_relu(conv(seen), self.slope)), 1)
        return features + self.conv5(seen) * RESIDUAL_SCALE


class RRDB(nn.Module):
    """Three dense blocks, scaled, plus the input."""

    def __init__(self, channels: int, growth: int, slope: float = SLOPE) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(channels, growth, slope)
        self.rdb2 = DenseBlock(channels, growth, slope)
        self.rdb3 = DenseBlock(channels, growth, slope)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.rdb3(self.rdb2(self.rdb1(features))) * RESIDUAL_SCALE


class RRDBNet(Banded):
    """N x 3 x H x W -> N x 3 x sH x sW, [0, 1]; H and W multiples of `unshuffle`."""

    def __init__(
        self, *, scale: int = 4, blocks: int = 23, channels: int = 64, growth: int = 32, unshuffle: int = 1
    ) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        self.conv_first = conv3x3(3 * unshuffle**2, channels)
        self.body = nn.Sequential(*(RRDB(channels, growth) for _ in range(blocks)))
        self.conv_body = conv3x3(channels, channels)
        self.enlargements = tuple(f"conv_up{n}" for n in range(1, (scale * unshuffle).bit_length()))
        for name in self.enlargements:
            self.add_module(name, conv3x3(channels, channels))
        self.conv_hr = conv3x3(channels, channels)
        self.conv_last = conv3x3(channels, 3)

    def forward(self, lr: Tensor) -> Tensor:
        features = self.conv_first(F.pixel_unshuffle(narrowed(lr, self), self.unshuffle))
        features = features + self.conv_body(self.body(features))
        return self.drawn(features, lr.dtype)


def _variant(name: str, module: partial[RRDBNet], parameters: int) -> Variant:
    scale, blocks = module.keywords["scale"], module.keywords.get("blocks", 23)
    unshuffle = module.keywords.get("unshuffle", 1)
    radius = 15 * blocks + 4  # 2 are before and behind the blocks, and less than 2 above low resolution
    # Measured, as pixels within 1/255. Real-ESRGAN x4plus: 99.8 % at 72 and all at 88 in a picture full of grain, all
    # at 64 in two smoother ones. x4plus-anime, 6 blocks: 98.5 and 99.4 % at 48, all at 56. Folded: taken to be alike.
    margin = min(radius, 56 if blocks <= 6 else 80) * unshuffle
    return Variant(
        name,
        "rrdb",
        module,
        scale=scale,
        margin=margin,
        exact=radius <= 40,
        parameters=parameters,
        task="restore" if scale == 1 else "upscale",
        multiple_of=unshuffle,
    )


VARIANTS = (
    _variant("rrdb/x1", partial(RRDBNet, scale=1, unshuffle=4), 16_723_907),
    _variant("rrdb/x2", partial(RRDBNet, scale=2, unshuffle=2), 16_703_171),
    _variant("rrdb/x4", partial(RRDBNet, scale=4), 16_697_987),
    _variant("rrdb/x8", partial(RRDBNet, scale=8), 16_734_915),
    _variant("rrdb/x4-6b", partial(RRDBNet, scale=4, blocks=6), 4_467_779),
    _variant("rrdb/x4-tiny", partial(RRDBNet, scale=4, blocks=2, channels=8, growth=4), 25_387),
)


def recognise(shapes: Shapes) -> Variant | None:
    """Any width, depth and growth; the scale from the number of conv_up and the channels of the folded picture."""
    blocks = count(shapes, "body.{}.rdb1.conv1.weight")
    channels, growth = width(shapes, "conv_first.weight"), width(shapes, "body.0.rdb1.conv1.weight")
    unshuffle = {3: 1, 12: 2, 48: 4}.get(width(shapes, "conv_first.weight", 1))
    enlargement = 2 ** count(shapes, "conv_up{}.weight", first=1)
    if not (blocks and channels and growth and unshuffle) or not unshuffle <= enlargement <= 8 * unshuffle:
        return None
    scale = enlargement // unshuffle
    name = f"rrdb/x{scale}-{channels}f-{blocks}b"
    name += f"-{growth}g" if growth != 32 else ""
    name += f"-fold{unshuffle}" if unshuffle > 1 else ""
    module = partial(RRDBNet, scale=scale, blocks=blocks, channels=channels, growth=growth, unshuffle=unshuffle)
    return fitting(shapes, _variant(name, module, 0), VARIANTS)


_FIRST = re.compile(r"model\.1\.sub\.([0-9]+)\.RDB([123])\.conv([1-5])\.0\.(weight|bias)")
_SECOND = re.compile(r"RRDB_trunk\.([0-9]+)\.RDB([123])\.conv([1-5])\.(weight|bias)")


def translate(keys: Collection[str]) -> Mapping[str, str] | None:
    """ESRGAN's first layout, a list of layers, and its second, which BSRGAN and RealSR use; other keys stay."""
    if "model.1.sub.0.RDB1.conv1.0.weight" in keys:
        pattern, layers = _FIRST, _first_layers(keys)
    elif "RRDB_trunk.0.RDB1.conv1.weight" in keys:
        pattern = _SECOND
        layers = {"trunk_conv": "conv_body", "HRconv": "conv_hr"} | {f"upconv{n}": f"conv_up{n}" for n in (1, 2, 3)}
    else:
        return None
    names = {}
    for key in keys:
        layer, _, kind = key.rpartition(".")
        names[key] = pattern.sub(r"body.\1.rdb\2.conv\3.\4", key) if layer not in layers else f"{layers[layer]}.{kind}"
    return names


def _first_layers(keys: Collection[str]) -> dict[str, str]:
    """Layer -> name: the trunk ends in a convolution; then come enlargements, and two convolutions more."""
    tail = sorted(int(match[1]) for key in keys if (match := re.fullmatch(r"model\.([0-9]{1,3})\.weight", key)))
    first, *enlargements = [f"model.{number}" for number in tail[:-2]] or ["model.0"]
    trunk = f"model.1.sub.{count(keys, 'model.1.sub.{}.RDB1.conv1.0.weight')}"
    names = {first: "conv_first", trunk: "conv_body"}
    names |= {layer: f"conv_up{n}" for n, layer in enumerate(enlargements, 1)}
    return names | {f"model.{n}": name for n, name in zip(tail[-2:], ("conv_hr", "conv_last"), strict=False)}


ARCHITECTURE = Architecture("rrdb", VARIANTS, recognise=recognise, translate=translate)
