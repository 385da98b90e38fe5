"""Files made to hurt: loops, bombs, headers that lie. Each is read without its bad part, or is one InputError."""

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pictures import chunk, display_p3, exif, frame, photo, png, read, write
from PIL import Image

from upscale_cli.errors import InputError
from upscale_cli.media import exif as ifd
from upscale_cli.media.image import probe

# --- EXIF that is made to hurt -----------------------------------------------------------------------------------


def directory(*tags: tuple[int, int, int, bytes], after: bytes = b"") -> bytes:
    """An EXIF block of one directory: tag, kind, count, and the value or its offset."""
    body = b"".join(struct.pack("<HHI", *tag[:3]) + tag[3].ljust(4, b"\0") for tag in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + body + bytes(4) + after


def with_exif(path: Path, block: bytes) -> Path:
    Image.fromarray(photo()).save(path, exif=b"Exif\0\0" + block)
    return path


@pytest.mark.timeout(20)
def test_directories_that_hold_themselves_are_read_once(tmp_path: Path) -> None:
    own = struct.pack("<I", 8)
    block = directory(*[((0x8769, 0x8825, 0xA005)[index % 3], 4, 1, own) for index in range(1000)])
    (found,), _, _ = read(with_exif(tmp_path / "a.jpg", block))
    assert found.color.shape == (45, 60, 3)
    ifd.for_output(block, 1, 1)


def test_one_value_named_a_thousand_times_is_no_allocation() -> None:
    value = bytes(1 << 20)
    tags = [(0x9000 + index, 7, len(value), struct.pack("<I", 8 + 2 + 1000 * 12 + 4)) for index in range(1000)]
    block = directory(*tags, after=value)
    tracemalloc.start()
    ifd.parse(block)
    ifd.is_whole(block)
    ifd.for_output(block, 1, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000_000


@pytest.mark.parametrize("kind", [1, 3, 4])
def test_an_orientation_of_another_whole_number_type_turns_the_picture_once(tmp_path: Path, kind: int) -> None:
    block = directory((274, kind, 1, b"\6\0\0\0"))
    (found,), metadata, _ = read(with_exif(tmp_path / "a.jpg", block))
    assert found.color.shape == (60, 45, 3)
    assert metadata.exif is not None
    assert ifd.orientation(ifd.for_output(metadata.exif, 45, 60)) == 1


@pytest.mark.parametrize(
    "tag", [(274, 2, 2, b"6\0"), (274, 3, 2, b"\6\0\6\0"), (274, 3, 1, b"\x63\0"), (274, 5, 1, b"\x08")]
)
def test_an_orientation_that_is_none_turns_nothing(tmp_path: Path, tag: tuple[int, int, int, bytes]) -> None:
    (found,), _, _ = read(with_exif(tmp_path / "a.jpg", directory(tag)))
    assert found.color.shape == (45, 60, 3)


# --- PNG: what is not pixels costs no picture ---------------------------------------------------------------------

_BOMB = zlib.compress(bytes(100 << 20), 9)
_PROFILE = chunk(b"iCCP", b"p\0\0" + zlib.compress(display_p3()))


def off_by_one(whole: bytes) -> bytes:
    """A chunk with a wrong checksum."""
    return whole[:-1] + bytes([whole[-1] ^ 1])


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (off_by_one(chunk(b"tEXt", b"Author\0Ann")), "tEXt chunk does not match its checksum"),
        (off_by_one(chunk(b"eXIf", exif(orientation=6))), "eXIf chunk does not match its checksum"),
        (off_by_one(chunk(b"pHYs", struct.pack(">IIB", 2835, 2835, 1))), "pHYs chunk does not match its checksum"),
        (chunk(b"zTXt", b"Author\0\0" + _BOMB), "zTXt chunk is too large"),
        (chunk(b"iTXt", b"Author\0\1\0\0\0" + _BOMB), "iTXt chunk is too large"),
        (chunk(b"zTXt", b"Author\0\0" + zlib.compress(bytes(1 << 20))) * 70, "zTXt chunk is too large"),
    ],
    ids=["text", "exif", "resolution", "bomb", "international bomb", "many"],
)
def test_a_bad_chunk_beside_the_pixels_is_left_out_with_a_note(
    tmp_path: Path, bad: bytes, says: str, late: bool
) -> None:
    after = chunk(b"tEXt", b"Title\0Court") + bad
    data = png(photo(), 2, depth=8, before=_PROFILE + after * (not late), after=after * late)
    (tmp_path / "a.png").write_bytes(data)
    tracemalloc.start()
    (found,), metadata, notes = read(tmp_path / "a.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(found.color, photo())
    assert (metadata.icc, metadata.exif) == (display_p3(), None)
    assert ("Title", "Court") in metadata.text
    assert notes == [f"its {says}: left out"]
    assert peak < 120_000_000


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (off_by_one(_PROFILE), "does not match its checksum"),
        (chunk(b"iCCP", b"p\0\0" + _BOMB), "is too large"),
        (chunk(b"iCCP", b""), "is damaged"),
        (chunk(b"iCCP", b"p\0\7abc"), "is damaged"),
    ],
)
def test_a_bad_profile_chunk_is_left_out_with_a_note(tmp_path: Path, bad: bytes, says: str) -> None:
    (tmp_path / "a.png").write_bytes(png(photo(), 2, depth=8, before=bad))
    (found,), metadata, notes = read(tmp_path / "a.png")
    assert np.array_equal(found.color, photo())
    assert metadata.icc is None
    assert notes == [f"its iCCP chunk {says}: left out"]


