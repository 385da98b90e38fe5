"""Pictures for tests: photographs at any depth, PNG files, colour profiles and EXIF blocks made byte by byte."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from upscale_cli.journal import FILE_NAME
from upscale_cli.media.encode import ImageSink
from upscale_cli.media.formats import EXTENSIONS
from upscale_cli.media.frame import Frame
from upscale_cli.media.image import ImageSource
from upscale_cli.media.metadata import Metadata

PHOTOS = Path(__file__).parents[1] / "benchmarks" / "photos"


def photo(
    height: int = 45, width: int = 60, *, channels: int = 3, depth: int = 8, name: str = "courtyard"
) -> np.ndarray:
    """A photograph, height x width x channels; the 16-bit one has 16 bits of detail."""
    with Image.open(PHOTOS / f"{name}.jpg") as image:
        pixels = np.array(image.convert("RGB" if channels == 3 else "L")).astype(np.float32) / 255
    pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, channels)
    most = 255 if depth == 8 else 65535
    return np.rint(pixels * most).astype(np.uint8 if depth == 8 else np.uint16)


def ramp(height: int = 45, width: int = 60, *, depth: int = 8) -> np.ndarray:
    """Alpha from clear on the left to opaque on the right."""
    most = 255 if depth == 8 else 65535
    row = np.linspace(0, most, width)
    return np.tile(row, (height, 1)).astype(np.uint8 if depth == 8 else np.uint16)


def frame(*, channels: int = 3, depth: int = 8, alpha: bool = False, seconds: float | None = None) -> Frame:
    return Frame(photo(channels=channels, depth=depth), ramp(depth=depth) if alpha else None, seconds)


def write(path: Path, *frames: Frame, metadata: Metadata | None = None, **options: object) -> list[str]:
    """Write by extension; the sink's notes."""
    kind = EXTENSIONS[path.suffix[1:]]
    with ImageSink(path, format=kind, metadata=metadata or Metadata(), **options) as sink:  # type: ignore[arg-type]
        for each in frames:
            sink.write(each)
    return sink.notes


def read(path: Path, **options: object) -> tuple[list[Frame], Metadata, list[str]]:
    with ImageSource(path, **options) as source:  # type: ignore[arg-type]
        frames = list(source.frames())
        return frames, source.metadata, source.notes


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    most = np.iinfo(a.dtype).max
    error = np.mean((a.astype(float) - b.astype(float)) ** 2)
    return 99.0 if error == 0 else float(10 * np.log10(most**2 / error))


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png(pixels: np.ndarray, color_type: int, *, depth: int = 16, before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG file of H x W x samples; chunks before and after the pixels."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels, ">u2" if depth == 16 else np.uint8).view(np.uint8).reshape(height, -1)
    data = np.concatenate([np.zeros((height, 1), np.uint8), rows], 1).tobytes()
    head = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    body = chunk(b"IHDR", head) + before + chunk(b"IDAT", zlib.compress(data)) + after
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


# --- colour profiles (ICC.1:2010), as small as the standard lets them be ---------------------------------------------


def s15(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def profile(space: bytes, kind: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Of a colour space, a device class and a space to connect by, with these tags beside the obligatory ones."""
    tags = {
        b"desc": _description(),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + s15(0.9642, 1, 0.8249),
        **tags,
    }
    table, body = struct.pack(">I", len(tags)), b""
    for tag, value in tags.items():
        table += tag + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(value))
        body += value + b"\0" * (-len(value) % 4)
    head = struct.pack(">I4sI4s4s4s6H4s", 0, b"test", 0x02400000, kind, space, pcs, 2020, 1, 1, 0, 0, 0, b"acsp")
    head = head.ljust(68, b"\0") + s15(0.9642, 1, 0.8249)
    whole = head.ljust(128, b"\0") + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


def _description() -> bytes:
    text = b"for tests\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)


def display_p3() -> bytes:
    """P3 primaries adapted to D50, gamma 2.2."""
    gamma = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256))
    columns = {b"rXYZ": (0.5151, 0.2412, -0.0011), b"gXYZ": (0.292, 0.6922, 0.0419), b"bXYZ": (0.1571, 0.0666, 0.7841)}
    tags = {tag: b"XYZ \0\0\0\0" + s15(*value) for tag, value in columns.items()}
    return profile(b"RGB ", b"mntr", b"XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma))


def grey_profile() -> bytes:
    return profile(b"GRAY", b"mntr", b"XYZ ", {b"kTRC": b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256))})


def cmyk_profile() -> bytes:
    """Paper is white, cyan a colour of its own, all else black: it shows whether this or the plain formula was used."""
    even = bytes(range(256))
    corners = b""
    for ink in range(16):  # Lab8: L 0-255, a and b around 128
        cyan_only = ink == 8
        corners += bytes((255, 128, 128) if ink == 0 else (140, 90, 78) if cyan_only else (0, 128, 128))
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + s15(1, 0, 0, 0, 1, 0, 0, 0, 1) + even * 4 + corners + even * 3
    return profile(b"CMYK", b"prtr", b"Lab ", {b"A2B0": table})


# --- EXIF ------------------------------------------------------------------------------------------------------------


def exif(*, orientation: int | None = None, endian: str = "<", thumbnail: bool = False) -> bytes:
    """A camera's block, made by Pillow; with a thumbnail directory behind it where asked."""
    tags = Image.Exif()
    tags.endian = endian
    tags[0x010F], tags[0x0110], tags[0x013B], tags[0x8298] = "Canon", "EOS R5", "Ann", "(c) Ann"
    tags[282], tags[283], tags[296] = 240.0, 240.0, 2
    if orientation is not None:
        tags[274] = orientation
    tags[0x8769] = {
        0x829A: IFDRational(1, 250),
        0x829D: 5.6,
        0x8827: 400,
        0x9003: "2024:05:06 07:08:09",
        0xA002: 4000,
        0xA003: 3000,
        0xA434: "RF 24-70",
        0x927C: b"maker\x01\x02\x03\x00\xff",
    }
    tags[0x8825] = {1: "N", 2: (47.0, 30.0, 0.0), 3: "E", 4: (8.0, 15.0, 0.0)}
    block = bytearray(tags.tobytes()[6:])
    if thumbnail:
        data = io.BytesIO()
        Image.fromarray(photo(12, 16)).save(data, "JPEG")
        block += b"\0" * (len(block) % 2)
        first = struct.unpack_from(endian + "I", block, 4)[0]
        count = struct.unpack_from(endian + "H", block, first)[0]
        struct.pack_into(endian + "I", block, first + 2 + 12 * count, len(block))
        at = len(block) + 2 + 24 + 4
        block += struct.pack(endian + "HHHIIHHIII", 2, 513, 4, 1, at, 514, 4, 1, len(data.getvalue()), 0)
        block += data.getvalue()
    return bytes(block)


XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/" tiff:Orientation="1" '
    b'exif:PixelXDimension="4000"><exif:PixelYDimension>3000</exif:PixelYDimension><tiff:Make>Canon</tiff:Make>'
    b'</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a folder but its journal."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != FILE_NAME
    }
