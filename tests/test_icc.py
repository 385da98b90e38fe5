"""What a profile says: every kind of curve as LittleCMS reads it, and profiles that are none of matrix and curves."""

import io
import struct

import numpy as np
import pytest
from pictures import cmyk_profile, grey_profile
from PIL import Image, ImageCms
from profiles import ADOBE_RGB, SRGB, SRGB_CURVE, gamma, parametric, rgb_profile, sampled, table_profile

from upscale_cli.media.icc import profile_name, read_profile
from upscale_cli.media.metadata import srgb_profile

CURVES = {
    "light": sampled(),
    "gamma": gamma(1.8),
    "table": sampled(*np.linspace(0, 1, 33) ** 2.4),
    "para 0": parametric(0, 2.2),
    "para 1": parametric(1, 2.4, 1 / 1.05, 0.05 / 1.05),
    "para 2": parametric(2, 2.2, 0.9, 0.05, 0.02),
    "para 3": SRGB_CURVE,
    "para 4": parametric(4, 3.0, 1 / 1.16, 0.16 / 1.16, 0.11, 0.08, 0.0, 0.0),
}


def by_littlecms(curve: bytes) -> np.ndarray:
    """Greys in a space of that curve as those of the same space without one: light."""
    greys = Image.fromarray(np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, 2))
    ends = [ImageCms.ImageCmsProfile(io.BytesIO(rgb_profile(ADOBE_RGB, each))) for each in (curve, sampled())]
    turned = ImageCms.profileToProfile(greys, *ends)
    return np.asarray(turned)[0, :, 1] / 255


@pytest.mark.parametrize("name", CURVES)
def test_curves_of_every_kind_are_those_of_littlecms(name: str) -> None:
    (curve, *_) = read_profile(rgb_profile(ADOBE_RGB, CURVES[name])).curves
    light = curve(np.linspace(0, 1, 256))
    assert np.abs(light - by_littlecms(CURVES[name])).max() < 1.2 / 255
    assert light.min() >= 0
    assert light.max() <= 1


def test_curves_of_the_channels_may_differ() -> None:
    profile = read_profile(rgb_profile(SRGB, gamma(1), gamma(2), gamma(3)))
    assert [curve(np.array([0.5]))[0] for curve in profile.curves] == [0.5, 0.25, 0.125]
    same = read_profile(rgb_profile(SRGB, gamma(2))).curves
    assert same[0] is same[1] is same[2]


def test_grey_has_one_curve_and_no_primaries() -> None:
    profile = read_profile(grey_profile())
    assert (len(profile.curves), profile.colorants) == (1, None)
    assert profile.curves[0](np.array([0.5]))[0] == pytest.approx(0.5 ** (563 / 256))


@pytest.mark.parametrize(
    ("icc", "said"),
    [
        (cmyk_profile(), "leads from CMYK to Lab"),
        (table_profile(), "leads from RGB to Lab"),
        (rgb_profile(SRGB, gamma(2), A2B0=b"mAB \0\0\0\0"), "tables"),
        (b"", "no ICC profile"),
        (srgb_profile()[:200], "it has no"),
        (rgb_profile(SRGB, b"crvx" + bytes(12)), "no kind"),
        (rgb_profile(SRGB, b"curv\0\0\0\0" + struct.pack(">I", 1 << 31)), "cut off"),
        (rgb_profile(SRGB, parametric(9, 1.0)), "no kind"),
        (rgb_profile(SRGB, parametric(4, 1.0)), "no kind"),
        (rgb_profile(SRGB, parametric(0, -2.0)), "black to white"),
        (rgb_profile(SRGB, parametric(1, 1.0, 0.0, 0.0)), "black to white"),
        (rgb_profile(SRGB, sampled(1, 0)), "black to white"),
        (rgb_profile(SRGB, gamma(2), gXYZ=b"XYZ \0\0\0\0"), "primaries"),
        (rgb_profile(SRGB, gamma(2), gXYZ=b"XYZ " + bytes(16)), "no three colours"),
    ],
)
def test_what_is_none_of_matrix_and_curves_is_told(icc: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_profile(icc)


def test_whatever_bytes_change_it_is_a_profile_or_none() -> None:
    whole, draw = srgb_profile(), np.random.default_rng(0)
    for _ in range(300):
        torn = bytearray(whole)
        for at in draw.integers(128, len(whole), 8):
            torn[at] = draw.integers(256)
        try:
            curves = read_profile(bytes(torn)).curves
        except ValueError:
            continue
        assert all(np.isfinite(curve(np.linspace(0, 1, 9))).all() for curve in curves)


def test_it_is_called_by_its_description() -> None:
    assert profile_name(grey_profile()) == "for tests"
    assert profile_name(srgb_profile()) == "sRGB built-in"
    assert profile_name(b"no profile") == "without a name"
