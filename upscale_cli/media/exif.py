"""EXIF as bytes: the directories (IFDs) that JPEG, PNG, WebP and AVIF carry in a block and TIFF carries in the file.

Values are moved, never interpreted: every type, every unknown tag and the MakerNote survive byte for byte. A block is
patched in place, because MakerNotes hold offsets that break when anything moves; only to and from TIFF are directories
rewritten. Directories: TIFF 6.0 section 2, Exif 2.32 section 4.6, BigTIFF (Adobe/AWare). Damaged directories raise
ValueError.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

Order = Literal["<", ">"]

PREFIX = b"Exif\0\0"
ORIENTATION, EXIF, GPS, INTEROP = 274, 0x8769, 0x8825, 0xA005
_CHILDREN = {EXIF, GPS, INTEROP}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8, 129: 1}
BYTE, SHORT, LONG, UNDEFINED, LONG8 = 1, 3, 4, 7, 16
_WHOLE_NUMBERS = {BYTE, SHORT, LONG}  # an orientation is a SHORT; programs read the others too
_MOST_BYTES = 1 << 26  # of all values of a directory; neither a damaged count nor one value named a thousand times


@dataclass(frozen=True, slots=True)
class Field:
    """One tag: TIFF type, count and raw bytes in the file's byte order, or the directory it points to."""

    kind: int
    count: int
    data: bytes
    child: "Directory | None" = None


Directory = dict[int, Field]


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where an entry stands in its block, so that it can be patched there."""

    tag: int
    at: int
    start: int
    field: Field


@dataclass(frozen=True, slots=True)
class _Layout:
    """The byte order, and the widths in which classic TIFF and BigTIFF differ."""

    order: Order
    big: bool

    @property
    def offset(self) -> str:
        return self.order + ("Q" if self.big else "I")

    @property
    def head(self) -> str:
        return self.order + ("Q" if self.big else "H")

    @property
    def slot(self) -> int:
        return 8 if self.big else 4


def bare(block: bytes) -> bytes:
    """The block without the "Exif\\0\\0" that some containers put in front."""
    while block.startswith(PREFIX):
        block = block[len(PREFIX) :]
    return block


def _header(file: BinaryIO) -> tuple[_Layout, int]:
    file.seek(0)
    head = file.read(16)
    order: Order | None = {b"II": "<", b"MM": ">"}.get(head[:2])  # type: ignore[assignment]
    if order is None or len(head) < 8:
        raise ValueError("no TIFF header")
    magic = struct.unpack_from(order + "H", head, 2)[0]
    if magic == 42:
        return _Layout(order, False), struct.unpack_from(order + "I", head, 4)[0]
    if magic == 43 and len(head) == 16:
        return _Layout(order, True), struct.unpack_from(order + "Q", head, 8)[0]
    raise ValueError("no TIFF header")


def _slots(file: BinaryIO, at: int, layout: _Layout, depth: int = 0) -> tuple[list[_Slot], int]:
    """The entries of the directory at `at`, and where the pointer to the next directory stands."""
    width, fmt = struct.calcsize(layout.head), layout.order + ("HHQ" if layout.big else "HHI")
    file.seek(at)
    head = file.read(width)
    if len(head) < width or not at:
        raise ValueError("a directory lies outside the data")
    count = struct.unpack(layout.head, head)[0]
    size = struct.calcsize(fmt) + layout.slot
    if count > 4096:
        raise ValueError(f"a directory claims {count} tags")
    body = file.read(count * size)
    if len(body) < count * size:
        raise ValueError("a directory is cut off")
    found, left = [], _MOST_BYTES >> 2 * depth
    for index in range(count):
        tag, kind, number = struct.unpack_from(fmt, body, index * size)
        inline = body[(index + 1) * size - layout.slot : (index + 1) * size]
        length = _SIZES.get(kind, 0) * number
        start = at + width + (index + 1) * size - layout.slot
        data = inline[:length]
        if length > layout.slot:
            start = struct.unpack(layout.offset, inline)[0]
            file.seek(start)
            data = file.read(length) if length <= left else b""
            left -= len(data)
        if len(data) == length and kind in _SIZES:  # a value that is cut off is no value; its neighbours are kept
            found.append(_Slot(tag, at + width + index * size, start, Field(kind, number, data)))
    return found, at + width + count * size


def _pointer(field: Field, layout: _Layout) -> int:
    fmt = {4: "I", 13: "I", 16: "Q", 18: "Q"}.get(field.kind)
    if fmt is None or field.count != 1:
        raise ValueError("a directory pointer has the wrong type")
    return struct.unpack(layout.order + fmt, field.data)[0]


def _read(file: BinaryIO, at: int, layout: _Layout, depth: int = 0) -> Directory:
    directory: Directory = {}
    for slot in _slots(file, at, layout, depth)[0]:
        field = slot.field
        if slot.tag in directory:
            continue  # said twice: the first counts, and directories that hold one another stay few
        if slot.tag in _CHILDREN and depth < 2:
            try:
                field = Field(LONG, 1, b"", _read(file, _pointer(field, layout), layout, depth + 1))
            except ValueError:
                continue  # a pointer to nothing: the directory it names is lost already
        directory[slot.tag] = field
    return directory


def parse(block: bytes | BinaryIO) -> tuple[Directory, Order]:
    """The first directory of an EXIF block or an open TIFF file, with its children, and its byte order."""
    file = io.BytesIO(bare(block)) if isinstance(block, bytes) else block
    layout, at = _header(file)
    return _read(file, at, layout), layout.order


def pack(directory: Directory, *, order: Order, at: int, big: bool = False) -> bytes:
    """The directory as bytes to stand at the even file offset `at`, its long values and its children behind it."""
    layout = _Layout(order, big)
    body = struct.pack(layout.head, len(directory))
    size = len(body) + len(directory) * (20 if big else 12) + layout.slot
    tail = b""
    for tag, field in sorted(directory.items()):
        kind, count, data = field.kind, field.count, field.data
        where = at + size + len(tail)
        if field.child is not None:
            kind, count, data = (LONG8 if big else LONG), 1, struct.pack(layout.offset, where)
            tail += pack(field.child, order=order, at=where, big=big)
        elif len(data) > layout.slot:
            tail += data + b"\0" * (len(data) % 2)
            data = struct.pack(layout.offset, where)
        body += struct.pack(order + ("HHQ" if big else "HHI"), tag, kind, count) + data.ljust(layout.slot, b"\0")
    return body + b"\0" * layout.slot + tail


def block(directory: Directory, order: Order) -> bytes:
    """An EXIF block (no "Exif\\0\\0" in front) that holds the directory."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    return head + pack(directory, order=order, at=8)


