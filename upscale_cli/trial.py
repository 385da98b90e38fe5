"""One network by one engine on trial: opened, warmed up, and timed turn by turn on the way of a real run.

Owns the clocks and what a turn is. What is measured against what, and for how long, is the bench's.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import median
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from upscale_cli.engines import Engine, Tiles, open_engine
from upscale_cli.engines.interface import Floats
from upscale_cli.errors import InferenceError
from upscale_cli.lane import Clock
from upscale_cli.pipeline import Job, JobResult, Upscaler, process
from upscale_cli.yardstick import memory_growth

Pixels = npt.NDArray[np.uint8]

MOST_IMAGES = 64  # of one turn


@dataclass(frozen=True, slots=True)
class Setting:
    """What is on trial."""

    model: str
    """A row of the manifest, or a weights file."""
    backend: str
    precision: str
    tile_px: int
    """Most pixels a side has; 0 is automatic."""


@dataclass(frozen=True, slots=True)
class Stages:
    """Seconds that each stage is at work for a million pixels of the input; first and last run beside the others."""

    decode: float
    infer: float
    blend: float
    """Cutting tiles and joining them."""
    encode: float

    @property
    def bottleneck(self) -> str:
        """The one that takes longest."""
        return max((field.name for field in fields(self)), key=lambda name: getattr(self, name))


@dataclass(frozen=True, slots=True)
class Turn:
    """Some pictures from file to file."""

    seconds: float
    images: int
    in_pixels: int
    network_pixels: int
    """Through the network: what tiles share counts as often as it was done."""
    stages: Stages
    rate: float | None = None
    """Operations a second that convolutions reached right before and after."""

    @property
    def pixels_per_second(self) -> float:
        """Of the input."""
        return self.in_pixels / self.seconds

    @property
    def network_pixels_per_second(self) -> float:
        """While the network ran and its tiles were joined."""
        return self.network_pixels / ((self.stages.infer + self.stages.blend) * self.in_pixels / 1e6)


class Trial:
    """An engine, warm, and the turns it has had."""

    def __init__(self, setting: Setting, device: torch.device, picture: Pixels) -> None:
        """Open it and enlarge one picture. Raises what `open_engine` and `Upscaler.enlarge` raise; fetches nothing."""
        self.setting = setting
        self.turns: list[Turn] = []
        self.notes: tuple[str, ...] = ()
        self._images = 1
        with memory_growth(device) as grown:
            started = time.perf_counter()
            engine = open_engine(
                setting.model,
                device=str(device),
                precision=setting.precision,
                backend=setting.backend,
                offline=True,
            )
            self.engine = _Clocked(engine)
            self.upscaler = Upscaler([cast(Engine, self.engine)], tile_px=setting.tile_px)
            self.picture = self.upscaler.enlarge_rgb8(picture)
            """What it makes of the first picture."""
            self.first_seconds = time.perf_counter() - started
            self.tile_px = self.upscaler.effort.tile_px
            self.memory_bytes = grown()
        self.operations = engine.operations
        """For an input pixel, margins left out."""

    @property
    def seconds(self) -> float:
        """Of all turns."""
        return sum(turn.seconds for turn in self.turns)

    def turn(self, files: Sequence[Path], folder: Path, *, seconds: float, rate: Callable[[], float | None]) -> None:
        """Enlarge files into `folder`, one the first time and as many as take about `seconds` from then on; `rate`
        measures what convolutions reach in this moment.

        Raises InferenceError if one of them fails.
        """
        before = rate()
        turn = self._run([self._job(files[index % len(files)], folder, index) for index in range(self._images)])
        if not self.turns and self._images == 1:
            self._images = max(1, min(MOST_IMAGES, int(seconds / turn.seconds)))
            if self._images > 1:  # one picture alone shows nothing of what runs beside the network
                return self.turn(files, folder, seconds=seconds, rate=rate)
        after = rate()
        self.turns.append(turn if before is None or after is None else replace(turn, rate=(before + after) / 2))

    def middle(self, of: Callable[[Turn], float]) -> float:
        """The median over turns."""
        return median(map(of, self.turns))

    @property
    def share(self) -> float | None:
        """Of what convolutions reached, the median over turns."""
        shares = [self.operations * each.network_pixels_per_second / each.rate for each in self.turns if each.rate]
        return median(shares) if shares else None

    def _job(self, source: Path, folder: Path, index: int) -> Job:
        with Image.open(source) as image:
            width, height = (side * self.upscaler.scale for side in image.size)
        return Job(source, folder / f"{index}.jpg", "JPEG", height, width)

    def _run(self, jobs: list[Job]) -> Turn:
        self.engine.clock, self.engine.pixels = Clock(), 0
        results: list[JobResult] = []
        started = time.perf_counter()
        with contextlib.closing(process(jobs, self.upscaler)) as made:
            for result in made:
                if result.error is not None:
                    raise InferenceError(result.error)
                results.append(result)
                result.target.unlink()
        seconds = time.perf_counter() - started
        self.tile_px = results[-1].tile_px  # smaller, where memory ran out
        self.notes = tuple(dict.fromkeys((*self.notes, *(note for result in results for note in result.notes))))
        pixels = sum(result.in_pixels for result in results)
        decode = sum(result.reading_seconds for result in results)
        encode = sum(result.writing_seconds for result in results)
        infer = self.engine.clock.seconds
        blend = max(0.0, sum(result.seconds for result in results) - decode - encode - infer)
        stages = Stages(*(value / pixels * 1e6 for value in (decode, infer, blend, encode)))
        return Turn(seconds, len(results), pixels, self.engine.pixels, stages)


class _Clocked:
    """An engine, and how long one waited for it. All but `submit` is the engine's own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.clock = Clock()
        self.pixels = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)

    def submit(self, tiles: Tiles) -> Callable[[], Floats]:
        self.pixels += tiles[..., 0].size
        with self._timed():
            asked = self._engine.submit(tiles)

        def answer() -> Floats:
            with self._timed():
                return asked()

        return answer

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        self.clock.start()
        try:
            yield
        finally:
            self.clock.stop()
