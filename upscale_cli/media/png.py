"""PNG chunks: what Pillow does not tell of a file, and writing 8- and 16-bit PNG. Knows no EXIF and no Pillow.

The encoder is ours because no library at hand writes them all, or row by row: Pillow has no 16-bit colour, OpenCV no
grey with alpha. It filters by the average of the pixels on the left and above, and deflates by ISA-L (Python's `isal`):
a third of the time of OpenCV's encoder, and a smaller file (benchmarks/LOG.md).
"""

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from upscale_cli.media.metadata import Metadata

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}
_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"acTL", b"fcTL", b"fdAT", b"IEND"}
MOST_CHUNK_BYTES = 1 << 24
"""Of a profile or a text, inflated."""
_MOST_TEXT_BYTES = 48 << 20  # of all texts; Pillow refuses the picture at 64
_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
_COLOR_BYTES = {b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32}
_CACHED_BYTES = 1 << 18  # filtered at a time, so that all passes find them in the cache


def chunks(file: BinaryIO, *, skip: frozenset[bytes] = frozenset()) -> Iterator[tuple[bytes, bytes]]:
    """Kind and payload of each chunk up to the end or the cut; payloads of the kinds in `skip` are not read.

    What is not pixels and differs from its checksum is passed over.
    """
    file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in skip:
            file.seek(length, 1)
            payload = b""
        else:
            payload = file.read(length)
            if len(payload) < length:
                return
        stored = file.read(4)
        if kind in _PIXELS or kind in skip or _checksum(kind, payload) == stored:
            yield kind, payload
        if kind == b"IEND":
            return


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + _checksum(kind, payload)


def _checksum(kind: bytes, payload: bytes) -> bytes:
    return zlib.crc32(payload, zlib.crc32(kind)).to_bytes(4, "big")


def verify(file: BinaryIO) -> None:
    """Raises ValueError where pixels differ from their checksum (Pillow does not look), EOFError for a cut file."""
    file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        payload = file.read(length)
        stored = file.read(4)
        if len(payload) < length or len(stored) < 4:
            break
        if kind in _PIXELS and _checksum(kind, payload) != stored:
            raise ValueError(f"its {kind.decode()} chunk does not match its checksum")
        if kind == b"IEND":
            return
    raise EOFError("the end of the file is missing")


def sound(file: BinaryIO) -> tuple[bytes | None, list[str]]:
    """The file less the texts and words on colour that had better not be read, or None for all of it; a note for each.

    For the sake of one that is damaged, or inflates without end, Pillow would refuse the whole picture.
    """
    end, at, texts = file.seek(0, 2), len(SIGNATURE), 0
    bad: list[tuple[int, int]] = []
    notes: list[str] = []
    while file.seek(at) + 12 <= end:
        length, kind = struct.unpack(">I4s", file.read(8))
        start, at = at, at + 12 + length
        if at > end:
            break
        if kind in _PIXELS:
            continue
        payload = file.read(length) if length <= MOST_CHUNK_BYTES else b""
        size = max(length, _inflated(kind, payload))
        fault = None
        if size > MOST_CHUNK_BYTES or (kind in _TEXTS and texts + size > _MOST_TEXT_BYTES):
            fault = "is too large"
        elif file.read(4) != _checksum(kind, payload):
            fault = "does not match its checksum"
        elif (kind == b"iCCP" and not _packed(kind, payload)) or length != _COLOR_BYTES.get(kind, length):
            fault = "is damaged"
        if fault:
            bad.append((start, at))
            notes.append(f"its {kind.decode('latin-1')} chunk {fault}: left out")
        else:
            texts += size if kind in _TEXTS else 0
    return (_without(file, bad) if bad else None), notes


def _without(file: BinaryIO, places: list[tuple[int, int]]) -> bytes:
    file.seek(0)
    kept = b""
    for start, end in places:
        kept += file.read(start - file.tell())
        file.seek(end)
    return kept + file.read()


def color_chunks(file: BinaryIO) -> dict[bytes, bytes]:
    """What is said of the colours beside a profile: the first of each kind before the pixels that `sound` leaves in."""
    found: dict[bytes, bytes] = {}
    for kind, payload in chunks(file, skip=frozenset({b"IDAT"})):
        if kind == b"IDAT":
            break
        if len(payload) == _COLOR_BYTES.get(kind):
            found.setdefault(kind, payload)
    return found


