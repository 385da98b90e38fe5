"""NIQE: how far a picture's statistics are from those of undamaged photographs; it needs no reference. Lower is better.

Mittal, Soundararajan and Bovik, Making a "Completely Blind" Image Quality Analyzer, IEEE Signal Processing Letters
20(3), 2013. Blocks of 96 x 96 at two scales, 18 features each; the model is the published one (published/NOTICE.md).
Blocks, shifts and roundings are those of the authors' release, and of XPixelGroup/BasicSR, which agrees with it.
"""

import functools
import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from upscale_cli.metrics.protocol import NoValueError

BLOCK_PX = 96
PUBLISHED = Path(__file__).with_name("published") / "niqe.safetensors"
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))  # to the neighbours whose product is looked at
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pristine:
    """What features of undamaged photographs are like."""

    mean: Floats
    """36"""
    covariance: Floats
    """36 x 36"""


@functools.cache
def published() -> Pristine:
    """The model of the authors' release."""
    from safetensors.numpy import load_file

    stored = load_file(PUBLISHED)
    return Pristine(stored["mean"], stored["covariance"])


def niqe(plane: Floats, pristine: Pristine | None = None) -> float:
    """Distance of an H x W plane of luma, 0 to 255, from `pristine`, the published one unless given.

    What does not fill a block, below and at the right, is left out. NoValueError where fewer than two blocks have
    features: they need texture on both sides of their mean.
    """
    found = features(np.rint(plane))
    found = found[~np.isnan(found).any(1)]
    if len(found) < 2:
        raise NoValueError(f"NIQE needs two blocks of {BLOCK_PX} x {BLOCK_PX} with texture")
    model = pristine or published()
    away = model.mean - found.mean(0)
    spread = (model.covariance + np.cov(found, rowvar=False)) / 2
    return math.sqrt(float(away @ np.linalg.pinv(spread) @ away))


def features(plane: Floats) -> Floats:
    """Blocks x 36, columns of blocks first; NaN where a block has none."""
    rows, columns = plane.shape[0] // BLOCK_PX, plane.shape[1] // BLOCK_PX
    plane = plane[: rows * BLOCK_PX, : columns * BLOCK_PX].astype(np.float64)
    if not plane.size:
        raise NoValueError(f"NIQE needs blocks of {BLOCK_PX} x {BLOCK_PX}; got {plane.shape[0]} x {plane.shape[1]}")
    fine = _scale_features(plane, rows, columns)
    coarse = _scale_features(_halved(_halved(plane).T).T, rows, columns)
    return np.concatenate((fine, coarse), axis=1)


def _scale_features(plane: Floats, rows: int, columns: int) -> Floats:
    """Blocks x 18."""
    height, width = plane.shape[0] // rows, plane.shape[1] // columns
    even = _normalised(plane).reshape(rows, height, columns, width).transpose(2, 0, 1, 3)
    blocks = even.reshape(rows * columns, height, width)
    alpha, left, right = _fit(blocks)
    found = [alpha, (left + right) / 2]
    for shift in _SHIFTS:
        alpha, left, right = _fit(blocks * np.roll(blocks, shift, axis=(1, 2)))
        found += [alpha, (right - left) * _ratio(alpha, 2, 1), left, right]
    return np.stack(found, axis=1)


def _normalised(plane: Floats) -> Floats:
    """Less the mean around each pixel, over the deviation around it and 1."""
    kernel = cv2.getGaussianKernel(7, 7 / 6)

    def around(values: Floats) -> Floats:
        blurred = cv2.sepFilter2D(values, cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
        return np.asarray(blurred, np.float64)

    mean = around(plane)
    return (plane - mean) / (np.sqrt(np.abs(around(plane * plane) - mean * mean)) + 1)


def _fit(blocks: Floats) -> tuple[Floats, Floats, Floats]:
    """Shape and the widths left and right of the asymmetric generalised Gaussian that fits each block's moments."""
    values = blocks.reshape(len(blocks), -1)
    squares = values * values
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.sqrt(squares.sum(1, where=values < 0) / (values < 0).sum(1))
        right = np.sqrt(squares.sum(1, where=values > 0) / (values > 0).sum(1))
        skew = left / right
        peaked = np.abs(values).mean(1) ** 2 / squares.mean(1)
        wanted = peaked * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shapes, ratios = _shapes()
    above = np.clip(np.searchsorted(ratios, wanted), 1, len(ratios) - 1)
    nearest = above - (wanted - ratios[above - 1] <= ratios[above] - wanted)
    alpha = shapes[nearest]
    width = np.sqrt(_ratio(alpha, 1, 3))
    return np.where(np.isnan(wanted), np.nan, alpha), left * width, right * width


@functools.cache
def _shapes() -> tuple[Floats, Floats]:
    """The shapes that are tried, and the ratio of moments that each has, which grows with it."""
    shapes = np.arange(0.2, 10.001, 0.001)
    return shapes, _ratio(shapes, 2, 1) * _ratio(shapes, 2, 3)


def _ratio(alpha: Floats, above: int, below: int) -> Floats:
    """gamma(above / alpha) / gamma(below / alpha)"""
    return np.array([math.exp(math.lgamma(above / a) - math.lgamma(below / a)) for a in alpha])


def _halved(plane: Floats) -> Floats:
    """Half as many rows, as MATLAB's imresize: Keys' cubic over eight of them, mirrored at the ends."""
    at = np.array([0.25, 0.75, 1.25, 1.75])
    side = np.where(at <= 1, 1.5 * at**3 - 2.5 * at**2 + 1, -0.5 * at**3 + 2.5 * at**2 - 4 * at + 2) / 2
    taps = np.concatenate((side[::-1], side))
    rows = np.pad(plane, ((3, 3), (0, 0)), mode="symmetric")
    return np.sum([tap * rows[place : place + plane.shape[0] : 2] for place, tap in enumerate(taps)], axis=0)
