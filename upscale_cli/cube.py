"""Adobe .cube files: a table of colours, in and out.

After Adobe, Cube LUT Specification 1.0 (2013): three-dimensional tables with a domain, red running fastest. Refuses
one-dimensional ones, which are curves, and whatever is no table. Knows no picture and no network.
"""

import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from upscale_cli.errors import InputError, OutputError

LARGEST = 256
"""Points a side, by the specification."""
_MOST_BYTES = 2 * LARGEST**3 * 40
_IGNORED = ("TITLE", "LUT_3D_INPUT_RANGE")


@dataclass(frozen=True, eq=False)
class Cube:
    """D x D x D x 3 colours, indexed [blue][green][red][channel], nominally in [0, 1], over a box of inputs."""

    colors: npt.NDArray[np.float32]
    low: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Red, green and blue of the first point."""
    high: tuple[float, float, float] = (1.0, 1.0, 1.0)


def read_cube(path: Path) -> Cube:
    """InputError, naming the line, for what is no three-dimensional table."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path} is larger than any .cube file. Give a LUT in Adobe's .cube format.")
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text. Give a LUT in Adobe's .cube format.") from error
    size, low, high = 0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    colors: list[tuple[float, ...]] = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#") or words[0] in _IGNORED:
            continue
        try:
            match words:
                case ["LUT_1D_SIZE", *_]:
                    raise InputError(f"{path} is a LUT of one dimension, curves. Only LUT_3D_SIZE is applied.")
                case ["LUT_3D_SIZE", points]:
                    size = int(points)
                case ["DOMAIN_MIN", r, g, b]:
                    low = (float(r), float(g), float(b))
                case ["DOMAIN_MAX", r, g, b]:
                    high = (float(r), float(g), float(b))
                case [r, g, b]:
                    colors.append((float(r), float(g), float(b)))
                case _:
                    raise ValueError
        except ValueError as error:
            raise InputError(f"{path}, line {number}, is none of a .cube file: {line[:60]!r}.") from error
    return _checked(path, size, colors, low, high)


def _checked(
    path: Path,
    size: int,
    colors: list[tuple[float, ...]],
    low: tuple[float, float, float],
    high: tuple[float, float, float],
) -> Cube:
    if not 2 <= size <= LARGEST:
        raise InputError(f"{path} has no LUT_3D_SIZE from 2 to {LARGEST}. Give a LUT in Adobe's .cube format.")
    if len(colors) != size**3:
        raise InputError(f"{path} has {len(colors):,} colours where {size}^3 = {size**3:,} belong. Get the file again.")
    table = np.array(colors, np.float32).reshape(size, size, size, 3)
    if not np.isfinite(table).all() or not all(map(math.isfinite, (*low, *high))):
        raise InputError(f"{path} has colours that are no numbers. Get the file again.")
    if any(first >= last for first, last in zip(low, high, strict=True)):
        raise InputError(f"{path}: its DOMAIN_MIN is not below its DOMAIN_MAX. Get the file again.")
    return Cube(table, low, high)


def write_cube(path: Path, cube: Cube, *, title: str) -> None:
    """The file appears under its name whole or not at all. OutputError if it cannot be written."""
    lines = [f'TITLE "{title.translate(str.maketrans({chr(34): chr(39), chr(10): chr(32)}))}"']
    lines.append(f"LUT_3D_SIZE {len(cube.colors)}")
    if cube.low != (0.0, 0.0, 0.0) or cube.high != (1.0, 1.0, 1.0):
        lines += ["DOMAIN_MIN " + " ".join(map(str, cube.low)), "DOMAIN_MAX " + " ".join(map(str, cube.high))]
    lines += [f"{r:.7f} {g:.7f} {b:.7f}" for r, g, b in cube.colors.reshape(-1, 3).tolist()]
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:59]}.", suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        Path(part).chmod(0o644)  # mkstemp makes the file private
        Path(part).replace(path)
    except OSError as error:
        if part is not None:
            Path(part).unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}.") from error
