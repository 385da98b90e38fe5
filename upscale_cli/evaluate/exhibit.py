"""Crops to look at: of the pictures on which models differ most, the square with most detail, by every model.

Refuses to choose flattering crops: neither picture nor square is chosen by hand.
"""

import math
from dataclasses import dataclass

import numpy as np

from upscale_cli.evaluate.contestants import open_model
from upscale_cli.evaluate.listing import pictures
from upscale_cli.evaluate.pairs import Pair, Pixels, read_pair
from upscale_cli.evaluate.report import EvalReport
from upscale_cli.evaluate.request import EvalRequest
from upscale_cli.metrics.catalog import METRICS
from upscale_cli.metrics.protocol import luma
from upscale_cli.pipeline import Upscaler

CELL_PX = 240
ROWS = 4


@dataclass(frozen=True, slots=True)
class Cell:
    """One crop with what stands above it."""

    label: str
    pixels: Pixels


def exhibits(request: EvalRequest, report: EvalReport) -> list[list[Cell]]:
    """A row a picture: LR with its pixels repeated, every model that was scored, HR. Runs the models once more."""
    scale = report.scale
    engines = {
        model.model: open_model(request, named, scale)
        for model, named in zip(report.models, request.models, strict=True)
        if model.images
    }
    assert request.data is not None  # pictures have an original
    files = pictures(request.data, request.lr, scale)
    found: list[list[Cell]] = []
    for name in most_different(report):
        pair = read_pair(name, files[name], scale)
        upscalers = {name: Upscaler([engine], tile_px=request.tile_px) for name, engine in engines.items()}
        made = {name: upscaler.enlarge_rgb8(pair.lr) for name, upscaler in upscalers.items()}
        found.append(_row(pair, made, report))
    return found


def most_different(report: EvalReport) -> list[str]:
    """Names of pictures, the widest apart by the first metric first; of a single model those it is worst on."""
    values: dict[str, list[float]] = {name: [] for name in report.fingerprints}
    for model in report.models:
        for image in model.images:
            values[image.name] += filter(math.isfinite, [image.scores[_ranking(report)]])
    metric = METRICS[_ranking(report)]
    several = sum(bool(model.images) for model in report.models) > 1

    def interest(picture: str) -> float:
        found = values[picture]
        if several or not found:
            return max(found, default=0.0) - min(found, default=0.0)
        return -found[0] if metric.higher_is_better else found[0]

    return sorted(values, key=interest, reverse=True)[:ROWS]


def _ranking(report: EvalReport) -> str:
    """The first metric that single pictures have."""
    return next((name for name in report.metrics if METRICS[name].of_pictures), next(iter(report.metrics)))


def _row(pair: Pair, made: dict[str, Pixels], report: EvalReport) -> list[Cell]:
    scale = report.scale
    side = min(CELL_PX, *pair.hr.shape[:2]) // scale * scale
    top, left = detailed_square(pair.hr, side, step=scale)
    metric = METRICS[_ranking(report)]
    scores = {(m.model, image.name): image.scores[metric.name] for m in report.models for image in m.images}
    small = pair.lr[top // scale : (top + side) // scale, left // scale : (left + side) // scale]
    cells = [Cell(f"{pair.name}: LR", small.repeat(scale, axis=0).repeat(scale, axis=1))]
    for model, pixels in made.items():
        value = scores.get((model, pair.name), math.nan)
        cells.append(
            Cell(f"{model}  {metric.title} {value:.{metric.digits}f}", pixels[top : top + side, left : left + side])
        )
    return [*cells, Cell("HR", pair.hr[top : top + side, left : left + side])]


def detailed_square(image: Pixels, side: int, *, step: int) -> tuple[int, int]:
    """Top and left of the square with most detail, at multiples of `step`, away from the border where there is room.

    Detail is the mean absolute difference of neighbouring luma values, clipped so that one hard edge does not win.
    """
    plane = luma(image)
    detail = np.zeros_like(plane)
    detail[:, 1:] += np.minimum(np.abs(np.diff(plane, axis=1)), 30)
    detail[1:] += np.minimum(np.abs(np.diff(plane, axis=0)), 30)
    total = np.pad(detail.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    tops, lefts = (_places(size, side, step) for size in plane.shape)
    sums = (
        total[np.ix_(tops + side, lefts + side)]
        - total[np.ix_(tops, lefts + side)]
        - total[np.ix_(tops + side, lefts)]
        + total[np.ix_(tops, lefts)]
    )
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(tops[row]), int(lefts[column])


def _places(size: int, side: int, step: int) -> np.ndarray:
    inside = np.arange(step, size - side - step, step)
    return inside if inside.size else np.zeros(1, np.int64)
