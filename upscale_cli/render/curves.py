"""Trainings as a drawing: what was measured over the steps, a panel a quantity, a line a training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from upscale_cli.render.canvas import CANVASES, FAINT, GRID, INK, Canvas, write

Row = Mapping[str, float]
History = Sequence[Row]

WIDTH, PANEL, MARGIN, TITLE, LABELS = 960, 200, 24, 30, 90
COLORS = ("#0077bb", "#ee7733", "#009988", "#cc3311", "#aa3377", "#66aa33", "#444444", "#33bbee")
_DECADES = 20  # ratio of the largest to the smallest from which an axis counts in powers


@dataclass(frozen=True, slots=True)
class _Line:
    name: str
    color: str
    points: list[tuple[float, float]]


def draw_curves(trainings: Mapping[str, History], path: Path) -> None:
    """One panel for each quantity that a history has. OutputError if the file cannot be written."""
    panels = [(name, lines) for name in _quantities(trainings) if (lines := _lines(trainings, name))]
    last = max((row["step"] for history in trainings.values() for row in history), default=1)
    canvas = CANVASES[path.suffix.lower()](WIDTH, 2 * MARGIN + len(panels) * (PANEL + 2 * TITLE))
    for index, (name, lines) in enumerate(panels):
        _panel(canvas, MARGIN + index * (PANEL + 2 * TITLE), f"{_title(name)} by step", lines, last)
    write(canvas, path, name=str(path))


def _quantities(trainings: Mapping[str, History]) -> list[str]:
    from upscale_cli.metrics.catalog import METRICS

    found = {name for history in trainings.values() for row in history for name in row}
    metrics = [name for name in METRICS if name in found]
    return [name for name in ("loss", *metrics, "learning_rate") if name in found]


def _title(name: str) -> str:
    from upscale_cli.metrics.catalog import METRICS

    return METRICS[name].title if name in METRICS else name.replace("_", " ")


def _lines(trainings: Mapping[str, History], name: str) -> list[_Line]:
    """The quantity of each training, and the terms of the loss where there is one training with several."""
    lines = {label: (history, name) for label, history in trainings.items()}
    if name == "loss" and len(trainings) == 1:
        ((_, history),) = trainings.items()
        terms = sorted({key for row in history for key in row if key.startswith("loss_")})
        lines |= {key.removeprefix("loss_"): (history, key) for key in terms if len(terms) > 1}
        lines = {("all" if key in trainings else key): line for key, line in lines.items()}
    found = []
    for (label, (history, key)), color in zip(lines.items(), COLORS * len(lines), strict=False):
        points = [(row["step"], row[key]) for row in history if math.isfinite(row.get(key, math.nan))]
        if points:
            found.append(_Line(label, color, points))
    return found


def _panel(canvas: Canvas, top: int, title: str, lines: list[_Line], last: float) -> None:
    canvas.text(MARGIN, top + TITLE // 2, title, INK)
    place = MARGIN + 150
    for line in lines if len(lines) > 1 else ():
        canvas.line([(place, top + TITLE / 2), (place + 20, top + TITLE / 2)], line.color, 3)
        canvas.text(place + 26, top + TITLE // 2, line.name, INK)
        place += 50 + 9 * len(line.name)
    top += TITLE
    left, right, bottom = MARGIN, WIDTH - MARGIN - LABELS, top + PANEL
    values = [value for line in lines for _, value in line.points]
    powers = min(values) > 0 and max(values) / min(values) > _DECADES
    scaled = math.log10 if powers else float
    low, high = min(map(scaled, values)), max(map(scaled, values))
    span = (high - low) or abs(high) * 0.1 or 1.0
    low, high = low - span * 0.05, high + span * 0.05

    def across(step: float) -> float:
        return left + (right - left) * step / last

    def down(value: float) -> float:
        return bottom - (bottom - top) * (scaled(value) - low) / (high - low)

    marks = _powers(low, high) if powers else ticks(low, high)
    for value in marks:
        canvas.line([(left, down(value)), (right, down(value))], GRID)
        canvas.text(right + 8, round(down(value)), f"{value:.6g}", FAINT)
    for step in ticks(0, last):
        canvas.line([(across(step), bottom), (across(step), bottom + 5)], FAINT)
        canvas.text(round(across(step)) + 4, bottom + 18, f"{step:,.0f}", FAINT)
    canvas.line([(left, bottom), (right, bottom)], FAINT)
    for line in lines:
        points = [(across(step), down(value)) for step, value in line.points]
        canvas.line(points, line.color, 1.5)
        for x, y in points if len(points) <= 20 else ():
            canvas.bar(round(x) - 2, round(y) - 2, 5, 5, line.color)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`, no more than `most`: 1, 2 or 5 of some power of ten apart."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    apart = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(apart * n, 12) for n in range(math.ceil(low / apart), math.floor(high / apart) + 1)]


def _powers(low: float, high: float) -> list[float]:
    found = [10.0**power for power in range(math.ceil(low), math.floor(high) + 1)]
    return found[:: math.ceil(len(found) / 6)] or [10.0**low]
