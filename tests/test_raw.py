"""Camera RAW through the whole command: the photograph that a made-up sensor saw, its EXIF, and files that are none."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import place, refused, upscale  # noqa: F401  `place` is a fixture
from pictures import PHOTOS, psnr, read
from raw_files import write_dng

from upscale_cli.errors import InputError
from upscale_cli.evaluate import read_rgb8
from upscale_cli.media.files import open_source, probe
from upscale_cli.media.image import ImageInfo
from upscale_cli.media.job import PictureOptions, RawOptions

pytest.importorskip("rawpy", reason="the extra `raw` is not installed")


@pytest.fixture(scope="module")
def scene(spices: np.ndarray) -> np.ndarray:
    return spices[:160, :240]


def developed(path: Path, **options: object) -> tuple[ImageInfo, np.ndarray, list[str]]:
    with open_source(path, PictureOptions(raw=RawOptions(**options))) as source:
        (frame,) = source.frames()
        return source.info, frame.color, source.notes


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_sensors_values_become_the_photograph_upright(tmp_path: Path, scene: np.ndarray, orientation: int) -> None:
    info, color, notes = developed(write_dng(tmp_path / "a.dng", scene, orientation=orientation))
    assert (info.format, info.depth, info.channels) == ("RAW", 16, 3)
    assert color.shape == (info.height, info.width, 3) == scene.shape
    assert color.dtype == np.uint16
    assert np.abs((color / 257).mean((0, 1)) - scene.mean((0, 1))).max() < 3, "neither darker nor of another white"
    assert psnr((color / 257).round().astype(np.uint8), scene) > 25, "a third of the values are guessed"
    assert notes == []


def test_a_sensor_without_filters_gives_grey(tmp_path: Path, scene: np.ndarray) -> None:
    info, color, _ = developed(write_dng(tmp_path / "a.dng", scene, mono=True))
    assert info.channels == 1
    light = np.where(scene > 10, ((scene / 255 + 0.055) / 1.055) ** 2.4, scene / 255 / 12.92) @ [0.2126, 0.7152, 0.0722]
    assert np.abs((color[..., 0] / 65535) ** 2.2 - light).mean() < 0.02
    with open_source(tmp_path / "a.dng", PictureOptions()) as source:
        assert source.metadata.icc is None, "an RGB profile is none for grey"


def test_without_the_cameras_white_that_of_daylight_is_taken_with_a_word(tmp_path: Path, scene: np.ndarray) -> None:
    _, color, notes = developed(write_dng(tmp_path / "a.dng", scene, balance=False))
    assert notes == ["the camera noted no white balance: that of daylight is taken"]
    assert np.abs((color / 257).mean((0, 1)) - scene.mean((0, 1))).max() < 3, "which this camera's matrix tells"


def test_a_preview_has_half_the_sides(tmp_path: Path, scene: np.ndarray) -> None:
    path = write_dng(tmp_path / "a.dng", scene, orientation=6)
    info, color, _ = developed(path, fast=True)
    assert color.shape == (80, 120, 3) == (info.height, info.width, 3)
    assert developed(path, highlights="rebuild")[1].shape == scene.shape


def test_scores_and_trainings_read_raw_as_any_picture(tmp_path: Path, scene: np.ndarray) -> None:
    pixels = read_rgb8(write_dng(tmp_path / "a.dng", scene))
    assert pixels.dtype == np.uint8
    assert psnr(pixels, scene) > 25


@pytest.mark.usefixtures("place")
def test_raw_becomes_a_tiff_of_16_bits_with_its_exif(scene: np.ndarray) -> None:
    write_dng(Path("a.dng"), scene, orientation=6)
    assert upscale("a.dng", "-o", "out", "-s", "2").exit_code == 0
    (frame,), metadata, _ = read(Path("out/a_x2.tif"))
    assert (frame.height, frame.width, frame.depth) == (320, 480, 16)
    assert metadata.icc is not None
    assert len(np.unique(frame.color)) > 10_000, "not 8 bits in 16"
    if not shutil.which("exiftool"):
        pytest.skip("exiftool is not on this machine")
    found = subprocess.run(["exiftool", "-j", "-n", "-G1", "out/a_x2.tif"], capture_output=True, check=True)
    (tags,) = json.loads(found.stdout)
    wanted = {
        "IFD0:Orientation": 1,
        "IFD0:Make": "Synthetic",
        "IFD0:Artist": "A. Photographer",
        "ExifIFD:ExposureTime": 0.004,
        "ExifIFD:ISO": 400,
        "ExifIFD:LensModel": "Synthetic 85mm F1.8",
        "ExifIFD:DateTimeOriginal": "2024:05:06 07:08:09",
        "ICC_Profile:ProfileDescription": "sRGB built-in",
    }
    assert {name: tags.get(name) for name in wanted} == wanted
    assert tags["GPS:GPSLatitude"] == pytest.approx(47 + 22 / 60)
    assert not [name for name in tags if "DNG" in name or "CFA" in name or "ColorMatrix1" in name]


@pytest.mark.usefixtures("place")
def test_what_is_no_raw_is_named_and_the_others_go_on(scene: np.ndarray) -> None:
    write_dng(Path("whole.dng"), scene)
    whole = Path("whole.dng").read_bytes()
    said = refused(
        cut_dng=whole[: len(whole) // 2],
        head_dng=whole[:100],
        junk_nef=b"no sensor wrote this " * 99,
        tiff_arw=b"II*\0\x08\0\0\0" + bytes(20),
        none_dng=b"",
    )
    assert said["cut.dng"].startswith("is truncated (38")
    assert "--allow-truncated" in said["cut.dng"]
    assert "is truncated" in said["head.dng"]
    assert said["junk.nef"].startswith("is no RAW photograph that LibRaw can read, or is damaged.")
    assert said["tiff.arw"].startswith("is truncated or damaged")
    assert said["none.dng"].startswith("is empty")
    shutil.copy(PHOTOS / "tea-hills.jpg", "photo.dng")
    result = upscale("photo.dng", "-o", "other", "-s", "1")
    assert result.exit_code == 0
    assert "is no RAW photograph, whatever its name says: read as what it is" in result.stdout
    assert Path("other/photo_x1.jpg").exists()


def test_without_the_extra_the_error_names_it(
    tmp_path: Path, scene: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_dng(tmp_path / "a.dng", scene)
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(InputError, match=r'a\.dng: is a RAW .* `pip install "upscale-cli\[raw\]"`'):
        probe(path, PictureOptions())


def test_a_raw_of_too_many_pixels_is_not_developed(tmp_path: Path, scene: np.ndarray) -> None:
    path = write_dng(tmp_path / "a.dng", scene)
    with pytest.raises(InputError, match=r"240 x 160 = 38,400 pixels, more than the limit of 30,000"):
        probe(path, PictureOptions(max_pixels=30_000))
    assert probe(path, PictureOptions(max_pixels=30_000, raw=RawOptions(fast=True))).width == 120


@pytest.mark.usefixtures("place")
def test_raw_is_never_replaced(scene: np.ndarray) -> None:
    write_dng(Path("a.dng"), scene)
    result = upscale("a.dng", "--in-place", "-y")
    assert result.exit_code == 1
    assert "cannot stay RAW: RAW is not written. Leave out --in-place." in result.stderr
