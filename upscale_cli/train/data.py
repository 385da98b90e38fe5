"""Training patches from a folder of photographs: decoded once, cropped at random, low resolution made by imresize.

The batch of step n depends on (seed, n) alone, so a resumed training sees exactly what an uninterrupted one would.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from upscale_cli.errors import UsageError
from upscale_cli.evaluate import Pair, Pixels, make_pair, read_rgb8
from upscale_cli.train.config import TrainConfig


def load_pairs(paths: list[Path], *, scale: int, smallest_px: int) -> list[Pair]:
    """Decode and shrink in threads. Photographs whose low resolution is under `smallest_px` a side are left out."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        pairs = list(pool.map(lambda path: make_pair(path.name, read_rgb8(path), scale), paths))
    pairs = [pair for pair in pairs if min(pair.lr.shape[:2]) >= smallest_px]
    if not pairs:
        raise UsageError(
            f"No photograph is large enough: a patch needs {smallest_px * scale} x {smallest_px * scale} pixels. "
            "Choose a smaller patch_px or larger photographs."
        )
    return pairs


class PatchSampler:
    """Draws batches: photographs by area, crops uniformly, flips and 90-degree turns."""

    def __init__(self, pairs: list[Pair], config: TrainConfig, *, scale: int) -> None:
        self._pairs = pairs
        self._config = config
        self._scale = scale
        area = np.array([pair.lr.shape[0] * pair.lr.shape[1] for pair in pairs], np.float64)
        self._chance = np.cumsum(area / area.sum())

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """LR and HR of one step, each N x 3 x P x P uint8, channels last."""
        random = np.random.default_rng((self._config.seed, step))
        patches = [self._patch(random) for _ in range(self._config.batch)]
        return _to_tensor([patch.lr for patch in patches]), _to_tensor([patch.hr for patch in patches])

    def batches(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of steps start to stop - 1, made one step ahead in a thread."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            pending = [pool.submit(self.batch, step) for step in range(start, min(start + 2, stop))]
            for step in range(start, stop):
                ready = pending.pop(0).result()
                if step + 2 < stop:
                    pending.append(pool.submit(self.batch, step + 2))
                yield ready

    def _patch(self, random: np.random.Generator) -> Pair:
        drawn = [self._crop(random) for _ in range(self._config.detail_draws)]
        best = max(drawn, key=lambda pair: _detail(pair.lr)) if len(drawn) > 1 else drawn[0]
        turns, flip = int(random.integers(4)), bool(random.integers(2))
        return Pair(best.name, _turn(best.hr, turns, flip=flip), _turn(best.lr, turns, flip=flip))

    def _crop(self, random: np.random.Generator) -> Pair:
        pair = self._pairs[min(int(np.searchsorted(self._chance, random.random())), len(self._pairs) - 1)]
        size, scale = self._config.patch_px, self._scale
        top = int(random.integers(pair.lr.shape[0] - size + 1))
        left = int(random.integers(pair.lr.shape[1] - size + 1))
        lr = pair.lr[top : top + size, left : left + size]
        hr = pair.hr[top * scale : (top + size) * scale, left * scale : (left + size) * scale]
        return Pair(pair.name, hr, lr)


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
