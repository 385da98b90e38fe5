"""`upscale bench` as a drawing: a bar for every row, as PNG by Pillow or as SVG, which is text."""

from pathlib import Path
from typing import TYPE_CHECKING

from upscale_cli.errors import UsageError
from upscale_cli.render.bench import decibels, figure
from upscale_cli.render.canvas import CANVASES, FAINT, INK, Canvas, write

if TYPE_CHECKING:
    from upscale_cli.bench import BenchReport, Row

WIDTH, MARGIN, LINE, BAR = 960, 24, 28, 18
_NAMES, _FIGURES = 170, 300  # columns for the words before the bars and those behind
_COLORS = {"torch": "#ee7733", "openvino": "#0077bb", "onnx": "#009988", "tensorrt": "#66aa33"}


def check_figure(path: Path, *, seams: bool) -> None:
    """Before anything is measured: UsageError for a file that `draw_bench` could not draw."""
    if seams:
        raise UsageError("--figure draws what was timed, and --seams times nothing. Leave out one of them.")
    if path.suffix.lower() not in CANVASES:
        raise UsageError(f"--figure {path} must end in {' or '.join(CANVASES)}.")
    if not path.parent.is_dir():
        raise UsageError(f"--figure {path} cannot be written: there is no folder {path.parent}.")


def draw_bench(report: "BenchReport", path: Path) -> None:
    """Megapixels of the input a second, a block a model, the bars of each as long as its fastest allows.

    OutputError if the file cannot be written.
    """
    models = list(dict.fromkeys(row.model for row in report.rows))
    canvas = CANVASES[path.suffix.lower()](WIDTH, 2 * MARGIN + LINE * (2 + 2 * len(models) + len(report.rows)))
    middle = MARGIN + LINE // 2
    for words in report.machine.split("; ", 1):
        canvas.text(MARGIN, middle, words, FAINT)
        middle += LINE
    for model in models:
        rows = [row for row in report.rows if row.model == model]
        most = max(row.in_megapixels_per_second for row in rows)
        middle += LINE // 2
        canvas.text(MARGIN, middle, f"{model}: megapixels a second, {report.pictures[model]}", INK)
        for row in rows:
            middle += LINE
            _draw_row(canvas, row, middle, most)
        middle += LINE + LINE // 2
    write(canvas, path, name=f"--figure {path}")


def _draw_row(canvas: Canvas, row: "Row", middle: int, most: float) -> None:
    left, room = MARGIN + _NAMES, WIDTH - 2 * MARGIN - _NAMES - _FIGURES
    length = max(1, round(room * row.in_megapixels_per_second / most))
    canvas.text(MARGIN, middle, f"{row.backend} {row.precision}, {row.tile_px} px", INK)
    canvas.bar(left, middle - BAR // 2, length, BAR, _COLORS.get(row.backend, FAINT))
    share = "" if row.share is None else f", {row.share:.0%} of the rate"
    words = f"{figure(row.in_megapixels_per_second)}{share}, {decibels(row)}{' dB' * decibels(row)[0].isdigit()}"
    canvas.text(left + length + 8, middle, words, INK)
