"""Low resolution made from high: kernels against their formulas, and what a degradation does to photographs."""

import math

import cv2
import numpy as np
import pytest

from upscale_cli.media.resize import imresize
from upscale_cli.train.data.degrade import FIRST, SECOND, Degradation, degrade, poisson, sharpen
from upscale_cli.train.data.kernels import SIZES, Blur, Shape, draw_blur, draw_final, elliptic, sinc


def loudness(image: np.ndarray) -> float:
    """How much of a picture changes from one pixel to the next: noise raises it, blur lowers it."""
    return float(np.abs(np.diff(image.astype(float), axis=0)).mean())


# Kernels


@pytest.mark.parametrize("shape", ["gaussian", "generalized", "plateau"])
def test_a_kernel_is_the_published_formula(shape: Shape) -> None:
    """The formulas of the paper with the covariance matrix written out, which the code does without."""
    size, (a, b), angle = 13, (2.5, 0.9), 0.7
    beta = {"gaussian": 1.0, "generalized": 0.6, "plateau": 1.7}[shape]
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    inverse = np.linalg.inv(turn @ np.diag([a * a, b * b]) @ turn.T)
    expected = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            at = np.array([column - 6, row - 6])
            distance = at @ inverse @ at
            expected[row, column] = 1 / (distance**beta + 1) if shape == "plateau" else math.exp(-0.5 * distance**beta)
    kernel = elliptic(size, (a, b), angle, shape=shape, beta=beta)
    assert kernel == pytest.approx(expected / expected.sum(), abs=1e-7)


def test_an_even_gaussian_is_opencvs() -> None:
    column = cv2.getGaussianKernel(21, 1.9)
    kernel = elliptic(21, (1.9, 1.9), 0.0, shape="gaussian", beta=1)
    assert kernel == pytest.approx(column @ column.T, abs=1e-7)


def bessel_j1(x: float) -> float:
    """By its integral."""
    angles = np.linspace(0, math.pi, 20001)
    return float(np.trapezoid(np.cos(angles - x * np.sin(angles)), angles) / math.pi)


def test_the_sinc_is_the_ideal_low_pass() -> None:
    kernel = sinc(21, math.pi / 2)
    middle = kernel[10, 10]
    for row, column in ((10, 11), (8, 13), (0, 0), (20, 5)):
        radius = math.hypot(row - 10, column - 10)
        expected = (bessel_j1(math.pi / 2 * radius) / radius) / (math.pi / 4)
        assert kernel[row, column] / middle == pytest.approx(expected, abs=1e-6)
    assert kernel.min() < 0, "it rings"
    spectrum = np.abs(np.fft.fft2(kernel, (64, 64)))
    assert spectrum[0, 0] == pytest.approx(1, abs=1e-5)
    assert spectrum[0, 8] == pytest.approx(1, abs=0.15), "half the cutoff passes"
    assert spectrum[0, 26] < 0.1, "above the cutoff nothing does"


def test_drawn_kernels_sum_to_one_and_come_in_every_size_and_kind() -> None:
    random = np.random.default_rng(0)
    kernels = [draw_blur(random, Blur((0.2, 3))) for _ in range(400)]
    assert {kernel.shape for kernel in kernels} == {(size, size) for size in SIZES}
    for kernel in kernels:
        assert kernel.sum() == pytest.approx(1, abs=1e-4)
    ringing = sum(kernel.min() < 0 for kernel in kernels)
    assert 20 <= ringing <= 60, "a tenth are sincs"
    turned = sum(not np.allclose(kernel, kernel.T, atol=1e-5) for kernel in kernels)
    assert 80 <= turned <= 160, "31 % of the rest are longer than wide"
    ends = [draw_final(random) for _ in range(200)]
    assert 20 <= sum(end is None for end in ends) <= 60, "a fifth have none"