def orientation(block: bytes) -> int:
    """1 to 8, as in the Exif standard; 1 where the block does not say."""
    directory, order = parse(block)
    field = directory.get(ORIENTATION)
    if field is None or field.kind not in _WHOLE_NUMBERS or field.count != 1:
        return 1
    value = int.from_bytes(field.data, "little" if order == "<" else "big")
    return value if 1 <= value <= 8 else 1


def _tree(file: BinaryIO, layout: _Layout, at: int) -> Iterator[tuple[int, int, list[_Slot], int]]:
    """Every directory below `at`: its parent tag (0 for the first), its place, its entries, its next pointer."""
    waiting = [(0, at, 0)]
    while waiting:
        tag, where, depth = waiting.pop()
        try:
            slots, next_at = _slots(file, where, layout, depth)
        except ValueError:
            if not tag:
                raise
            continue
        yield tag, where, slots, next_at
        if depth < 2:
            children = {
                slot.tag: _pointer(slot.field, layout)
                for slot in reversed(slots)  # of a tag said twice the first counts
                if slot.tag in _CHILDREN and slot.field.kind in (4, 13) and slot.field.count == 1
            }
            waiting += [(child, place, depth + 1) for child, place in children.items()]


def is_whole(block: bytes) -> bool:
    """Whether every value that the block's directories promise is there."""
    file = io.BytesIO(bare(block))
    layout, first = _header(file)
    return all((end - at - 2) // 12 == len(slots) for _, at, slots, end in _tree(file, layout, first))


def for_output(block: bytes, width: int, height: int) -> bytes:
    """The block for an upright picture of this size: orientation 1, size tags right, the thumbnail of the old one gone.

    Patched in place: nothing but the thumbnail's bytes changes its position or length.
    """
    data = bytearray(bare(block))
    file = io.BytesIO(bytes(data))
    layout, first = _header(file)
    if layout.big:
        raise ValueError("an EXIF block is no BigTIFF")
    sizes = {0: {256: width, 257: height}, EXIF: {0xA002: width, 0xA003: height}}
    used = 8
    thumbnail = 0
    for parent, _, slots, next_at in _tree(file, layout, first):
        used = max(used, next_at + 4, *(slot.start + len(slot.field.data) for slot in slots), 0)
        for slot in slots:
            if slot.field.kind not in _WHOLE_NUMBERS or slot.field.count != 1:
                continue
            if slot.tag == ORIENTATION and parent == 0:
                struct.pack_into(layout.order + "HIHH", data, slot.at + 2, SHORT, 1, 1, 0)
            elif value := sizes.get(parent, {}).get(slot.tag):
                struct.pack_into(layout.order + "HII", data, slot.at + 2, LONG, 1, value)
        if parent == 0 and next_at + 4 <= len(data):
            thumbnail = struct.unpack_from(layout.offset, data, next_at)[0]
            struct.pack_into(layout.offset, data, next_at, 0)
    if thumbnail:
        _blank(data, file, layout, thumbnail)
    # what follows the last value was the thumbnail; anything else there (a MakerNote's own data) is not zero and stays
    return bytes(data) if any(data[used:]) else bytes(data[:used])


def _blank(data: bytearray, file: BinaryIO, layout: _Layout, at: int) -> None:
    """Overwrite the thumbnail directory at `at`, its values and its JPEG bytes with zeros."""
    try:
        slots, end = _slots(file, at, layout)
    except ValueError:
        return
    extents = [(at, end + 4)] + [(slot.start, slot.start + len(slot.field.data)) for slot in slots]
    numbers = {
        slot.tag: int.from_bytes(slot.field.data, "little" if layout.order == "<" else "big")
        for slot in slots
        if slot.field.count == 1 and slot.field.kind in (SHORT, LONG)
    }
    for start_tag, length_tag in ((513, 514), (273, 279)):  # JPEG thumbnail, uncompressed strip
        if start_tag in numbers and length_tag in numbers:
            extents.append((numbers[start_tag], numbers[start_tag] + numbers[length_tag]))
    for start, stop in extents:
        length = max(0, min(stop, len(data)) - start)
        data[start : start + length] = bytes(length)


def without_orientation(block: bytes) -> bytes:
    """The block with the orientation tag taken out of its first directory; nothing else moves."""
    data = bytearray(bare(block))
    file = io.BytesIO(bytes(data))
    layout, first = _header(file)
    slots, next_at = _slots(file, first, layout)
    for slot in slots:
        if slot.tag == ORIENTATION:
            count = struct.unpack_from(layout.head, data, first)[0]
            struct.pack_into(layout.head, data, first, count - 1)
            data[slot.at : next_at + 4] = data[slot.at + 12 : next_at + 4] + bytes(12)
    return bytes(data)
