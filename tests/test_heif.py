"""HEIC through the whole command: the photograph of a phone, upright, with what it carries; and files that are none."""

import sys
from pathlib import Path

import numpy as np
import pytest
from command import place, upscale  # noqa: F401  `place` is a fixture
from pictures import display_p3, exif, photo, psnr, ramp, read
from PIL import Image

from upscale_cli.errors import InputError
from upscale_cli.media.exif import orientation
from upscale_cli.media.icc import profile_name
from upscale_cli.media.image import probe

pillow_heif = pytest.importorskip("pillow_heif", reason="the extra `heif` is not installed")
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6" dc:creator="Ada"/></x:xmpmeta>'
SCENE = photo(90, 120)


def write_heic(path: Path, *others: np.ndarray, alpha: bool = False, **options: object) -> Path:
    """The photograph as a phone that was held sideways stores it: a quarter turned, with a word on it."""
    pillow_heif.register_heif_opener()
    layers = np.dstack([SCENE, ramp(90, 120)]) if alpha else SCENE
    more = [Image.fromarray(other) for other in others]
    options = {"exif": exif(orientation=6), "icc_profile": display_p3(), "xmp": XMP} | options
    image = Image.fromarray(np.ascontiguousarray(np.rot90(layers)))
    image.save(path, "HEIF", quality=95, chroma=444, save_all=bool(more), append_images=more, **options)
    return path


def test_it_comes_upright_with_what_it_carries(tmp_path: Path) -> None:
    path = write_heic(tmp_path / "a.heic")
    info = probe(path)
    assert (info.format, info.width, info.height, info.depth, info.channels) == ("HEIF", 120, 90, 8, 3)
    (frame,), metadata, notes = read(path)
    assert psnr(frame.color, SCENE) > 38
    assert metadata.icc == display_p3()
    assert b"Ada" in (metadata.xmp or b"")
    assert orientation(metadata.exif or b"") == 1
    assert notes == []


def test_it_becomes_a_jpeg_that_is_not_turned_again(place: Path) -> None:  # noqa: F811
    write_heic(place / "IMG_1.HEIC")
    done = upscale(".", "-o", "out")
    assert done.exit_code == 0, done.output
    (frame,), metadata, _ = read(place / "out" / "IMG_1_x2.jpg")
    assert psnr(frame.color[::2, ::2], SCENE) > 33
    assert metadata.icc == display_p3()
    with Image.open(place / "out" / "IMG_1_x2.jpg") as image:
        assert image.getexif().get(0x0112, 1) == 1
        assert image.getexif()[0x010F]


def test_its_alpha_makes_it_a_png_with_a_word(place: Path) -> None:  # noqa: F811
    write_heic(place / "a.heic", alpha=True)
    done = upscale("a.heic", "-o", "out")
    assert "JPEG holds no transparency: written as PNG" in done.output
    (frame,), _, _ = read(place / "out" / "a_x2.png")
    assert frame.alpha is not None
    assert psnr(frame.alpha[::2, ::2], ramp(90, 120)) > 35


def test_of_several_pictures_the_main_one_is_used(tmp_path: Path) -> None:
    path = write_heic(tmp_path / "a.heif", photo(60, 80, name="dunes"), primary_index=0)
    (frame,), _, notes = read(path)
    assert psnr(frame.color, SCENE) > 38
    assert notes == ["holds several pictures (HEIC): the main one is used"]


def write_deep(path: Path, array: np.ndarray, mode: str = "RGB;16") -> Path:
    """Of 10 bits a value, without loss; `array` is H x W x C of 16 bits."""
    picture = pillow_heif.from_bytes(mode, array.shape[1::-1], array.astype("<u2").tobytes())
    picture.save(path, quality=-1, chroma=444, matrix_coefficients=0)
    return path


@pytest.mark.parametrize(("mode", "channels"), [("RGB;16", 3), ("RGBA;16", 4), ("L;16", 1)])
def test_ten_bits_stay_and_white_stays_white(tmp_path: Path, mode: str, channels: int) -> None:
    deep = np.dstack([photo(90, 121, depth=16), ramp(90, 121).astype(np.uint16) * 257])[..., -channels:]
    deep[:20, :20] = 65535
    deep[20:40, :20] = 0
    info = probe(write_deep(tmp_path / "a.hif", deep, mode))
    assert (info.depth, info.channels, info.alpha) == (16, min(channels, 3), channels == 4)
    (frame,), _, notes = read(tmp_path / "a.hif")
    found = frame.color if frame.alpha is None else np.dstack([frame.color, frame.alpha])
    assert np.abs(found.astype(int) - np.rint(deep / 65535 * 1023) * 65535 / 1023).max() <= 65  # a step, to either side
    assert (found[:20, :20] == 65535).all()
    assert (found[20:40, :20] == 0).all()
    assert notes == []


