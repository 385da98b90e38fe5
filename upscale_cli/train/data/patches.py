"""The patches of every step: photographs by area, crops at random, turned, mirrored and recoloured.

The batch of step n depends on (seed, n) alone, so a resumed training sees exactly what an uninterrupted one would, and
several processes see between them what one would.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from upscale_cli.evaluate import Pair, Pixels
from upscale_cli.train.config import TrainConfig
from upscale_cli.train.data.degrade import SURROUND_PX, degrade
from upscale_cli.train.data.pictures import Making, Picture, enlarge, squeezed


@dataclass(frozen=True, slots=True)
class Batch:
    """What one process sees of a step: N x 3 x h x w uint8 each, channels last in memory."""

    lr: Tensor
    hr: Tensor
    names: tuple[str, ...]
    """The file of each patch, for messages."""


class Sampler(Protocol):
    """Where a training gets its steps from."""

    def batch(self, step: int) -> Batch:
        """The patches of one step."""
        ...

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Those of steps start to stop - 1, made ahead of time."""
        ...


class PatchSampler:
    """Draws batches. Process `rank` of `world` gets patches rank, rank + world, ... of the one batch of all."""

    def __init__(
        self, pictures: Sequence[Picture | Pair], config: TrainConfig, *, scale: int, rank: int = 0, world: int = 1
    ) -> None:
        self._pictures = pictures
        self._config = config
        self._making = Making.of(config, scale)
        self._rank, self._world = rank, world
        # Of what the network takes, in its pixels.
        self._sizes = [(picture.hr.shape[0] // scale, picture.hr.shape[1] // scale) for picture in pictures]
        if config.whole:
            self._sizes = [(config.patch_px, config.patch_px)] * len(pictures)
        area = np.prod(np.array(self._sizes, np.float64), axis=1)
        self._chance = np.cumsum(area / area.sum())

    def batch(self, step: int) -> Batch:
        """The patches of one step, with LR of `patch_px` a side."""
        random = np.random.default_rng((self._config.seed, step))
        # Every process draws them all, which is cheap, and then cuts its own.
        draws = [self._draw(random) for _ in range(self._config.batch)]
        own = range(self._rank, len(draws), self._world)
        patches = [
            self._patch(draws[number], np.random.default_rng((self._config.seed, step, number, 1))) for number in own
        ]
        return Batch(
            _to_tensor([patch.lr for patch in patches]),
            _to_tensor([patch.hr for patch in patches]),
            tuple(patch.name for patch in patches),
        )

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of steps start to stop - 1, made ahead in threads: one where patches are only cut."""
        cheap = all(picture.lr is not None for picture in self._pictures)
        return ahead(self.batch, start, stop, threads=1 if cheap else min(4, os.cpu_count() or 1))

    def _draw(self, random: np.random.Generator) -> "_Draw":
        places = tuple(self._place(random) for _ in range(self._config.detail_draws))
        return _Draw(places, int(random.integers(4)), bool(random.integers(2)))

    def _place(self, random: np.random.Generator) -> "_Place":
        index = min(int(np.searchsorted(self._chance, random.random())), len(self._pictures) - 1)
        (height, width), size = self._sizes[index], self._config.patch_px
        return _Place(index, int(random.integers(height - size + 1)), int(random.integers(width - size + 1)))

    def _patch(self, draw: "_Draw", random: np.random.Generator) -> Pair:
        cuts = [self._cut(place) for place in draw.places]
        best = max(range(len(cuts)), key=lambda number: _detail(cuts[number])) if len(cuts) > 1 else 0
        name, hr, lr = cuts[best].name, cuts[best].hr, cuts[best].lr
        if lr is None:
            lr = self._degraded(draw.places[best], random)
        turns, flip = draw.turns * self._config.rotate, draw.flip and self._config.flip
        pair = Pair(name, _turn(hr, turns, flip=flip), _turn(lr, turns, flip=flip))
        return self._recoloured(pair, random)

    def _cut(self, place: "_Place") -> Picture:
        picture, (top, left) = self._pictures[place.index], (place.top, place.left)
        size, scale = self._config.patch_px, self._making.scale
        if self._config.whole:
            assert picture.lr is not None
            hr = squeezed(picture.hr, size * scale, size * scale)
            return Picture(picture.name, hr, squeezed(picture.lr, size, size))
        lr = None if picture.lr is None else picture.lr[top : top + size, left : left + size]
        hr = picture.hr[top * scale : (top + size) * scale, left * scale : (left + size) * scale]
        return Picture(picture.name, hr, lr)

    def _degraded(self, place: "_Place", random: np.random.Generator) -> Pixels:
        """LR of a patch, made of its HR and of what lies around."""
        making, hr = self._making, self._pictures[place.index].hr
        factor, up = making.factor, making.preupsample
        (top, bottom), (left, right) = (
            self._span(at, side // factor, random) for at, side in zip((place.top, place.left), hr.shape, strict=False)
        )
        region = hr[top * factor : bottom * factor, left * factor : right * factor]
        lr = enlarge(degrade(region, factor, making.degradation, random), up)
        rows, columns = (
            slice(at - start * up, at - start * up + self._config.patch_px)
            for at, start in ((place.top, top), (place.left, left))
        )
        return lr[rows, columns]

    def _span(self, at: int, full: int, random: np.random.Generator) -> tuple[int, int]:
        """From where to where LR is made along one axis, so that what is used lies well inside."""
        up, surround = self._making.preupsample, SURROUND_PX[self._making.degradation]
        first, last = at // up, -(-(at + self._config.patch_px) // up)
        before = surround // 2 if self._making.fixed else int(random.integers(surround + 1))
        return max(0, first - before), min(full, last + surround - before)

    def _recoloured(self, pair: Pair, random: np.random.Generator) -> Pair:
        bright, contrast = self._config.brightness, self._config.contrast
        if not bright and not contrast:
            return pair
        bright, contrast = random.uniform(1 - bright, 1 + bright), random.uniform(1 - contrast, 1 + contrast)
        table = recolouring(
            bright, contrast, float(cv2.cvtColor(np.ascontiguousarray(pair.hr), cv2.COLOR_RGB2GRAY).mean())
        )
        return Pair(pair.name, table[pair.hr], table[pair.lr])


class DomainSampler:
    """Two domains without pairs: `lr` of one, `hr` of the other, drawn apart."""

    def __init__(self, first: PatchSampler, second: PatchSampler) -> None:
        self._first, self._second = first, second

    def batch(self, step: int) -> Batch:
        """The patches of one step."""
        first, second = self._first.batch(step), self._second.batch(step)
        names = tuple(f"{one} | {other}" for one, other in zip(first.names, second.names, strict=True))
        return Batch(first.lr, second.hr, names)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of steps start to stop - 1."""
        return ahead(self.batch, start, stop, threads=1)


def ahead(make: Callable[[int], Batch], start: int, stop: int, *, threads: int) -> Iterator[Batch]:
    """make(start) to make(stop - 1) in order, one more in work than there are threads."""
    with ThreadPoolExecutor(threads, thread_name_prefix="upscale-patches") as pool:
        waiting = [pool.submit(make, step) for step in range(start, min(start + threads + 1, stop))]
        try:
            for step in range(start, stop):
                ready = waiting.pop(0).result()
                if step + threads + 1 < stop:
                    waiting.append(pool.submit(make, step + threads + 1))
                yield ready
        finally:  # a training that stops early does not wait for batches nobody takes
            for future in waiting:
                future.cancel()


def recolouring(brightness: float, contrast: float, mean: float) -> Pixels:
    """What each of 256 values becomes: times `brightness`, then away from the mean by `contrast`; rounded once."""
    values = np.arange(256) * brightness
    return np.clip(np.rint((values - mean * brightness) * contrast + mean * brightness), 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a patch is cut, in pixels of what the network takes."""

    index: int
    top: int
    left: int


@dataclass(frozen=True, slots=True)
class _Draw:
    """Places of which the most detailed is taken, and how it is turned."""

    places: tuple[_Place, ...]
    turns: int
    flip: bool


def _detail(picture: Picture) -> float:
    """Mean absolute difference of neighbouring pixels of the green channel: of LR, where it is there already."""
    green = (picture.hr if picture.lr is None else picture.lr)[..., 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=0)).mean() + np.abs(np.diff(green, axis=1)).mean())


def _turn(image: Pixels, turns: int, *, flip: bool) -> Pixels:
    image = np.rot90(image, turns)
    return image[:, ::-1] if flip else image


def _to_tensor(images: list[Pixels]) -> Tensor:
    # Left in bytes: torch's own threads, started from this one as well, would take the cores from the step.
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
