"""What a PNG says of its colours beside a profile: cICP, sRGB, gAMA and cHRM, made a profile. Opens no file.

PNG third edition, sections 4.3 and 11.3.2. Of all that is said, the first in rank that a profile of matrix and curve
can hold is believed: cICP, iCCP, sRGB, then gAMA with cHRM. What no such profile holds (PQ, HLG) is kept as it is.
"""

import struct
from collections.abc import Mapping
from typing import NamedTuple

from upscale_cli.media.icc import adapted, matrix_profile

_SRGB = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_NEAR = 0.001  # of x and y: what rounds so is sRGB
_SRGB_EXPONENTS = range(45_405, 45_506)  # 100000 / 2.2, as programs round it
_EXPONENTS = range(10_000, 1_000_001)  # gammas from 10 to 0.1; what is beyond is a mistake

_ALPHA, _BETA = 1.09929682680944, 0.018053968510807
_BT709_CURVE = (1 / 0.45, 1 / _ALPHA, 1 - 1 / _ALPHA, 1 / 4.5, 4.5 * _BETA)
_PRIMARIES = {  # ITU-T H.273, table 2: x and y of white, red, green and blue
    1: ("BT.709", _SRGB),
    4: ("BT.470 M", (0.31, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08)),
    5: ("BT.601 of 625 lines", (0.3127, 0.329, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06)),
    6: ("BT.601 of 525 lines", (0.3127, 0.329, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07)),
    7: ("SMPTE 240M", (0.3127, 0.329, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07)),
    8: ("film", (0.31, 0.316, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049)),
    9: ("BT.2020", (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046)),
    11: ("DCI-P3", (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)),
    12: ("Display P3", (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)),
    22: ("EBU 3213", (0.3127, 0.329, 0.63, 0.34, 0.295, 0.605, 0.155, 0.077)),
}
_CURVES = {  # table 3: those that are one power, or one with a straight piece, as numbers become light
    **dict.fromkeys((1, 6, 14, 15), ("BT.709 curve", _BT709_CURVE)),
    4: ("gamma 2.2", (2.2,)),
    5: ("gamma 2.8", (2.8,)),
    8: ("linear", (1.0,)),
    13: ("sRGB curve", _SRGB_CURVE),
}
_BEYOND = {16: "PQ", 18: "HLG"}


class Colors(NamedTuple):
    """`icc` is None for sRGB, or where nothing is said; `cicp` the chunk that no profile can hold."""

    icc: bytes | None
    cicp: bytes | None
    notes: list[str]


def believed(said: Mapping[bytes, bytes], icc: bytes | None, *, grey: bool) -> Colors:
    """What the chunks mean, by their kinds and payloads, beside a profile that can be used, or None.

    Profiles for a `grey` picture hold its curve alone.
    """
    cicp, notes = said.get(b"cICP"), []
    if cicp is not None:
        primaries, transfer, matrix, full = cicp
        if matrix or full > 1:
            cicp, notes = None, [_damaged("cICP")]
        elif full and primaries in _PRIMARIES and transfer in _CURVES:
            return Colors(_by_codes(primaries, transfer, grey=grey), None, notes)
    if icc is None and b"sRGB" not in said:
        icc, faults = _by_gamma(said, grey=grey)
        notes += faults
    return Colors(icc, cicp, notes)


def cicp_name(cicp: bytes) -> str:
    """Its four numbers, and what the transfer is called, for people."""
    return " ".join(map(str, cicp)) + (f", {_BEYOND[cicp[1]]}" if cicp[1] in _BEYOND else "")


def _by_codes(primaries: int, transfer: int, *, grey: bool) -> bytes | None:
    """By numbers of the two tables."""
    (where, corners), (name, curve) = _PRIMARIES[primaries], _CURVES[transfer]
    if curve is _SRGB_CURVE and (grey or corners is _SRGB):
        return None
    return matrix_profile(name if grey else f"{where}, {name}", curve, None if grey else corners)


def _by_gamma(said: Mapping[bytes, bytes], *, grey: bool) -> tuple[bytes | None, list[str]]:
    """By gAMA and cHRM. What one of them leaves open is as in sRGB."""
    notes: list[str] = []
    name, curve, as_srgb = "sRGB curve", _SRGB_CURVE, True
    if b"gAMA" in said:
        exponent = int.from_bytes(said[b"gAMA"], "big")
        if exponent in _EXPONENTS:
            curve = (100_000 / exponent,)
            name, as_srgb = f"PNG gamma {curve[0]:.3g}", exponent in _SRGB_EXPONENTS
        else:
            notes.append(_damaged("gAMA"))
    primaries = _SRGB
    if b"cHRM" in said and not grey:
        stated = tuple(value / 100_000 for value in struct.unpack(">8I", said[b"cHRM"]))
        try:
            adapted(stated)
        except ValueError:
            notes.append(_damaged("cHRM"))
        else:
            near = all(abs(a - b) <= _NEAR for a, b in zip(stated, _SRGB, strict=True))
            primaries = _SRGB if near else stated
    if as_srgb and primaries is _SRGB:
        return None, notes
    where = "sRGB primaries" if primaries is _SRGB else "primaries " + " ".join(f"{xy:.4g}" for xy in primaries[2:])
    return matrix_profile(name if grey else f"{name}, {where}", curve, None if grey else primaries), notes


def _damaged(kind: str) -> str:
    return f"its {kind} chunk is damaged: left out"
