"""Attention within windows, and the frame around it: what SwinIR gave to HAT and DRCT.

Liu et al., Swin Transformer, arXiv:2103.14030; Liang et al., SwinIR, arXiv:2108.10257. Key names are those of the
authors (JingyunLiang/SwinIR, Apache-2.0). Features are N x H x W x C here, height and width multiples of the window;
`WindowNetwork` mirrors the picture up to them, so that any size goes in. Where published files hold the index of
relative positions and the mask of shifted windows, these are made here, and `without_constants` leaves them out.

The stochastic depth that the authors train with is left out.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.blocks import DIV2K_MEAN, SLOPE, Banded, LinearEnd, conv3x3, narrowed, shuffle_steps, widened
from upscale_cli.zoo.layout import width
from upscale_cli.zoo.variant import Shapes

Head = Literal["shuffle", "direct", "nearest", "same"]
"""How the picture is made: steps of PixelShuffle; one such to the colours; nearest neighbour; added to the input."""

MARGIN = 32
"""Two windows of 16 pixels, four of 8: a reasoned guess, with no weights at hand to measure it. Attention reaches
further with every shift, and the windows of a tile need not be those of the whole picture."""


def linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A linear layer that starts as the authors': small weights, no bias."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def bias_table(span: int, heads: int) -> nn.Parameter:
    """A learned bias for each of span x span relative positions."""
    return nn.Parameter(nn.init.trunc_normal_(torch.zeros(span**2, heads), std=0.02))


def relative_positions(window: int) -> Tensor:
    """Row of the bias table for each pixel of a window and each other: window^2 x window^2."""
    place = coordinates(window)
    rows, columns = place[:, :, None] - place[:, None, :] + window - 1
    return rows * (2 * window - 1) + columns


def coordinates(side: int) -> Tensor:
    """Row and column of each pixel of a square, 2 x side^2."""
    steps = torch.arange(side)
    return torch.stack(torch.meshgrid(steps, steps, indexing="ij")).flatten(1)


def cut(features: Tensor, window: int) -> Tensor:
    """N x H x W x C to N x windows x window^2 x C, row by row."""
    rows = features.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return rows.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def joined(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """The opposite of `cut`."""
    rows = windows.unflatten(2, (window, window)).unflatten(1, (height // window, width // window))
    return rows.transpose(2, 3).flatten(3, 4).flatten(1, 2)


class Shift(NamedTuple):
    """For windows that lie half a window further: at the lower and right edge they hold pixels of opposite edges."""

    edges: Tensor
    """Numbers of these windows."""
    mask: Tensor
    """Edges x window^2 x window^2: 0 within what lies together, -100 elsewhere."""


def shift_of(features: Tensor, window: int) -> Shift:
    """For N x H x W x C."""

    def regions(size: int) -> Tensor:
        place = torch.arange(size, device=features.device)
        return (place >= size - window).long() + (place >= size - window // 2).long()

    height, width = features.shape[1:3]
    numbers = torch.arange((height // window) * (width // window), device=features.device).view(-1, width // window)
    edges = torch.cat((numbers[:-1, -1], numbers[-1]))
    region = regions(height)[:, None] * 3 + regions(width)
    region = cut(region[None, ..., None], window)[0, edges]
    return Shift(edges, torch.where(region == region.transpose(1, 2), 0.0, -100.0).to(features.dtype))


class WindowAttention(nn.Module):
    """Each pixel looks at those of its window."""

    relative_position_index: Tensor

    def __init__(self, channels: int, *, heads: int, window: int, qkv_bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.relative_position_bias_table = bias_table(2 * window - 1, heads)
        self.register_buffer("relative_position_index", relative_positions(window), persistent=False)
        self.qkv = linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = linear(channels, channels)

    def forward(self, features: Tensor, shift: Shift | None = None) -> Tensor:
        """N x H x W x C to the same; with `shift` the windows lie half a window further."""
        height, width = features.shape[1:3]
        step = self.window // 2 if shift is not None else 0
        windows = cut(torch.roll(features, (-step, -step), (1, 2)) if step else features, self.window)
        parts = self.qkv(windows).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        query, key, value = parts.flatten(1, 2)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])
        seen = seen.unflatten(0, parts.shape[1:3])
        if shift is not None:
            # The edges once more: they are few, and masks of all windows would take more memory than all the rest.
            query, key, value = parts[:, :, shift.edges].flatten(2, 3)
            masked = (shift.mask[:, None] + bias).flatten(0, 1)
            edges = F.scaled_dot_product_attention(query, key, value, attn_mask=masked[None])
            seen = seen.index_copy(1, shift.edges, edges.unflatten(1, (-1, self.heads)))
        result = joined(self.proj(seen.transpose(2, 3).flatten(3)), self.window, height, width)
        return torch.roll(result, (step, step), (1, 2)) if step else result


class Mlp(nn.Module):
    """linear - GELU - linear on each pixel."""

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__()
        self.fc1 = linear(channels, round(channels * ratio))
        self.fc2 = linear(round(channels * ratio), channels)

    def forward(self, features: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(features)))


class SwinBlock(nn.Module):
    """Attention and linear layers, each normalised before and added to what it got."""

    def __init__(self, channels: int, *, heads: int, window: int, mlp_ratio: float = 2, qkv_bias: bool = True) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads=heads, window=window, qkv_bias=qkv_bias)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, mlp_ratio)

    def forward(self, features: Tensor, shift: Shift | None = None) -> Tensor:
        features = features + self.attn(self.norm1(features), shift)
        return features + self.mlp(self.norm2(features))


def convolved(conv: nn.Module, features: Tensor) -> Tensor:
    """N x H x W x C through a convolution, which wants N x C x H x W, and back."""
    return conv(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def residual_conv(channels: int, *, steps: Literal[1, 3] = 1) -> nn.Module:
    """What ends a group: a convolution, or three of them with a quarter of the channels within."""
    if steps == 1:
        return conv3x3(channels, channels)
    inner = channels // 4
    return nn.Sequential(
        conv3x3(channels, inner),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(inner, inner, 1),
        nn.LeakyReLU(SLOPE),
        conv3x3(inner, channels),
    )


class Group(nn.Module):
    """Blocks, every second one shifted, an attention of another kind where there is one, and a convolution; plus the
    input.
    """

    def __init__(self, blocks: Iterable[nn.Module], conv: nn.Module, *, overlap: nn.Module | None = None) -> None:
        super().__init__()
        self.residual_group = nn.ModuleDict({"blocks": nn.ModuleList(blocks)})
        if overlap is not None:
            self.residual_group["overlap_attn"] = overlap
        self.conv = conv

    def forward(self, features: Tensor, shift: Shift) -> Tensor:
        result = features
        blocks, *others = self.residual_group.values()
        assert isinstance(blocks, nn.ModuleList)
        for number, block in enumerate(blocks):
            result = block(result, shift if number % 2 else None)
        for other in others:
            result = other(result)
        return features + convolved(self.conv, result)


class WindowNetwork(Banded):
    """N x 3 x H x W -> N x 3 x sH x sW, [0, 1]: convolution, `layers` on features and shift, convolution, head.

    `features`: channels in the head. `value_range`: largest value inside.
    """

    def __init__(
        self,
        layers: Iterable[nn.Module],
        *,
        scale: int,
        channels: int,
        window: int,
        head: Head = "shuffle",
        features: int = 64,
        conv_steps: Literal[1, 3] = 1,
        value_range: float = 1.0,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.window = window
        self.head = head
        self.value_range = value_range
        self.conv_first = conv3x3(3, channels)
        self.patch_embed = nn.ModuleDict({"norm": nn.LayerNorm(channels)})
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(channels)
        self.conv_after_body = residual_conv(channels, steps=conv_steps)
        if head in ("shuffle", "nearest"):
            self.conv_before_upsample = nn.Sequential(conv3x3(channels, features), nn.LeakyReLU())
        if head == "shuffle":
            steps = [(conv3x3(features, features * n**2), nn.PixelShuffle(n)) for n in shuffle_steps(scale)]
            self.upsample = nn.Sequential(*(layer for step in steps for layer in step))
        elif head == "direct":
            self.upsample = nn.Sequential(conv3x3(channels, 3 * scale**2))
        elif head == "nearest":
            self.enlargements = tuple(f"conv_up{n}" for n in range(1, scale.bit_length()))
            for name in self.enlargements:
                self.add_module(name, conv3x3(features, features))
            self.conv_hr = conv3x3(features, features)
        if head != "direct":
            self.conv_last = conv3x3(channels if head == "same" else features, 3)
        if head == "shuffle":
            self.end = LinearEnd(self.upsample, self.conv_last)

    def forward(self, lr: Tensor) -> Tensor:
        height, width = (side * self.scale for side in lr.shape[-2:])
        mean = lr.new_tensor(DIV2K_MEAN).view(3, 1, 1)
        image = (mirrored(lr, self.window) - mean) * self.value_range
        first = self.conv_first(narrowed(image, self))
        features = self.patch_embed["norm"](first.permute(0, 2, 3, 1))
        shift = shift_of(features, self.window)
        for layer in self.layers:
            features = layer(features, shift)
        features = first + self.conv_after_body(self.norm(features).permute(0, 3, 1, 2))
        sr = self._picture(features, lr.dtype)
        if self.head == "same":
            sr = image + sr
        return (sr / self.value_range + mean)[..., :height, :width]

    def _picture(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        if self.head == "direct":
            return F.pixel_shuffle(widened(self.upsample[0], features, dtype), self.scale)
        if self.head == "shuffle":
            return self.end(self.conv_before_upsample(features), dtype)
        if self.head == "nearest":
            return self.drawn(self.conv_before_upsample(features), dtype)
        return widened(self.conv_last, features, dtype)


def mirrored(image: Tensor, multiple: int) -> Tensor:
    """Grown to multiples at the right and bottom by the mirror image without the edge pixel, from any size."""

    def places(size: int) -> Tensor:
        period = max(2 * (size - 1), 1)
        place = torch.arange(size + -size % multiple, device=image.device) % period
        return torch.minimum(place, period - place)

    height, width = image.shape[-2:]
    return image[..., places(height), :][..., places(width)]


def block_numbers(shapes: Shapes, block: str) -> tuple[int, int, int]:
    """Heads, window and channels within the linear layers, of the `SwinBlock` whose keys begin so; 0 for none."""
    positions, heads = (width(shapes, f"{block}.attn.relative_position_bias_table", axis) for axis in (0, 1))
    return heads, (math.isqrt(positions) + 1) // 2, width(shapes, f"{block}.mlp.fc1.weight")


def without_constants(keys: Collection[str]) -> Mapping[str, str] | None:
    """Keys of a published file less those of what is made here; None where there is none of these."""
    made = ("attn_mask", "relative_position_index", "relative_position_index_SA", "relative_position_index_OCA")
    kept = {key: key for key in keys if key.rpartition(".")[2] not in made}
    return kept if len(kept) < len(keys) else None
