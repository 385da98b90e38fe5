"""TIFF pages: deep and float pixels read through tifffile, pages written with EXIF. 8-bit pages Pillow decodes.

tifffile writes no EXIF directories, so they are placed in the file ahead of the pages and the first page points to
them.
"""

import logging
import math
import struct
import zlib
from typing import BinaryIO, Literal

import cv2
import numpy as np
import tifffile
from isal import isal_zlib
from PIL import Image

from upscale_cli.media import exif as ifd
from upscale_cli.media.metadata import Metadata
from upscale_cli.media.pixels import Pixels, from_pillow, to_depth, unpremultiply, upright

# without a handler of its own, the library's remarks on odd files would reach the terminal
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_ICC, _XMP, _IPTC, _PHOTOSHOP = 34675, 700, 33723, 34377
_RESOLUTION = (282, 283, 296)
_UNITS = {2: 1.0, 3: 2.54}  # to dots per inch
# tags that describe how pixels are stored, or hold them a second time, or place them on a map of the old size
_OF_THE_PIXELS = (
    {*range(254, 260), 262, 263, 264, 265, 266, 273, *range(277, 282), 284, *range(288, 294), 297, 301, 317}
    | {318, 319, *range(320, 331), 332, 333, 334, 336, *range(338, 348), *range(512, 522), *range(529, 534), 559}
    | {_ICC, _XMP, _IPTC, _PHOTOSHOP, 32995, 32996, 32997, 32998, 33550, 33922, 34264, 34735, 34736, 34737, 37724}
    | {42112, 42113, 50831, 50832, *range(50706, 50782), *range(50827, 50838)}
)
_DEFLATE, _HORIZONTAL, _STRAIGHT_ALPHA = 8, 2, 2
_BY_TIFFFILE = {1, 8, 32946, 32773}  # nothing, deflate under both its numbers, PackBits
_BY_NOBODY = {50001}  # WebP: the libtiff inside Pillow was built without, and says so on the terminal
_BY_OPENCV = {5, 8, 32946, 32773}  # LZW, and deflate with a predictor of floats; of others it may give black
_DEFLATE_RATIO = 1032  # zlib can make no more of a byte
_SPARE_BYTES = 1 << 25
_MOST_SAMPLES = 16
_STRIP_BYTES = 1 << 20  # before compression
_CLASSIC_BYTES = 4_000_000_000  # 32-bit offsets end at 4.29e9


def check_header(head: bytes, size_bytes: int) -> None:
    """Raises EOFError where the file ends before its first directory, ValueError where it has no whole header."""
    order, big = ("<" if head[:2] == b"II" else ">"), b"+" in head[:4]
    if len(head) < (16 if big else 8):
        raise EOFError("it ends in its header")
    if struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)[0] >= size_bytes:
        raise EOFError("its directory is missing")


