"""Colour difference CIEDE2000: what an eye sees of a change in colour, 1 being about the least. Pure functions.

Sharma, Wu and Dalal, The CIEDE2000 color-difference formula, Color Research and Application 30(1), 2005.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# IEC 61966-2-1: linear sRGB to XYZ of D65.
_TO_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]], np.float64
)
_D65 = np.array([0.95047, 1.0, 1.08883])
"""White of the 2 degree observer."""


def lab(image: npt.NDArray[np.uint8]) -> Floats:
    """... x 3 8-bit sRGB to CIE L*a*b*, D65, 2 degree observer."""
    values = np.arange(256) / 255
    linear = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)[image]
    ratio = linear @ _TO_XYZ.T / _D65
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.stack((116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])), axis=-1)


def delta_e(image: npt.NDArray[np.uint8], reference: npt.NDArray[np.uint8]) -> float:
    """Mean CIEDE2000 over the pixels of two ... x 3 8-bit sRGB images."""
    return float(ciede2000(lab(image), lab(reference)).mean())


def delta_e76(image: npt.NDArray[np.uint8], reference: npt.NDArray[np.uint8]) -> float:
    """Mean over the pixels of the distance in CIE L*a*b*, which CIE 1976 took for the difference."""
    return float(np.linalg.norm(lab(image) - lab(reference), axis=-1).mean())


def ciede2000(first: Floats, second: Floats) -> Floats:
    """... x 3 of L*a*b* to ... differences, with kL = kC = kH = 1."""
    (l1, a1, b1), (l2, a2, b2) = np.moveaxis(first, -1, 0), np.moveaxis(second, -1, 0)
    stretch = 1 + 0.5 * (1 - _saturation((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2))
    c1, c2 = np.hypot(stretch * a1, b1), np.hypot(stretch * a2, b2)
    h1, h2 = _hue(b1, stretch * a1), _hue(b2, stretch * a2)
    turn = (h2 - h1 + 180) % 360 - 180
    turn = np.where(h2 - h1 == 180, 180, turn)  # opposite hues differ by +180, not -180
    turn = np.where(c1 * c2 == 0, 0, turn)  # grey has no hue
    middle = np.where(np.abs(h1 - h2) <= 180, h1 + h2, np.where(h1 + h2 < 360, h1 + h2 + 360, h1 + h2 - 360)) / 2
    middle = np.where(c1 * c2 == 0, h1 + h2, middle)
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    weight = (
        1
        - 0.17 * np.cos(np.radians(middle - 30))
        + 0.24 * np.cos(np.radians(2 * middle))
        + 0.32 * np.cos(np.radians(3 * middle + 6))
        - 0.20 * np.cos(np.radians(4 * middle - 63))
    )
    dl = (l2 - l1) / (1 + 0.015 * (lightness - 50) ** 2 / np.sqrt(20 + (lightness - 50) ** 2))
    dc = (c2 - c1) / (1 + 0.045 * chroma)
    dh = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * weight)
    blue = -np.sin(np.radians(60 * np.exp(-(((middle - 275) / 25) ** 2)))) * 2 * _saturation(chroma)
    return np.sqrt(np.maximum(0, dl**2 + dc**2 + dh**2 + blue * dc * dh))


def _saturation(chroma: Floats) -> Floats:
    seventh = chroma**7
    return np.sqrt(seventh / (seventh + 25.0**7))


def _hue(b: Floats, a: Floats) -> Floats:
    """Degrees, 0 to 360."""
    return np.degrees(np.arctan2(b, a)) % 360
