"""PSNR and SSIM: how near a picture is to its reference. Pure functions; protocol.py says on which pixels."""

import math

import cv2
import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float64]


def psnr(image: np.ndarray, reference: np.ndarray, *, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio in dB over all values; inf for equal arrays. Same shape, any dtype."""
    error = np.mean(np.square(image.astype(np.float64) - reference.astype(np.float64)))
    return math.inf if error == 0 else 10 * math.log10(peak**2 / float(error))


def ssim(image: Plane, reference: Plane, *, peak: float = 255.0) -> float:
    """Mean structural similarity of two H x W planes of at least 11 x 11.

    Wang et al. 2004: 11 x 11 Gaussian window, sigma 1.5, K1 = 0.01, K2 = 0.03, only where the window fits whole.
    """
    if min(image.shape) < 11:
        raise ValueError(f"SSIM needs 11 x 11 pixels; got {image.shape[0]} x {image.shape[1]}")
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    a, b = image.astype(np.float64), reference.astype(np.float64)
    mean_a, mean_b = _window(a), _window(b)
    var_a = _window(a * a) - mean_a**2
    var_b = _window(b * b) - mean_b**2
    cov = _window(a * b) - mean_a * mean_b
    score = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(score.mean())


def _window(plane: Plane) -> Plane:
    kernel = cv2.getGaussianKernel(11, 1.5)
    return np.asarray(cv2.sepFilter2D(plane, cv2.CV_64F, kernel, kernel)[5:-5, 5:-5], np.float64)
