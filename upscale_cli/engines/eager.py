"""Eager PyTorch: runs anywhere torch does. Channels last, so that numpy's H x W x C needs no copy either way."""

import functools
from collections.abc import Callable

import numpy as np
import torch

from upscale_cli import device as devices
from upscale_cli.engines.interface import Floats, Tiles, unit_floats
from upscale_cli.model import DTYPES, Model
from upscale_cli.zoo.cost import live_values, operations_per_pixel

_CPU_TILE_PX = 256  # what a layer makes of it stays in the caches
ACCELERATOR_TILE_PX = 1024  # large enough to fill any device; more would only cost memory


class EagerEngine:
    """A Model behind the Engine interface."""

    backend = "torch"
    in_flight = 1

    def __init__(self, model: Model, *, remark: str = "") -> None:
        self.model = model
        self.name = model.name
        self.scale = model.variant.scale
        self.margin = model.variant.margin
        self.exact = model.variant.exact
        self.multiple_of = model.variant.multiple_of
        self.tileable = model.variant.tileable
        self.device = str(model.device)
        self.precision = model.precision
        self.coarse = model.precision == "bf16"
        self.remark = remark
        self.tile_px = _CPU_TILE_PX if model.device.type == "cpu" else ACCELERATOR_TILE_PX

    @property
    def operations(self) -> float:
        """Of the network with its end folded."""
        return operations_per_pixel(self.model.variant, folded=True)

    def infer(self, tiles: Tiles) -> Floats:
        """N x H x W x 3 to N x sH x sW x 3 in [0, 1]; see Engine."""
        lr = torch.from_numpy(np.ascontiguousarray(unit_floats(tiles))).permute(0, 3, 1, 2)
        return self.model(lr).permute(0, 2, 3, 1).numpy()

    def submit(self, tiles: Tiles) -> Callable[[], Floats]:
        """Runs when asked; see Engine."""
        return functools.partial(self.infer, tiles)

    def tile_bytes(self, height: int, width: int) -> int:
        """The two largest things alive at once, in the precision of the run, and the fp32 tile that comes out."""
        values = live_values(self.model.variant, height * width)
        out = 3 * 4 * self.scale**2
        return int(values * DTYPES[self.precision].itemsize) + height * width * out

    def available_bytes(self) -> int:
        """Free memory of the device."""
        return devices.available_bytes(self.model.device)

    def in_precision(self, precision: str) -> "EagerEngine":
        """The same network in another precision."""
        return EagerEngine(self.model.in_precision(precision))
