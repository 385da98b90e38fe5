"""Blur kernels of the published degradations: Gaussians of three shapes, and the sinc that rings.

Wang et al., Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data, ICCVW 2021,
arXiv:2107.10833, section 3; ranges and chances are those of options/train_realesrnet_x4plus.yml of
xinntao/Real-ESRGAN (BSD-3-Clause). Every kernel is K x K float32, K odd, and sums to 1.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

Kernel = npt.NDArray[np.float32]
Shape = Literal["gaussian", "generalized", "plateau"]

SIZES = tuple(range(7, 22, 2))
_SHAPES: tuple[tuple[Shape, bool, float], ...] = (  # isotropic or not, and how often
    ("gaussian", True, 0.45),
    ("gaussian", False, 0.25),
    ("generalized", True, 0.12),
    ("generalized", False, 0.03),
    ("plateau", True, 0.12),
    ("plateau", False, 0.03),
)
_BETAS: dict[Shape, tuple[float, float]] = {"gaussian": (1, 1), "generalized": (0.5, 4), "plateau": (1, 2)}


@dataclass(frozen=True, slots=True)
class Blur:
    """What the blur of one stage is drawn from."""

    sigma: tuple[float, float]
    sinc_chance: float = 0.1


def elliptic(size: int, sigma: tuple[float, float], angle: float, *, shape: Shape, beta: float) -> Kernel:
    """A bivariate kernel with deviations `sigma` along axes turned by `angle` (radians).

    With q the squared Mahalanobis distance from the middle: exp(-q / 2), generalized exp(-q^beta / 2), plateau
    1 / (1 + q^beta); normalised.
    """
    at = np.arange(size) - size // 2
    x, y = np.meshgrid(at, at)
    along, across = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    distance = (along / sigma[0]) ** 2 + (across / sigma[1]) ** 2
    kernel = 1 / (1 + distance**beta) if shape == "plateau" else np.exp(-0.5 * distance**beta)
    return (kernel / kernel.sum()).astype(np.float32)


def sinc(size: int, cutoff: float) -> Kernel:
    """The ideal circular low-pass filter of angular frequency `cutoff`, cut to `size`: it rings as sharpened photos do.

    cutoff J1(cutoff r) / (2 pi r), and cutoff^2 / (4 pi) in the middle; normalised.
    """
    at = np.arange(size) - size // 2
    radius = np.hypot(*np.meshgrid(at, at))
    radius[size // 2, size // 2] = 1
    kernel = cutoff * torch.special.bessel_j1(torch.from_numpy(cutoff * radius)).numpy() / (2 * math.pi * radius)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * math.pi)
    return (kernel / kernel.sum()).astype(np.float32)


def draw_blur(random: np.random.Generator, blur: Blur) -> Kernel:
    """A kernel of the first or second stage."""
    size = int(random.choice(SIZES))
    if random.random() < blur.sinc_chance:
        return sinc(size, random.uniform(math.pi / (3 if size < 13 else 5), math.pi))
    shape, isotropic, _ = _SHAPES[random.choice(len(_SHAPES), p=[chance for *_, chance in _SHAPES])]
    first = random.uniform(*blur.sigma)
    second, angle = (first, 0.0) if isotropic else (random.uniform(*blur.sigma), random.uniform(-math.pi, math.pi))
    low, high = _BETAS[shape]
    # As often below 1 as above, however much wider the range is there.
    beta = random.uniform(low, 1) if random.random() < 0.5 else random.uniform(1, high)
    return elliptic(size, (first, second), angle, shape=shape, beta=beta)


def draw_final(random: np.random.Generator, chance: float = 0.8) -> Kernel | None:
    """The sinc at the end, or None."""
    if random.random() >= chance:
        return None
    return sinc(int(random.choice(SIZES)), random.uniform(math.pi / 3, math.pi))
