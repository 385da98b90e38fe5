"""Adaptive 3D LUT: a small CNN looks at the whole photograph and mixes a table of colours for it.

Zeng et al., Learning Image-Adaptive 3D Lookup Tables for High Performance Photo Enhancement in Real-Time, TPAMI 2020,
arXiv:2009.14468: five convolutions of stride 2 on a view of 256 x 256, each with leaky ReLU and all but the last with
InstanceNorm; one of 8 x 8 gives the share of each of three tables of 33^3 colours; every pixel is looked up in their
sum, trilinearly. 593,516 parameters. Its two published files (`LUTs.pth`: N.LUT, `classifier.pth`: model.N) are
translated. With `learned_vertices` it is AdaInt (Yang et al., CVPR 2022, arXiv:2204.13983): the shares come of the
mean of 2 x 2 parts, and so do the places of the 33 vertices of each axis, close where colours need them. 619,724
parameters, whose published keys ours are (both Apache-2.0).

Tables are N x 3 x D x D x D, indexed [colour out][blue][green][red]: red runs fastest, as in a .cube file.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.layout import count, fitting, width
from upscale_cli.zoo.variant import Architecture, Shapes, Variant

VIEW_PX = 256
TRAINED_PX = 480
"""Shorter side of the photographs that the published weights were trained on."""
WIDTHS = (16, 32, 64, 128, 128)
_NARROWEST = 1e-6  # of an interval; softmax may give 0, by which nothing can be divided


class Table(NamedTuple):
    """What is to be done with a photograph, whatever its size."""

    colors: Tensor
    """N x 3 x D x D x D, nominally in [0, 1]."""
    vertices: Tensor | None = None
    """N x 3 x D, rising from 0 to 1: where on the red, green and blue axis the colours stand; None if evenly."""


def shrink_factor(height: int, width: int) -> int:
    """How many pixels of a side become one before the view is taken: a large photograph is seen as a small one, whose
    pixels are means, and not by every twentieth of its own.
    """
    # min, division and max without a branch: a traced graph reckons it anew for every size.
    shorter = (height + width - abs(height - width)) // 2
    factor = (2 * shorter + TRAINED_PX) // (2 * TRAINED_PX)
    return (1 + factor + abs(1 - factor)) // 2


def look_up(table: Table, image: Tensor) -> Tensor:
    """N x 3 x H x W in [0, 1] by trilinear interpolation: N x 3 x H x W. Values beyond are taken for the nearest."""
    steps = table.colors.shape[-1] - 1
    place = image.clamp(0, 1) if table.vertices is None else _between(table.vertices, image.clamp(0, 1)) / steps
    # The grid's last axis is x, y, z: the axes of the table from the fastest.
    grid = (2 * place - 1).permute(0, 2, 3, 1)[:, None]
    return F.grid_sample(table.colors, grid, mode="bilinear", padding_mode="border", align_corners=True)[:, :, 0]


def _between(vertices: Tensor, image: Tensor) -> Tensor:
    """N x 3 x H x W values as places among the vertices of their channel, 0 to D - 1."""
    values = image.flatten(2)
    below = torch.searchsorted(vertices.detach(), values.detach().contiguous(), right=True) - 1
    below = below.clamp(0, vertices.shape[-1] - 2)
    left, right = vertices.gather(2, below), vertices.gather(2, below + 1)
    share = (values - left) / (right - left).clamp_min(_NARROWEST)
    return (below + share.clamp(0, 1)).view_as(image)


def identity(points: int) -> Tensor:
    """3 x D x D x D: the table that changes nothing."""
    ramp = torch.linspace(0, 1, points)
    blue, green, red = torch.meshgrid(ramp, ramp, ramp, indexing="ij")
    return torch.stack((red, green, blue))


class BasisTables(nn.Module):
    """Shares of the basis tables out of features, and the mixture: the first begins as identity, the others as zero."""

    def __init__(self, features: int, *, points: int, tables: int) -> None:
        super().__init__()
        self.points = points
        self.weights_generator = nn.Conv2d(features, tables, 8)
        self.basis_luts = nn.ParameterList([identity(points), *torch.zeros(tables - 1, 3, points, points, points)])
        nn.init.ones_(_bias(self.weights_generator))

    def forward(self, features: Tensor) -> Tensor:
        shares = self.weights_generator(features).flatten(1)
        return torch.einsum("nt,tcbgr->ncbgr", shares, torch.stack(tuple(self.basis_luts)))


class BankOfTables(nn.Module):
    """The same out of a row of features, the tables in one matrix, as AdaInt's files have them."""

    def __init__(self, features: int, *, points: int, tables: int) -> None:
        super().__init__()
        self.points = points
        self.weights_generator = nn.Linear(features, tables)
        self.basis_luts_bank = nn.Linear(tables, 3 * points**3, bias=False)
        nn.init.ones_(_bias(self.weights_generator))
        with torch.no_grad():
            self.basis_luts_bank.weight.zero_()[:, 0] = identity(points).flatten()

    def forward(self, features: Tensor) -> Tensor:
        return self.basis_luts_bank(self.weights_generator(features)).view(-1, 3, *(self.points,) * 3)


