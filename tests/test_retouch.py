"""Pairs before and after retouching, scored by the protocols of papers."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from pictures import display_p3
from PIL import Image
from profiles import PROPHOTO

from upscale_cli import zoo
from upscale_cli.errors import UsageError
from upscale_cli.evaluate import EvalRequest, evaluate, read_rgb8, read_srgb8, write_table
from upscale_cli.evaluate.retouch import PROTOCOLS
from upscale_cli.metrics.color import delta_e76, lab
from upscale_cli.metrics.fidelity import psnr, ssim_side_by_side
from upscale_cli.train.data.unprocessed import Push, push_back
from upscale_cli.weights import formats

DULL = Push(exposure_ev=-1, flatness=0.5, saturation=0.7)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory, photos: list[Path]) -> Path:
    """Two photographs as retouched, and pushed back; one of them has an odd row more."""
    folder = tmp_path_factory.mktemp("pairs")
    for number, path in enumerate(photos[:2]):
        photo = read_rgb8(path)
        Image.fromarray(photo).save(folder / f"a{number}_expertC.png")
        Image.fromarray(push_back(photo, DULL)[number:]).save(folder / f"a{number}_input.png")
    Image.fromarray(photo).save(folder / "a0_expertA.png")
    return folder


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An adaptive LUT that changes nothing, whatever it sees."""
    torch.manual_seed(0)
    state = zoo.find("lut3d/x1-tiny").build().state_dict()
    state["lut_generator.weights_generator.weight"].zero_()
    path = tmp_path_factory.mktemp("weights") / "nothing.safetensors"
    formats.save(path, state, {"variant": "lut3d/x1-tiny"})
    return str(path)


def test_the_inputs_own_score_stands_beside_the_models(pairs: Path, nothing: str) -> None:
    report = evaluate(EvalRequest(models=(nothing,), data=pairs, protocol="full"))
    untouched, model = report.models
    assert (untouched.model, model.model) == ("input", nothing)
    photo = read_rgb8(pairs / "a0_expertC.png")
    by_hand = psnr(push_back(photo, DULL), photo)
    assert untouched.images[0].scores["psnr_rgb"] == pytest.approx(by_hand)
    assert model.scores == pytest.approx(untouched.scores, rel=1e-3), "which a network that changes nothing has too"
    assert list(report.metrics) == ["psnr_rgb", "ssim_rgb", "delta_e"]
    assert 10 < untouched.scores["psnr_rgb"] < 25
    assert "border of 0 px" in report.pixels
    assert report.low_resolution == "pairs at full size"


def test_pairs_one_row_apart_are_cut_about_their_middle(pairs: Path, nothing: str) -> None:
    report = evaluate(EvalRequest(models=(nothing,), data=pairs, protocol="full"))
    photo = read_rgb8(pairs / "a1_expertC.png")
    expected = psnr(push_back(photo, DULL)[1:], photo[:-1])
    assert report.models[0].images[1].scores["psnr_rgb"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "size"), [("dpe", (512, 288)), ("upe", (900, 506)), ("3dlut", (853, 480)), ("full", (900, 506))]
)
def test_each_protocol_scores_at_its_own_size(name: str, size: tuple[int, int]) -> None:
    fitted = PROTOCOLS[name].fit(np.zeros((506, 900, 3), np.uint8))
    assert abs(fitted.shape[1] - size[0]) <= 1
    assert abs(fitted.shape[0] - size[1]) <= 1
    small = np.zeros((100, 90, 3), np.uint8)
    assert PROTOCOLS[name].fit(small) is small, "nothing is enlarged"


def test_folders_of_the_same_names_are_pairs_too(pairs: Path, nothing: str, tmp_path: Path) -> None:
    for name, role in (("low", "input"), ("high", "expertC")):
        (tmp_path / name).mkdir()
        for number in range(2):
            (tmp_path / name / f"{number}.png").write_bytes((pairs / f"a{number}_{role}.png").read_bytes())
    apart = evaluate(EvalRequest(models=(nothing,), data=tmp_path / "high", lr=tmp_path / "low", protocol="dpe"))
    beside = evaluate(EvalRequest(models=(nothing,), data=pairs, protocol="dpe"))
    assert apart.models[0].scores == pytest.approx(beside.models[0].scores)


