"""Colours of working spaces as sRGB's and back: as LittleCMS has them, without loss, and sRGB itself left alone."""

import io
from pathlib import Path

import numpy as np
import pytest
from pictures import cmyk_profile, grey_profile, photo
from PIL import Image, ImageCms
from profiles import ADOBE_RGB, PROPHOTO, SRGB, SRGB_CURVE, WIDE, gamma, rgb_profile, sampled, table_profile

from upscale_cli.errors import InputError, UsageError
from upscale_cli.media.colorspace import AS_SRGB, Assumed, decoded, encoded, meaning, space_of, srgb8
from upscale_cli.media.metadata import srgb_profile

DEEP = np.dtype(np.uint16)


def by_littlecms(pixels: np.ndarray, source: bytes, target: bytes) -> np.ndarray:
    ends = [ImageCms.ImageCmsProfile(io.BytesIO(each)) for each in (source, target)]
    return np.asarray(ImageCms.profileToProfile(Image.fromarray(pixels), *ends)).astype(int)


@pytest.mark.parametrize("name", WIDE)
def test_photographs_become_srgb_as_by_littlecms(name: str, spices: np.ndarray) -> None:
    expected = by_littlecms(spices, WIDE[name].icc, srgb_profile())
    off = np.abs(srgb8(spices, WIDE[name].icc) - expected)
    assert off.max() <= 2
    assert np.mean(off > 1) < 0.001
    deep = spices.astype(np.uint16) * 257
    assert np.abs(srgb8(deep, WIDE[name].icc) - expected).max() <= 2


@pytest.mark.parametrize("name", WIDE)
def test_and_come_back_as_by_littlecms(name: str, spices: np.ndarray) -> None:
    space = space_of(WIDE[name].icc)
    made = space.from_srgb((spices / np.float32(255)).astype(np.float32), np.dtype(np.uint8))
    bright = spices.min(2) > 8  # LittleCMS has few steps for the darkest
    assert np.abs(made - by_littlecms(spices, srgb_profile(), WIDE[name].icc))[bright].max() <= 1


@pytest.mark.parametrize("name", WIDE)
def test_colours_are_those_of_the_formulas_beyond_srgb_too(name: str) -> None:
    image = photo(60, 80, depth=16)
    values = space_of(WIDE[name].icc).to_srgb(image)
    assert np.abs(values - WIDE[name].to_srgb(image)).max() < 1e-4
    assert (values.min(), values.max()) != (0, 1)


@pytest.mark.parametrize("icc", [rgb_profile(PROPHOTO, SRGB_CURVE), rgb_profile(ADOBE_RGB, sampled()), PROPHOTO.icc])
def test_there_and_back_nothing_is_lost(icc: bytes) -> None:
    space = space_of(icc)
    colors = np.random.default_rng(0).integers(0, 65536, (300, 200, 3)).astype(np.uint16)
    for numbers in (colors, (colors >> 8).astype(np.uint8)):
        back = space.from_srgb(space.to_srgb(numbers), numbers.dtype)
        assert np.abs(back.astype(int) - numbers).max() <= (0 if numbers.dtype == np.uint8 else 8)
    assert space.to_srgb(colors).min() < -0.2


def test_every_channel_goes_by_its_own_curve() -> None:
    space = space_of(rgb_profile(SRGB, gamma(1), gamma(2), gamma(3)))
    numbers = photo(20, 30, depth=16)
    light = decoded(space.to_srgb(numbers)) * 65535
    expected = np.stack([(numbers[..., c] / 65535) ** (c + 1) * 65535 for c in range(3)], -1)
    assert np.abs(light - expected).max() < 6, "the primaries are rounded in the profile"
    assert np.abs(space.from_srgb(space.to_srgb(numbers), DEEP).astype(int) - numbers).max() <= 8


def test_the_curve_of_srgb_goes_on_in_both_directions() -> None:
    light = np.linspace(-2, 2, 100_001, dtype=np.float32)[:, None, None]
    values = encoded(light)
    assert np.all(np.diff(values[:, 0, 0]) > 0)
    assert np.abs(values + values[::-1]).max() < 1e-6
    assert np.abs(decoded(values) - light).max() < 3e-6
    assert encoded(np.float32([[[0, 0.002, 1]]]))[0, 0] == pytest.approx([0, 0.02584, 1], abs=1e-6)


