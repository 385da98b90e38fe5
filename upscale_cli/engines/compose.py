"""Several engines as one, one engine eight times, one beside its source: averages. Knows no network and no torch."""

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from upscale_cli.engines.interface import Engine, Floats, Tiles, unit_floats
from upscale_cli.errors import UsageError

_FLIPS: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (1, 2))


class Ensemble:
    """The mean of the pictures of several engines of one native scale, which run one after another."""

    in_flight = 1

    def __init__(self, members: Sequence[Engine]) -> None:
        """UsageError where native scales differ."""
        first = members[0]
        if any(member.scale != first.scale for member in members):
            scales = ", ".join(f"{member.name} x{member.scale}" for member in members)
            raise UsageError(f"Pictures of different size have no mean: {scales}. Name models of one --scale.")
        self.members = tuple(members)
        self.name = ",".join(member.name for member in members)
        self.scale = first.scale
        self.margin = max(member.margin for member in members)
        self.exact = all(member.exact for member in members)
        self.multiple_of = math.lcm(*(member.multiple_of for member in members))
        self.tileable = all(member.tileable for member in members)
        self.device = first.device
        self.precision = "/".join(dict.fromkeys(member.precision for member in members))
        self.backend = "/".join(dict.fromkeys(member.backend for member in members))
        self.coarse = any(member.coarse for member in members)
        self.tile_px = min(member.tile_px for member in members)

    @property
    def remark(self) -> str:
        """Of every member that has one."""
        return " ".join(dict.fromkeys(filter(None, (member.remark for member in self.members))))

    @property
    def operations(self) -> float:
        """Of all members."""
        return sum(member.operations for member in self.members)

    def infer(self, tiles: Tiles) -> Floats:
        """N x H x W x 3 to N x sH x sW x 3 in [0, 1]; see Engine."""
        total = np.array(self.members[0].infer(tiles))
        for member in self.members[1:]:
            total += member.infer(tiles)
        total /= len(self.members)
        return total

    def submit(self, tiles: Tiles) -> Callable[[], Floats]:
        """Runs when asked; see Engine."""
        return functools.partial(self.infer, tiles)

    def tile_bytes(self, height: int, width: int) -> int:
        """The most any member needs, and the sum of pictures beside it."""
        return max(member.tile_bytes(height, width) for member in self.members) + _sum_bytes(self, height, width)

    def available_bytes(self) -> int:
        """Free memory of the device."""
        return self.members[0].available_bytes()

    def in_precision(self, precision: str) -> "Ensemble":
        """The same networks in another precision."""
        return Ensemble([m if m.precision == precision else m.in_precision(precision) for m in self.members])


class _Around(ABC):
    """An engine with another inside, which says for it all that it does not say itself."""

    in_flight = 1

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name = engine.name
        self.scale = engine.scale
        self.margin = engine.margin
        self.exact = engine.exact
        self.multiple_of = engine.multiple_of
        self.tileable = engine.tileable
        self.device = engine.device
        self.precision = engine.precision
        self.backend = engine.backend
        self.coarse = engine.coarse
        self.tile_px = engine.tile_px

    @property
    def remark(self) -> str:
        """Of the engine."""
        return self.engine.remark

    @property
    def operations(self) -> float:
        """Of the engine."""
        return self.engine.operations

    @abstractmethod
    def infer(self, tiles: Tiles) -> Floats:
        """N x H x W x 3 to N x sH x sW x 3 in [0, 1]; see Engine."""

    def submit(self, tiles: Tiles) -> Callable[[], Floats]:
        """Runs when asked; see Engine."""
        return functools.partial(self.infer, tiles)

    def available_bytes(self) -> int:
        """Free memory of the device."""
        return self.engine.available_bytes()


class SelfEnsemble(_Around):
    """The mean of the pictures an engine makes of all eight flips and turns of a tile, each turned back.

    After Timofte et al., Seven ways to improve example-based single image super resolution, arXiv:1511.02228.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.name = f"{engine.name} (tta)"

    @property
    def operations(self) -> float:
        """Of the engine, eight times."""
        return self.engine.operations * 2 * len(_FLIPS)

    def infer(self, tiles: Tiles) -> Floats:
        """N x H x W x 3 to N x sH x sW x 3 in [0, 1]; see Engine."""
        count, height, width, channels = tiles.shape
        total = np.zeros((count, height * self.scale, width * self.scale, channels), np.float32)
        # With turned sides a tile that is no square has another shape: it cannot share a batch with the others.
        for source, target in ((tiles, total), (tiles.swapaxes(1, 2), total.swapaxes(1, 2))):
            for flips in _FLIPS:
                made = self.engine.infer(np.ascontiguousarray(np.flip(source, flips)))
                np.add(target, np.flip(made, flips), out=target)
        total /= 2 * len(_FLIPS)
        return total

    def tile_bytes(self, height: int, width: int) -> int:
        """What the engine needs for the tile as it lies or turned, and the sum of pictures beside it."""
        most = max(self.engine.tile_bytes(height, width), self.engine.tile_bytes(width, height))
        return most + _sum_bytes(self, height, width)

    def in_precision(self, precision: str) -> "SelfEnsemble":
        """The same network in another precision."""
        return SelfEnsemble(self.engine.in_precision(precision))


class Softened(_Around):
    """An engine that keeps the size, whose pictures are mixed with their sources."""

    def __init__(self, engine: Engine, strength: float) -> None:
        """`strength` in [0, 1] is the share of what the engine makes. UsageError for one that enlarges."""
        if engine.scale != 1:
            raise UsageError(f"{engine.name} enlarges {engine.scale} times: there is no source of its size to mix in.")
        super().__init__(engine)
        self.strength = strength

    def infer(self, tiles: Tiles) -> Floats:
        """N x H x W x 3 to the same in [0, 1]; see Engine."""
        made = self.engine.infer(tiles) * np.float32(self.strength)
        made += unit_floats(tiles) * np.float32(1 - self.strength)
        return made

    def tile_bytes(self, height: int, width: int) -> int:
        """What the engine needs, and the mixture beside it."""
        return self.engine.tile_bytes(height, width) + _sum_bytes(self, height, width)

    def in_precision(self, precision: str) -> "Softened":
        """The same network in another precision."""
        return Softened(self.engine.in_precision(precision), self.strength)


def _sum_bytes(engine: Engine, height: int, width: int) -> int:
    return height * width * engine.scale**2 * 3 * np.dtype(np.float32).itemsize
