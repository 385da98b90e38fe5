"""From what the user named to pictures in memory: those to train on and those to choose the best weights by."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from upscale_cli.errors import UsageError
from upscale_cli.evaluate import Pair, make_pair, read_rgb8
from upscale_cli.media.paths import picture_files
from upscale_cli.train.config import TrainConfig
from upscale_cli.train.data.patches import PatchSampler


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a training sees."""

    sampler: PatchSampler
    valid: list[Pair]
    """Whole pictures; empty where pictures are not paired."""
    notes: tuple[str, ...] = ()
    """What was recognised, and what was left out and why: a line each, for the screen."""


def load_data(
    data: Sequence[str],
    valid: Sequence[str],
    config: TrainConfig,
    *,
    scale: int,
    rank: int = 0,
    world: int = 1,
) -> TrainingData:
    """Everything read and checked before the first step. UsageError if there is nothing to train on.

    `data` and `valid` are what --data and --valid were given: a folder of photographs.
    """
    files, valid_files = (_files(words) for words in (data, valid))
    pairs = load_pairs(files, scale=scale, smallest_px=config.patch_px)
    whole = [make_pair(path.name, read_rgb8(path), scale) for path in valid_files]
    return TrainingData(PatchSampler(pairs, config, scale=scale, rank=rank, world=world), whole)


def _files(words: Sequence[str]) -> list[Path]:
    files = [path for word in words for path in picture_files(Path(word))]
    if not files:
        raise UsageError(f"{' '.join(words)} holds no photographs.")
    return files


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