@pytest.mark.parametrize(
    "icc",
    [srgb_profile(), rgb_profile(SRGB, SRGB_CURVE), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()],
)
def test_srgb_is_srgb_whatever_its_profile_is_called(icc: bytes, spices: np.ndarray) -> None:
    assert space_of(icc).is_srgb
    assert meaning(icc, format="PNG", channels=3, depth=16, assumed=AS_SRGB) == (None, "")
    assert np.array_equal(srgb8(spices, icc), spices)


def test_spaces_that_look_like_srgb_are_not() -> None:
    assert not space_of(rgb_profile(SRGB, gamma(2.2))).is_srgb, "its darks are others"
    assert not any(space_of(space.icc).is_srgb for space in WIDE.values())


def test_greys_go_by_the_curve_alone() -> None:
    grey = np.arange(0, 65536, 7, dtype=np.uint16)[None, :, None]
    for icc in (PROPHOTO.icc, grey_profile()):
        space = meaning(icc, format="TIFF", channels=1, depth=16, assumed=AS_SRGB).space
        assert space is not None
        power = PROPHOTO.gamma if icc == PROPHOTO.icc else 563 / 256
        assert np.abs(decoded(space.to_srgb(grey)) - (grey / 65535) ** power).max() < 1e-5
        assert np.abs(space.from_srgb(space.to_srgb(grey), DEEP).astype(int) - grey).max() <= 1
    assert srgb8(grey, PROPHOTO.icc).shape == grey.shape


def test_tables_are_littlecms_affair_and_inks_nobodys(spices: np.ndarray) -> None:
    assert np.array_equal(srgb8(spices, table_profile()), by_littlecms(spices, table_profile(), srgb_profile()))
    found = meaning(table_profile(), format="JPEG", channels=3, depth=8, assumed=AS_SRGB)
    assert found.space is None
    assert found.note.startswith("its profile 'for tests' is no matrix profile (it leads from RGB to Lab)")
    assert found.note.endswith("its colours are taken for sRGB")
    with pytest.raises(ValueError, match=r"\w"):
        srgb8(spices, cmyk_profile())


def test_without_a_profile_it_is_what_is_assumed(tmp_path: Path) -> None:
    said = "taken for sRGB; if they are linear light, --assume-profile linear says so"
    for format, depth, note in (
        ("TIFF", 16, said),
        ("PNG", 16, said),
        ("TIFF", 8, ""),
        ("RAW", 16, ""),
        ("MP4", 16, ""),
    ):
        found = meaning(None, format=format, channels=3, depth=depth, assumed=AS_SRGB)
        assert (found.space, found.note[-len(said) :] if note else found.note) == (None, note)
    (tmp_path / "adobe.icc").write_bytes(ADOBE_RGB.icc)
    linear, file = Assumed.of("linear"), Assumed.of(str(tmp_path / "adobe.icc"))
    assert len({AS_SRGB.identity, linear.identity, file.identity}) == 3
    half = np.full((1, 1, 3), 32768, np.uint16)
    for assumed, value in ((linear, 0.7354), (file, 0.504)):
        found = meaning(None, format="TIFF", channels=3, depth=16, assumed=assumed)
        assert (found.space is not None, found.note) == (True, "")
        assert found.space.to_srgb(half)[0, 0] == pytest.approx([value] * 3, abs=2e-3)  # type: ignore[union-attr]
        assert meaning(srgb_profile(), format="TIFF", channels=3, depth=16, assumed=assumed).space is None
        assert meaning(None, format="RAW", channels=3, depth=16, assumed=assumed).space is None


def test_a_file_that_is_no_profile_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--assume-profile none\.icc: no such file or directory\. Give srgb, linear"):
        Assumed.of("none.icc")
    for content, said in ((b"what", "it is no ICC profile"), (cmyk_profile(), "it leads from CMYK to Lab")):
        (tmp_path / "a.icc").write_bytes(content)
        with pytest.raises(UsageError, match=f"{said}. Give a profile of matrix and curves"):
            Assumed.of(str(tmp_path / "a.icc"))
