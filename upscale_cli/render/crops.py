"""Crops side by side in a grid, each under its label: `upscale eval --figure`, and contact sheets."""

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from upscale_cli.errors import OutputError, UsageError
from upscale_cli.media.paths import shown

if TYPE_CHECKING:
    from upscale_cli.evaluate.exhibit import Cell

LABEL_PX, GAP = 22, 4
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}


def check_crops(path: Path) -> None:
    """Before anything is scored: UsageError for a file that `write_crops` could not write."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--figure {path} must end in {', '.join(FORMATS)}.")
    if not path.parent.is_dir():
        raise UsageError(f"--figure {path} cannot be written: there is no folder {path.parent}.")


def write_crops(rows: "list[list[Cell]]", path: Path) -> None:
    """The grid as a picture, complete under its name or not there. OutputError if it cannot be written."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        sheet(rows).save(temporary, FORMATS[path.suffix.lower()], quality=92)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"--figure {path} cannot be written: {reason}. Choose another file.") from error


def sheet(rows: "list[list[Cell]]") -> Image.Image:
    """Cells in a grid, each under its label, as wide as the widest."""
    side = max(max(cell.pixels.shape[:2]) for row in rows for cell in row)
    width = max(map(len, rows)) * (side + GAP) + GAP
    page = Image.new("RGB", (width, len(rows) * (side + LABEL_PX + GAP) + GAP), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=13)
    for place, cells in enumerate(rows):
        top = GAP + place * (side + LABEL_PX + GAP)
        for column, cell in enumerate(cells):
            left = GAP + column * (side + GAP)
            draw.text((left + 2, top + 3), shown(cell.label)[: side // 7], fill="black", font=font)
            page.paste(Image.fromarray(cell.pixels), (left, top + LABEL_PX))
    return page
