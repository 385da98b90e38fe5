"""The patches of every step: photographs by area, crops at random, turned and mirrored.

The batch of step n depends on (seed, n) alone, so a resumed training sees exactly what an uninterrupted one would, and
several processes see between them what one would.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from upscale_cli.evaluate import Pair, Pixels
from upscale_cli.train.config import TrainConfig


@dataclass(frozen=True, slots=True)
class Batch:
    """What one process sees of a step: N x 3 x h x w uint8 each, channels last in memory."""

    lr: Tensor
    hr: Tensor
    names: tuple[str, ...]
    """The file of each patch, for messages."""


class PatchSampler:
    """Draws batches. Process `rank` of `world` gets patches rank, rank + world, ... of the one batch of all."""

    def __init__(
        self, pairs: Sequence[Pair], config: TrainConfig, *, scale: int, rank: int = 0, world: int = 1
    ) -> None:
        self._pairs = pairs
        self._config = config
        self._scale = scale
        self._rank, self._world = rank, world
        area = np.array([pair.lr.shape[0] * pair.lr.shape[1] for pair in pairs], np.float64)
        self._chance = np.cumsum(area / area.sum())

    def batch(self, step: int) -> Batch:
        """The patches of one step, with LR of `patch_px` a side."""
        random = np.random.default_rng((self._config.seed, step))
        # Every process draws them all, which is cheap, and then cuts its own.
        draws = [self._draw(random) for _ in range(self._config.batch)]
        patches = [self._patch(*draw) for draw in draws[self._rank :: self._world]]
        return Batch(
            _to_tensor([patch.lr for patch in patches]),
            _to_tensor([patch.hr for patch in patches]),
            tuple(patch.name for patch in patches),
        )

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of steps start to stop - 1, made two steps ahead in a thread."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            pending = [pool.submit(self.batch, step) for step in range(start, min(start + 2, stop))]
            for step in range(start, stop):
                ready = pending.pop(0).result()
                if step + 2 < stop:
                    pending.append(pool.submit(self.batch, step + 2))
                yield ready

    def _draw(self, random: np.random.Generator) -> "tuple[list[_Place], int, bool]":
        places = [self._place(random) for _ in range(self._config.detail_draws)]
        return places, int(random.integers(4)), bool(random.integers(2))

    def _place(self, random: np.random.Generator) -> "_Place":
        index = min(int(np.searchsorted(self._chance, random.random())), len(self._pairs) - 1)
        height, width = self._pairs[index].lr.shape[:2]
        size = self._config.patch_px
        return _Place(index, int(random.integers(height - size + 1)), int(random.integers(width - size + 1)))

    def _patch(self, places: "list[_Place]", turns: int, flip: bool) -> Pair:
        cuts = [self._cut(place) for place in places]
        best = max(cuts, key=lambda pair: _detail(pair.lr)) if len(cuts) > 1 else cuts[0]
        return Pair(best.name, _turn(best.hr, turns, flip=flip), _turn(best.lr, turns, flip=flip))

    def _cut(self, place: "_Place") -> Pair:
        pair, (top, left) = self._pairs[place.index], (place.top, place.left)
        size, scale = self._config.patch_px, self._scale
        lr = pair.lr[top : top + size, left : left + size]
        hr = pair.hr[top * scale : (top + size) * scale, left * scale : (left + size) * scale]
        return Pair(pair.name, hr, lr)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a patch is cut, in LR pixels of a photograph."""

    index: int
    top: int
    left: int


def _detail(lr: Pixels) -> float:
    """Mean absolute difference of neighbouring pixels of the green channel."""
    green = lr[..., 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=0)).mean() + np.abs(np.diff(green, axis=1)).mean())


def _turn(image: Pixels, turns: int, *, flip: bool) -> Pixels:
    image = np.rot90(image, turns)
    return image[:, ::-1] if flip else image


def _to_tensor(images: list[Pixels]) -> Tensor:
    # Left in bytes: torch's own threads, started from this one as well, would take the cores from the step.
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