def frames_claimed(file: BinaryIO) -> int:
    """How many frames the animation says it has; 1 where the file is none."""
    for kind, payload in chunks(file, skip=frozenset({b"IDAT", b"fdAT"})):
        if kind == b"acTL":
            return int.from_bytes(payload[:4], "big")
    return 1


def _packed(kind: bytes, payload: bytes) -> bytes:
    """The deflated part of a profile or text; empty where there is none (PNG 1.2 sections 4.2.2.4 and 4.2.3)."""
    if kind not in (b"iCCP", b"zTXt", b"iTXt"):
        return b""
    rest = payload.partition(b"\0")[2]
    if kind == b"iTXt":
        return rest[2:].partition(b"\0")[2].partition(b"\0")[2] if rest[:1] == b"\1" else b""
    return rest[1:] if rest[:1] == b"\0" else b""


def _inflated(kind: bytes, payload: bytes) -> int:
    """Bytes of its deflated part when inflated, counted no further than is allowed."""
    try:
        return len(zlib.decompressobj().decompress(_packed(kind, payload), MOST_CHUNK_BYTES + 1))
    except zlib.error:
        return 0


def bare(file: BinaryIO) -> bytes:
    """The file with nothing but its pixels: OpenCV prints warnings about colour profiles it need not see."""
    wanted = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
    return SIGNATURE + b"".join(chunk(kind, payload) for kind, payload in chunks(file) if kind in wanted)


class Writer:
    """Writes one picture to an empty file as its rows come."""

    def __init__(self, file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype, metadata: Metadata) -> None:
        """`shape` is H x W x C, C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGB + alpha; `dtype` uint8 or uint16."""
        height, width, channels = shape
        self._file = file
        self._left = height
        self._stored = dtype.newbyteorder(">")
        self._pixel_bytes = channels * dtype.itemsize
        self._above = np.zeros((1, width * self._pixel_bytes), np.uint8)
        self._deflate = isal_zlib.compressobj(1)
        head = struct.pack(">IIBBBBB", width, height, dtype.itemsize * 8, _COLOR_TYPE[channels], 0, 0, 0)
        file.write(SIGNATURE + chunk(b"IHDR", head) + b"".join(_metadata_chunks(metadata)))

    def write(self, pixels: np.ndarray) -> None:
        """The next rows; with the last of them the file is complete."""
        rows = max(1, _CACHED_BYTES // self._above.size)
        for top in range(0, len(pixels), rows):
            block = np.ascontiguousarray(pixels[top : top + rows], self._stored)
            raw = block.view(np.uint8).reshape(len(block), -1)
            self._put(self._deflate.compress(self._filtered(raw)))
        self._left -= len(pixels)
        if not self._left:
            self._put(self._deflate.flush())
            self._file.write(chunk(b"IEND", b""))

    def _filtered(self, raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Each byte less the mean of its pixel's neighbours, rounded down (PNG 1.2 section 6.5)."""
        back = self._pixel_bytes
        above = np.concatenate([self._above, raw[:-1]])
        left, up = raw[:, :-back], above[:, back:]
        filtered = np.empty((len(raw), raw.shape[1] + 1), np.uint8)
        filtered[:, 0] = 3
        np.subtract(raw[:, :back], above[:, :back] >> 1, out=filtered[:, 1 : back + 1])
        np.subtract(raw[:, back:], (left & up) + ((left ^ up) >> 1), out=filtered[:, back + 1 :])
        self._above = raw[-1:].copy()
        return filtered

    def _put(self, packed: bytes) -> None:
        if packed:
            self._file.write(chunk(b"IDAT", packed))


def _metadata_chunks(metadata: Metadata) -> Iterator[bytes]:
    if metadata.cicp is not None:
        yield chunk(b"cICP", metadata.cicp)
    if metadata.icc is not None:
        yield chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc))
    if metadata.dpi is not None:
        x, y = (round(value / 0.0254) for value in metadata.dpi)
        yield chunk(b"pHYs", struct.pack(">IIB", x, y, 1))
    if metadata.exif is not None:
        yield chunk(b"eXIf", metadata.exif)
    if metadata.xmp is not None:
        yield chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp)
    for keyword, text in metadata.text:
        key = keyword.encode("latin-1", "replace")[:79]
        yield chunk(b"iTXt", key + b"\0\0\0\0\0" + text.encode("utf-8", "replace"))