def pages(file: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """The pictures of the file: reduced copies (thumbnails) and masks are none. ValueError for pages without end."""
    found = []
    seen: set[int] = set()
    for page in file.pages:
        assert isinstance(page, tifffile.TiffPage)
        if page.offset in seen:
            raise ValueError("its list of pages runs in a circle")
        seen.add(page.offset)
        if page.imagewidth and page.imagelength and not page.subfiletype & 0b101:
            found.append(page)
    return found


def depth(page: tifffile.TiffPage) -> Literal[8, 16]:
    """8 where a sample has 8 bits or fewer, else 16: wider and float samples are stored as 16."""
    return 8 if page.bitspersample <= 8 and page.sampleformat == 1 else 16


def orientation(page: tifffile.TiffPage) -> int:
    tag = page.tags.get(ifd.ORIENTATION)
    return tag.value if tag is not None and tag.value in range(1, 9) else 1


def channels(page: tifffile.TiffPage) -> Literal[1, 3]:
    return 1 if page.photometric in (0, 1) else 3


def has_alpha(page: tifffile.TiffPage) -> bool:
    return any(kind in (1, 2) for kind in page.extrasamples)


def by_pillow(page: tifffile.TiffPage) -> bool:
    """Whether it is left to Pillow: 8 bits or fewer, in what tifffile alone does not decode.

    No more than that: libtiff, which Pillow uses, prints on the terminal when data are damaged.
    """
    plain = page.bitspersample >= 8 and page.compression in (1, 8, 32946) and page.photometric in (0, 1, 2)
    return not plain and depth(page) == 8 and page.compression not in _BY_NOBODY


def check_complete(page: tifffile.TiffPage, size_bytes: int) -> None:
    """Raises EOFError where the file ends before the page's data do."""
    for start, length in zip(page.dataoffsets, page.databytecounts, strict=False):
        if start + length > size_bytes:
            raise EOFError(f"{start + length - size_bytes} bytes of its pixels are missing")


def decode(page: tifffile.TiffPage, index: int, icc: bytes | None) -> Pixels:
    """The pixels of a page of any sample type, upright. Raises ValueError with the reason where it has no reading."""
    array = _samples(page, index)
    array, notes = _as_unsigned(array, page)
    if page.photometric == 5:
        if array.shape[2] != 4:
            raise ValueError(f"it has {array.shape[2]} ink channels; convert it to RGB first")
        image = Image.frombytes("CMYK", (array.shape[1], array.shape[0]), to_depth(array, 8).tobytes())
        pixels = from_pillow(image, icc)
        notes += ["16-bit CMYK reduced to 8 bits", *pixels.notes]
        return Pixels(upright(pixels.color, orientation(page)), None, pixels.icc, tuple(notes))
    if page.photometric not in (0, 1, 2):
        name = getattr(page.photometric, "name", page.photometric)
        raise ValueError(f"its {page.bitspersample}-bit {name} pixels cannot be read; convert it to RGB first")
    count = channels(page)
    if array.shape[2] < count:
        raise ValueError(f"it has {array.shape[2]} samples per pixel where {count} are needed")
    color, alpha = array[..., :count], None
    if page.photometric == 0:
        color = np.iinfo(color.dtype).max - color
    if array.shape[2] > count:
        kind = page.extrasamples[0] if page.extrasamples else 0
        alpha = array[..., count] if kind in (1, 2) else None
        color = unpremultiply(color, array[..., count]) if kind == 1 else color
        unused = array.shape[2] - count - (alpha is not None)
        notes += [f"{unused} extra channel{'s' * (unused > 1)} without a stated meaning dropped"] * (unused > 0)
    turn = orientation(page)
    return Pixels(upright(color, turn), None if alpha is None else upright(alpha, turn), None, tuple(notes))


def _samples(page: tifffile.TiffPage, index: int) -> np.ndarray:
    """H x W x samples in the file's own type."""
    if page.imagedepth != 1 or page.samplesperpixel > _MOST_SAMPLES:
        raise ValueError(
            f"it has {page.samplesperpixel} samples a pixel in {page.imagedepth} layers; convert it to RGB first"
        )
    if page.bitspersample not in (8, 16, 32, 64):
        raise ValueError(f"its {page.bitspersample}-bit samples cannot be read; convert it to 16 bits first")
    if page.compression not in _BY_TIFFFILE:
        return _through_opencv(page, index)
    _check_inflated(page)
    try:
        array = page.asarray()
    except (ValueError, TypeError, RuntimeError) as error:
        if "imagecodecs" not in str(error) and "COMPRESSION" not in str(error).upper():
            raise ValueError(f"its pixels are damaged ({error})") from error
        return _through_opencv(page, index)
    if array.ndim == 2:
        return array[..., None]
    if array.ndim == 3 and page.planarconfig == 2:
        array = np.moveaxis(array, 0, 2)
    if array.ndim != 3 or array.shape[:2] != (page.imagelength, page.imagewidth):
        raise ValueError(f"its pixels form an array of shape {array.shape}; convert it to RGB first")
    return array


def _check_inflated(page: tifffile.TiffPage) -> None:
    """Raises ValueError where a strip or tile inflates to far more than its pixels: tifffile would inflate it all."""
    if page.compression == 1:
        return
    most = min(math.prod(page.chunks), math.prod(page.shape)) * page.bitspersample // 8 + _SPARE_BYTES
    file = page.parent.filehandle
    for start, length in zip(page.dataoffsets, page.databytecounts, strict=False):
        if length * _DEFLATE_RATIO > most:
            file.seek(start)
            if len(zlib.decompressobj().decompress(file.read(length), most + 1)) > most:
                raise ValueError("its compressed data are many times larger than its pixels")


def _through_opencv(page: tifffile.TiffPage, index: int) -> np.ndarray:
    """LZW and other compressions that tifffile alone does not read."""
    compression = getattr(page.compression, "name", str(page.compression))
    fault = ValueError(
        f"its {compression} compression cannot be read at {page.bitspersample} bits; save it without compression"
    )
    if page.compression not in _BY_OPENCV or page.photometric not in (1, 2) or page.planarconfig != 1:
        raise fault
    data = np.fromfile(page.parent.filehandle.path, np.uint8)
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(0)  # it prints what it also raises
    try:
        done, found = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED, range=(index, index + 1))
    except cv2.error as error:
        raise fault from error
    finally:
        cv2.utils.logging.setLogLevel(level)
    if not done or not found or found[0].dtype != page.dtype or found[0].shape[:2] != page.shape[:2]:
        raise fault
    array = np.asarray(found[0])
    if array.ndim == 2:
        return array[..., None]
    return array[..., [2, 1, 0, 3][: array.shape[2]]]