def test_ten_bits_that_are_premultiplied_come_out_straight(tmp_path: Path) -> None:
    deep = np.dstack([photo(90, 120, depth=16), np.full((90, 120), 65535 * 3 // 5, np.uint16)])
    stored = np.dstack([np.rint(deep[..., :3] * (deep[..., 3:] / 65535)).astype(np.uint16), deep[..., 3:]])
    (frame,), _, _ = read(write_deep(tmp_path / "a.hif", stored, "RGBa;16"))
    assert psnr(frame.color, np.ascontiguousarray(deep[..., :3])) > 50
    assert frame.alpha is not None
    assert np.abs(frame.alpha.astype(int) - 39321).max() <= 65


def test_twelve_bits_stay_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pillow_heif.options, "SAVE_HDR_TO_12_BIT", True)
    deep = photo(90, 120, depth=16)
    deep[:20, :20] = 65535
    (frame,), _, _ = read(write_deep(tmp_path / "a.hif", deep))
    assert np.abs(frame.color.astype(int) - deep).max() <= 17
    assert (frame.color[:20, :20] == 65535).all()


def test_ten_bits_become_a_png_of_sixteen(place: Path) -> None:  # noqa: F811
    deep = photo(90, 120, depth=16)
    write_deep(place / "a.hif", deep)
    done = upscale("a.hif", "-o", "out")
    assert done.exit_code == 0, done.output
    assert "JPEG holds 8 bits: written as PNG" in done.output
    (frame,), _, _ = read(place / "out" / "a_x2.png")
    assert frame.color.dtype == np.uint16
    assert psnr(frame.color[::2, ::2], deep) > 33
    assert upscale("a.hif", "-o", "out", "-f", "jpg").exit_code == 0
    assert read(place / "out" / "a_x2.jpg")[0][0].color.dtype == np.uint8


def test_ten_bits_that_are_damaged_give_none_either(tmp_path: Path) -> None:
    path = write_deep(tmp_path / "a.heic", photo(90, 120, depth=16))
    data = path.read_bytes()
    at = data.find(b"mdat") + 4
    path.write_bytes(data[:at] + bytes(b ^ 0x55 for b in data[at:]))
    with pytest.raises(InputError, match=r"a\.heic: "):
        read(path)


@pytest.mark.parametrize(
    ("primaries", "transfer", "name", "kept"),
    [
        (12, 13, "Display P3, sRGB curve", None),
        (1, 13, None, None),
        (1, 1, None, None),
        (2, 2, None, None),
        (9, 16, None, bytes((9, 16, 0, 1))),
    ],
)
def test_colours_by_numbers_become_a_profile(
    tmp_path: Path, primaries: int, transfer: int, name: str | None, kept: bytes | None
) -> None:
    path = write_heic(
        tmp_path / "a.heic", icc_profile=None, color_primaries=primaries, transfer_characteristics=transfer,
        matrix_coefficients=6, full_range_flag=1,
    )  # fmt: skip
    metadata = read(path)[1]
    assert (metadata.icc and profile_name(metadata.icc)) == name
    assert metadata.cicp == kept


def test_a_profile_is_believed_before_numbers(tmp_path: Path) -> None:
    path = write_heic(tmp_path / "a.heic", color_primaries=9, transfer_characteristics=16, matrix_coefficients=9)
    metadata = read(path)[1]
    assert (metadata.icc, metadata.cicp) == (display_p3(), None)


@pytest.mark.parametrize("salvage", [False, True])
def test_one_that_is_cut_gives_no_black_picture(tmp_path: Path, salvage: bool) -> None:
    path = write_heic(tmp_path / "a.heic")
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(InputError, match="is truncated"):
        read(path, allow_truncated=salvage)


@pytest.mark.parametrize("salvage", [False, True])
def test_one_whose_pixels_are_damaged_gives_none_either(tmp_path: Path, salvage: bool) -> None:
    path = write_heic(tmp_path / "a.heic")
    data = path.read_bytes()
    at = data.find(b"mdat") + 4
    path.write_bytes(data[:at] + bytes(b ^ 0x55 for b in data[at:]))
    with pytest.raises(InputError, match=r"a\.heic: "):
        read(path, allow_truncated=salvage)


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_heic(tmp_path / "a.heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InputError, match=r'is a HEIC picture.*pip install "upscale-cli\[heif\]"'):
        probe(path)


def test_in_place_says_that_heic_is_not_written(place: Path) -> None:  # noqa: F811
    before = write_heic(place / "a.heic").read_bytes()
    done = upscale("a.heic", "--in-place")
    assert "cannot stay HEIF: HEIF is not written. Leave out --in-place." in done.output + str(done.stderr)
    assert (place / "a.heic").read_bytes() == before
