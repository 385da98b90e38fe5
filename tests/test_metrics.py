"""Scores: values known by hand, and SSIM against its formula written out."""

import math

import numpy as np
import pytest

from upscale_cli.metrics.catalog import score
from upscale_cli.metrics.fidelity import psnr, ssim
from upscale_cli.metrics.protocol import Protocol, luma


def test_psnr_of_a_known_error() -> None:
    image = np.full((4, 5, 3), 100, np.uint8)
    assert psnr(image, image) == math.inf
    assert psnr(image + 1, image) == pytest.approx(48.1308036, abs=1e-6)  # 20 log10 255
    assert psnr(image, image + 16) == pytest.approx(24.0484, abs=1e-4)  # the sign does not wrap round in 8 bits
    assert psnr(np.ones(4), np.zeros(4), peak=1.0) == 0


def test_luma_is_bt601_in_studio_range() -> None:
    colors = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert luma(colors)[0] == pytest.approx([16, 235, 81.481, 144.553, 40.966], abs=1e-9)


def _direct_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2004, equation 13, window by window."""
    offset = np.arange(-5, 6)
    weight = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * 1.5**2))
    weight /= weight.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = []
    for top in range(a.shape[0] - 10):
        for left in range(a.shape[1] - 10):
            x, y = a[top : top + 11, left : left + 11], b[top : top + 11, left : left + 11]
            mean_x, mean_y = (weight * x).sum(), (weight * y).sum()
            var_x, var_y = (weight * (x - mean_x) ** 2).sum(), (weight * (y - mean_y) ** 2).sum()
            cov = (weight * (x - mean_x) * (y - mean_y)).sum()
            found.append(
                (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
            )
    return float(np.mean(found))


def test_ssim_is_its_formula(spices: np.ndarray) -> None:
    plane = luma(spices[50:76, 80:111])
    noisy = plane + np.random.default_rng(0).normal(0, 12, plane.shape)
    assert ssim(noisy, plane) == pytest.approx(_direct_ssim(noisy, plane), abs=1e-9)
    assert ssim(plane, plane) == pytest.approx(1, abs=1e-12)
    assert 0.2 < ssim(noisy, plane) < 0.95


def test_ssim_refuses_what_is_smaller_than_its_window() -> None:
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(np.zeros((10, 40)), np.zeros((10, 40)))


def test_the_border_is_not_scored(spices: np.ndarray) -> None:
    reference = spices[:40, :50]
    image = reference.copy()
    image[:4] = image[-4:] = image[:, :4] = image[:, -4:] = 0
    inside = score(image, reference, Protocol(crop_border=4))
    assert (inside["psnr_y"], inside["psnr_rgb"]) == (math.inf, math.inf)
    assert inside["ssim_y"] == pytest.approx(1)
    assert score(image, reference, Protocol(crop_border=3))["psnr_y"] < 40
    assert score(image, reference, Protocol(crop_border=0))["psnr_y"] < 20
    assert "border of 4 px" in str(Protocol(crop_border=4))


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="sizes differ"):
        score(np.zeros((20, 20, 3), np.uint8), np.zeros((20, 21, 3), np.uint8), Protocol(crop_border=2))