def _as_unsigned(array: np.ndarray, page: tifffile.TiffPage) -> tuple[np.ndarray, list[str]]:
    """Samples as uint8 or uint16. Float: [0, 1] is black to white. 32-bit integers: the whole range."""
    kind = array.dtype.kind
    if kind == "f":
        if not np.isfinite(array).all():
            raise ValueError("it holds NaN or infinite pixels; repair it in the program that wrote it")
        note = f"{page.bitspersample}-bit float stored as 16-bit, 0 to 1 as black to white"
        if array.min() < 0 or array.max() > 1:
            note += "; values outside were clipped"
        return np.rint(np.clip(array.astype(np.float64), 0, 1) * 65535).astype(np.uint16), [note]
    if kind != "u" or array.dtype.itemsize > 4:
        raise ValueError(f"its {array.dtype.name} samples cannot be read; convert it to unsigned 16-bit first")
    if array.dtype.itemsize == 4:
        scaled = (array.astype(np.uint64) + 32768) // 65537
        return scaled.astype(np.uint16), ["32-bit integers stored as 16-bit"]
    return array.astype(array.dtype.newbyteorder("=")), []


def metadata(file: BinaryIO) -> Metadata:
    """What the first page carries: EXIF with its own directories, XMP, IPTC, colour profile, resolution."""
    directory, order = ifd.parse(file)

    def raw(tag: int) -> bytes | None:
        return directory[tag].data if tag in directory else None

    resolution = None
    if all(tag in directory and directory[tag].kind == 5 for tag in (282, 283)):
        x, y = (struct.unpack(order + "II", directory[tag].data[:8]) for tag in (282, 283))
        unit = struct.unpack(order + "H", directory[296].data[:2])[0] if 296 in directory else 2
        if x[1] and y[1] and unit in _UNITS:
            resolution = (x[0] / x[1] * _UNITS[unit], y[0] / y[1] * _UNITS[unit])
    kept = {tag: field for tag, field in directory.items() if tag not in _OF_THE_PIXELS}
    xmp = raw(_XMP)
    return Metadata(
        icc=raw(_ICC),
        exif=ifd.block(kept, order) if set(kept) - {*_RESOLUTION, ifd.ORIENTATION} else None,
        xmp=xmp.rstrip(b"\0") if xmp else None,
        dpi=resolution,
        iptc=raw(_IPTC),
    )


