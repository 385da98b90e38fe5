"""Pairs of FiveK out of its files: synthesised DNGs and retouched TIFFs with a profile, in the archive's layout."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pictures import display_p3, psnr
from PIL import Image
from raw_files import write_dng
from typer.testing import CliRunner

from upscale_cli.cli.app import app
from upscale_cli.errors import UsageError
from upscale_cli.evaluate import read_rgb8
from upscale_cli.media.pixels import to_depth
from upscale_cli.train.config import TrainConfig
from upscale_cli.train.data import load_data
from upscale_cli.train.data.fivek import SPLIT_SHA256, FiveKRequest, find_pairs, prepare_fivek, split_of, split_text

pytest.importorskip("rawpy", reason="the extra `raw` is not installed")
NAMES = ("a0001-jmac_DSC1459", "a0002-dgw_005", "a0010-jmac_MG_4807")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, photos: list[Path]) -> Path:
    """raw_photos/HQa1to700/photos/*.dng and tiff16_c/*.tif, as the dataset comes; two rows less in the TIFFs."""
    folder = tmp_path_factory.mktemp("fivek_dataset")
    raw, retouched = folder / "raw_photos" / "HQa1to700" / "photos", folder / "tiff16_c"
    for place in (raw, retouched, folder / "tiff16_a"):
        place.mkdir(parents=True)
    for name, path in zip(NAMES, photos, strict=False):
        photo = read_rgb8(path)[:160, :240]
        write_dng(raw / f"{name}.dng", photo)
        pixels = to_depth(photo[1:-1], 16)
        tifffile.imwrite(retouched / f"{name}.tif", pixels, photometric="rgb", iccprofile=display_p3())
    write_dng(raw / "a0100-alone.dng", photo)
    (raw / "a0200-broken.dng").write_bytes(b"II*\0\x08\0\0\0" + bytes(20))
    tifffile.imwrite(retouched / "a0200-broken.tif", pixels, photometric="rgb")
    return folder


def test_pairs_are_found_by_name_wherever_they_lie(archive: Path) -> None:
    pairs, faults = find_pairs(archive, "C")
    assert list(pairs) == ["a0001", "a0002", "a0010", "a0200"]
    assert pairs["a0001"][1].parent.name == "tiff16_c"
    assert faults == ("a0100-alone.dng: no picture of expert C",)
    with pytest.raises(UsageError, match=r"holds 5 RAW files and 0 retouched ones of expert A, but no pair"):
        find_pairs(archive, "A")


def test_pairs_show_one_place_in_srgb_at_one_size(archive: Path, tmp_path: Path, photos: list[Path]) -> None:
    report = prepare_fivek(FiveKRequest(source=archive, folder=tmp_path / "out", photo_px=120))
    assert (report.made, sum(report.counts.values())) == (3, 3)
    assert [fault.partition(":")[0].rpartition("/")[2] for fault in report.faults] == [
        "a0100-alone.dng",
        "a0200-broken.dng",
    ]
    for name, path in zip(("a0001", "a0002", "a0010"), photos, strict=False):
        part = tmp_path / "out" / split_of(name)
        lr, hr = (read_rgb8(part / role / f"{name}.png") for role in ("input", "expertC"))
        assert lr.shape == hr.shape == (79, 120, 3)
        photo = Image.fromarray(read_rgb8(path)[1:159, :240]).resize((120, 79), Image.Resampling.BOX)
        assert psnr(lr, np.asarray(photo)) > 28, "the DNG was made of the photograph, and shows the same place"
        assert np.abs(hr.astype(int) - np.asarray(photo)).max() > 8, "the TIFF's values were P3's"
    again = prepare_fivek(FiveKRequest(source=archive, folder=tmp_path / "out", photo_px=120))
    assert again.made == 0, "what is there is not made twice"
    with pytest.raises(UsageError, match="holds pairs of other settings"):
        prepare_fivek(FiveKRequest(source=archive, folder=tmp_path / "out", photo_px=64))


def test_a_training_takes_what_was_prepared(archive: Path, tmp_path: Path) -> None:
    words = ["train", "prepare", "fivek", str(archive), "--expert", "c", "-o", str(tmp_path / "out"), "--json"]
    report = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
    assert report["split_sha256"] == SPLIT_SHA256
    (part,) = (part for part, count in report["counts"].items() if count == 3)
    config = TrainConfig(variant="lut3d/x1-tiny", steps=1, batch=2, patch_px=32, whole=True)
    data = load_data([str(tmp_path / "out" / part)], [], config, scale=1, cache=tmp_path / "cache")
    assert data.notes[0].startswith("data: FiveK, 3 pairs of input and expert C")
    assert data.sampler.batch(0).hr.shape == (2, 3, 32, 32)


def test_the_split_is_that_of_the_names_and_never_changes(archive: Path, tmp_path: Path) -> None:
    text = split_text()
    assert hashlib.sha256(text.encode()).hexdigest() == SPLIT_SHA256
    lines = dict(line.split() for line in text.splitlines())
    assert len(lines) == 5000
    counts = {part: list(lines.values()).count(part) for part in ("train", "valid", "test")}
    assert counts == {"train": 4263, "valid": 275, "test": 462}
    digits = hashlib.sha256(b"fivek a1234").hexdigest()[:8]
    assert lines["a1234"] == {0: "test", 1: "test", 2: "valid"}.get(int(digits, 16) % 20, "train")
    prepare_fivek(FiveKRequest(source=archive, folder=tmp_path, photo_px=40))
    assert (tmp_path / "split.txt").read_text() == text
