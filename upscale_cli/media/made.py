"""A picture made from nothing with the spectrum of photographs, for trials where no photograph is at hand."""

import numpy as np
import numpy.typing as npt


def made_picture(height: int = 64, width: int = 64) -> npt.NDArray[np.float32]:
    """height x width x 3 in [0, 1]: noise with the 1/f spectrum of photographs, and edges; the same everywhere."""
    noise = np.random.default_rng(0).standard_normal((height, width, 3))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])[..., None]
    field = np.fft.irfft2(
        np.fft.rfft2(noise, axes=(0, 1)) / np.maximum(frequency, 1 / max(height, width)), s=(height, width), axes=(0, 1)
    )
    image = 0.5 + 0.15 * field / field.std()
    image[height // 4 : height // 2, width // 3 :] += 0.3
    image[:, width // 2] -= 0.4
    return image.clip(0, 1).astype(np.float32)
