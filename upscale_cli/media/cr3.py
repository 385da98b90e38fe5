"""Canon's CR3: boxes of ISO/IEC 14496-12, some of which hold what is known of the shot, each as a TIFF structure.

In `moov`, in a box of Canon's own, CMT1 is the first directory of EXIF, CMT2 that of the shot, CMT4 that of the place;
an XMP packet is a box by itself. CMT3, the MakerNote, is left out: its offsets count from where it stands. The layout
is as Laurent Clévy found it, github.com/lclevy/canon_cr3. Knows no pixels.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from upscale_cli.media import exif as ifd
from upscale_cli.media.metadata import Metadata

START = b"ftypcrx "
"""Of the file, from its fifth byte on."""
_CANON = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_MOST_BOXES = 1000  # side by side
_MOST_BYTES = 1 << 24  # of a box that is read
_DIRECTORIES = {b"CMT2": ifd.EXIF, b"CMT4": ifd.GPS}


@dataclass(frozen=True, slots=True)
class _Box:
    kind: bytes
    """Four letters, or the sixteen bytes behind `uuid`."""
    start: int
    """Of what it holds."""
    stop: int


def metadata(file: BinaryIO) -> Metadata:
    """EXIF and XMP; Metadata() where there is neither. ValueError where the file is damaged on the way to them."""
    from upscale_cli.media import tiff

    exif, xmp = None, None
    try:
        for box in _boxes(file, 0, file.seek(0, io.SEEK_END)):
            if box.kind == b"moov" and exif is None:
                canon = next((each for each in _boxes(file, box.start, box.stop) if each.kind == _CANON), None)
                exif = None if canon is None else _exif(file, canon)
            elif box.kind == _XMP and xmp is None:
                xmp = _read(file, box)
    except ValueError:
        if exif is None:
            raise  # else what follows is cut off or odd, and what came before is known
    found = Metadata() if exif is None else tiff.metadata(io.BytesIO(exif))
    return replace(found, xmp=xmp.rstrip(b"\0") if xmp else None)


def _exif(file: BinaryIO, canon: _Box) -> bytes | None:
    """One block of the directories in Canon's box; those that are damaged are left out, unless it is the first."""
    parts = {box.kind: box for box in _boxes(file, canon.start, canon.stop)}
    if b"CMT1" not in parts:
        return None
    directory, order = ifd.parse(_read(file, parts[b"CMT1"]))
    for kind, pointer in _DIRECTORIES.items():
        try:
            child, its_order = ifd.parse(_read(file, parts[kind])) if kind in parts else ({}, order)
        except ValueError:
            continue
        if child and its_order == order:
            directory[pointer] = ifd.Field(ifd.LONG, 1, b"", child)
    return ifd.block(directory, order)


def _read(file: BinaryIO, box: _Box) -> bytes:
    if box.stop - box.start > _MOST_BYTES:
        raise ValueError(f"a box claims {box.stop - box.start:,} bytes")
    file.seek(box.start)
    return file.read(box.stop - box.start)


def _boxes(file: BinaryIO, start: int, stop: int) -> Iterator[_Box]:
    """The boxes between two places in the file, one behind the other (ISO/IEC 14496-12 section 4.2)."""
    for _ in range(_MOST_BOXES):
        if start + 8 > stop:
            return
        file.seek(start)
        head = file.read(min(32, stop - start))
        size, kind = struct.unpack_from(">I4s", head)
        inside = 8
        if size == 1 and len(head) >= 16:
            size, inside = struct.unpack_from(">Q", head, 8)[0], 16
        elif size == 0:  # up to the end
            size = stop - start
        if kind == b"uuid":
            kind, inside = head[inside : inside + 16], inside + 16
        if not inside <= size <= stop - start:
            raise ValueError("a box is larger than what it lies in, or smaller than its head")
        yield _Box(kind, start + inside, start + size)
        start += size
    raise ValueError("it holds boxes without end")