def test_old_exif_text_that_is_no_exif_is_dropped_with_a_note(tmp_path: Path) -> None:
    text = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n  3\nxyz"))
    (tmp_path / "a.png").write_bytes(png(photo(), 2, depth=8, before=text))
    (found,), metadata, notes = read(tmp_path / "a.png")
    assert np.array_equal(found.color, photo())
    assert metadata.exif is None
    assert notes[0].startswith("EXIF dropped")


def test_a_checksum_that_makes_a_png_unreadable_is_named(tmp_path: Path) -> None:
    transparent = off_by_one(chunk(b"tRNS", bytes(6)))
    (tmp_path / "a.png").write_bytes(png(photo(), 2, depth=8, before=transparent))
    with pytest.raises(InputError, match="tRNS chunk does not match its checksum"):
        probe(tmp_path / "a.png")


def test_a_palette_picture_without_its_palette(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(photo(channels=1), 3, depth=8))
    with pytest.raises(InputError, match=r"a\.png: cannot be decoded: its structure is damaged"):
        probe(tmp_path / "a.png")


def test_an_animation_that_claims_no_frames_is_said_to_be_still(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(photo(), 2, depth=8, before=chunk(b"acTL", bytes(8))))
    assert "its animation is damaged: the still picture is used" in probe(tmp_path / "a.png").notes


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_the_frames_of_an_animation_count_together(tmp_path: Path, name: str) -> None:
    turned = [Image.fromarray(np.roll(photo(), index, 1)) for index in range(5)]
    turned[0].save(tmp_path / name, save_all=True, append_images=turned[1:], duration=40)
    assert probe(tmp_path / name, max_pixels=5 * 60 * 45).frames == 5
    with pytest.raises(InputError, match=r"5 x 60 x 45 = 13,500 pixels.*--max-pixels"):
        probe(tmp_path / name, max_pixels=5 * 60 * 45 - 1)


# --- JPEG, WebP, AVIF ---------------------------------------------------------------------------------------------


def jpeg(tmp_path: Path, at: int, change: bytes) -> Path:
    """A JPEG whose frame header says something else; `at` from its marker."""
    path = tmp_path / "a.jpg"
    Image.fromarray(photo()).save(path)
    data = bytearray(path.read_bytes())
    start = data.index(b"\xff\xc0") + at
    data[start : start + len(change)] = change
    path.write_bytes(data)
    return path


def test_a_jpeg_that_claims_more_pixels_than_it_can_hold(tmp_path: Path) -> None:
    """Its decoder would paint grey what is not there."""
    path = jpeg(tmp_path, 5, struct.pack(">HH", 9000, 9000))
    assert probe(path).width == 9000
    with pytest.raises(InputError, match=r"truncated .* cannot hold 9000 x 9000 pixels"):
        read(path)


def test_a_picture_of_one_colour_is_not_too_short(tmp_path: Path) -> None:
    for options in ({}, {"optimize": True}, {"progressive": True}, {"subsampling": "4:4:4"}, {"quality": 1}):
        Image.new("RGB", (2000, 1501), "red").save(tmp_path / "a.jpg", **options)  # type: ignore[arg-type]
        assert len(read(tmp_path / "a.jpg")[0]) == 1


def test_a_12_bit_jpeg_is_called_that(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"12-bit JPEG; convert it"):
        probe(jpeg(tmp_path, 4, b"\x0c"))


