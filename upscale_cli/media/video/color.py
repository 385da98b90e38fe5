"""What the numbers of a video mean as colours: matrix, range, transfer, and which pixel format holds how much.

Codes are those of ITU-T H.273. Opens nothing.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import av

UNSPECIFIED = 2
_RGB, _BT709, _SMPTE170M = 0, 1, 6
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt470", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_HDR = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True, slots=True)
class Color:
    """The tags of a stream, as they are written."""

    primaries: int
    transfer: int
    matrix: int
    range: int
    """0 unspecified, 1 limited, 2 full."""

    @property
    def hdr(self) -> str:
        """`PQ`, `HLG`, or empty."""
        return _HDR.get(self.transfer, "")


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How much a pixel format holds."""

    name: str
    bits: int
    across: int
    """Pixels that share a value of chroma, side by side."""
    down: int
    rgb: bool
    alpha: bool
    full: bool
    """By its name, which overrules the tag."""

    @classmethod
    def of(cls, name: str) -> "PixelFormat":
        """ValueError for a name that FFmpeg does not know."""
        found = av.VideoFormat(name, 64, 64)
        return cls(
            name,
            max(component.bits for component in found.components),
            64 // found.chroma_width(),
            64 // found.chroma_height(),
            found.is_rgb,
            any(component.is_alpha for component in found.components),
            name.startswith("yuvj"),
        )


def hdr10(side_data: Mapping[str, bytes]) -> tuple[str, ...]:
    """What the makers of an HDR10 film say of their screen and its light, as x265 takes it (SMPTE ST 2086, CTA-861.3).

    `side_data` is that of a frame, as FFmpeg lays it out.
    """
    found: list[str] = []
    if len(screen := side_data.get("MASTERING_DISPLAY_METADATA", b"")) >= 88:
        numbers = struct.unpack_from("20i2i", screen)
        values = [above / (below or 1) for above, below in zip(numbers[:20:2], numbers[1:20:2], strict=True)]
        red, green, blue, white = (
            f"({round(values[at] * 50000)},{round(values[at + 1] * 50000)})" for at in (0, 2, 4, 6)
        )
        light = f"({round(values[9] * 10000)},{round(values[8] * 10000)})"
        if all(numbers[20:]):
            found.append(f"master-display=G{green}B{blue}R{red}WP{white}L{light}")
    if len(light := side_data.get("CONTENT_LIGHT_LEVEL", b"")) >= 8:
        found.append("max-cll={},{}".format(*struct.unpack_from("2I", light)))
    return tuple(found)


def matrix(code: int, height: int, width: int) -> int:
    """The matrix that players use: the tag, or by the size where there is none."""
    if code != UNSPECIFIED:
        return code
    return _BT709 if height > 576 or width >= 1280 else _SMPTE170M


def known(code: int) -> bool:
    """Whether pictures of this matrix can be made RGB."""
    return code in (_RGB, UNSPECIFIED) or code in _MATRICES


def scaling(direction: str, color: Color, format: PixelFormat, height: int, width: int) -> str:
    """What the filter `scale` is to know of one side, `in` or `out`."""
    if format.rgb:
        return f"{direction}_range=pc"
    name = _MATRICES[matrix(color.matrix, height, width)]
    span = "pc" if format.full or color.range == 2 else "tv"
    return f"{direction}_color_matrix={name}:{direction}_range={span}"


def written(color: Color, source: PixelFormat, target: PixelFormat, sizes: tuple[tuple[int, int], ...]) -> Color:
    """The tags of the output: the source's, and the matrix said aloud where the new size would have it guessed anew.

    `sizes` are height and width of the source and of the output.
    """
    span = 2 if source.full else color.range
    if target.rgb:
        return Color(color.primaries, color.transfer, _RGB, 2)
    if source.rgb:
        return Color(color.primaries, color.transfer, _BT709, 1)
    before, after = (matrix(color.matrix, *size) for size in sizes)
    return Color(color.primaries, color.transfer, color.matrix if before == after else before, span)
