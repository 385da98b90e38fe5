"""A finished photograph pushed back to what a camera gives before anybody edits it: dark, flat, pale, off in its white.

After Brooks et al., Unprocessing Images for Learned Raw Denoising, CVPR 2019, arXiv:1811.11127: the tone curve undone
by the inverse of a smooth step, gains of exposure and white balance in linear light. Saturation and flare are ours,
and so are the ranges: what a photographer meets, not measured on any set of pairs. Every pixel becomes the same
function of itself, so that the picture stays where it was. Knows no file and draws from the generator it is given.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

EXPOSURE_EV = (-2.2, 0.1)
"""Cameras and cautious photographers expose for the highlights; hardly anybody needs it darker than it came."""
WHITE_EV = 0.2
"""A camera's white balance is off by up to so much in red and in blue: some 500 K of daylight."""
FLATNESS = (0.2, 1.0)
"""How much of the contrast that a maker's tone curve brings is taken away."""
SATURATION = (0.55, 1.0)
FLARE = 0.01
"""Light that the lens scatters over everything, of full scale."""

_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Of linear sRGB."""
_VALUES = np.linspace(0, 1, 256)


@dataclass(frozen=True, slots=True)
class Push:
    """How a photograph is pushed back."""

    exposure_ev: float = 0.0
    white_ev: tuple[float, float] = (0.0, 0.0)
    """Of red and of blue."""
    flatness: float = 0.0
    saturation: float = 1.0
    flare: float = 0.0


def draw_push(random: np.random.Generator) -> Push:
    """Every setting evenly from its range."""
    return Push(
        exposure_ev=random.uniform(*EXPOSURE_EV),
        white_ev=(random.uniform(-WHITE_EV, WHITE_EV), random.uniform(-WHITE_EV, WHITE_EV)),
        flatness=random.uniform(*FLATNESS),
        saturation=random.uniform(*SATURATION),
        flare=random.uniform(0, FLARE),
    )


def push_back(photo: Pixels, push: Push) -> Pixels:
    """H x W x 3 8-bit sRGB to the same."""
    flat = 0.5 - np.sin(np.arcsin(1 - 2 * _VALUES) / 3)
    values = _VALUES + push.flatness * (flat - _VALUES)
    linear = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92).astype(np.float32)
    ev = push.exposure_ev + np.array((push.white_ev[0], 0.0, push.white_ev[1]))
    light = linear[photo] * np.exp2(ev).astype(np.float32)
    grey = (light @ _LUMA)[..., None]
    light = np.clip(grey + push.saturation * (light - grey), 0, None) + np.float32(push.flare)
    # By a table of 12 bits, fine enough for 8: powers of every pixel would take most of the time.
    levels = np.rint(np.minimum(light, 1) * 4095).astype(np.uint16)
    return _DISPLAY[levels]


_LEVELS = np.arange(4096) / 4095
_DISPLAY = np.rint(255 * np.where(_LEVELS > 0.0031308, 1.055 * _LEVELS ** (1 / 2.4) - 0.055, 12.92 * _LEVELS)).astype(
    np.uint8
)
