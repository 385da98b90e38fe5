"""What figures are drawn on: bars, lines and words, as PNG by Pillow or as SVG, which is text."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Protocol

from PIL import Image, ImageDraw, ImageFont

from upscale_cli.errors import OutputError

INK, FAINT, GRID = "#222222", "#777777", "#dddddd"
FONT = 15


class Canvas(Protocol):
    """What is drawn on; pixels from the top left."""

    def bar(self, x: int, y: int, width: int, height: int, color: str) -> None: ...

    def line(self, points: Sequence[tuple[float, float]], color: str, width: float = 1) -> None:
        """From point to point."""
        ...

    def text(self, x: int, y: int, words: str, color: str) -> None:
        """`y` is the middle of the line."""
        ...

    def save(self, path: Path) -> None: ...


class _Png:
    """Twice as many pixels, so that it is sharp on today's screens."""

    def __init__(self, width: int, height: int) -> None:
        self._image = Image.new("RGB", (2 * width, 2 * height), "white")
        self._draw = ImageDraw.Draw(self._image)
        self._font = ImageFont.load_default(2 * FONT)

    def bar(self, x: int, y: int, width: int, height: int, color: str) -> None:
        self._draw.rectangle((2 * x, 2 * y, 2 * (x + width) - 1, 2 * (y + height) - 1), fill=color)

    def line(self, points: Sequence[tuple[float, float]], color: str, width: float = 1) -> None:
        doubled = [(2 * x, 2 * y) for x, y in points]
        self._draw.line(doubled, fill=color, width=round(2 * width), joint="curve")

    def text(self, x: int, y: int, words: str, color: str) -> None:
        self._draw.text((2 * x, 2 * y), words, fill=color, font=self._font, anchor="lm")

    def save(self, path: Path) -> None:
        self._image.save(path)


class _Svg:
    """Lines of text."""

    def __init__(self, width: int, height: int) -> None:
        self._lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'font-family="sans-serif" font-size="{FONT}">',
            '<rect width="100%" height="100%" fill="white"/>',
        ]

    def bar(self, x: int, y: int, width: int, height: int, color: str) -> None:
        self._lines.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{color}"/>')

    def line(self, points: Sequence[tuple[float, float]], color: str, width: float = 1) -> None:
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._lines.append(f'<polyline points="{places}" fill="none" stroke="{color}" stroke-width="{width}"/>')

    def text(self, x: int, y: int, words: str, color: str) -> None:
        self._lines.append(f'<text x="{x}" y="{y}" dy="0.35em" fill="{color}">{escape(words)}</text>')

    def save(self, path: Path) -> None:
        path.write_text("\n".join([*self._lines, "</svg>", ""]), encoding="utf-8")


CANVASES: dict[str, type[_Png | _Svg]] = {".png": _Png, ".svg": _Svg}
"""By the ending of the file."""


def write(canvas: Canvas, path: Path, *, name: str) -> None:
    """Save it. OutputError, calling the file `name`, if it cannot be written."""
    try:
        canvas.save(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"{name} cannot be written: {reason}. Choose another file.") from error
