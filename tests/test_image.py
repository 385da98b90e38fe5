"""Reading pictures: every mode and depth comes out with its values, every fault as one sentence with a way out."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
import tifffile
from pictures import (
    chunk,
    cmyk_profile,
    display_p3,
    exif,
    frame,
    photo,
    png,
    psnr,
    ramp,
    read,
    write,
)
from PIL import Image, ImageCms

from upscale_cli.errors import InputError
from upscale_cli.media.frame import Frame
from upscale_cli.media.image import FORMATS, ImageSource, probe
from upscale_cli.media.metadata import icc_space
from upscale_cli.media.pixels import upright
from upscale_cli.media.sniff import avif_depth


@pytest.fixture(autouse=True)
def bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures of these tests are small: they are converted by bands all the same."""
    monkeypatch.setattr("upscale_cli.media.pixels._BAND_PIXELS", 130)


def same(found: np.ndarray | None, want: np.ndarray) -> bool:
    return found is not None and np.array_equal(found, want)


def test_photographs_are_read_as_pillow_reads_them(tmp_path: Path) -> None:
    image = Image.fromarray(photo())
    for name in ("a.jpg", "a.webp", "a.avif", "a.bmp", "a.png", "a.tif", "a.gif"):
        image.save(tmp_path / name)
        with Image.open(tmp_path / name) as opened:
            expected = np.array(opened.convert("RGB"))
        info = probe(tmp_path / name)
        (found,), _, notes = read(tmp_path / name)
        assert np.array_equal(found.color, expected)
        assert found.alpha is None
        assert notes == []
        assert (info.width, info.height, info.depth, info.channels, info.frames) == (60, 45, 8, 3, 1)
        assert info.format in FORMATS


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_stays_grey_and_one_bit_becomes_black_and_white(tmp_path: Path, suffix: str) -> None:
    grey = photo(channels=1)[..., 0]
    for name, image, expected in (
        ("grey", Image.fromarray(grey), grey),
        ("bit", Image.fromarray(grey).convert("1", dither=Image.Dither.NONE), np.where(grey > 127, 255, 0)),
    ):
        image.save(tmp_path / f"{name}.{suffix}")
        (found,), _, _ = read(tmp_path / f"{name}.{suffix}")
        assert found.channels == 1
        assert probe(tmp_path / f"{name}.{suffix}").channels == 1
        assert np.array_equal(found.color[..., 0], expected)


def test_transparency_comes_out_straight_from_every_8_bit_mode(tmp_path: Path) -> None:
    color, alpha = photo(), ramp()
    rgba = Image.fromarray(np.dstack([color, alpha]))
    rgba.save(tmp_path / "rgba.png")
    rgba.convert("LA").save(tmp_path / "la.png")
    (found,), _, _ = read(tmp_path / "rgba.png")
    assert np.array_equal(found.color, color)
    assert same(found.alpha, alpha)
    (found,), _, _ = read(tmp_path / "la.png")
    assert found.channels == 1
    assert same(found.alpha, alpha)
    palette = Image.fromarray(color).quantize(16)
    palette.save(tmp_path / "p.png", transparency=bytes([0, 128] + [255] * 14))
    (found,), _, _ = read(tmp_path / "p.png")
    index = np.array(palette)
    assert same(found.alpha, np.array([0, 128] + [255] * 14, np.uint8)[index])
    assert np.array_equal(found.color, np.array(palette.convert("RGB")))
    keyed = color.copy()
    keyed[0, 0] = (1, 2, 3)
    Image.fromarray(keyed).save(tmp_path / "key.png", transparency=(1, 2, 3))
    (found,), _, _ = read(tmp_path / "key.png")
    assert found.alpha is not None
    assert found.alpha[0, 0] == 0
    assert probe(tmp_path / "key.png").alpha


@pytest.mark.parametrize(("color_type", "samples"), [(0, 1), (4, 2), (2, 3), (6, 4)])
def test_16_bit_png_keeps_every_bit(tmp_path: Path, color_type: int, samples: int) -> None:
    channels = 1 if samples < 3 else 3
    pixels = photo(depth=16, channels=channels)
    if samples in (2, 4):
        pixels = np.dstack([pixels, ramp(depth=16)])
    (tmp_path / "a.png").write_bytes(png(pixels, color_type))
    info = probe(tmp_path / "a.png")
    (found,), _, _ = read(tmp_path / "a.png")
    assert (info.depth, info.channels, info.alpha) == (16, channels, samples in (2, 4))
    assert np.array_equal(found.color, pixels[..., :channels])
    assert (found.alpha is None) == (samples in (1, 3))
    if found.alpha is not None:
        assert same(found.alpha, pixels[..., -1])


