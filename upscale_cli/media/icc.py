"""Matrix profiles: what an ICC profile says of red, green and blue and of their curves (ICC.1, v2 and v4).

Refuses profiles that look colours up in tables (A2B), and those of inks. Knows no pixels.
"""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import ImageCms

from upscale_cli.media.metadata import icc_space

Values = npt.NDArray[np.float64]
Curve = Callable[[Values], Values]
"""Numbers from 0 to 1, in rising order, to light in [0, 1] that never falls."""

_MOST_TAGS = 256
_TABLES = {b"A2B0", b"A2B1", b"A2B2", b"D2B0", b"D2B1", b"D2B2", b"D2B3"}
_PARAMETERS = {0: "g", 1: "gab", 2: "gabc", 3: "gabcd", 4: "gabcdef"}


@dataclass(frozen=True, slots=True, eq=False)
class MatrixProfile:
    """Light is what the curves make of numbers, and XYZ is the matrix times light."""

    curves: tuple[Curve, ...]
    """Of red, green and blue, or the one of a grey picture. One object where they are the same."""
    colorants: Values | None
    """3 x 3, the columns red, green and blue in XYZ, relative to D50; None for grey."""


def read_profile(icc: bytes) -> MatrixProfile:
    """ValueError, saying what it is instead, for a profile that is none of matrix and curves."""
    tags = _tags(icc)
    if icc_space(icc) not in ("RGB", "GRAY") or icc[20:24] != b"XYZ ":
        raise ValueError(f"it leads from {icc_space(icc)} to {icc[20:24].decode('latin-1').strip()}")
    if tags.keys() & _TABLES:
        raise ValueError("it looks colours up in tables")
    names = (b"kTRC",) if icc_space(icc) == "GRAY" else (b"rTRC", b"gTRC", b"bTRC")
    columns = () if icc_space(icc) == "GRAY" else (b"rXYZ", b"gXYZ", b"bXYZ")
    if missing := [name.decode() for name in (*names, *columns) if name not in tags]:
        raise ValueError(f"it has no {missing[0]}")
    known = {tags[name]: _curve(tags[name]) for name in names}
    curves = tuple(known[tags[name]] for name in names)
    if not columns:
        return MatrixProfile(curves, None)
    colorants = np.stack([_xyz(tags[name]) for name in columns], axis=1)
    if abs(np.linalg.det(colorants)) < 1e-4:
        raise ValueError("its primaries are no three colours")
    return MatrixProfile(curves, colorants)


def profile_name(icc: bytes) -> str:
    """As its description says, for people."""
    try:
        name = ImageCms.getProfileDescription(io.BytesIO(icc))
    except (OSError, ImageCms.PyCMSError):
        name = None
    return " ".join((name or "").split())[:60] or "without a name"


def _tags(icc: bytes) -> dict[bytes, bytes]:
    """The bytes of every tag (ICC.1 section 7.3)."""
    if len(icc) < 132 or icc[36:40] != b"acsp":
        raise ValueError("it is no ICC profile")
    count = min(struct.unpack_from(">I", icc, 128)[0], _MOST_TAGS, (len(icc) - 132) // 12)
    entries = (struct.unpack_from(">4sII", icc, 132 + 12 * index) for index in range(count))
    return {name: icc[start : start + length] for name, start, length in entries}


def _xyz(tag: bytes) -> Values:
    """X, Y and Z of an XYZType (ICC.1 section 10.31)."""
    if tag[:4] != b"XYZ " or len(tag) < 20:
        raise ValueError("its primaries are damaged")
    return np.array(struct.unpack_from(">3i", tag, 8)) / 65536


def _curve(tag: bytes) -> Curve:
    """Of a curveType or parametricCurveType (ICC.1 sections 10.6 and 10.18)."""
    if tag[:4] == b"curv" and len(tag) >= 12:
        curve = _sampled(tag)
    elif tag[:4] == b"para" and len(tag) >= 12:
        curve = _parametric(tag)
    else:
        raise ValueError("its curves are of no kind that ICC.1 knows")

    def rising(numbers: Values) -> Values:
        with np.errstate(all="ignore"):  # what comes of it is looked at below
            return np.maximum.accumulate(np.clip(curve(numbers), 0, 1))

    light = rising(np.linspace(0, 1, 1025))
    if not np.isfinite(light).all() or light[-1] - light[0] < 0.5:
        raise ValueError("its curves do not lead from black to white")
    return rising


def _sampled(tag: bytes) -> Curve:
    count = struct.unpack_from(">I", tag, 8)[0]
    if count > (len(tag) - 12) // 2:
        raise ValueError("its curves are cut off")
    if not count:
        return lambda numbers: numbers
    table = np.frombuffer(tag, ">u2", count, 12)
    if count == 1:
        gamma = int(table[0]) / 256
        return lambda numbers: numbers**gamma
    steps, light = np.linspace(0, 1, count), table / 65535
    return lambda numbers: np.interp(numbers, steps, light)


def _parametric(tag: bytes) -> Curve:
    names = _PARAMETERS.get(struct.unpack_from(">H", tag, 8)[0])
    if names is None or len(tag) < 12 + 4 * len(names):
        raise ValueError("its curves are of no kind that ICC.1 knows")
    given = struct.unpack_from(f">{len(names)}i", tag, 12)
    found = {name: value / 65536 for name, value in zip(names, given, strict=True)}
    g, a, b, c, d, e, f = (found.get(name, float(name == "a")) for name in "gabcdef")
    if len(names) <= 4:  # below where a number becomes 0, light is c, which is added to all of it
        d, e, f, c = (-b / a if a else 0.0), c, c, 0.0

    def curve(numbers: Values) -> Values:
        return np.where(numbers >= d, np.maximum(a * numbers + b, 0) ** g + e, c * numbers + f)

    return curve
