"""PSNR, SSIM and MS-SSIM: how near a picture is to its reference. Pure functions; protocol.py says on which pixels."""

import math

import cv2
import numpy as np

from upscale_cli.metrics.protocol import NoValueError, Plane

WINDOW_PX = 11
MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales, finest first: Wang, Simoncelli and Bovik, Multiscale structural similarity, Asilomar 2003."""
MS_SMALLEST_PX = WINDOW_PX * 2 ** (len(MS_WEIGHTS) - 1)


def psnr(image: np.ndarray, reference: np.ndarray, *, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio in dB over all values; inf for equal arrays. Same shape, any dtype."""
    error = np.mean(np.square(image.astype(np.float64) - reference.astype(np.float64)))
    return math.inf if error == 0 else 10 * math.log10(peak**2 / float(error))


def ssim(image: np.ndarray, reference: np.ndarray, *, peak: float = 255.0) -> float:
    """Mean structural similarity of two H x W planes, or the mean over C of H x W x C, of at least 11 x 11.

    Wang et al. 2004: 11 x 11 Gaussian window, sigma 1.5, K1 = 0.01, K2 = 0.03, only where the window fits whole.
    """
    if min(image.shape[:2]) < WINDOW_PX:
        raise NoValueError(f"SSIM needs 11 x 11 pixels; got {image.shape[0]} x {image.shape[1]}")
    luminance, structure = _similarity(image, reference, peak)
    return float((luminance * structure).mean())


def ssim_side_by_side(image: np.ndarray, reference: np.ndarray) -> float:
    """SSIM as Wang's ssim.m of 2009 gives it for two H x W x 3 8-bit pictures in MATLAB.

    That program is for planes. Given colours it smooths each of them by a box of `factor` pixels, so many that the
    shorter side comes near to 256, and from then on takes red, green and blue for one plane, side by side.
    """
    factor = max(1, math.floor(min(image.shape[0], image.shape[1] * 3) / 256 + 0.5))
    planes = []
    for each in (image, reference):
        anchor = ((factor - 1) // 2,) * 2
        smooth = cv2.blur(each.astype(np.float64), (factor, factor), anchor=anchor, borderType=cv2.BORDER_REFLECT)
        beside = np.concatenate(np.split(np.asarray(smooth), 3, axis=2), axis=1)[..., 0]
        planes.append(np.ascontiguousarray(beside[::factor, ::factor]))
    return ssim(planes[0], planes[1])


def ms_ssim(image: Plane, reference: Plane, *, peak: float = 255.0) -> float:
    """Multi-scale structural similarity of two H x W planes of at least 176 x 176.

    Wang et al. 2003: contrast and structure at five scales, each half of the one before (mean of 2 x 2, an odd last
    row or column left out), luminance at the coarsest, to the power of MS_WEIGHTS. A negative factor counts as 0.
    """
    if min(image.shape) < MS_SMALLEST_PX:
        raise NoValueError(f"MS-SSIM needs {MS_SMALLEST_PX} pixels a side; got {image.shape[0]} x {image.shape[1]}")
    product = 1.0
    for scale, weight in enumerate(MS_WEIGHTS, 1):
        luminance, structure = _similarity(image, reference, peak)
        factor = structure if scale < len(MS_WEIGHTS) else luminance * structure
        product *= max(0.0, float(factor.mean())) ** weight
        image, reference = _halved(image), _halved(reference)
    return product


def _similarity(image: np.ndarray, reference: np.ndarray, peak: float) -> tuple[np.ndarray, np.ndarray]:
    """The luminance term, and that of contrast and structure, where the window fits whole."""
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    a, b = image.astype(np.float64), reference.astype(np.float64)
    mean_a, mean_b = _window(a), _window(b)
    var_a = _window(a * a) - mean_a**2
    var_b = _window(b * b) - mean_b**2
    cov = _window(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance, (2 * cov + c2) / (var_a + var_b + c2)


def _window(plane: np.ndarray) -> np.ndarray:
    kernel = cv2.getGaussianKernel(WINDOW_PX, 1.5)
    half = WINDOW_PX // 2
    return np.asarray(cv2.sepFilter2D(plane, cv2.CV_64F, kernel, kernel)[half:-half, half:-half], np.float64)


def _halved(plane: Plane) -> Plane:
    height, width = plane.shape[0] // 2 * 2, plane.shape[1] // 2 * 2
    plane = plane[:height, :width]
    return (plane[::2, ::2] + plane[1::2, ::2] + plane[::2, 1::2] + plane[1::2, 1::2]) / 4
