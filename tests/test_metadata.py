"""Metadata: carried between all formats byte for byte, corrected where the new size and orientation make it wrong."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
import tifffile
from pictures import XMP, display_p3, exif, frame, grey_profile, photo, read, write
from PIL import ExifTags, Image

from upscale_cli.media import exif as ifd
from upscale_cli.media.frame import Frame
from upscale_cli.media.metadata import Metadata, icc_fault, orientation, srgb_profile

EVERYTHING = Metadata(
    icc=display_p3(), exif=exif(orientation=6), xmp=XMP.replace(b'Orientation="1"', b'Orientation="6"'), dpi=(240, 240)
)
CAMERA = {0x829A: 0.004, 0x829D: 5.6, 0x8827: 400, 0x9003: "2024:05:06 07:08:09", 0xA434: "RF 24-70"}


def tags_of(block: bytes) -> Image.Exif:
    tags = Image.Exif()
    tags.load(block)
    return tags


def check(tags: Image.Exif, width: int, height: int) -> None:
    assert [tags[tag] for tag in (0x010F, 0x0110, 0x013B, 0x8298)] == ["Canon", "EOS R5", "Ann", "(c) Ann"]
    assert tags.get(274, 1) == 1
    camera = tags.get_ifd(0x8769)
    assert {tag: camera[tag] for tag in CAMERA} == pytest.approx(CAMERA)
    assert camera[0x927C] == b"maker\x01\x02\x03\x00\xff"
    assert (camera[0xA002], camera[0xA003]) == (width, height)
    assert tags.get_ifd(0x8825) == {1: "N", 2: (47, 30, 0), 3: "E", 4: (8, 15, 0)}


@pytest.mark.parametrize("endian", ["<", ">"])
def test_for_output_corrects_size_and_orientation_and_moves_nothing(endian: str) -> None:
    block = exif(orientation=6, endian=endian)
    found = Metadata(exif=block, xmp=XMP).for_output(120, 90)
    assert found.exif is not None
    check(tags_of(found.exif), 120, 90)
    assert orientation(block, None) == 6
    assert orientation(found.exif, None) == 1
    assert len(found.exif) == len(block)
    assert sum(a != b for a, b in zip(found.exif, block, strict=True)) <= 9
    assert found.xmp is not None
    assert b'exif:PixelXDimension="120"' in found.xmp
    assert b"<exif:PixelYDimension>90<" in found.xmp
    assert found.for_output(120, 90) == found


def test_the_stale_thumbnail_goes(tmp_path: Path) -> None:
    block = exif(orientation=6, thumbnail=True)
    assert tags_of(block).get_ifd(ExifTags.IFD.IFD1)
    found = Metadata(exif=block).for_output(120, 90).exif
    assert found is not None
    assert not tags_of(found).get_ifd(ExifTags.IFD.IFD1)
    assert b"\xff\xd8" not in found
    assert len(found) < len(exif(orientation=6)) + 4
    check(tags_of(found), 120, 90)


def test_xmp_alone_can_turn_a_picture() -> None:
    assert orientation(None, XMP.replace(b'Orientation="1"', b'Orientation="8"')) == 8
    assert orientation(exif(orientation=3), XMP) == 3
    assert orientation(None, None) == 1


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_directories_survive_packing(endian: ifd.Order, big: bool) -> None:
    directory, order = ifd.parse(exif(orientation=6, endian=endian))
    assert order == endian
    head = struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)
    packed = (b"II" if order == "<" else b"MM") + head
    packed += ifd.pack(directory, order=order, at=len(packed), big=big)
    assert ifd.parse(packed) == (directory, order)


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_a_damaged_block_raises_value_error_or_is_read(cut: int) -> None:
    """Cut anywhere, or with a byte changed, a block is never more than a ValueError."""
    block = exif(orientation=6, thumbnail=True)
    for damaged in (block[:cut], block[:cut] + b"\xff" + block[cut + 1 :]):
        for work in (ifd.orientation, ifd.without_orientation, lambda data: ifd.for_output(data, 5, 5)):
            try:
                work(damaged)
            except ValueError:
                continue


@pytest.mark.parametrize("source", ["jpg", "png", "tif", "webp", "avif"])
@pytest.mark.parametrize("target", ["jpg", "png", "tif", "webp", "avif"])
def test_exif_xmp_icc_go_from_every_format_to_every_other(tmp_path: Path, source: str, target: str) -> None:
    write(tmp_path / f"a.{source}", frame(), metadata=EVERYTHING)
    _, found, notes = read(tmp_path / f"a.{source}")
    assert notes == []
    write(tmp_path / f"b.{target}", Frame(photo(90, 120)), metadata=found)
    _, found, notes = read(tmp_path / f"b.{target}")
    assert notes == []
    assert found.icc == display_p3()
    assert found.exif is not None
    check(tags_of(found.exif), 120, 90)
    assert found.xmp is not None
    assert b'Orientation="1"' in found.xmp
    assert b"<tiff:Make>Canon" in found.xmp
    if {source, target} <= {"jpg", "png", "tif"}:
        assert found.dpi == pytest.approx((240, 240), abs=0.01)
    with Image.open(tmp_path / f"b.{target}") as image:
        check(image.getexif(), 120, 90)
        assert image.info["icc_profile"] == display_p3()


@pytest.mark.parametrize("endian", ["<", ">"])
def test_16_bit_display_p3_tiff_keeps_profile_and_tags(tmp_path: Path, endian: str) -> None:
    """The headline: what Pillow cannot write at 16 bits, and tifffile not with EXIF."""
    metadata = Metadata(icc=display_p3(), exif=exif(orientation=6, endian=endian), xmp=XMP)
    write(tmp_path / "a.tif", frame(depth=16, alpha=True), metadata=metadata)
    (found,), metadata, _ = read(tmp_path / "a.tif")
    write(tmp_path / "b.tif", found, metadata=metadata)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        assert file.byteorder == endian
        assert (page.asarray()[..., :3] == photo(depth=16)).all()
        assert page.iccprofile == display_p3()
        tags = {tag.name: tag.value for tag in page.tags}
        assert (tags["Make"], tags["Artist"], tags["Orientation"]) == ("Canon", "Ann", 1)
        assert tags["ExifTag"]["ExposureTime"] == (1, 250)
        assert tags["ExifTag"]["LensModel"] == "RF 24-70"
        assert tags["GPSTag"]["GPSLatitude"] == (47, 1, 30, 1, 0, 1)
        assert (tags["XResolution"], tags["ResolutionUnit"]) == ((240, 1), 2)
        assert tags["XMP"].rstrip(b"\0") == Metadata(xmp=XMP).for_output(60, 45).xmp
    with Image.open(tmp_path / "b.tif") as image:
        check(image.getexif(), 60, 45)


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_another_program_reads_the_tags_of_a_16_bit_tiff(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", frame(depth=16), metadata=EVERYTHING)
    names = ("Make", "LensModel", "ISO", "GPSLatitude", "Orientation", "ProfileDescription", "BitsPerSample")
    command = ["exiftool", "-s3", "-n", *(f"-{name}" for name in names), str(tmp_path / "a.tif")]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert out == ["Canon", "RF 24-70", "400", "47.5", "1", "for tests", "16 16 16"]


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "avif", "bmp", "gif"])
def test_empty_metadata_writes_none(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"a.{suffix}", frame())
    _, found, notes = read(tmp_path / f"a.{suffix}")
    assert found == Metadata()
    assert notes == []


def test_what_a_format_has_no_place_for_is_named(tmp_path: Path) -> None:
    assert write(tmp_path / "a.bmp", frame(), metadata=EVERYTHING) == [
        "BMP has no place for colour profile, EXIF, XMP: dropped"
    ]
    assert write(tmp_path / "a.gif", frame(), metadata=Metadata(dpi=(300, 300), text=(("Title", "x"),))) == [
        "GIF has no place for resolution, text: dropped"
    ]
    _, found, _ = read(tmp_path / "a.gif")
    assert found == Metadata()


def test_profiles_that_do_not_fit_are_dropped_with_a_note(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.tif", "a.webp"):
        assert "it is for GRAY" in write(tmp_path / name, frame(), metadata=Metadata(icc=grey_profile()))[0]
        assert "dropped" in write(tmp_path / name, frame(), metadata=Metadata(icc=b"rubbish" * 40))[0]
        assert read(tmp_path / name)[1].icc is None
    for name in ("a.png", "a.jpg", "a.tif", "a.avif"):
        assert "it is for RGB" in write(tmp_path / name, frame(channels=1), metadata=Metadata(icc=display_p3()))[0]
        assert write(tmp_path / name, frame(channels=1), metadata=Metadata(icc=grey_profile())) == []
        assert read(tmp_path / name)[1].icc == grey_profile()


def test_icc_faults() -> None:
    assert icc_fault(display_p3()) is None
    assert icc_fault(srgb_profile()) is None
    assert icc_fault(display_p3()[:-20]) == "it is cut off"
    assert icc_fault(b"") == "it is no ICC profile"
    assert srgb_profile() == srgb_profile()


def test_text_and_iptc(tmp_path: Path) -> None:
    text = (("Author", "Ann Ü"), ("Comment", "hello"))
    write(tmp_path / "a.png", frame(), metadata=Metadata(text=text))
    assert read(tmp_path / "a.png")[1].text == text
    records = b"\x1c\x02\x5a\x00\x03Zug"
    notes = write(tmp_path / "a.jpg", frame(), metadata=Metadata(text=text, iptc=records))
    assert notes == ["JPEG has no place for text: dropped"]
    found = read(tmp_path / "a.jpg")[1]
    assert (found.text, found.iptc) == ((("Comment", "hello"),), records)
    write(tmp_path / "a.tif", frame(), metadata=found)
    assert read(tmp_path / "a.tif")[1].iptc == records


def test_exif_too_long_for_a_jpeg_segment_is_dropped_with_a_note(tmp_path: Path) -> None:
    directory, order = ifd.parse(exif())
    directory[0xC4A5] = ifd.Field(ifd.UNDEFINED, 70000, bytes(range(250)) * 280)
    long = Metadata(exif=ifd.block(directory, order))
    assert "EXIF dropped" in write(tmp_path / "a.jpg", frame(), metadata=long)[0]
    assert write(tmp_path / "a.png", frame(), metadata=long) == []
    assert write(tmp_path / "a.tif", frame(), metadata=long) == []
    found = read(tmp_path / "a.tif")[1].exif
    assert found is not None
    assert ifd.parse(found)[0][0xC4A5].data == directory[0xC4A5].data


def test_a_comment_too_long_for_a_jpeg_segment_is_dropped_with_a_note(tmp_path: Path) -> None:
    for length, kept in ((65533, True), (65534, False)):
        notes = write(tmp_path / "a.jpg", frame(), metadata=Metadata(text=(("Comment", "x" * length),)))
        _, metadata, _ = read(tmp_path / "a.jpg")
        assert [len(text) for _, text in metadata.text] == [length] * kept
        assert notes == ["text dropped: it is more than a JPEG segment holds"] * (not kept)
    assert write(tmp_path / "a.gif", frame(), metadata=Metadata(text=(("Comment", "x" * 70000),))) == []
    assert len(read(tmp_path / "a.gif")[1].text[0][1]) == 70000
