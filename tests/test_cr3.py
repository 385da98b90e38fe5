"""EXIF out of Canon's boxes, put together box by box; and boxes that lie about themselves."""

import io
import struct

import numpy as np
import pytest
from pictures import XMP
from pictures import exif as exif_block

from upscale_cli.media import cr3
from upscale_cli.media import exif as ifd
from upscale_cli.media.metadata import Metadata, orientation

CANON = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
PACKET = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
CAMERA, _ = ifd.parse(exif_block(orientation=6))


def box(kind: bytes, *content: bytes, wide: bool = False, size: int | None = None) -> bytes:
    """With its true size, in 64 bits where asked, or another."""
    body = b"".join(content)
    if wide:
        return struct.pack(">I4sQ", 1, kind, len(body) + 16 if size is None else size) + body
    return struct.pack(">I4s", len(body) + 8 if size is None else size, kind) + body


def directory(tag: int | None = None) -> bytes:
    """What a camera knows, as one of the structures: the first directory, or that of a pointer, by itself."""
    if tag is None:
        return ifd.block({key: field for key, field in CAMERA.items() if field.child is None}, "<")
    child = CAMERA[tag].child
    assert child is not None
    return ifd.block(child, "<")


PARTS = (
    box(b"CNCV", b"CanonCR3_001/00.09.00/00.00.00"),
    box(b"CMT1", directory()),
    box(b"CMT2", directory(ifd.EXIF)),
    box(b"CMT3", ifd.block({1: ifd.Field(ifd.SHORT, 1, b"\1\0")}, "<")),
    box(b"CMT4", directory(ifd.GPS)),
)


def film(*parts: bytes, wide: bool = False, tail: bytes = b"") -> bytes:
    """A CR3 but for its pixels."""
    canon = box(b"uuid", CANON, *parts)
    moov = box(b"moov", box(b"free", bytes(12)), canon, box(b"mvhd", bytes(100)), wide=wide)
    return box(b"ftyp", b"crx \0\0\0\1crx isom") + moov + tail


def found(data: bytes) -> Metadata:
    return cr3.metadata(io.BytesIO(data))


@pytest.mark.parametrize("wide", [False, True])
def test_the_directories_become_one_block(wide: bool) -> None:
    data = film(*PARTS, wide=wide, tail=box(b"uuid", PACKET, XMP + b"\0") + box(b"mdat", bytes(99), size=0))
    assert data[4:12] == cr3.START
    metadata = found(data)
    assert metadata.xmp == XMP
    assert metadata.exif is not None
    whole, _ = ifd.parse(metadata.exif)
    assert ifd.is_whole(metadata.exif)
    assert orientation(metadata.exif, None) == 6
    assert whole[0x0110].data == b"EOS R5\0"
    for tag, inside in ((ifd.EXIF, 0x829A), (ifd.GPS, 2)):
        child, camera = whole[tag].child, CAMERA[tag].child
        assert child is not None
        assert camera is not None
        assert child[inside] == camera[inside]


def test_what_is_missing_or_damaged_is_left_out() -> None:
    whole, _ = ifd.parse(found(film(PARTS[1], box(b"CMT2", b"II*\0\xff\xff\0\0"), PARTS[4])).exif or b"")
    assert ifd.EXIF not in whole
    assert ifd.GPS in whole
    swapped = box(b"CMT2", ifd.block({33434: ifd.Field(5, 1, struct.pack(">II", 1, 250))}, ">"))
    assert ifd.EXIF not in ifd.parse(found(film(PARTS[1], swapped)).exif or b"")[0], "numbers would be read backwards"
    assert found(film(PARTS[0])) == Metadata()
    assert found(box(b"ftyp", b"crx ")) == Metadata()
    assert found(b"") == Metadata()


def test_pixels_that_are_cut_off_cost_nothing() -> None:
    data = film(*PARTS, tail=box(b"mdat", bytes(50), wide=True, size=1 << 40))
    assert found(data) == found(film(*PARTS))
    assert found(data).exif is not None


@pytest.mark.parametrize(
    "data",
    [
        film(*PARTS)[:200],
        film(box(b"CMT1", directory(), size=1 << 30)),
        film(box(b"CMT1", directory(), size=7)),
        film(box(b"CMT1", directory(), wide=True, size=(1 << 64) - 1)),
        film(box(b"CMT1", directory(), wide=True, size=15)),
        film(box(b"uuid", size=8)),
        film(box(b"CMT1", b"no TIFF")),
        film(*[box(b"free")] * 1001),
        box(b"moov", box(b"uuid", CANON, size=1 << 20)),
    ],
)
def test_boxes_that_lie_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"box|TIFF|directory"):
        found(data)


def test_a_box_larger_than_any_directory_is_not_read() -> None:
    class Sparse(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert size is not None
            assert 0 <= size < 1 << 20
            return super().read(size)

    data = film(box(b"CMT1", bytes(1 << 25)))
    with pytest.raises(ValueError, match=r"claims 33,554,432 bytes"):
        cr3.metadata(Sparse(data))


def test_whatever_bytes_change_it_ends_well() -> None:
    whole, draw = film(*PARTS, tail=box(b"uuid", PACKET, XMP)), np.random.default_rng(0)
    read = refused = 0
    for _ in range(500):
        torn = bytearray(whole[: draw.integers(1, len(whole) + 1)])
        for at in draw.integers(0, len(torn), 4):
            torn[at] = draw.integers(256)
        try:
            metadata = found(bytes(torn))
        except ValueError:
            refused += 1
            continue
        if metadata.exif is not None:
            assert ifd.parse(metadata.exif)[1] in ("<", ">")
            read += 1
    assert read > 50
    assert refused > 50
