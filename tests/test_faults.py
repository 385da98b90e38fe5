"""Bad and odd pictures through the whole command: what is said, what is made, and that the others go on."""

import io
import re
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from command import ended, folder_with, names, place, program, refused, upscale  # noqa: F401  `place` is a fixture
from nearest_engine import nearest
from pictures import PHOTOS, chunk, cmyk_profile, display_p3, frame, photo, png, psnr, ramp, read, write
from PIL import Image

from upscale_cli.media.frame import Frame
from upscale_cli.media.image import DEFAULT_MAX_PIXELS, probe
from upscale_cli.media.metadata import icc_space
from upscale_cli.media.pixels import upright


def encoded(pixels: np.ndarray, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def header_only(width: int, height: int, *, depth: int = 8, pixels: bytes = bytes(10)) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def peak_mb(*words: str) -> float:
    """The most memory the command held in a process of its own."""
    usage = "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss"
    before = f"import atexit, resource\natexit.register(lambda: print({usage}))"
    _, output, _ = ended(program(*words, before=before))
    return int(output.split()[-1]) / 1024


def test_1_truncated_jpegs_of_both_kinds_are_named_so_and_can_be_salvaged() -> None:
    cut = {
        f"{kind}_jpg": encoded(photo(90, 120), "JPEG", progressive=kind == "pro") for kind in ("base", "pro", "none")
    }
    said = refused(**{name: data[: len(data) // 2] for name, data in cut.items()})
    for reason in said.values():
        assert re.match(
            r"is truncated .*\. Get the whole file, or salvage what is there with --allow-truncated\.", reason
        )
    result = upscale("in", "-o", "out", "--allow-truncated")
    assert result.exit_code == 0
    assert result.stdout.count("not whole: what could be read of it was kept") == 3
    assert names("out") == ["a_x2.png", "base_x2.jpg", "none_x2.jpg", "pro_x2.jpg", "z_x2.png"]


@pytest.mark.parametrize("depth", [8, 16])
def test_2_a_png_that_differs_from_its_checksum_is_refused(depth: int) -> None:
    data = bytearray(png(photo(depth=depth), 2, depth=depth))
    data[-14] ^= 1  # of the stored checksum
    said = refused(bad_png=bytes(data))
    assert "IDAT chunk does not match its checksum" in said["bad.png"]


def test_3_headers_that_lie_about_the_size_are_refused() -> None:
    jpeg = bytearray(encoded(photo(), "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 9000, 9000)
    said = refused(eight_png=header_only(9000, 9000), deep_png=header_only(9000, 9000, depth=16), grey_jpg=bytes(jpeg))
    assert all("truncated" in reason for reason in said.values())


def test_4_a_bomb_is_refused_by_its_header_with_limit_and_flag() -> None:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflate.compress(bytes(30001 * 100)) + deflate.flush(zlib.Z_FULL_FLUSH)  # stands for itself, many times
    checksum = struct.pack(">HH", 30001 * 30000 % 65521, 1)
    body = b"\x78\xda" + block * 300 + b"\x03\0" + checksum
    assert 500_000 < len(body) < 3_000_000
    head = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    said = refused(bomb_png=bomb, pages_gif=b"GIF89a\xff\xff\xff\xff\0\0\0")
    assert said["bomb.png"] == (
        f"has 900,000,000 pixels, more than the limit of {DEFAULT_MAX_PIXELS:,}. "
        "Raise it with --max-pixels if you trust the file."
    )


def test_3_and_4_memory_stays_small() -> None:
    folder_with()
    small = peak_mb("in", "-o", "out")
    for index, data in enumerate(
        (header_only(9000, 9000), header_only(9000, 9000, depth=16), header_only(30000, 30000))
    ):
        (Path("in") / f"{index}.png").write_bytes(data)
    assert peak_mb("in", "-o", "again") < small + 100
    assert names("again") == ["a_x2.png", "z_x2.png"]


def test_5_a_large_picture_above_the_limit_is_made_in_tiles_when_allowed() -> None:
    """Its own bytes, those of its enlargement and of a few tiles are all the memory it takes."""
    Path("in").mkdir()
    write(Path("in/large.png"), Frame(np.tile(photo(100, 100), (20, 30, 1))))
    refusal = upscale("in", "-o", "out", "--max-pixels", "5999999")
    assert refusal.exit_code == 1
    assert "3000 x 2000 = 6,000,000 pixels, more than the limit of 5,999,999" in refusal.stderr
    write(Path("small.png"), frame())
    small = peak_mb("small.png", "-o", "out")
    held = peak_mb("in", "-o", "out", "--max-pixels", "6000000", "-v") - small
    assert probe(Path("out/large_x2.png")).width == 6000
    assert held < 1.5 * (3 * 6 + 3 * 24) + 100


def test_6_what_is_no_picture_says_so() -> None:
    zero = encoded(photo()).replace(struct.pack(">I", 60), bytes(4), 1)
    zero = zero[:29] + struct.pack(">I", zlib.crc32(zero[12:29])) + zero[33:]
    letter = b"Dear all,\nthis is a letter.\n"
    said = refused(nothing_png=b"", letter_png=letter, zero_png=zero, page_jpg=b"<!DOCTYPE html><html>404</html>")
    assert said["nothing.png"] == "is empty (0 bytes)."
    for name in ("letter.png", "zero.png", "page.jpg"):
        assert "is not a picture" in said[name]


def test_7_a_png_named_jpg_is_read_by_its_content() -> None:
    folder_with(b_jpg=encoded(photo()))
    assert upscale("in/b.jpg", "-o", "out").exit_code == 0
    assert names("out") == ["b_x2.png"]
    assert np.array_equal(read(Path("out/b_x2.png"))[0][0].color, nearest(photo(), 2))
    assert upscale("in/b.jpg", "-o", "out", "-f", "jpg").exit_code == 0
    assert probe(Path("out/b_x2.jpg")).format == "JPEG"


def test_8_documents_and_drawings_are_refused_and_start_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"
    said = refused(
        a_jpg=page,
        b_png=b"%PDF-1.7\n",
        c_png=b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
        d_bmp=b"\xd7\xcd\xc6\x9a" + bytes(60),
        e_tif=b"\xc5\xd0\xd3\xc6" + bytes(60),
    )
    for name, what in {"a": "PostScript", "b": "PDF", "c": "SVG", "d": "Windows metafile", "e": "PostScript"}.items():
        (reason,) = (reason for file, reason in said.items() if file.startswith(name))
        assert what in reason
        assert "Convert it to PNG first." in reason


def test_9_cmyk_comes_out_as_rgb_through_its_profile_and_says_so() -> None:
    inks = Image.frombytes("CMYK", (32, 16), bytes((255, 0, 0, 0)) * 512)
    Path("in").mkdir()
    inks.save("in/with.jpg", quality=100, icc_profile=cmyk_profile())
    inks.save("in/without.jpg", quality=100)
    result = upscale("in", "-o", "out")
    assert result.exit_code == 0
    assert "CMYK converted to sRGB through its colour profile" in result.stdout
    assert "CMYK without a usable colour profile converted to sRGB by the plain formula" in result.stdout
    for name, low in (("with", 60), ("without", 0)):
        (found,), metadata, _ = read(Path(f"out/{name}_x2.jpg"))
        assert found.color.shape == (32, 64, 3)
        assert metadata.icc is not None
        assert icc_space(metadata.icc) == "RGB"
        assert found.color[5, 5, 0] <= low + 30
        assert found.color[5, 5, 2] > 150


@pytest.mark.parametrize("kind", ["rgba", "la", "palette", "keyed", "rgba16"])
def test_10_transparency_is_kept_and_leaves_no_dark_fringe(kind: str) -> None:
    """White on transparent black: any mixing of the hidden colour would show as grey."""
    alpha = np.zeros((40, 40), np.uint8)
    alpha[8:32, 8:32] = 255
    white = np.where(alpha[..., None] > 0, np.uint8(255), np.uint8(0)).repeat(3, 2)
    Path("in").mkdir()
    path = Path("in/a.png")
    if kind == "rgba16":
        path.write_bytes(png(np.dstack([white, alpha]).astype(np.uint16) * 257, 6))
    elif kind == "palette":
        Image.fromarray(white).quantize(2).save(path, transparency=bytes([255, 0]))
    elif kind == "keyed":
        Image.fromarray(white).save(path, transparency=(0, 0, 0))
    else:
        Image.fromarray(np.dstack([white, alpha])).convert("LA" if kind == "la" else "RGBA").save(path)
    assert upscale("in", "-o", "out", "-s", "1.5").exit_code == 0
    (found,), _, _ = read(Path("out/a_x1.5.png"))
    assert found.alpha is not None
    assert found.channels == (1 if kind == "la" else 3)
    assert found.alpha[30, 30] == np.iinfo(found.alpha.dtype).max
    assert found.alpha[2, 2] == 0
    assert found.color[found.alpha > 0].min() == np.iinfo(found.color.dtype).max


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_11_grey_and_one_bit_stay_grey_with_their_values(suffix: str) -> None:
    grey = photo(channels=1)
    Path("in").mkdir()
    Image.fromarray(grey[..., 0]).save(f"in/grey.{suffix}")
    Image.fromarray(grey[..., 0]).convert("1", dither=Image.Dither.NONE).save(f"in/bit.{suffix}")
    assert upscale("in", "-o", "out").exit_code == 0
    for name, expected in (("grey", grey), ("bit", np.where(grey > 127, 255, 0))):
        (found,), _, _ = read(Path(f"out/{name}_x2.{suffix}"))
        assert found.channels == 1
        assert np.array_equal(found.color, nearest(expected, 2))


def test_12_16_bits_come_out_as_16_bits() -> None:
    Path("in").mkdir()
    sources = {"grey.png": (1, 0), "grey_alpha.png": (1, 4), "rgb.png": (3, 2), "rgba.png": (3, 6)}
    for name, (channels, kind) in sources.items():
        layers = [photo(channels=channels, depth=16)] + [ramp(depth=16)] * (kind > 2)
        (Path("in") / name).write_bytes(png(np.dstack(layers), kind))
    for name, channels in (("rgb.tif", 3), ("grey.tif", 1)):
        tifffile.imwrite(Path("in") / name, np.squeeze(photo(channels=channels, depth=16)))
        sources[name] = (channels, 0)
    assert upscale("in", "-o", "out").exit_code == 0
    for name, (channels, kind) in sources.items():
        stem, suffix = name.split(".")
        (found,), _, _ = read(Path(f"out/{stem}_x2.{suffix}"))
        assert found.color.dtype == np.uint16
        assert (found.alpha is not None) == (kind > 2)
        expected = nearest(photo(channels=channels, depth=16), 2)
        assert np.array_equal(found.color[:, 4:], expected[:, 4:])  # on the left some is transparent, and has no colour


def test_13_float_is_clipped_by_a_stated_rule_and_nan_refused() -> None:
    values = photo().astype(np.float32) / 200  # up to 1.275
    tifffile.imwrite("nan.tif", np.where(values > 1, np.nan, values), photometric="rgb")
    tifffile.imwrite("float.tif", values, photometric="rgb")
    said = refused(nan_tif=Path("nan.tif").read_bytes(), light_exr=b"\x76\x2f\x31\x01" + bytes(20))
    assert "NaN or infinite pixels; repair it" in said["nan.tif"]
    assert "OpenEXR picture, which is not supported yet. Convert it" in said["light.exr"]
    result = upscale("float.tif", "-o", "out")
    assert "32-bit float stored as 16-bit, 0 to 1 as black to white; values outside were clipped" in result.stdout
    (found,), _, _ = read(Path("out/float_x2.tif"))
    expected = np.rint(np.clip(values.astype(np.float64), 0, 1) * 65535).astype(np.uint16)
    assert np.array_equal(found.color, nearest(expected, 2))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
def test_14_every_orientation_comes_out_upright_with_its_tag_reset(name: str) -> None:
    want = photo(40, 64)
    Path("in").mkdir()
    for orientation in range(1, 9):
        back = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
        tags = Image.Exif()
        tags[274] = orientation
        options: dict[str, Any] = {"quality": 100} if name != "a.webp" else {"lossless": True}
        Image.fromarray(upright(want, back)).save(f"in/{orientation}{name}", exif=tags, **options)
    assert upscale("in", "-o", "out").exit_code == 0
    for orientation in range(1, 9):
        with Image.open(Path(f"out/{orientation}{name}".replace("a.", "a_x2."))) as image:
            assert image.size == (128, 80)
            assert image.getexif().get(274, 1) == 1
            assert psnr(np.array(image.convert("RGB")), nearest(want, 2)) > 28


def test_15_profiles_are_embedded_again_and_damaged_ones_dropped_with_a_note() -> None:
    folder_with()
    for suffix in ("jpg", "png", "tif", "webp", "avif"):
        Image.fromarray(photo()).save(f"in/good.{suffix}", icc_profile=display_p3())
        Image.fromarray(photo()).save(f"in/broken.{suffix}", icc_profile=b"no profile" * 30)
    result = upscale("in", "-o", "out", "--on-collision", "rename", "--name", "{stem}")
    assert result.exit_code == 0
    assert result.stdout.count("colour profile dropped") == 5
    for suffix in ("jpg", "png", "tif", "webp", "avif"):
        assert read(Path(f"out/good.{suffix}"))[1].icc == display_p3()
        assert read(Path(f"out/broken.{suffix}"))[1].icc is None


def test_16_exif_and_xmp_are_kept_or_stripped_with_the_thumbnail() -> None:
    thumbnail = encoded(photo(12, 16), "JPEG")
    tags = Image.Exif()
    tags[0x010F], tags[0x8825] = "Canon", {1: "N", 2: (52.0, 31.0, 12.0)}
    tags.get_ifd(0x8769)[0x8827] = 400
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><photographer>Ann</photographer></x:xmpmeta>"
    Path("in").mkdir()
    Image.fromarray(photo()).save("in/a.jpg", exif=tags, xmp=xmp, comment=b"by Ann")
    data = Path("in/a.jpg").read_bytes()
    Path("in/a.jpg").write_bytes(data[:2] + b"\xff\xec" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + data[2:])
    for suffix in ("jpg", "png", "tif", "webp", "avif"):
        assert upscale("in", "-o", "kept", "-f", suffix).exit_code == 0
        assert upscale("in", "-o", "bare", "-f", suffix, "--strip-metadata").exit_code == 0
        with Image.open(f"kept/a_x2.{suffix}") as image:
            found = image.getexif()
            assert found[0x010F] == "Canon"
            assert found.get_ifd(0x8825)[1] == "N"
            assert found.get_ifd(0x8769)[0x8827] == 400
        _, metadata, _ = read(Path(f"kept/a_x2.{suffix}"))
        assert metadata.xmp is not None
        assert b"Ann" in metadata.xmp
        bare = Path(f"bare/a_x2.{suffix}").read_bytes()
        assert not [word for word in (b"Canon", b"Ann", b"Exif", b"xmp", thumbnail[-50:]) if word in bare]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_17_every_frame_and_page_is_kept_with_its_time(suffix: str) -> None:
    base = photo()
    images = [Image.fromarray(np.roll(base, 7 * index, 1)) for index in range(3)]
    Path("in").mkdir()
    options: dict[str, Any] = {} if suffix == "tif" else {"duration": [40, 100, 250], "loop": 0}
    images[0].save(f"in/a.{suffix}", save_all=True, append_images=images[1:], **options)
    assert upscale("in", "-o", "out").exit_code == 0
    frames, _, _ = read(Path(f"out/a_x2.{suffix}"))
    given, _, _ = read(Path(f"in/a.{suffix}"))
    assert len(frames) == 3
    assert [each.seconds for each in frames] == [each.seconds for each in given]
    for found, source in zip(frames, given, strict=True):
        assert psnr(found.color, nearest(source.color, 2)) > 28
    flat = upscale("in", "-o", "flat", "-f", "jpg")
    assert flat.exit_code == 1
    assert re.search(r"JPEG holds (no animation; choose webp|one page; choose tiff)", flat.stderr)


@pytest.mark.parametrize("scale", ["2", "3", "1.7"])
def test_18_the_smallest_pictures_come_out_in_their_exact_size(scale: str) -> None:
    sizes = [(1, 1), (1, 4000), (4000, 1), (3, 3), (2, 5)]
    Path("in").mkdir()
    for height, width in sizes:
        write(Path(f"in/{height}_{width}.png"), Frame(photo(height, width)))
    assert upscale("in", "-o", "out", "-s", scale).exit_code == 0
    for height, width in sizes:
        (found,), _, _ = read(Path(f"out/{height}_{width}_x{scale}.png"))
        assert found.color.shape[:2] == tuple(max(1, round(side * float(scale))) for side in (height, width))


@pytest.mark.parametrize(("height", "width"), [(97, 131), (64, 65), (128, 127)])
def test_19_tiles_of_any_size_leave_no_trace(height: int, width: int) -> None:
    Path("in").mkdir()
    write(Path("in/a.png"), Frame(photo(height, width)))
    for tile in ("33", "50", "64", "500"):
        assert upscale("in", "-o", tile, "-t", tile).exit_code == 0
        assert np.array_equal(read(Path(f"{tile}/a_x2.png"))[0][0].color, nearest(photo(height, width), 2))


def test_20_formats_that_need_more_are_called_by_their_names() -> None:
    said = refused(
        b_jxl=b"\xff\x0a" + bytes(20),
        c_jp2=b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20),
    )
    for name, what in {"b.jxl": "JPEG XL", "c.jp2": "JPEG 2000"}.items():
        assert re.fullmatch(rf"is a {what} picture, which is not supported yet\. Convert it to .* first\.", said[name])


def test_a_folder_full_of_bad_pictures_ends_like_one_with_a_single_one() -> None:
    """More of them than may wait between reading and the network, in every place of the folder."""
    whole = (PHOTOS / "dunes.jpg").read_bytes()
    said = refused(**{f"{letter}{index}_jpg": whole[: 20000 + index] for letter in "0mz" for index in range(9)})
    assert len(said) == 27
