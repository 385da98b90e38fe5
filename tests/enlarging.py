"""Noise of any depth, and what an Upscaler makes of a picture at its own scale."""

import numpy as np
import numpy.typing as npt

from upscale_cli.enlarge import Upscaler
from upscale_cli.media.frame import Frame

DEPTHS = [np.uint8, np.uint16]


def noise(height: int, width: int, channels: int = 3, dtype: npt.DTypeLike = np.uint8) -> np.ndarray:
    greatest = np.iinfo(dtype).max
    return np.random.default_rng(height + width).integers(0, greatest + 1, (height, width, channels)).astype(dtype)


def enlarged(upscaler: Upscaler, color: np.ndarray, alpha: np.ndarray | None = None) -> Frame:
    height, width = color.shape[0] * upscaler.scale, color.shape[1] * upscaler.scale
    return upscaler.enlarge(Frame(color, alpha), height, width)