def test_16_bit_png_with_a_transparent_colour(tmp_path: Path) -> None:
    for channels, color_type in ((1, 0), (3, 2)):
        pixels = photo(depth=16, channels=channels)
        pixels[2, 3] = 4660
        (tmp_path / "a.png").write_bytes(png(pixels, color_type, before=chunk(b"tRNS", b"\x12\x34" * channels)))
        (found,), _, _ = read(tmp_path / "a.png")
        assert found.alpha is not None
        assert found.alpha[2, 3] == 0
        assert np.count_nonzero(found.alpha == 0) == np.count_nonzero((pixels == 4660).all(2))
        assert np.array_equal(found.color, pixels)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_16_bit_tiff_in_every_layout(
    tmp_path: Path, byteorder: Literal["<", ">"], compression: str | None, planar: str
) -> None:
    pixels = np.dstack([photo(depth=16), ramp(depth=16)])
    stored = np.moveaxis(pixels, 2, 0) if planar == "separate" else pixels
    tifffile.imwrite(
        tmp_path / "a.tif",
        stored,
        photometric="rgb",
        planarconfig=planar,
        extrasamples=["unassalpha"],
        compression=compression,
        byteorder=byteorder,
        rowsperstrip=7,
    )
    info = probe(tmp_path / "a.tif")
    (found,), _, notes = read(tmp_path / "a.tif")
    assert (info.width, info.height, info.depth, info.alpha) == (60, 45, 16, True)
    assert found.color.dtype == np.uint16
    assert np.array_equal(found.color, pixels[..., :3])
    assert same(found.alpha, pixels[..., 3])
    assert notes == []


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_lzw_tiff_of_another_library(tmp_path: Path, channels: int) -> None:
    pixels = photo(depth=16, channels=channels)
    stored = pixels[..., ::-1] if channels == 3 else pixels
    cv2.imwrite(str(tmp_path / "a.tif"), np.ascontiguousarray(stored), [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    (found,), _, _ = read(tmp_path / "a.tif")
    assert np.array_equal(found.color, pixels)
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError):
        read(tmp_path / "cut.tif")


def test_white_is_zero_and_premultiplied_tiff(tmp_path: Path) -> None:
    grey = photo(depth=16, channels=1)
    tifffile.imwrite(tmp_path / "w.tif", 65535 - grey[..., 0], photometric="miniswhite")
    (found,), _, _ = read(tmp_path / "w.tif")
    assert np.array_equal(found.color, grey)
    color, alpha = photo(depth=16), np.maximum(ramp(depth=16), 1000)
    associated = np.rint(color * (alpha[..., None] / 65535)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "p.tif", np.dstack([associated, alpha]), photometric="rgb", extrasamples=["assocalpha"])
    (found,), _, _ = read(tmp_path / "p.tif")
    assert psnr(found.color[:, 20:], color[:, 20:]) > 90


def test_float_tiff_is_clipped_by_a_stated_rule_and_nan_is_refused(tmp_path: Path) -> None:
    values = photo().astype(np.float32) / 255
    values[0, 0], values[0, 1] = -0.5, 1.5
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    info = probe(tmp_path / "a.tif")
    (found,), _, notes = read(tmp_path / "a.tif")
    assert info.depth == 16
    assert np.array_equal(found.color, np.rint(np.clip(values, 0, 1).astype(np.float64) * 65535))
    assert "0 to 1" in notes[0]
    assert "clipped" in notes[0]
    values[3, 3] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", values, photometric="rgb")
    with pytest.raises(InputError, match="NaN"):
        read(tmp_path / "nan.tif")


def test_integer_tiff_wider_than_16_bits(tmp_path: Path) -> None:
    grey = photo(depth=16, channels=1)[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", grey.astype(np.uint32) * 65537, photometric="minisblack")
    (found,), _, notes = read(tmp_path / "a.tif")
    assert np.array_equal(found.color[..., 0], grey)
    assert "32-bit" in notes[0]
    tifffile.imwrite(tmp_path / "s.tif", grey.astype(np.int16), photometric="minisblack")
    with pytest.raises(InputError, match="unsigned"):
        read(tmp_path / "s.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_upright_whatever_the_orientation(tmp_path: Path, orientation: int) -> None:
    """Stored as Exif 2.32 section 4.6.4 says the camera was held; every format gives the same upright photograph."""
    want = photo(40, 64)
    back = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    stored = Image.fromarray(upright(want, back))
    tags = Image.Exif()
    tags[274] = orientation
    for name in ("a.png", "a.tif", "a.webp", "a.jpg", "a.avif"):
        options: dict[str, Any] = (
            {"lossless": True} if name == "a.webp" else {"quality": 100} if name in ("a.jpg", "a.avif") else {}
        )
        stored.save(tmp_path / name, exif=tags, **options)
        info = probe(tmp_path / name)
        (found,), _, _ = read(tmp_path / name)
        assert (info.width, info.height) == (64, 40)
        assert psnr(found.color, want) > (30 if options.get("quality") else 98)
    tifffile.imwrite(
        tmp_path / "deep.tif",
        upright(photo(40, 64, depth=16), back),
        photometric="rgb",
        extratags=[(274, 3, 1, orientation, True)],
    )
    (found,), _, _ = read(tmp_path / "deep.tif")
    assert np.array_equal(found.color, photo(40, 64, depth=16))


def test_orientation_6_turns_clockwise() -> None:
    assert np.array_equal(upright(np.array([[1, 2, 3], [4, 5, 6]]), 6), [[4, 1], [5, 2], [6, 3]])
    assert np.array_equal(upright(np.array([[1, 2, 3], [4, 5, 6]]), 8), [[3, 6], [2, 5], [1, 4]])
    assert np.array_equal(upright(np.array([[1, 2, 3], [4, 5, 6]]), 7), [[6, 3], [5, 2], [4, 1]])


def test_cmyk_goes_through_its_profile(tmp_path: Path) -> None:
    inks = np.zeros((16, 32, 4), np.uint8)
    inks[:, 16:, 0] = 255
    image = Image.frombytes("CMYK", (32, 16), inks.tobytes())
    image.save(tmp_path / "a.tif", icc_profile=cmyk_profile())
    (found,), metadata, notes = read(tmp_path / "a.tif")
    lab = Image.frombytes("LAB", (1, 1), bytes((140, (90 - 128) % 256, (78 - 128) % 256)))
    srgb = ImageCms.createProfile("sRGB")
    expected = ImageCms.profileToProfile(lab, ImageCms.createProfile("LAB"), srgb, outputMode="RGB")
    assert expected is not None
    assert np.abs(found.color[5, 5].astype(int) - 255).max() <= 1
    assert np.abs(found.color[5, 25].astype(int) - np.array(expected)[0, 0]).max() <= 3
    assert metadata.icc is not None
    assert icc_space(metadata.icc) == "RGB"
    assert "through its colour profile" in notes[0]
    image.save(tmp_path / "b.jpg", quality=100)
    (found,), metadata, notes = read(tmp_path / "b.jpg")
    assert np.abs(found.color[5, 25].astype(int) - (0, 255, 255)).max() <= 3
    assert "plain formula" in notes[0]


def test_lab_and_ycbcr_tiff(tmp_path: Path) -> None:
    rgb = Image.fromarray(photo())
    rgb.convert("YCbCr").save(tmp_path / "y.tif")
    (found,), _, _ = read(tmp_path / "y.tif")
    assert psnr(found.color, photo()) > 40
    lab = ImageCms.profileToProfile(
        rgb, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    lab.save(tmp_path / "l.tif")
    (found,), _, notes = read(tmp_path / "l.tif")
    assert psnr(found.color, photo()) > 30
    assert notes[0].startswith("Lab converted to sRGB")


def test_16_bit_cmyk_tiff_is_converted_with_a_note(tmp_path: Path) -> None:
    inks = np.zeros((8, 8, 4), np.uint16)
    inks[..., 2] = 65535
    tifffile.imwrite(tmp_path / "a.tif", inks, photometric="separated")
    (found,), _, notes = read(tmp_path / "a.tif")
    assert found.color[0, 0].tolist() == [255, 255, 0]
    assert "reduced to 8 bits" in notes[0]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_animations_give_whole_canvases_with_their_times(tmp_path: Path, suffix: str) -> None:
    """Frames that draw only a corner are shown over what stood before."""
    base = photo()
    frames = [base.copy() for _ in range(3)]
    frames[1][:10, :10] = (255, 0, 0)
    frames[2][:10, :10] = (0, 0, 255)
    images = [Image.fromarray(each) for each in frames]
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    images[0].save(
        tmp_path / f"a.{suffix}",
        save_all=True,
        append_images=images[1:],
        duration=[40, 100, 250],
        loop=0,
        **options,
    )
    info = probe(tmp_path / f"a.{suffix}")
    found, metadata, _ = read(tmp_path / f"a.{suffix}")
    assert (info.frames, info.animated) == (3, True)
    assert [round(each.seconds or 0, 3) for each in found] == [0.04, 0.1, 0.25]
    assert metadata.loop == 0
    for each, want in zip(found, frames, strict=True):
        assert each.color.shape == base.shape
        assert psnr(each.color, want) > (25 if suffix == "gif" else 98)


def test_pages_of_a_tiff_and_not_its_thumbnail(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(photo(depth=16), photometric="rgb")
        file.write(photo(12, 16, depth=16), photometric="rgb", subfiletype=1)
        file.write(photo(30, 20, depth=16), photometric="rgb")
    info = probe(tmp_path / "a.tif")
    found, _, _ = read(tmp_path / "a.tif")
    assert (info.frames, info.animated) == (2, False)
    assert [each.color.shape for each in found] == [(45, 60, 3), (30, 20, 3)]
    assert np.array_equal(found[1].color, photo(30, 20, depth=16))


def test_8_bit_tiff_pages_through_pillow(tmp_path: Path) -> None:
    pages = [Image.fromarray(photo()), Image.fromarray(photo(channels=1)[..., 0])]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    found, _, _ = read(tmp_path / "a.tif")
    assert [each.channels for each in found] == [3, 1]
    assert np.array_equal(found[1].color, photo(channels=1))


def test_10_bit_avif_says_what_it_became(tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / "a.avif")
    data = (tmp_path / "a.avif").read_bytes()
    at = data.index(b"av1C") + 6
    (tmp_path / "a.avif").write_bytes(data[:at] + bytes([data[at] | 0x40]) + data[at + 1 :])
    assert avif_depth(tmp_path / "a.avif") == 10


def test_mpo_gives_its_first_picture(tmp_path: Path) -> None:
    left, right = Image.fromarray(photo()), Image.fromarray(photo(name="otters"))
    left.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[right], quality=95)
    with ImageSource(tmp_path / "a.jpg") as source:
        (found,) = source.frames()
    assert source.info.format == "JPEG"
    assert "first" in source.notes[0]
    assert psnr(found.color, photo()) > 25


def test_profile_and_late_metadata_of_png(tmp_path: Path) -> None:
    """EXIF and text may stand behind the pixels."""
    after = chunk(b"eXIf", exif(orientation=6)) + chunk(b"tEXt", b"Author\0Ann")
    before = chunk(b"iCCP", b"p\0\0" + zlib.compress(display_p3()))
    (tmp_path / "a.png").write_bytes(png(photo(), 2, depth=8, before=before, after=after))
    assert (probe(tmp_path / "a.png").width, probe(tmp_path / "a.png").height) == (45, 60)
    (found,), metadata, _ = read(tmp_path / "a.png")
    assert found.color.shape == (60, 45, 3)
    assert metadata.icc == display_p3()
    assert metadata.exif == exif(orientation=6)
    assert metadata.text == (("Author", "Ann"),)


def test_a_picture_named_wrongly_is_read_by_its_content(tmp_path: Path) -> None:
    write(tmp_path / "a.png", frame())
    (tmp_path / "a.png").rename(tmp_path / "b.jpg")
    assert probe(tmp_path / "b.jpg").format == "PNG"


def test_tiny_pictures(tmp_path: Path) -> None:
    for size in ((1, 1), (1, 400), (400, 1), (3, 3)):
        pixels = photo(*size)
        write(tmp_path / "a.png", Frame(pixels))
        (found,), _, _ = read(tmp_path / "a.png")
        assert np.array_equal(found.color, pixels)


def test_header_only_probe_decodes_nothing(tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.fromarray(photo()).save(data, "PNG")
    head = data.getvalue()[:33] + struct.pack(">I4s", 10, b"IDAT")
    (tmp_path / "a.png").write_bytes(head)
    assert probe(tmp_path / "a.png").width == 60


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp"])
def test_a_picture_is_in_memory_once_while_it_is_worked_on(tmp_path: Path, name: str) -> None:
    Image.fromarray(photo(300, 400)).save(tmp_path / name)

    def held() -> int:
        stats = Image.core.get_stats()
        return stats["allocated_blocks"] + stats["reused_blocks"] - stats["freed_blocks"] - stats["blocks_cached"]

    before = held()
    with ImageSource(tmp_path / name) as source:
        (first,), (second,) = ([frame.color for frame in source.frames()] for _ in range(2))
        assert held() == before, "by Pillow too"
        assert np.array_equal(first, second)
        assert source.metadata.exif is None
