"""Contact sheets: the shipped models side by side, to be looked at.

Owns two kinds. `contact-sheet-xN.jpg`: demo photographs shrunk by imresize and enlarged again, so that the original
stands beside them, each cell with its PSNR-Y over the whole photograph. `contact-sheet-xN-direct.jpg`: the photographs
themselves enlarged, where no reference exists. Refuses to choose flattering crops: in every photograph it is the square
with most detail.

    python benchmarks/quality.py                   # x2 and x4, every model with weights
    python benchmarks/quality.py -s 4 --photos spices otters
"""

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from upscale_cli.engines import open_engine
from upscale_cli.evaluate import Pair, make_pair, read_rgb8
from upscale_cli.evaluate.exhibit import CELL_PX, Cell, detailed_square
from upscale_cli.manifest import load_manifest
from upscale_cli.metrics.catalog import score
from upscale_cli.metrics.protocol import Protocol
from upscale_cli.pipeline import Upscaler
from upscale_cli.render.crops import sheet

HERE = Path(__file__).parent
FLOORS = ("bicubic", "lanczos")
PHOTOS = ("spices", "otters", "courtyard", "anhinga")

Pixels = npt.NDArray[np.uint8]


def models_of(scale: int) -> list[str]:
    """The formulas, then every model with bundled weights of this native scale, smallest first."""
    entries = [entry for entry in load_manifest().entries if entry.scale == scale]
    floors = [entry.name for entry in entries if entry.model in FLOORS]
    shipped = sorted((e for e in entries if e.status == "bundled"), key=lambda entry: entry.parameters)
    return floors + [entry.name for entry in shipped]


def cut(image: Pixels, top: int, left: int, side: int) -> Pixels:
    return image[top : top + side, left : left + side]


def compared(pair: Pair, upscalers: dict[str, Upscaler], scale: int) -> list[Cell]:
    """The original's crop and that of every model from the shrunk photograph."""
    top, left = detailed_square(pair.hr, CELL_PX, step=scale)
    cells = [Cell(f"{pair.name}: original", cut(pair.hr, top, left, CELL_PX))]
    for name, upscaler in upscalers.items():
        sr = upscaler.enlarge_rgb8(pair.lr)
        decibels = score(sr, pair.hr, Protocol(crop_border=scale))["psnr_y"]
        cells.append(Cell(f"{name}  {decibels:.2f} dB", cut(sr, top, left, CELL_PX)))
    return cells


def enlarged(name: str, image: Pixels, upscalers: dict[str, Upscaler], scale: int) -> list[Cell]:
    """A crop of the photograph itself, its pixels repeated, and by every model."""
    side = CELL_PX // scale
    top, left = detailed_square(image, side, step=scale)
    around = 32  # so that the crop's own border is not what is looked at
    outer = image[max(0, top - around) : top + side + around, max(0, left - around) : left + side + around]
    inner_top, inner_left = min(top, around) * scale, min(left, around) * scale
    repeated = cut(image, top, left, side).repeat(scale, axis=0).repeat(scale, axis=1)
    cells = [Cell(f"{name}: pixels", repeated)]
    for model, upscaler in upscalers.items():
        cells.append(Cell(model, cut(upscaler.enlarge_rgb8(outer), inner_top, inner_left, CELL_PX)))
    return cells


def save(page: Image.Image, name: str) -> dict[str, object]:
    target = HERE / "results" / name
    target.parent.mkdir(exist_ok=True)
    page.save(target, quality=86, subsampling=0, optimize=True)
    return {"file": target.relative_to(HERE).as_posix(), "bytes": target.stat().st_size, "size": page.size}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-s", "--scale", type=int, action="append", help="2 and 4 unless given; repeatable")
    parser.add_argument("--photos", nargs="+", default=PHOTOS, help="names in benchmarks/photos")
    parser.add_argument("-d", "--device", default="auto")
    options = parser.parse_args()
    made = []
    for scale in options.scale or (2, 4):
        engines = [open_engine(name, device=options.device) for name in models_of(scale)]
        upscalers = {engine.name: Upscaler([engine]) for engine in engines}
        images = {name: read_rgb8(HERE / "photos" / f"{name}.jpg") for name in options.photos}
        pairs = [make_pair(name, image, scale) for name, image in images.items()]
        made.append(save(sheet([compared(pair, upscalers, scale) for pair in pairs]), f"contact-sheet-x{scale}.jpg"))
        direct = [enlarged(name, image, upscalers, scale) for name, image in images.items()]
        made.append(save(sheet(direct), f"contact-sheet-x{scale}-direct.jpg"))
    print(json.dumps({"benchmark": "quality", "sheets": made}))


if __name__ == "__main__":
    main()