def test_a_profile_of_which_a_part_is_missing_is_dropped_with_a_note(tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / "a.jpg", icc_profile=display_p3())
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data.replace(b"ICC_PROFILE\0\1\1", b"ICC_PROFILE\0\1\2"))
    _, metadata, notes = read(tmp_path / "a.jpg")
    assert metadata.icc is None
    assert notes[0].startswith("colour profile dropped")


@pytest.mark.parametrize("name", ["a.webp", "a.avif"])
def test_how_much_of_a_file_is_missing_is_said(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, frame())
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[:-100])
    with pytest.raises(InputError, match=r"truncated \(100 bytes are missing\)"):
        read(tmp_path / name)


def test_what_follows_the_end_of_a_picture_is_not_read(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a.webp", "a.gif", "a.bmp"):
        write(tmp_path / name, frame())
        (before,), _, _ = read(tmp_path / name)
        with (tmp_path / name).open("ab") as file:
            file.write(bytes(range(256)) * 20)
        (found,), _, notes = read(tmp_path / name)
        assert np.array_equal(found.color, before.color)
        assert notes == []


# --- TIFF ----------------------------------------------------------------------------------------------------------


def tiff(*tags: tuple[int, int, int, int], data: bytes = bytes(16), following: int = 0) -> bytes:
    """A grey TIFF of 4 x 4, one strip, with other or more tags: tag, kind, count, value."""
    known = {256: (4, 1, 4), 257: (4, 1, 4), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    known |= {273: (4, 1, 0), 278: (4, 1, 4), 279: (4, 1, len(data))} | {tag[0]: tag[1:] for tag in tags}
    known[273] = (4, 1, 8 + 2 + 12 * len(known) + 4)
    body = b"".join(struct.pack("<HHII", tag, *value) for tag, value in sorted(known.items()))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(known)) + body + struct.pack("<I", following) + data


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (tiff(following=8), "its list of pages runs in a circle"),
        (tiff(following=126) + tiff(following=8)[8:], "its list of pages runs in a circle"),
        (tiff((259, 3, 1, 99)), "compression cannot be read at 8 bits; save it without compression"),
        (tiff((277, 3, 1, 65535)), "65535 samples a pixel"),
        (tiff((256, 4, 1, 70000), (257, 4, 1, 70000)), "--max-pixels"),
        (tiff((256, 4, 1, 9000), (257, 4, 1, 9000)), "damaged"),
        (tiff()[:60], "a.tif"),
        (b"II*\0\xff\xff\xff\x7f", r"truncated \(its directory is missing"),
        (b"MM\0*", r"truncated \(it ends in its header"),
        (b"II+\0\x08\0\0\0", r"truncated \(it ends in its header"),
    ],
    ids=["loop", "long loop", "compression", "samples", "huge", "lies", "cut", "far", "short", "short big"],
)
@pytest.mark.timeout(20)
def test_a_tiff_that_is_made_to_hurt_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(InputError, match=says) as caught:
        read(tmp_path / "a.tif")
    assert "a.tif" in str(caught.value)


def test_the_4_by_4_tiff_itself_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(data=bytes(range(16))))
    assert read(tmp_path / "a.tif")[0][0].color.ravel().tolist() == list(range(16))


def test_a_strip_that_inflates_without_end_is_not_inflated(tmp_path: Path) -> None:
    bomb = zlib.compress(bytes(200 << 20), 9)
    (tmp_path / "a.tif").write_bytes(tiff((259, 3, 1, 8), data=bomb))
    tracemalloc.start()
    with pytest.raises(InputError, match="many times larger than its pixels"):
        read(tmp_path / "a.tif")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000_000


def test_a_volume_is_no_picture(tmp_path: Path) -> None:
    layers = np.zeros((16, 32, 48), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", layers, photometric="minisblack", volumetric=True, tile=(16, 16, 16))
    with pytest.raises(InputError, match="16 layers"):
        read(tmp_path / "a.tif")


def test_a_fault_nobody_foresaw_is_an_error_of_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OddError(Exception):
        pass

    def odd(*_: object, **__: object) -> None:
        raise OddError("what is this")

    write(tmp_path / "a.png", frame())
    monkeypatch.setattr(Image, "open", odd)
    with pytest.raises(InputError, match=r"a\.png: cannot be decoded: unexpected OddError .*report it"):
        probe(tmp_path / "a.png")
