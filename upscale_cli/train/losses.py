"""Losses: what a training lowers. Pure modules over pictures, N x C x H x W in [0, 1]: the made one, then the real one.

Owns the distances between pictures, between what VGG sees in them, and both sides of the adversarial game. Refuses to
know an optimizer, a recipe or a file.
"""

from collections.abc import Mapping
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.encoders.vgg import VGG

Game = Literal["vanilla", "lsgan", "relativistic"]
Criterion = Literal["l1", "mse"]

CHARBONNIER_EPS = 1e-3
"""Of Lai et al., LapSRN, arXiv:1704.03915: where the square turns into the absolute value, a quarter of 1/255."""
WINDOW = 11
"""Pixels a side of the window of SSIM."""
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the five scales, finest first: Wang et al., Multi-scale structural similarity, Asilomar 2003."""
MS_SSIM_LEAST_PX = WINDOW * 2 ** (len(MS_SSIM_WEIGHTS) - 1)
"""Side of the smallest picture whose coarsest scale holds a window."""


class L1(nn.Module):
    """Mean absolute difference."""

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        return F.l1_loss(sr, hr)


class MSE(nn.Module):
    """Mean square difference."""

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        return F.mse_loss(sr, hr)


class Charbonnier(nn.Module):
    """Mean of sqrt(difference^2 + eps^2), eps = 1e-3: an L1 with a slope everywhere."""

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        return ((sr - hr).square() + CHARBONNIER_EPS**2).sqrt().mean()


class SSIM(nn.Module):
    """1 - SSIM, the mean over pictures and channels; H and W of at least 11."""

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        return 1 - ssim(sr, hr)


class MultiScaleSSIM(nn.Module):
    """1 - MS-SSIM, the mean over pictures and channels; H and W of at least 176."""

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        return 1 - ms_ssim(sr, hr)


def ssim(image: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity, the mean of all windows that fit whole: Wang et al. 2004, as `metrics.fidelity.ssim`."""
    return _similarity(image, reference)[0].mean()


def ms_ssim(image: Tensor, reference: Tensor) -> Tensor:
    """Contrast and structure at five scales, each half the one before by means of 2 x 2 pixels, luminance at the last.

    The mean over pictures and channels of the product of powers. Scales that are unlike (below 0) count 0: a negative
    number has no such power. ValueError for less than 176 x 176 pixels.
    """
    if min(image.shape[-2:]) < MS_SSIM_LEAST_PX:
        raise ValueError(f"MS-SSIM needs {MS_SSIM_LEAST_PX} x {MS_SSIM_LEAST_PX} pixels; got {tuple(image.shape[-2:])}")
    product = torch.ones(image.shape[:2], device=image.device)
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        if scale:
            image, reference = F.avg_pool2d(image, 2), F.avg_pool2d(reference, 2)
        whole, contrast = _similarity(image, reference)
        last = scale == len(MS_SSIM_WEIGHTS) - 1
        # The slope of a power below 1 is infinite at 0.
        product = product * (whole if last else contrast).mean((2, 3)).clamp(min=1e-6) ** weight
    return product.mean()


def _similarity(image: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM of every window, and its part without luminance; K1 = 0.01, K2 = 0.03, the peak is 1."""
    c1, c2 = 0.01**2, 0.03**2
    mean_a, mean_b = _window(image), _window(reference)
    var_a = _window(image * image) - mean_a**2
    var_b = _window(reference * reference) - mean_b**2
    cov = _window(image * reference) - mean_a * mean_b
    contrast = (2 * cov + c2) / (var_a + var_b + c2)
    return (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) * contrast, contrast


def _window(image: Tensor) -> Tensor:
    """Means under the Gaussian window, sigma 1.5, only where it fits whole; in fp32, or small variances are lost."""
    channels = image.shape[1]
    kernel = _gaussian().to(image.device).expand(channels, 1, -1, -1)
    with torch.autocast(image.device.type, enabled=False):
        rows = F.conv2d(image.float(), kernel, groups=channels)
        return F.conv2d(rows, kernel.mT, groups=channels)


@cache
def _gaussian() -> Tensor:
    offsets = torch.arange(WINDOW) - WINDOW // 2
    weights = torch.exp(-offsets.double().square() / (2 * 1.5**2))
    return (weights / weights.sum()).float().reshape(1, 1, WINDOW, 1)


PIXEL_TERMS: Mapping[str, type[nn.Module]] = {
    "l1": L1,
    "mse": MSE,
    "charbonnier": Charbonnier,
    "ssim": SSIM,
    "ms-ssim": MultiScaleSSIM,
}
"""By their names in a recipe."""


class Perceptual(nn.Module):
    """Distance between what VGG sees in two pictures: a weighted sum over its layers (Johnson et al. 2016).

    `layers` are those the network has as taps, and what each counts; its weights are the caller's. Johnson et al.,
    Perceptual Losses for Real-Time Style Transfer and Super-Resolution, arXiv:1603.08155, and SRGAN take the mean
    square; ESRGAN and Real-ESRGAN the mean absolute difference.
    """

    def __init__(self, network: VGG, layers: Mapping[str, float], *, criterion: Criterion = "l1") -> None:
        super().__init__()
        if set(layers) != network.taps:
            raise ValueError(f"weights for {sorted(layers)}, but the network shows {sorted(network.taps)}")
        self.network = network.eval()
        self.layers = dict(layers)
        self.distance = F.l1_loss if criterion == "l1" else F.mse_loss

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        made = self.network(sr)
        with torch.no_grad():
            real = self.network(hr)
        terms = [weight * self.distance(made[tap].float(), real[tap].float()) for tap, weight in self.layers.items()]
        return torch.stack(terms).sum()


def generator_loss(game: Game, made: Tensor, real: Tensor | None = None) -> Tensor:
    """What the generator pays for logits of any shape; `real`, those of photographs, only for `relativistic`.

    vanilla: Goodfellow et al., arXiv:1406.2661, the form that does not saturate. lsgan: Mao et al., arXiv:1611.04076.
    relativistic: the average one of Jolicoeur-Martineau, arXiv:1807.00734, that ESRGAN is trained with.
    """
    if game != "relativistic":
        return _is_real(game, made)
    assert real is not None
    return (_is_real(game, made - real.mean()) + _is_made(game, real - made.mean())) / 2


def discriminator_loss(game: Game, made: Tensor, real: Tensor) -> Tensor:
    """What the discriminator pays: the mean of its mistakes on photographs and on made pictures."""
    if game == "relativistic":
        made, real = made - real.mean(), real - made.mean()
    return (_is_real(game, real) + _is_made(game, made)) / 2


def _is_real(game: Game, logits: Tensor) -> Tensor:
    return (logits - 1).square().mean() if game == "lsgan" else F.softplus(-logits).mean()


def _is_made(game: Game, logits: Tensor) -> Tensor:
    return logits.square().mean() if game == "lsgan" else F.softplus(logits).mean()
