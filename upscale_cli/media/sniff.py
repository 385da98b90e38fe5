"""Files that are no picture we read, known by their first bytes, so that a message can name them. Decodes nothing."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from upscale_cli.media.paths import RAW_SUFFIXES

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_RAW = "is a RAW photograph, which is not read here. Develop it to a TIFF first."
_LATER = "is {}, which is not supported yet. Convert it to TIFF or JPEG first."
_NEVER = "is {}, not a photograph. Convert it to PNG first."
_STARTS = (
    (b"\xff\x0a", "a JPEG XL picture", _LATER),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture", _LATER),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture", _LATER),
    (b"#?RADIANCE", "a Radiance HDR picture", _LATER),
    (b"\0\0\0\x0cjP  \r\n", "a JPEG 2000 picture", _LATER),
    (b"8BPS", "a Photoshop document", _LATER),
    (b"%!PS", "a PostScript document", _NEVER),
    (b"\xc5\xd0\xd3\xc6", "a PostScript document", _NEVER),
    (b"%PDF", "a PDF document", _NEVER),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile", _NEVER),
    (b"\x01\0\0\0\x6c\0\0\0", "a Windows metafile", _NEVER),
)
_CONTAINERS = (b"\x1aE\xdf\xa3", b"FLV\x01", b"OggS", b"0&\xb2u\x8ef\xcf\x11", b"\0\0\x01\xba", b"YUV4MPEG2")
_BOXES = {b"ftyp", b"meta", b"mdat", b"moov", b"free", b"skip", b"uuid"}
_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_RAW_STARTS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"\0MRM", b"FOVb", b"II\x1a\0\0\0HEAPCCDR")
_CHUNKS = 64  # of a WebP before its pixels: a colour profile, and what nobody knows
_PICTURE_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"BM")


@dataclass(frozen=True, slots=True)
class _JpegFrame:
    """What a JPEG says of its pixels before they come."""

    kind: int
    """The second byte of the marker, 0xC0 to 0xCF."""
    bits: int
    height: int
    width: int
    factors: tuple[tuple[int, int], ...]
    """Of each component, horizontal and vertical."""

    @property
    def least_bytes(self) -> int:
        """No file can be shorter: in a sequential Huffman frame a block of 8 x 8 takes two codes of a bit or more."""
        if self.kind not in (0xC0, 0xC1) or not all(min(pair) > 0 for pair in self.factors):
            return 0
        across, down = (max(pair[axis] for pair in self.factors) for axis in (0, 1))
        blocks = sum(
            math.ceil(self.width * x / across / 8) * math.ceil(self.height * y / down / 8) for x, y in self.factors
        )
        return blocks // 4


def refusal(head: bytes, suffix: str) -> str | None:
    """Why a file that begins with these bytes is refused, or None where a decoder may try."""
    if not head:
        return "is empty (0 bytes)."
    if head[4:8] == b"ftyp":
        brands = _brands(head)
        if not brands & {b"avif", b"avis"}:
            if brands & {b"crx "}:
                return _RAW
            return None if is_heif(head) else "is a video file, not a picture."
    for start, what, message in _STARTS:
        if head.startswith(start):
            return message.format(what)
    if is_raw(head, suffix):
        return _RAW
    if b"<svg" in head[:1024]:
        return _NEVER.format("an SVG drawing")
    return None


def _brands(head: bytes) -> set[bytes]:
    """What a file of boxes says it is (ISO/IEC 14496-12 section 4.3)."""
    return {head[8:12], *(head[at : at + 4] for at in range(16, min(int.from_bytes(head[:4], "big"), 256), 4))}


def is_heif(head: bytes) -> bool:
    """Whether a file that begins so is a HEIC picture."""
    return head[4:8] == b"ftyp" and bool((brands := _brands(head)) & _BRANDS) and not brands & {b"avif", b"avis"}


def is_raw(head: bytes, suffix: str) -> bool:
    """Whether a file that begins so is camera RAW: most are TIFF inside, and only their names tell.

    What is plainly another picture is that, whatever its name says.
    """
    if head.startswith(_RAW_STARTS) or (head[4:8] == b"ftyp" and head[8:12] == b"crx "):
        return True
    return bool(head) and suffix.lower() in RAW_SUFFIXES and not head.startswith(_PICTURE_STARTS)


def is_video(head: bytes) -> bool:
    """Whether these are the first bytes of a container of videos."""
    if head[4:8] == b"ftyp":
        return (refusal(head, "") or "").startswith("is a video")
    return head.startswith(_CONTAINERS) or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")


def check(file: BinaryIO) -> None:
    """What decoders take without a word, or refuse without a reason.

    Raises EOFError for a WebP or AVIF file that ends early, and for a JPEG file too short for its pixels, the rest of
    which would be painted grey; ValueError for a JPEG of more than 8 bits.
    """
    size = file.seek(0, 2)
    missing = _promised_bytes(file) - size
    if missing > 1:  # some programs forget the byte that makes a RIFF file even
        raise EOFError(f"{missing:,} bytes are missing")
    frame = _jpeg_frame(file)
    if frame is None:
        return
    if frame.bits != 8:
        raise ValueError(f"it is a {frame.bits}-bit JPEG; convert it to PNG or TIFF first")
    if size < frame.least_bytes:
        raise EOFError(f"{size:,} bytes cannot hold {frame.width} x {frame.height} pixels")


def _promised_bytes(file: BinaryIO) -> int:
    """How long a WebP or AVIF file must be by its own account; 0 for any other (RIFF; ISO/IEC 14496-12 section 4.2)."""
    file.seek(0)
    head = file.read(12)
    if head[:4] == b"RIFF":
        return int.from_bytes(head[4:8], "little") + 8
    at = 0
    while head[4:8] in _BOXES and (length := int.from_bytes(head[:4], "big")) >= 8:
        at = file.seek(at + length)
        head = file.read(8)
    return at


def _jpeg_frame(file: BinaryIO) -> _JpegFrame | None:
    """The frame header of a JPEG file (ITU-T T.81 section B.2.2), or None where it cannot be found."""
    file.seek(0)
    if file.read(2) != b"\xff\xd8":
        return None
    while len(head := file.read(4)) == 4 and head[0] == 0xFF:
        kind, length = head[1], int.from_bytes(head[2:], "big")
        if kind == 0xFF:
            file.seek(-3, 1)
        elif kind in range(0xC0, 0xD0) and kind not in (0xC4, 0xC8, 0xCC):
            body = file.read(length - 2)
            if len(body) < 9 or len(body) < 6 + 3 * body[5]:
                return None
            factors = [(body[at] >> 4, body[at] & 15) for at in range(7, 6 + 3 * body[5], 3)]
            height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            return _JpegFrame(kind, body[0], height, width, tuple(factors))
        elif kind in (0xD9, 0xDA) or length < 2:
            return None
        else:
            file.seek(length - 2, 1)
    return None


def avif_depth(path: Path) -> int:
    """8, 10 or 12 bits, from the AV1 configuration box (AV1-ISOBMFF 2.3.3); 8 where none is found."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    at = head.find(b"av1C")
    if at < 0 or at + 7 > len(head):
        return 8
    flags = head[at + 6]
    return (12 if flags & 0x20 else 10) if flags & 0x40 else 8


def is_lossless_webp(file: BinaryIO) -> bool:
    """Whether a WebP holds its pixels exactly (VP8L); of an animation, whether its first frame does. By its chunks."""
    file.seek(12)
    for _ in range(_CHUNKS):
        head = file.read(8)
        kind, size = head[:4], int.from_bytes(head[4:], "little")
        if kind in (b"VP8L", b"VP8 ", b""):
            return kind == b"VP8L"
        # A frame of an animation holds chunks of its own, behind 16 bytes; every chunk ends at an even place.
        file.seek(16 if kind == b"ANMF" else size + size % 2, os.SEEK_CUR)
    return False
