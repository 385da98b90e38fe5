"""Which pixels a score is taken on. A score without its protocol is not comparable, so every one carries it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from upscale_cli.metrics.fidelity import psnr, ssim

# Studio range, as MATLAB's rgb2ycbcr: Y in [16, 235] for 8-bit RGB.
BT601_LUMA = np.array([65.481, 128.553, 24.966]) / 255


@dataclass(frozen=True, slots=True)
class Protocol:
    """How the field scores super-resolution: 8-bit output, a border cut, PSNR and SSIM on BT.601 luma."""

    crop_border: int
    """Pixels cut from every side before scoring; by custom the scale."""

    def __str__(self) -> str:
        return (
            f"8-bit RGB output; Y = BT.601 luma in [16, 235], unrounded; border of {self.crop_border} px cut; "
            "SSIM: Gaussian 11 x 11, sigma 1.5"
        )


@dataclass(frozen=True, slots=True)
class Scores:
    """PSNR in dB, SSIM in [-1, 1]."""

    psnr_y: float
    ssim_y: float
    psnr_rgb: float


def luma(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """H x W x 3 8-bit RGB to H x W BT.601 luma in [16, 235], unrounded."""
    return 16 + image @ BT601_LUMA


def score(image: npt.NDArray[np.uint8], reference: npt.NDArray[np.uint8], protocol: Protocol) -> Scores:
    """Score an H x W x 3 8-bit image against its reference of the same size."""
    if image.shape != reference.shape:
        raise ValueError(f"sizes differ: {image.shape} and {reference.shape}")
    border = protocol.crop_border
    inside = (slice(border, -border or None),) * 2
    image, reference = image[inside], reference[inside]
    luma_image, luma_reference = luma(image), luma(reference)
    return Scores(psnr(luma_image, luma_reference), ssim(luma_image, luma_reference), psnr(image, reference))
