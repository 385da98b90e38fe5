"""`upscale bench` as a drawing: a bar for every row, as PNG by Pillow or as SVG, which is text."""

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from PIL import Image, ImageDraw, ImageFont

from upscale_cli.errors import OutputError, UsageError
from upscale_cli.render.bench import decibels, figure

if TYPE_CHECKING:
    from upscale_cli.bench import BenchReport, Row

WIDTH, MARGIN, LINE, BAR = 960, 24, 28, 18
_NAMES, _FIGURES = 170, 300  # columns for the words before the bars and those behind
_FONT = 15
_INK, _FAINT = "#222222", "#777777"
_COLORS = {"torch": "#ee7733", "openvino": "#0077bb", "onnx": "#009988", "tensorrt": "#66aa33"}


class _Canvas(Protocol):
    """What is drawn on; pixels from the top left."""

    def bar(self, x: int, y: int, width: int, height: int, color: str) -> None: ...

    def text(self, x: int, y: int, words: str, color: str) -> None:
        """`y` is the middle of the line."""
        ...

    def save(self, path: Path) -> None: ...


def check_figure(path: Path, *, seams: bool) -> None:
    """Before anything is measured: UsageError for a file that `draw_bench` could not draw."""
    if seams:
        raise UsageError("--figure draws what was timed, and --seams times nothing. Leave out one of them.")
    if path.suffix.lower() not in _CANVASES:
        raise UsageError(f"--figure {path} must end in {' or '.join(_CANVASES)}.")
    if not path.parent.is_dir():
        raise UsageError(f"--figure {path} cannot be written: there is no folder {path.parent}.")


def draw_bench(report: "BenchReport", path: Path) -> None:
    """Megapixels of the input a second, a block a model, the bars of each as long as its fastest allows.

    OutputError if the file cannot be written.
    """
    models = list(dict.fromkeys(row.model for row in report.rows))
    canvas = _CANVASES[path.suffix.lower()](WIDTH, 2 * MARGIN + LINE * (2 + 2 * len(models) + len(report.rows)))
    middle = MARGIN + LINE // 2
    for words in report.machine.split("; ", 1):
        canvas.text(MARGIN, middle, words, _FAINT)
        middle += LINE
    for model in models:
        rows = [row for row in report.rows if row.model == model]
        most = max(row.in_megapixels_per_second for row in rows)
        middle += LINE // 2
        canvas.text(MARGIN, middle, f"{model}: megapixels a second, {report.pictures[model]}", _INK)
        for row in rows:
            middle += LINE
            _draw_row(canvas, row, middle, most)
        middle += LINE + LINE // 2
    try:
        canvas.save(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"--figure {path} cannot be written: {reason}. Choose another file.") from error


def _draw_row(canvas: _Canvas, row: "Row", middle: int, most: float) -> None:
    left, room = MARGIN + _NAMES, WIDTH - 2 * MARGIN - _NAMES - _FIGURES
    length = max(1, round(room * row.in_megapixels_per_second / most))
    canvas.text(MARGIN, middle, f"{row.backend} {row.precision}, {row.tile_px} px", _INK)
    canvas.bar(left, middle - BAR // 2, length, BAR, _COLORS.get(row.backend, _FAINT))
    share = "" if row.share is None else f", {row.share:.0%} of the rate"
    words = f"{figure(row.in_megapixels_per_second)}{share}, {decibels(row)}{' dB' * decibels(row)[0].isdigit()}"
    canvas.text(left + length + 8, middle, words, _INK)


class _Png:
    """Twice as many pixels, so that it is sharp on today's screens."""

    def __init__(self, width: int, height: int) -> None:
        self._image = Image.new("RGB", (2 * width, 2 * height), "white")
        self._draw = ImageDraw.Draw(self._image)
        self._font = ImageFont.load_default(2 * _FONT)

    def bar(self, x: int, y: int, width: int, height: int, color: str) -> None:
        self._draw.rectangle((2 * x, 2 * y, 2 * (x + width) - 1, 2 * (y + height) - 1), fill=color)

    def text(self, x: int, y: int, words: str, color: str) -> None:
        self._draw.text((2 * x, 2 * y), words, fill=color, font=self._font, anchor="lm")

    def save(self, path: Path) -> None:
        self._image.save(path)


class _Svg:
    """Lines of text."""

    def __init__(self, width: int, height: int) -> None:
        self._lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'font-family="sans-serif" font-size="{_FONT}">',
            '<rect width="100%" height="100%" fill="white"/>',
        ]

    def bar(self, x: int, y: int, width: int, height: int, color: str) -> None:
        self._lines.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{color}"/>')

    def text(self, x: int, y: int, words: str, color: str) -> None:
        self._lines.append(f'<text x="{x}" y="{y}" dy="0.35em" fill="{color}">{escape(words)}</text>')

    def save(self, path: Path) -> None:
        path.write_text("\n".join([*self._lines, "</svg>", ""]), encoding="utf-8")


_CANVASES: dict[str, type[_Png | _Svg]] = {".png": _Png, ".svg": _Svg}
