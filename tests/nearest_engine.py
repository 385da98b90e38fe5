"""A network with a known answer: nearest neighbour, which fails where it is told to."""

import functools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from upscale_cli.engines.interface import Floats, Tiles, unit_floats
from upscale_cli.errors import DeviceLostError, NonFiniteOutputError, OutOfMemoryError


class NearestEngine:
    """Engine by repetition of pixels.

    `most_pixels` is all the memory it has; `broken` and `black` ruin tiles below fp32, or `always`;
    `before` sees tiles first.
    """

    backend = "numpy"
    in_flight = 1
    remark = ""
    operations = 1e4
    coarse = False

    def __init__(
        self,
        scale: int = 2,
        *,
        name: str = "nearest",
        margin: int = 4,
        multiple_of: int = 1,
        tileable: bool = True,
        precision: str = "fp32",
        device: str = "cpu",
        most_pixels: int | None = None,
        available: int = 1 << 33,
        broken: Callable[[Tiles], bool] = lambda _: False,
        black: Callable[[Tiles], bool] = lambda _: False,
        always: bool = False,
        before: Callable[[Tiles], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.scale = scale
        self.margin = margin
        self.exact = True
        self.multiple_of = multiple_of
        self.tileable = tileable
        self.device = device
        self.tile_px = 256 if device == "cpu" else 1024
        self.precision = precision
        self.shapes: list[tuple[int, ...]] = []
        self.made: list[NearestEngine] = []
        self._most_pixels = most_pixels
        self._available = available
        self._broken = broken
        self._black = black
        self._always = always
        self._before = before

    def submit(self, tiles: Tiles) -> Callable[[], Floats]:
        return functools.partial(self.infer, tiles)

    def infer(self, tiles: Tiles) -> Floats:
        tiles = unit_floats(tiles)
        assert tiles.shape[3] == 3
        assert tiles.min() >= 0
        assert tiles.max() <= 1
        self._before(tiles)
        self.shapes.append(tiles.shape)
        if self._most_pixels is not None and tiles[..., 0].size > self._most_pixels:
            raise OutOfMemoryError("the tile is too large")
        if (self.precision != "fp32" or self._always) and self._broken(tiles):
            raise NonFiniteOutputError("NaN")
        enlarged = tiles.repeat(self.scale, 1).repeat(self.scale, 2)
        if (self.precision != "fp32" or self._always) and self._black(tiles):
            enlarged[:] = 0
        return enlarged

    def tile_bytes(self, height: int, width: int) -> int:
        return height * width * 1000

    def available_bytes(self) -> int:
        return self._available

    def in_precision(self, precision: str) -> "NearestEngine":
        twin = NearestEngine(
            self.scale,
            name=self.name,
            margin=self.margin,
            multiple_of=self.multiple_of,
            tileable=self.tileable,
            precision=precision,
            device=self.device,
            broken=self._broken,
            black=self._black,
            always=self._always,
        )
        self.made.append(twin)
        return twin


@dataclass(frozen=True)
class Nearest:
    """Opens nearest neighbour in any process; every tile takes `pause` seconds.

    At its first tile every process writes its number of threads into a file in `log`, and waits until `together` of
    them have. Opening raises `fault`, and tiles do on the device `lost`.
    """

    pause: float = 0.0
    log: Path | None = None
    together: int = 1
    fault: Exception | None = None
    lost: str = ""

    def __call__(self, model: object, scale: int | None = None, *, device: str, **_: object) -> NearestEngine:
        if self.fault:
            raise self.fault

        def before(_tiles: Tiles) -> None:
            if self.log:
                self.log.mkdir(exist_ok=True)
                self.log.joinpath(str(os.getpid())).write_text(os.environ.get("OMP_NUM_THREADS", ""))
                while len(list(self.log.iterdir())) < self.together:
                    time.sleep(0.01)
            time.sleep(self.pause)
            if device == self.lost:
                raise DeviceLostError(f"The device {device} works no more: unspecified launch failure")

        return NearestEngine(scale or 2, device=device, before=before)


def nearest(image: np.ndarray, scale: int) -> np.ndarray:
    """What NearestEngine must come to, whatever the tiles."""
    return image.repeat(scale, 0).repeat(scale, 1)