class Intervals(nn.Module):
    """Vertices of three axes out of a row of features: their distances are a softmax, at first all alike."""

    def __init__(self, features: int, *, points: int) -> None:
        super().__init__()
        self.intervals_generator = nn.Linear(features, 3 * (points - 1))
        nn.init.zeros_(self.intervals_generator.weight)
        nn.init.ones_(_bias(self.intervals_generator))

    def forward(self, features: Tensor) -> Tensor:
        intervals = self.intervals_generator(features).unflatten(1, (3, -1)).softmax(-1)
        return F.pad(intervals.cumsum(-1), (1, 0))


class Lut3D(nn.Module):
    """N x 3 x H x W -> N x 3 x H x W, [0, 1]: the table of the whole photograph, then pixel by pixel."""

    def __init__(
        self,
        *,
        points: int = 33,
        tables: int = 3,
        widths: Sequence[int] = WIDTHS,
        learned_vertices: bool = False,
        dropout: float = 0.5,
    ) -> None:
        """`dropout`, of the features that the shares come of, is Zeng's; AdaInt has none."""
        super().__init__()
        self.backbone = nn.Sequential(
            *(
                _halving(inputs, outputs, last=number == len(widths))
                for number, (inputs, outputs) in enumerate(zip((3, *widths), widths, strict=False), 1)
            )
        )
        if learned_vertices:
            features = 4 * widths[-1]
            self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
            self.lut_generator = BankOfTables(features, points=points, tables=tables)
            self.adaint = Intervals(features, points=points)
        else:
            self.pool = nn.Dropout(dropout)
            self.lut_generator = BasisTables(widths[-1], points=points, tables=tables)
            self.adaint = None

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        factor = shrink_factor(height, width)
        rows, columns = height // factor, width // factor
        blocks = image[..., : rows * factor, : columns * factor]
        return look_up(self.table(F.adaptive_avg_pool2d(blocks, (rows, columns))), image)

    def table(self, view: Tensor) -> Table:
        """Of a photograph in [0, 1] that is no larger than those of the training: N x 3 x H x W."""
        view = F.interpolate(view, size=(VIEW_PX, VIEW_PX), mode="bilinear")
        features = self.pool(self.backbone(view))
        return Table(self.lut_generator(features), None if self.adaint is None else self.adaint(features))


def _halving(inputs: int, outputs: int, *, last: bool) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, *([] if last else [nn.InstanceNorm2d(outputs, affine=True)]))


def _bias(layer: nn.Conv2d | nn.Linear) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def _variant(name: str, module: partial[Lut3D], parameters: int) -> Variant:
    return Variant(
        name,
        "lut3d",
        module,
        scale=1,
        margin=0,
        parameters=parameters,
        task="enhance",
        tileable=False,
        dtypes=("fp32",),  # a small picture through a small network: 16 bits would only round the colours
    )


VARIANTS = (
    _variant("lut3d/x1", partial(Lut3D), 593_516),
    _variant("lut3d/x1-adaint", partial(Lut3D, learned_vertices=True), 619_724),
    _variant("lut3d/x1-tiny", partial(Lut3D, points=5, widths=(4, 4, 4, 4, 4), dropout=0.0), 2_632),
    _variant("lut3d/x1-adaint-tiny", partial(Lut3D, points=5, widths=(4, 4, 4, 4, 4), learned_vertices=True), 2_116),
)

_LARGEST_TABLE = 65


def recognise(shapes: Shapes) -> Variant | None:
    """Any widths, number of tables and vertices."""
    widths = tuple(width(shapes, f"backbone.{number}.0.weight") for number in range(len(WIDTHS)))
    learned = "adaint.intervals_generator.weight" in shapes
    if learned:
        tables = width(shapes, "lut_generator.weights_generator.weight")
        points = width(shapes, "adaint.intervals_generator.weight") // 3 + 1
    else:
        tables = count(shapes, "lut_generator.basis_luts.{}")
        points = width(shapes, "lut_generator.basis_luts.0", 1)
    if not all(widths) or not tables or not 2 <= points <= _LARGEST_TABLE:
        return None
    name = f"lut3d/x1{'-adaint' * learned}-{tables}t-{points}p-{'-'.join(map(str, widths))}"
    module = partial(Lut3D, points=points, tables=tables, widths=widths, learned_vertices=learned)
    return fitting(shapes, _variant(name, module, 0), VARIANTS)


_CLASSIFIER = re.compile(r"model\.(1|3|4|6|7|9|10|12|13|16)\.(weight|bias)")


def translate(keys: Collection[str]) -> Mapping[str, str] | None:
    """Zeng's: N.LUT of `LUTs.pth`, and model.N of `classifier.pth`, where layer 0 is the view and 15 the dropout."""
    if not {"0.LUT", "model.16.weight"} <= set(keys):
        return None
    names = {}
    for key in keys:
        if match := _CLASSIFIER.fullmatch(key):
            layer, kind = int(match[1]), match[2]
            block, place = divmod(layer - 1, 3)
            names[key] = f"backbone.{block}.{place}.{kind}" if layer < 16 else f"lut_generator.weights_generator.{kind}"
        elif match := re.fullmatch(r"(\d)\.LUT", key):
            names[key] = f"lut_generator.basis_luts.{match[1]}"
        else:
            names[key] = key
    return names


ARCHITECTURE = Architecture("lut3d", VARIANTS, recognise=recognise, translate=translate)
