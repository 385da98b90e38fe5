"""Camera RAW made of a photograph, as no camera's own may lie here: DNG 1.4, uncompressed, tags by hand.

The photograph is taken for what a perfect lens drew: its values become linear light (IEC 61966-2-1), are seen by a
sensor whose red and blue are half and 0.6 as sensitive as its green, are kept one colour a pixel in the pattern RGGB
(or all three averaged, of a sensor without filters), and are stored from the black level 512 to the white level 16383.
The matrix from XYZ to the camera is that of linear sRGB times these sensitivities, so developing with the camera's
white balance gives the photograph again, but for what one colour a pixel cannot tell.
"""

import struct
from pathlib import Path

import numpy as np

from upscale_cli.media import exif as ifd
from upscale_cli.media.exif import Directory, Field
from upscale_cli.media.pixels import upright

BLACK, WHITE = 512, 16383
NEUTRAL = np.array([0.5, 1.0, 0.6])
_XYZ_OF_SRGB = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
_BACK = {1: 1, 3: 3, 6: 8, 8: 6}
"""The orientation by which a picture is laid on its side so that another turns it upright again."""


def write_dng(path: Path, photo: np.ndarray, *, mono: bool = False, orientation: int = 1, balance: bool = True) -> Path:
    """Of H x W x 3 8-bit sRGB, upright, cut to even sides. `balance`: with the camera's white balance."""
    pixels = upright(photo[: photo.shape[0] // 2 * 2, : photo.shape[1] // 2 * 2], _BACK[orientation])
    values = pixels / 255
    light = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    if mono:
        seen = light @ [0.2126, 0.7152, 0.0722]
    else:
        seen = np.empty(light.shape[:2])
        for (top, left), color in {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 2}.items():
            seen[top::2, left::2] = (light * NEUTRAL)[top::2, left::2, color]
    stored = np.rint(BLACK + seen * (WHITE - BLACK)).astype("<u2")
    directory = _camera(orientation) | _sensor(stored.shape, mono=mono, balance=balance)
    # Once to learn how long it is, and once with the pixels behind it.
    start = 8 + len(ifd.pack(directory | {273: _longs(0)}, order="<", at=8))
    body = ifd.pack(directory | {273: _longs(start)}, order="<", at=8)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + body + stored.tobytes())
    return path


def _camera(orientation: int) -> Directory:
    """What a photographer wants to find again."""
    of_the_shot = {
        33434: _ratios((1, 250)),
        33437: _ratios((56, 10)),
        34855: _shorts(400),
        36867: _text("2024:05:06 07:08:09"),
        37386: _ratios((85, 1)),
        42036: _text("Synthetic 85mm F1.8"),
    }
    position = {1: _text("N"), 2: _ratios((47, 1), (22, 1), (0, 1))}
    return {
        271: _text("Synthetic"),
        272: _text("Bayer One"),
        274: _shorts(orientation),
        315: _text("A. Photographer"),
        ifd.EXIF: Field(ifd.LONG, 1, b"", of_the_shot),
        ifd.GPS: Field(ifd.LONG, 1, b"", position),
    }


def _sensor(shape: tuple[int, ...], *, mono: bool, balance: bool) -> Directory:
    height, width = shape
    matrix = [(round(value * 10000), 10000) for value in (np.diag(NEUTRAL) @ np.linalg.inv(_XYZ_OF_SRGB)).flatten()]
    tags = {
        254: _longs(0),
        256: _longs(width),
        257: _longs(height),
        258: _shorts(16),
        259: _shorts(1),
        262: _shorts(34892 if mono else 32803),  # LinearRaw or CFA
        277: _shorts(1),
        278: _longs(height),
        279: _longs(2 * width * height),
        284: _shorts(1),
        50706: Field(ifd.BYTE, 4, bytes((1, 4, 0, 0))),
        50707: Field(ifd.BYTE, 4, bytes((1, 1, 0, 0))),
        50708: _text("Synthetic Bayer One"),
        50714: _shorts(BLACK),
        50717: _longs(WHITE),
        50778: _shorts(21),  # D65
    }
    if not mono:
        tags[33421] = _shorts(2, 2)
        tags[33422] = Field(ifd.BYTE, 4, bytes((0, 1, 1, 2)))
        tags[50721] = Field(10, 9, b"".join(struct.pack("<ii", *pair) for pair in matrix))
        if balance:
            tags[50728] = _ratios(*((round(value * 10), 10) for value in NEUTRAL))
    return tags


def _text(value: str) -> Field:
    return Field(2, len(value) + 1, value.encode() + b"\0")


def _shorts(*values: int) -> Field:
    return Field(ifd.SHORT, len(values), struct.pack(f"<{len(values)}H", *values))


def _longs(*values: int) -> Field:
    return Field(ifd.LONG, len(values), struct.pack(f"<{len(values)}I", *values))


def _ratios(*values: tuple[int, int]) -> Field:
    return Field(5, len(values), b"".join(struct.pack("<II", *pair) for pair in values))