def test_the_parameters_are_the_published_ones() -> None:
    """options/train_realesrnet_x4plus.yml of xinntao/Real-ESRGAN."""
    assert (FIRST.blur.sigma, FIRST.blur.sinc_chance, FIRST.blur_chance) == ((0.2, 3), 0.1, 1)
    assert (FIRST.resize_chances, FIRST.resize) == ((0.2, 0.7, 0.1), (0.15, 1.5))
    assert (FIRST.gaussian_chance, FIRST.noise, FIRST.poisson) == (0.5, (1, 30), (0.05, 3))
    assert (FIRST.grey_chance, FIRST.jpeg) == (0.4, (30, 95))
    assert (SECOND.blur.sigma, SECOND.blur.sinc_chance, SECOND.blur_chance) == ((0.2, 1.5), 0.1, 0.8)
    assert (SECOND.resize_chances, SECOND.resize) == ((0.3, 0.4, 0.3), (0.3, 1.2))
    assert (SECOND.gaussian_chance, SECOND.noise, SECOND.poisson) == (0.5, (1, 25), (0.05, 2.5))
    assert (SECOND.grey_chance, SECOND.jpeg) == (0.4, (30, 95))


# Pictures


def test_bicubic_is_imresize(spices: np.ndarray) -> None:
    hr = spices[:240, :320]
    assert np.array_equal(degrade(hr, 4, "bicubic", np.random.default_rng(0)), imresize(hr, 60, 80))


@pytest.mark.parametrize("kind", ["unknown", "realesrgan"])
def test_a_degradation_is_drawn_from_its_generator_alone(kind: Degradation, spices: np.ndarray) -> None:
    hr = spices[:200, :240]
    one, again, other = (degrade(hr, 4, kind, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.shape == (50, 60, 3)
    assert one.dtype == np.uint8
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(("kind", "least", "most"), [("unknown", 20, 33), ("realesrgan", 16, 27)])
def test_a_degraded_photograph_shows_the_same_place_in_worse(
    kind: Degradation, least: float, most: float, spices: np.ndarray
) -> None:
    hr = spices[:400, :400]
    clean = imresize(hr, 100, 100).astype(float)
    made = [degrade(hr, 4, kind, np.random.default_rng(seed)).astype(float) for seed in range(24)]
    errors = [10 * math.log10(255**2 / np.mean((image - clean) ** 2)) for image in made]
    assert least < np.median(errors) < most
    assert max(errors) - min(errors) > 5, "some hardly, some badly"
    assert np.abs(np.mean(made, axis=0).mean((0, 1)) - clean.mean((0, 1))).max() < 6, "no colour cast, no shift of tone"
    # Their mean shows the place where it was: noise goes, detail stays.
    mean, far = np.mean(made, axis=0), np.roll(clean, 2, axis=1)
    assert np.mean((mean - clean) ** 2) < 0.5 * np.mean((mean - far) ** 2)
    sizes = [loudness(image) / loudness(clean) for image in made]
    assert min(sizes) < 0.8, "some are blurred"
    assert max(sizes) > 1, "some are noisy"


def test_poisson_noise_grows_with_light() -> None:
    """Its variance is the expected count: strength^2 x level / levels present, rounded up to a power of two."""
    ramp = np.repeat(np.linspace(0, 1, 256, dtype=np.float32), 400).reshape(256, 400)
    image = np.repeat(ramp[..., None], 3, axis=2)
    noise = poisson(image, 2.0, np.random.default_rng(0), grey=False)
    assert noise.shape == image.shape
    for row in (16, 64, 128, 250):
        assert noise[row].var() == pytest.approx(4 * (row / 255) / 256, rel=0.12)
    assert np.all(noise[0] == 0)
    grey = poisson(image, 2.0, np.random.default_rng(0), grey=True)
    assert grey.shape == (256, 400, 1)


def test_sharpening_leaves_flat_places_alone_and_lifts_edges(spices: np.ndarray) -> None:
    flat = np.full((80, 80, 3), 100, np.uint8)
    assert np.array_equal(sharpen(flat), flat)
    assert loudness(sharpen(spices)) > 1.1 * loudness(spices)
    edge = np.full((120, 120, 3), 60, np.uint8)
    edge[:, 60:] = 180
    sharp = sharpen(edge).astype(int)
    assert sharp[60, 58, 0] < 60
    assert sharp[60, 61, 0] > 180
    assert np.array_equal(sharp[:, 0], edge[:, 0]), "far from the edge nothing changes"
