"""Tables of colours as an engine: what a network makes of a view of a picture, or a .cube file, looked up by torch.

Runs on the processor, whatever the device of other networks: the network is small, and a picture would take longer to
travel than to be looked up. torch's grid_sample is the fastest exact way of those tried (benchmarks/LOG.md).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from upscale_cli.cube import Cube, read_cube
from upscale_cli.engines.interface import Floats, Tiles, unit_floats
from upscale_cli.errors import NonFiniteOutputError, UsageError
from upscale_cli.styles import Style

if TYPE_CHECKING:
    from upscale_cli.zoo.lut3d import Lut3D, Table

CUBE_POINTS = 33


class Look:
    """What is to be done with every colour of one picture: tables and their shares."""

    def __init__(self, parts: "Sequence[tuple[float, Table]]") -> None:
        self._parts = parts

    def __call__(self, pixels: Tiles) -> Floats:
        """H x W x 3 to H x W x 3 in [0, 1], not rounded. NonFiniteOutputError for a table with holes."""
        import torch

        from upscale_cli.zoo.lut3d import Table, look_up

        height, width, _ = pixels.shape
        # torch shares the work by pictures: as many parts as threads are as many pictures.
        count = torch.get_num_threads() if height % torch.get_num_threads() == 0 else 1
        image = torch.from_numpy(unit_floats(pixels)).view(count, height // count, width, 3).permute(0, 3, 1, 2)
        with torch.inference_mode():
            made = torch.zeros(())
            for share, table in self._parts:
                vertices = None if table.vertices is None else table.vertices.expand(count, -1, -1)
                made = made + share * look_up(Table(table.colors.expand(count, -1, -1, -1, -1), vertices), image)
            if not torch.isfinite(made.sum()):
                raise NonFiniteOutputError("The table of colours has NaN or infinity.")
            return made.clamp_(0, 1).permute(0, 2, 3, 1).reshape(height, width, 3).numpy()

    def cube(self, strength: float = 1.0) -> Cube:
        """The same at 33 even steps of each axis, mixed with what changes nothing."""
        ramp = np.linspace(0, 1, CUBE_POINTS, dtype=np.float32)
        blue, green, red = np.meshgrid(ramp, ramp, ramp, indexing="ij")
        colors = np.stack((red, green, blue), axis=-1)
        made = self(colors.reshape(CUBE_POINTS, -1, 3)).reshape(colors.shape)
        return Cube((strength * made + (1 - strength) * colors).astype(np.float32))


class LutEngine:
    """Networks that make tables of colours, or one that is fixed. What an Engine tells of itself, it tells too."""

    scale = 1
    device = "cpu"
    precision = "fp32"
    backend = "torch"
    remark = ""

    def __init__(self, name: str, networks: "Sequence[tuple[float, Lut3D]]", fixed: Look | None = None) -> None:
        self.name = name
        self._networks = networks
        self._fixed = fixed

    @property
    def adaptive(self) -> bool:
        """Whether a picture must be seen before its table is known."""
        return self._fixed is None

    def look(self, view: Floats) -> Look:
        """At a picture, H x W x 3 in [0, 1], no larger than `zoo.lut3d` wants it."""
        if self._fixed is not None:
            return self._fixed
        import torch

        with torch.inference_mode():
            image = torch.from_numpy(view).permute(2, 0, 1)[None]
            return Look([(share, network.table(image)) for share, network in self._networks])

    def shrink_factor(self, height: int, width: int) -> int:
        """Side of the blocks of pixels whose means are the view of a picture."""
        from upscale_cli.zoo.lut3d import shrink_factor

        return shrink_factor(height, width)


def open_tables(style: Style, *, offline: bool = False) -> LutEngine:
    """The engine of a style of the kind `tables` or `cube`. Raises what `load_module` and `read_cube` do."""
    from upscale_cli.weights.loading import load_module
    from upscale_cli.zoo.lut3d import Lut3D

    if style.kind == "cube":
        return LutEngine(style.name, (), fixed=Look([(1.0, _table(read_cube(Path(style.members[0]))))]))
    networks = []
    for member, share in zip(style.members, style.shares, strict=True):
        _, variant, module = load_module(member, 1, offline=offline)
        if not isinstance(module, Lut3D):
            raise UsageError(f"{member} is {variant.name}, which makes no table of colours.")
        networks.append((share, module))
    return LutEngine(style.name, networks)


def _table(cube: Cube) -> "Table":
    import torch

    from upscale_cli.zoo.lut3d import Table

    colors = torch.from_numpy(np.ascontiguousarray(cube.colors.transpose(3, 0, 1, 2)))[None]
    if (cube.low, cube.high) == ((0.0,) * 3, (1.0,) * 3):
        return Table(colors)
    axes = zip(cube.low, cube.high, strict=True)
    return Table(colors, torch.stack([torch.linspace(low, high, len(cube.colors)) for low, high in axes])[None])


def shrunk(pixels: Tiles, factor: int) -> Floats:
    """Means of blocks of `factor` x `factor` pixels, H x W x C to (H // factor) x (W // factor) x C in [0, 1]."""
    height, width = (side // factor for side in pixels.shape[:2])
    whole = unit_floats(np.ascontiguousarray(pixels[: height * factor, : width * factor]))
    if factor == 1:
        return whole
    made = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
    return cast(Floats, made.reshape(height, width, pixels.shape[2]))