def test_profiles_are_applied_before_anything_is_compared(tmp_path: Path, spices: np.ndarray) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(spices).save(path, icc_profile=display_p3())
    wide = read_srgb8(path).astype(int) - spices
    assert np.abs(wide).max() > 10, "P3's red is redder than that of sRGB"
    grey = (spices.max(2).astype(int) - spices.min(2) < 4) & (spices.min(2) > 60)
    assert np.abs(wide[grey]).max() <= 6, "grey stays grey"


def test_16_bits_in_a_wide_space_are_rounded_once(tmp_path: Path, spices: np.ndarray) -> None:
    """In ProPhoto 8 bits are too few for what sRGB tells apart."""
    noise = np.random.default_rng(0).integers(0, 257, spices.shape)
    deep = np.minimum(spices.astype(np.uint32) * 256 + noise, 65535).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb", iccprofile=PROPHOTO.icc)
    expected = np.rint(np.clip(PROPHOTO.to_srgb(deep), 0, 1) * 255)
    off = np.abs(read_srgb8(tmp_path / "a.tif") - expected)
    assert off.max() <= 1
    assert np.mean(off) < 0.001


def test_the_ssim_of_zeng_is_that_of_the_matlab_program(spices: np.ndarray) -> None:
    """Written out: a box of 2 x 2 that ends at the mirrored border, every second pixel of R|G|B, Gaussian windows."""
    image, reference = push_back(spices, DULL)[:427, :601], spices[:427, :601]
    kernel = cv2.getGaussianKernel(11, 1.5)
    planes = []
    for each in (image, reference):
        wide = np.pad(each.astype(float), ((0, 1), (0, 1), (0, 0)), mode="symmetric")
        box = (wide[:-1, :-1] + wide[1:, :-1] + wide[:-1, 1:] + wide[1:, 1:]) / 4
        planes.append(np.hstack([box[..., 0], box[..., 1], box[..., 2]])[::2, ::2])
    a, b = planes
    mean = [cv2.filter2D(plane, -1, kernel @ kernel.T)[5:-5, 5:-5] for plane in (a, b, a * a, b * b, a * b)]
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    covariance = mean[4] - mean[0] * mean[1]
    variances = mean[2] - mean[0] ** 2 + mean[3] - mean[1] ** 2
    top = (2 * mean[0] * mean[1] + c1) * (2 * covariance + c2)
    expected = (top / ((mean[0] ** 2 + mean[1] ** 2 + c1) * (variances + c2))).mean()
    assert ssim_side_by_side(image, reference) == pytest.approx(expected, abs=1e-9)
    assert ssim_side_by_side(reference, reference) == 1


def test_the_difference_of_1976_is_a_distance(spices: np.ndarray) -> None:
    one, other = np.array([[[200, 30, 40]]], np.uint8), np.array([[[180, 60, 40]]], np.uint8)
    assert delta_e76(one, other) == pytest.approx(math.dist(lab(one)[0, 0], lab(other)[0, 0]))
    assert delta_e76(spices, spices) == 0


def test_what_is_no_protocol_or_has_no_pairs_is_refused(pairs: Path, nothing: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no --protocol csrnet\. Choose one of dpe, upe, 3dlut, full\."):
        EvalRequest(models=("x",), data=pairs, protocol="csrnet")
    (tmp_path / "a.png").write_bytes((pairs / "a0_input.png").read_bytes())
    with pytest.raises(UsageError, match="holds no pairs named a0001_input and a0001_expertC"):
        evaluate(EvalRequest(models=(nothing,), data=tmp_path, protocol="full"))


def test_published_luts_score_what_they_score_elsewhere(oracles: Path) -> None:
    lut, pairs = oracles / "image-adaptive-3dlut" / "LUTs.pth", oracles.parent / "fivek" / "pairs"
    untouched, model = evaluate(EvalRequest(models=(lut,), data=pairs, protocol="3dlut")).models
    assert model.scores["psnr_rgb"] == pytest.approx(26.45, abs=0.05)
    assert untouched.scores["psnr_rgb"] == pytest.approx(18.51, abs=0.01)


def test_pairs_of_a_csv(pairs: Path, nothing: str, tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", [(pairs / "a1_input.png", pairs / "a1_expertC.png")])
    beside = evaluate(EvalRequest(models=(nothing,), data=pairs, protocol="full")).models[1].images[1]
    listed = evaluate(EvalRequest(models=(nothing,), data=tmp_path / "t.csv", protocol="full")).models[1].images
    assert [image.scores for image in listed] == [beside.scores]
