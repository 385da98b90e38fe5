"""Matrix profiles: what an ICC profile says of red, green, blue and their curves (ICC.1, v2 and v4), and new ones.

Refuses profiles that look colours up in tables (A2B), and those of inks. Knows no pixels.
"""

import io
import struct
from collections.abc import Callable, Iterable, Sequence
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
_FLATTEST = 1e-4  # determinant of colorants; LittleCMS has the same limit
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_MADE = (2025, 6, 24, 0, 0, 0)  # the date of new profiles: that of PNG's third edition, so that their bytes stay


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
    if abs(np.linalg.det(colorants)) < _FLATTEST:
        raise ValueError("its primaries are no three colours")
    return MatrixProfile(curves, colorants)


def matrix_profile(name: str, curve: Sequence[float], primaries: Sequence[float] | None) -> bytes:
    """A new v4 profile of that description, the same bytes every time.

    `curve` is g, or g, a, b, c and d, of a parametricCurveType (ICC.1 section 10.18), for every channel; `primaries`
    as in `adapted`, or None for grey. ValueError as there.
    """
    kind = next(kind for kind, names in _PARAMETERS.items() if len(names) == len(curve))
    light = b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + _fixed(curve)
    tags = {b"desc": _text(name), b"cprt": _text("No copyright, use freely"), b"wtpt": b"XYZ \0\0\0\0" + _fixed(_D50)}
    if primaries is None:
        return _packed(b"GRAY", tags | {b"kTRC": light})
    colorants, to_d50 = adapted(primaries)
    tags[b"chad"] = b"sf32\0\0\0\0" + _fixed(to_d50.ravel())
    for channel, column in zip((b"r", b"g", b"b"), colorants.T, strict=True):
        tags[channel + b"XYZ"] = b"XYZ \0\0\0\0" + _fixed(column)
        tags[channel + b"TRC"] = light
    return _packed(b"RGB ", tags)


def adapted(primaries: Sequence[float]) -> tuple[Values, Values]:
    """Colorants, of x and y of white, red, green and blue, and the matrix (Bradford) that makes their white D50.

    Both 3 x 3; the columns of the first are red, green and blue in XYZ (SMPTE RP 177; ICC.1 annex E). ValueError where
    these are no three colours around a white.
    """
    xyz = np.array([(x, y, 1 - x - y) for x, y in zip(primaries[::2], primaries[1::2], strict=True)])
    if xyz.min() < -1e-9 or xyz[:, 1].min() <= 0:
        raise ValueError("its primaries are no colours")
    white, corners = xyz[0] / xyz[0, 1], xyz[1:].T
    shares, seen = np.linalg.solve(corners, white), _BRADFORD @ white
    if min(shares.min(), seen.min()) <= 0:
        raise ValueError("its white is none of its primaries'")
    to_d50 = np.linalg.inv(_BRADFORD) @ np.diag(_BRADFORD @ _D50 / seen) @ _BRADFORD
    colorants = to_d50 @ (corners * shares)
    if abs(np.linalg.det(colorants)) < _FLATTEST:
        raise ValueError("its primaries are no three colours")
    _fixed((*colorants.ravel(), *to_d50.ravel()))
    return colorants, to_d50


def profile_name(icc: bytes) -> str:
    """As its description says, for people."""
    try:
        name = ImageCms.getProfileDescription(io.BytesIO(icc))
    except (OSError, ImageCms.PyCMSError):
        name = None
    return " ".join((name or "").split())[:60] or "without a name"


def _packed(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Header, tag table and tags, equal ones once (ICC.1 sections 7.2 and 7.3)."""
    start = 132 + 12 * len(tags)
    table, body, places = struct.pack(">I", len(tags)), b"", dict[bytes, int]()
    for name, tag in tags.items():
        if tag not in places:
            places[tag] = start + len(body)
            body += tag + b"\0" * (-len(tag) % 4)
        table += struct.pack(">4sII", name, places[tag], len(tag))
    size = start + len(body)
    head = struct.pack(">I4xI4s4s4s6H4s28x", size, 0x04300000, b"mntr", space, b"XYZ ", *_MADE, b"acsp") + _fixed(_D50)
    return head.ljust(128, b"\0") + table + body


def _fixed(values: Iterable[float]) -> bytes:
    """As s15Fixed16Numbers. ValueError for what these cannot hold."""
    whole = [round(value * 65536) for value in values]
    if max(map(abs, whole)) >= 1 << 31:
        raise ValueError("its numbers are too large")
    return struct.pack(f">{len(whole)}i", *whole)


def _text(words: str) -> bytes:
    """A multiLocalizedUnicodeType in English (ICC.1 section 10.15)."""
    text = words.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II4sII", 1, 12, b"enUS", len(text), 28) + text


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
