"""Low resolution made from high: bicubic, a plain blur-noise-JPEG, Real-ESRGAN's of the second order; or just unedited.

Wang et al., arXiv:2107.10833. Order and parameters are those of realesrgan/models/realesrnet_model.py and
options/train_realesrnet_x4plus.yml of xinntao/Real-ESRGAN (BSD-3-Clause); resizing and JPEG are OpenCV's instead of
PyTorch's, and every patch is drawn on its own. Knows no file and draws from the generator it is given alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from upscale_cli.media.resize import imresize
from upscale_cli.train.data.kernels import Blur, Kernel, draw_blur, draw_final
from upscale_cli.train.data.unprocessed import draw_push, push_back

Degradation = Literal["bicubic", "unknown", "realesrgan", "unprocessed"]
Floats = np.ndarray  # float32 in [0, 1]; OpenCV promises no dtype
Pixels = npt.NDArray[np.uint8]

_MODES = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


@dataclass(frozen=True, slots=True)
class Stage:
    """One of the two rounds of blur, resizing, noise and JPEG."""

    blur: Blur
    blur_chance: float
    resize_chances: tuple[float, float, float]
    """Of larger, smaller, and as it is."""
    resize: tuple[float, float]
    noise: tuple[float, float]
    """Deviation of Gaussian noise, of 255."""
    poisson: tuple[float, float]
    """What Poisson noise is multiplied by."""
    gaussian_chance: float = 0.5
    """Poisson noise otherwise."""
    grey_chance: float = 0.4
    jpeg: tuple[float, float] = (30, 95)


FIRST = Stage(Blur((0.2, 3)), 1.0, (0.2, 0.7, 0.1), (0.15, 1.5), (1, 30), (0.05, 3))
SECOND = Stage(Blur((0.2, 1.5)), 0.8, (0.3, 0.4, 0.3), (0.3, 1.2), (1, 25), (0.05, 2.5))
UNKNOWN_SIGMA, UNKNOWN_NOISE, UNKNOWN_JPEG = (0.2, 3), (0, 15), (40, 95)

SURROUND_PX: dict[Degradation, int] = {"bicubic": 8, "unknown": 16, "realesrgan": 36, "unprocessed": 8}
"""LR pixels to be made beside those that are used, along each axis: kernels reach no border, and the blocks of JPEG lie
anywhere. 36 beside 64 are the published 400 x 400 around 256 x 256."""


def degrade(hr: Pixels, factor: int, kind: Degradation, random: np.random.Generator) -> Pixels:
    """H x W x 3, both multiples of `factor`, to H / factor x W / factor x 3."""
    return _KINDS[kind](hr, factor, random)


def bicubic(hr: Pixels, factor: int, _random: np.random.Generator | None = None) -> Pixels:
    """MATLAB's imresize."""
    return imresize(hr, hr.shape[0] // factor, hr.shape[1] // factor)


def unknown(hr: Pixels, factor: int, random: np.random.Generator) -> Pixels:
    """One blur, bicubic, Gaussian noise and JPEG, all moderate; the name is that of DIV2K's second track."""
    blurred = _filter(_floats(hr), draw_blur(random, Blur(UNKNOWN_SIGMA, sinc_chance=0)))
    small = imresize(np.clip(blurred, 0, 1), hr.shape[0] // factor, hr.shape[1] // factor)
    noisy = small + _gaussian(small.shape, random.uniform(*UNKNOWN_NOISE), random, grey=False)
    return _bytes(_jpeg(noisy, random.uniform(*UNKNOWN_JPEG)))


def realesrgan(hr: Pixels, factor: int, random: np.random.Generator) -> Pixels:
    """Blur, resize, noise, JPEG; all again; and a sinc filter before or after the last JPEG."""
    height, width = hr.shape[0] // factor, hr.shape[1] // factor
    image = _stage(_floats(hr), FIRST, hr.shape[:2], random)
    image = _jpeg(image, random.uniform(*FIRST.jpeg))
    image = _stage(image, SECOND, (height, width), random)
    final, mode, quality = draw_final(random), _draw_mode(random), random.uniform(*SECOND.jpeg)
    # In any other order the sinc twists lines, say the authors.
    if random.random() < 0.5:
        return _bytes(_jpeg(_filter(_resize(image, height, width, mode), final), quality))
    return _bytes(_filter(_resize(_jpeg(image, quality), height, width, mode), final))


def unprocessed(hr: Pixels, factor: int, random: np.random.Generator) -> Pixels:
    """Pushed back to the look of before all editing, and smaller by bicubic."""
    return push_back(bicubic(hr, factor) if factor > 1 else hr, draw_push(random))


_KINDS: dict[Degradation, Callable[[Pixels, int, np.random.Generator], Pixels]] = {
    "bicubic": bicubic,
    "unknown": unknown,
    "realesrgan": realesrgan,
    "unprocessed": unprocessed,
}


def sharpen(image: Pixels, *, weight: float = 0.5, radius: int = 51, threshold: float = 10) -> Pixels:
    """Unsharp masking where it changes more than `threshold` of 255, as Real-ESRGAN does to its targets."""
    picture = _floats(image)
    sigma = 0.3 * ((radius - 1) * 0.5 - 1) + 0.8  # what OpenCV takes for a kernel of this size
    residual = picture - cv2.GaussianBlur(picture, (radius, radius), sigma)
    mask = cv2.GaussianBlur((np.abs(residual) * 255 > threshold).astype(np.float32), (radius, radius), sigma)
    sharp = np.clip(picture + weight * residual, 0, 1)
    return _bytes(picture + mask * (sharp - picture))


def _stage(image: Floats, stage: Stage, size: tuple[int, int], random: np.random.Generator) -> Floats:
    """Blur, resize to about `size`, and noise."""
    if random.random() < stage.blur_chance:
        image = _filter(image, draw_blur(random, stage.blur))
    kind = random.choice(3, p=stage.resize_chances)
    scale = (random.uniform(1, stage.resize[1]), random.uniform(stage.resize[0], 1), 1.0)[kind]
    height, width = (max(1, int(side * scale)) for side in size)
    image = _resize(image, height, width, _draw_mode(random))
    grey = random.random() < stage.grey_chance
    if random.random() < stage.gaussian_chance:
        noise = _gaussian(image.shape, random.uniform(*stage.noise), random, grey=grey)
    else:
        noise = poisson(image, random.uniform(*stage.poisson), random, grey=grey)
    return np.clip(image + noise, 0, 1)


def _gaussian(shape: tuple[int, ...], sigma: float, random: np.random.Generator, *, grey: bool) -> Floats:
    noise = random.standard_normal((*shape[:2], 1 if grey else 3), dtype=np.float32)
    return noise * np.float32(sigma / 255)


def poisson(image: Floats, strength: float, random: np.random.Generator, *, grey: bool) -> Floats:
    """Shot noise of a sensor that counts as many levels as the picture has, rounded up to a power of two."""
    counted = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None] if grey else image
    levels = _bytes(counted)
    present = np.count_nonzero(np.bincount(levels.ravel(), minlength=256))
    most = 2.0 ** math.ceil(math.log2(present))
    expected = levels * np.float32(most / 255)
    return (random.poisson(expected) - expected).astype(np.float32) * np.float32(strength / most)


def _draw_mode(random: np.random.Generator) -> int:
    return _MODES[random.integers(len(_MODES))]


def _resize(image: Floats, height: int, width: int, mode: int) -> Floats:
    if image.shape[:2] == (height, width):
        return image
    return cv2.resize(image, (width, height), interpolation=mode)


def _filter(image: Floats, kernel: Kernel | None) -> Floats:
    return image if kernel is None else cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)


def _jpeg(image: Floats, quality: float) -> Floats:
    """Through a JPEG file of 4:2:0, which OpenCV writes."""
    _, data = cv2.imencode(".jpg", _bytes(image)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, round(quality)])
    read = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert read is not None
    return _floats(read[..., ::-1])


def _floats(image: np.ndarray) -> Floats:
    return image.astype(np.float32) * np.float32(1 / 255)


def _bytes(image: Floats) -> Pixels:
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
