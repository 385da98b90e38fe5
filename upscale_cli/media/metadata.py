"""What a picture carries besides its pixels: profile, EXIF, XMP, IPTC, resolution, text. Knows no pixels, no file."""

import io
import re
import struct
from dataclasses import dataclass, replace

from PIL import ImageCms

from upscale_cli.media import exif as ifd

_XMP_TAGS = {  # what XMP repeats of the pixels, as attribute or element
    "width": ("tiff:ImageWidth", "exif:PixelXDimension"),
    "height": ("tiff:ImageLength", "exif:PixelYDimension"),
}


@dataclass(frozen=True, slots=True)
class Metadata:
    """Everything but the pixels, as bytes wherever possible. Metadata() holds nothing, and a sink then writes nothing.

    `exif` is a block that starts with its TIFF header; `iptc` the IPTC-IIM records; `dpi` horizontal and vertical;
    `loop` how often an animation plays (0: for ever, None: once); `text` pairs of keyword and text (PNG text, "Comment"
    of JPEG, GIF); `cicp` the four bytes of a PNG whose colours no profile of matrix and curves holds.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    loop: int | None = None
    iptc: bytes | None = None
    text: tuple[tuple[str, str], ...] = ()
    cicp: bytes | None = None

    def for_output(self, width: int, height: int) -> "Metadata":
        """The same for an upright picture of this size in pixels: orientation 1, sizes right, no stale thumbnail."""
        exif = self.exif
        if exif is not None:
            try:
                exif = ifd.for_output(exif, width, height)
            except ValueError:
                exif = None  # a block nobody can read; a source says so when it reads one, and hands out none
        return replace(self, exif=exif, xmp=None if self.xmp is None else _xmp_for_output(self.xmp, width, height))


def _xmp_pattern(tag: str) -> re.Pattern[bytes]:
    name = re.escape(tag.encode())
    return re.compile(rb"(" + name + rb"\s*=\s*[\"']|<" + name + rb">\s*)(\d+)")


def _xmp_for_output(xmp: bytes, width: int, height: int) -> bytes:
    values = {"tiff:Orientation": 1}
    values |= dict.fromkeys(_XMP_TAGS["width"], width) | dict.fromkeys(_XMP_TAGS["height"], height)
    for tag, value in values.items():
        xmp = _xmp_pattern(tag).sub(rb"\g<1>" + str(value).encode(), xmp)
    return xmp


def orientation(exif: bytes | None, xmp: bytes | None) -> int:
    """1 to 8; EXIF is asked first, then XMP. Raises ValueError for damaged EXIF."""
    if exif is not None and (value := ifd.orientation(exif)) != 1:
        return value
    found = _xmp_pattern("tiff:Orientation").search(xmp) if xmp is not None else None
    return int(found[2]) if found and found[2] in b"12345678" and len(found[2]) == 1 else 1


def icc_space(icc: bytes) -> str:
    """The colour space a profile describes: "RGB", "GRAY", "CMYK", "Lab", ... (ICC.1 section 7.2.6)."""
    return icc[16:20].decode("latin-1").strip()


def icc_fault(icc: bytes) -> str | None:
    """Why a profile cannot be used, or None. Half the programs that meet a damaged one refuse the whole picture."""
    if len(icc) < 132 or icc[36:40] != b"acsp":
        return "it is no ICC profile"
    if struct.unpack_from(">I", icc)[0] > len(icc):
        return "it is cut off"
    try:
        ImageCms.ImageCmsProfile(io.BytesIO(icc))
    except (OSError, ImageCms.PyCMSError) as error:
        return str(error)
    return None


def srgb_profile() -> bytes:
    """An sRGB profile, the same bytes every time (the date of its making is set to that of IEC 61966-2-1)."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = struct.pack(">6H", 1999, 10, 18, 0, 0, 0)
    return bytes(profile)
