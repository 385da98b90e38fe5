"""PNG chunks: what Pillow does not tell of a file, and writing 8- and 16-bit PNG. Knows no EXIF and no Pillow.

The encoder is ours because no library at hand writes them all: Pillow has no 16-bit colour, OpenCV no grey with alpha.
It filters "up" and deflates with run-length matching: on a 3000 x 2000 photograph 0.15 s and 6.8 MB at 8 bit (Pillow
level 1: 0.35 s, 6.7 MB, level 6: 1.6 s, 5.7 MB; OpenCV: 0.18 s, 7.4 MB), at 16 bit 0.48 s and 28.0 MB (OpenCV: 0.44 s,
28.2 MB).
"""

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from upscale_cli.media.metadata import Metadata

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}
_CHECKED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"fdAT", b"IEND"}
_BLOCK = 1 << 24  # bytes filtered and deflated at a time


def chunks(file: BinaryIO, *, skip: frozenset[bytes] = frozenset()) -> Iterator[tuple[bytes, bytes]]:
    """Kind and payload of each chunk up to the end or the cut; payloads of the kinds in `skip` are not read."""
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
        file.seek(4, 1)
        yield kind, payload
        if kind == b"IEND":
            return


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(payload, zlib.crc32(kind)))


def verify(file: BinaryIO) -> None:
    """Raises ValueError where pixels differ from their checksum (Pillow does not look), EOFError for a cut file."""
    file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        payload = file.read(length)
        stored = file.read(4)
        if len(payload) < length or len(stored) < 4:
            break
        if kind in _CHECKED and zlib.crc32(payload, zlib.crc32(kind)) != int.from_bytes(stored, "big"):
            raise ValueError(f"its {kind.decode()} chunk does not match its checksum")
        if kind == b"IEND":
            return
    raise EOFError("the end of the file is missing")


def bare(file: BinaryIO) -> bytes:
    """The file with nothing but its pixels: OpenCV prints warnings about colour profiles it need not see."""
    wanted = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
    return SIGNATURE + b"".join(chunk(kind, payload) for kind, payload in chunks(file) if kind in wanted)


def encode(pixels: np.ndarray, metadata: Metadata) -> Iterator[bytes]:
    """H x W x C, C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGB + alpha, uint8 or uint16, as pieces of a PNG file."""
    height, width, channels = pixels.shape
    depth = pixels.dtype.itemsize * 8
    yield SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, _COLOR_TYPE[channels], 0, 0, 0))
    yield from _metadata_chunks(metadata)
    deflate = zlib.compressobj(1, strategy=zlib.Z_RLE)
    row_bytes = width * channels * pixels.dtype.itemsize
    rows = max(1, _BLOCK // row_bytes)
    above = np.zeros((1, row_bytes), np.uint8)
    for top in range(0, height, rows):
        block = pixels[top : top + rows]
        raw = (
            np.ascontiguousarray(block, ">u2" if depth == 16 else np.uint8)
            .view(np.uint8)
            .reshape(len(block), row_bytes)
        )
        filtered = np.empty((len(block), row_bytes + 1), np.uint8)
        filtered[:, 0] = 2  # "up": each byte less the one above it
        np.subtract(raw[:1], above, out=filtered[:1, 1:])
        np.subtract(raw[1:], raw[:-1], out=filtered[1:, 1:])
        above = raw[-1:]
        if packed := deflate.compress(filtered.tobytes()):
            yield chunk(b"IDAT", packed)
    yield chunk(b"IDAT", deflate.flush()) + chunk(b"IEND", b"")


def _metadata_chunks(metadata: Metadata) -> Iterator[bytes]:
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
