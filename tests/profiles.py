"""Colour profiles of the spaces that photographs come in, made byte by byte, and what they mean written out."""

import struct
from dataclasses import dataclass

import numpy as np
from pictures import profile, s15

Values = np.ndarray


@dataclass(frozen=True)
class Working:
    """An RGB space of one gamma: its primaries in XYZ relative to D50, as its profiles have them."""

    red: tuple[float, float, float]
    green: tuple[float, float, float]
    blue: tuple[float, float, float]
    gamma: float

    @property
    def icc(self) -> bytes:
        return rgb_profile(self, gamma(self.gamma))

    def to_srgb(self, numbers: Values) -> Values:
        """Integers to sRGB's values in float64, beyond [0, 1] too."""
        light = (numbers / np.iinfo(numbers.dtype).max) ** self.gamma @ self._matrix.T
        size = np.abs(light)
        return np.sign(light) * np.where(size > 0.0031308, 1.055 * size ** (1 / 2.4) - 0.055, 12.92 * size)

    def from_srgb(self, values: Values) -> Values:
        """The way back, to [0, 1] where this space has the colour."""
        size = np.abs(values)
        light = np.sign(values) * np.where(size > 0.04045, ((size + 0.055) / 1.055) ** 2.4, size / 12.92)
        return np.clip(light @ np.linalg.inv(self._matrix).T, 0, None) ** (1 / self.gamma)

    @property
    def _matrix(self) -> Values:
        stored = np.rint(_columns(self) * 65536) / 65536
        return np.linalg.inv(_columns(SRGB)) @ stored


def _columns(space: Working) -> Values:
    return np.array([space.red, space.green, space.blue]).T


SRGB = Working(
    (0.4360747, 0.2225045, 0.0139322), (0.3850649, 0.7168786, 0.0971045), (0.1430804, 0.0606169, 0.7141733), 563 / 256
)
ADOBE_RGB = Working((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457), 563 / 256)
DISPLAY_P3 = Working((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407), 563 / 256)
PROPHOTO = Working((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491), 461 / 256)
WIDE = {"Adobe RGB": ADOBE_RGB, "Display P3": DISPLAY_P3, "ProPhoto": PROPHOTO}


def rgb_profile(space: Working, *curves: bytes, **more: bytes) -> bytes:
    """With one curve for all or three, and more tags by their names."""
    columns = {b"rXYZ": space.red, b"gXYZ": space.green, b"bXYZ": space.blue}
    tags = {tag: b"XYZ \0\0\0\0" + s15(*values) for tag, values in columns.items()}
    tags |= dict(zip((b"rTRC", b"gTRC", b"bTRC"), curves if len(curves) == 3 else curves * 3, strict=True))
    return profile(b"RGB ", b"mntr", b"XYZ ", tags | {name.encode(): tag for name, tag in more.items()})


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def sampled(*light: float) -> bytes:
    """A curve by its points, even steps apart; none is light itself."""
    return b"curv\0\0\0\0" + struct.pack(f">I{len(light)}H", len(light), *(round(value * 65535) for value in light))


def parametric(kind: int, *values: float) -> bytes:
    return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + s15(*values)


SRGB_CURVE = parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def table_profile() -> bytes:
    """Of colours by a table, as printers and cameras have: numbers turn about, red is what green was."""
    even = bytes(range(256))
    corners = bytes(
        v for r in (0, 1) for g in (0, 1) for b in (0, 1) for v in (85 * (r + g + b), 128 + 60 * (g - b), 128)
    )
    table = b"mft1\0\0\0\0" + bytes((3, 3, 2, 0)) + s15(1, 0, 0, 0, 1, 0, 0, 0, 1) + even * 3 + corners + even * 3
    return profile(b"RGB ", b"scnr", b"Lab ", {b"A2B0": table})
