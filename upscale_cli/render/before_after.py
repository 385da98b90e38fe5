"""Before and after: one photograph as a picture split down its middle, a folder as a contact sheet in one HTML file.

Reads the files of a run again, as 8-bit sRGB. Decides nothing of the run.
"""

import base64
import html
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from upscale_cli.errors import OutputError, UpscaleError
from upscale_cli.media.colorspace import srgb8
from upscale_cli.media.files import open_source
from upscale_cli.media.job import PictureOptions
from upscale_cli.media.paths import compared, shown, temporary
from upscale_cli.media.pixels import to_depth

if TYPE_CHECKING:
    from upscale_cli.run import FileReport, RunReport

THUMBNAIL_PX = 420
"""Longer side of a picture on the sheet."""
_LINE_PX = 3
_QUALITY = {"compare": 92, "sheet": 80}

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 24px; background: #222; color: #ddd }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 640px), 1fr)); gap: 24px }}
figure {{ margin: 0 }}
div {{ display: grid; grid-template-columns: 1fr 1fr; gap: 2px }}
img {{ width: 100%; display: block }}
figcaption {{ margin-top: 6px; overflow-wrap: anywhere }}
.fault {{ color: #f88 }}
small {{ color: #999 }}
</style>
<h1>{title}</h1>
<p>Before on the left, after on the right.</p>
<main>
{figures}
</main>
</html>
"""


def write_compare(file: "FileReport", options: PictureOptions, *, overwrite: bool) -> Path:
    """The left half of the source, at the size of what was made, beside the right half of that, as `NAME_compare.jpg`.

    InputError where either cannot be read again, OutputError where the file is there already, unless `overwrite`, or
    cannot be written.
    """
    assert file.target is not None
    path = compared(file.target)
    if path.exists() and not overwrite:
        raise OutputError(f"{shown(path)} exists. Use --overwrite, or choose another -o.")
    after = _picture(file.target, options)
    before = _picture(file.source, options).resize(after.size, Image.Resampling.LANCZOS)
    middle = after.width // 2
    after.paste(before.crop((0, 0, middle, after.height)), (0, 0))
    line = min(_LINE_PX, after.width)
    after.paste((255, 255, 255), (middle - line // 2, 0, middle - line // 2 + line, after.height))
    _save(path, _jpeg(after, _QUALITY["compare"]))
    return path


def write_sheet(report: "RunReport", path: Path, options: PictureOptions) -> None:
    """All pictures of a run, with their names, on a page that needs no other file. OutputError if it is not written."""
    figures = "\n".join(_figure(file, options) for file in report.files)
    made = sum(file.state in ("made", "done") for file in report.files)
    title = f"{made} picture{'s' * (made != 1)}"
    _save(path, _PAGE.format(title=title, figures=figures).encode())


def _figure(file: "FileReport", options: PictureOptions) -> str:
    name = html.escape(shown(file.source.name))
    if file.target is None:
        return f'<figure><figcaption class="fault">{name}: {html.escape(shown(file.reason))}</figcaption></figure>'
    try:
        pair = [_thumbnail(path, options) for path in (file.source, file.target)]
    except UpscaleError as error:
        return f'<figure><figcaption class="fault">{name}: {html.escape(shown(str(error)))}</figcaption></figure>'
    images = "".join(
        f'<img alt="{word}" src="data:image/jpeg;base64,{base64.b64encode(each).decode("ascii")}">'
        for word, each in zip(("before", "after"), pair, strict=True)
    )
    words = ", ".join(filter(None, (html.escape(file.model), *(html.escape(shown(note)) for note in file.notes))))
    caption = f"{name} &rarr; {html.escape(shown(file.target.name))}<br><small>{words}</small>"
    return f"<figure><div>{images}</div><figcaption>{caption}</figcaption></figure>"


def _thumbnail(path: Path, options: PictureOptions) -> bytes:
    image = _picture(path, options)
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS, reducing_gap=3)
    return _jpeg(image, _QUALITY["sheet"])


def _picture(path: Path, options: PictureOptions) -> Image.Image:
    """The first frame in 8-bit sRGB, over grey where it is transparent. InputError if it cannot be read."""
    with open_source(path, options) as source:
        frame = next(iter(source.frames()))
        icc = source.metadata.icc
    try:
        color = srgb8(frame.color, icc, options.assumed)
    except ValueError:
        color = to_depth(frame.color, 8)  # a profile that nobody can use: the numbers as they are
    color = color.repeat(3, axis=2) if frame.channels == 1 else color
    if frame.alpha is not None:
        cover = frame.alpha[..., None] / np.float32(np.iinfo(frame.alpha.dtype).max)
        color = (color * cover + np.float32(127.5) * (1 - cover) + np.float32(0.5)).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(color))


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _save(path: Path, content: bytes) -> None:
    part = temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{shown(path)} cannot be written: {(error.strerror or str(error)).lower()}.") from error