class PageWriter:
    """Writes pages to an empty file as rows come; the first carries the metadata. BigTIFF where 4 GB may not do."""

    def __init__(self, file: BinaryIO, *, metadata: Metadata, bytes_expected: int):
        directory: ifd.Directory = {}
        self._order: ifd.Order = "<"
        if metadata.exif is not None:
            directory, self._order = ifd.parse(metadata.exif)
        self._file = file
        self._big = bytes_expected > _CLASSIC_BYTES
        self._offset = self._order + ("Q" if self._big else "I")
        resolution = {} if metadata.dpi is None else self._resolution(metadata.dpi)
        self._resolved = resolution | {tag: directory[tag] for tag in _RESOLUTION if tag in directory}
        self._icc = metadata.icc
        self._first = {tag: field for tag, field in directory.items() if tag not in _OF_THE_PIXELS}
        if (camera := self._first.get(ifd.EXIF)) is not None and camera.child is not None:
            camera.child.pop(ifd.INTEROP, None)  # TIFF has no such directory: libtiff warns of it
        for tag, kind, data in ((_XMP, ifd.BYTE, metadata.xmp), (_IPTC, ifd.UNDEFINED, metadata.iptc)):
            if data is not None:
                self._first[tag] = ifd.Field(kind, len(data), data)
        head = (b"II" if self._order == "<" else b"MM") + self._pack("H", 43 if self._big else 42)
        head += self._pack("HH", 8, 0) if self._big else b""
        self._link = len(head)  # where the offset of the next directory belongs
        file.write(head + self._pack(self._offset[1], 0))

    def begin(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """A page of H x W x C, C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGB + alpha, uint8 or uint16."""
        self._shape = shape
        self._stored = dtype.newbyteorder(self._order)
        self._rows = max(1, min(shape[0], _STRIP_BYTES // (shape[1] * shape[2] * dtype.itemsize)))
        self._strips: list[tuple[int, int]] = []  # offset and length of each
        self._rest = np.empty((0, *shape[1:]), dtype)  # too few rows for a strip
        self._left = shape[0]

    def write(self, pixels: np.ndarray) -> None:
        """The next rows of the page; with the last of them it is complete. Lossless deflate."""
        self._left -= len(pixels)
        pixels = np.concatenate([self._rest, pixels]) if len(self._rest) else pixels
        stop = len(pixels) if not self._left else len(pixels) // self._rows * self._rows
        for top in range(0, stop, self._rows):
            strip = self._packed(pixels[top : min(stop, top + self._rows)])
            self._strips.append((self._file.tell(), len(strip)))
            self._file.write(strip)
        self._rest = pixels[stop:].copy()
        if not self._left:
            self._end_page()

    def _end_page(self) -> None:
        height, width, count = self._shape
        offsets, lengths = zip(*self._strips, strict=True)
        directory = self._first | self._resolved
        directory |= {
            256: self._field(ifd.LONG, width),
            257: self._field(ifd.LONG, height),
            258: self._field(ifd.SHORT, *[self._stored.itemsize * 8] * count),
            259: self._field(ifd.SHORT, _DEFLATE),
            262: self._field(ifd.SHORT, 2 if count > 2 else 1),
            273: self._field(ifd.LONG8 if self._big else ifd.LONG, *offsets),
            277: self._field(ifd.SHORT, count),
            278: self._field(ifd.LONG, self._rows),
            279: self._field(ifd.LONG, *lengths),
            284: self._field(ifd.SHORT, 1),
            317: self._field(ifd.SHORT, _HORIZONTAL),
        }
        if count in (2, 4):
            directory[338] = self._field(ifd.SHORT, _STRAIGHT_ALPHA)
        if self._icc is not None:
            directory[_ICC] = ifd.Field(ifd.UNDEFINED, len(self._icc), self._icc)
        self._append(directory)
        self._first = {}

    def _packed(self, pixels: np.ndarray) -> bytes:
        """Rows as differences from the pixel on the left (TIFF 6.0 section 14), deflated as in PNG."""
        differences = pixels.copy()
        differences[:, 1:] -= pixels[:, :-1]
        return isal_zlib.compress(differences.astype(self._stored, copy=False), 1)

    def _append(self, directory: ifd.Directory) -> None:
        at = self._file.tell()
        self._file.write(b"\0" * (at % 2))  # directories begin at even offsets
        at += at % 2
        body = ifd.pack(directory, order=self._order, at=at, big=self._big)
        self._file.write(body)
        end = self._file.tell()
        self._file.seek(self._link)
        self._file.write(self._pack(self._offset[1], at))
        self._file.seek(end)
        self._link = at + (8 + 20 * len(directory) if self._big else 2 + 12 * len(directory))

    def _resolution(self, dpi: tuple[float, float]) -> ifd.Directory:
        x, y = (self._pack("II", round(value * 1000), 1000) for value in dpi)
        return {282: ifd.Field(5, 1, x), 283: ifd.Field(5, 1, y), 296: self._field(ifd.SHORT, 2)}

    def _field(self, kind: int, *values: int) -> ifd.Field:
        code = {ifd.SHORT: "H", ifd.LONG: "I", ifd.LONG8: "Q"}[kind]
        return ifd.Field(kind, len(values), self._pack(f"{len(values)}{code}", *values))

    def _pack(self, code: str, *values: int) -> bytes:
        return struct.pack(self._order + code, *values)
