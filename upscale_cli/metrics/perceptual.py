"""LPIPS and DISTS: how alike two pictures are to networks that were taught to name what they show. Lower is better.

Owns both formulas and their published weights (published/NOTICE.md). The networks come from outside.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from upscale_cli.metrics.protocol import Comparison, NoValueError, Pixels
from upscale_cli.zoo.encoders.alexnet import AlexNet
from upscale_cli.zoo.encoders.vgg import LPIPS_TAPS, VGG

PUBLISHED = Path(__file__).with_name("published")
LPIPS_SMALLEST_PX = {"alex": 31, "vgg": 16}
DISTS_SMALLEST_PX = 16
T = TypeVar("T")


class Latest(Generic[T]):
    """What was made of the latest picture: the reference of one model's picture is that of the next one's."""

    def __init__(self, make: Callable[[Pixels], T]) -> None:
        self._make = make
        self._known: tuple[Pixels, T] | None = None

    def __call__(self, picture: Pixels) -> T:
        """Made anew unless it is the same array as before."""
        if self._known is None or self._known[0] is not picture:
            self._known = picture, self._make(picture)
        return self._known[1]


def to_tensor(picture: Pixels, device: torch.device) -> Tensor:
    """H x W x 3 8-bit to 1 x 3 x H x W in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture)).to(device).permute(2, 0, 1)[None].float() / 255


class LPIPS:
    """Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, arXiv:1801.03924; v0.1."""

    def __init__(self, kind: Literal["alex", "vgg"], network: AlexNet | VGG, device: torch.device) -> None:
        self._smallest_px = LPIPS_SMALLEST_PX[kind]
        self._network = network.to(device).eval()
        self._device = device
        weights = load_file(PUBLISHED / "lpips.safetensors")
        self._weights = [weights[f"{kind}.{layer}"].to(device)[:, None, None] for layer in range(5)]
        self._reference = Latest(self._features)

    @torch.inference_mode()
    def __call__(self, pictures: Comparison) -> float:
        """NoValueError for pictures too small for the network."""
        _check(pictures, self._smallest_px)
        ours, theirs = self._features(pictures.image), self._reference(pictures.reference)
        return sum(
            float(((a - b).square() * weight).sum(1).mean())
            for a, b, weight in zip(ours, theirs, self._weights, strict=True)
        )

    @torch.inference_mode()
    def _features(self, picture: Pixels) -> list[Tensor]:
        """Each pixel's features have the length 1."""
        seen = self._network(to_tensor(picture, self._device))
        layers = seen if isinstance(seen, list) else [seen[name] for name in LPIPS_TAPS]
        return [layer / (layer.square().sum(1, keepdim=True).sqrt() + 1e-10) for layer in layers]


class DISTS:
    """Ding et al., Image Quality Assessment: Unifying Structure and Texture Similarity, arXiv:2004.07728."""

    def __init__(self, network: VGG, device: torch.device) -> None:
        self._layers = network.to(device).eval()
        self._device = device
        weights = load_file(PUBLISHED / "dists.safetensors")
        total = weights["alpha"].sum() + weights["beta"].sum()
        self._texture, self._structure = weights["alpha"].to(device) / total, weights["beta"].to(device) / total
        self._reference = Latest(self._features)

    @torch.inference_mode()
    def __call__(self, pictures: Comparison) -> float:
        """NoValueError for pictures too small for the network."""
        _check(pictures, DISTS_SMALLEST_PX)
        ours, theirs = self._features(pictures.image), self._reference(pictures.reference)
        texture: list[Tensor] = []
        structure: list[Tensor] = []
        for a, b in zip(ours, theirs, strict=True):
            mean_a, mean_b = a.mean((0, 2, 3)), b.mean((0, 2, 3))
            off_a, off_b = a - mean_a[:, None, None], b - mean_b[:, None, None]
            texture.append(_alike(mean_a * mean_b, mean_a.square(), mean_b.square()))
            together = (off_a * off_b).mean((0, 2, 3))
            structure.append(_alike(together, off_a.square().mean((0, 2, 3)), off_b.square().mean((0, 2, 3))))
        same = (self._texture * torch.cat(texture)).sum() + (self._structure * torch.cat(structure)).sum()
        return 1 - float(same)

    @torch.inference_mode()
    def _features(self, picture: Pixels) -> Sequence[Tensor]:
        """The picture itself, then what leaves each block; between blocks squares are pooled, not maxima."""
        image = to_tensor(picture, self._device)
        seen = [image]
        features = self._layers.normalise(image)
        for name, layer in zip(self._layers.names, self._layers.features, strict=True):
            if name == "pool5":
                break
            features = _pooled(features) if isinstance(layer, nn.MaxPool2d) else layer(features)
            if name in LPIPS_TAPS:
                seen.append(features)
        return seen


def _alike(together: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return (2 * together + 1e-6) / (first + second + 1e-6)


def _pooled(features: Tensor) -> Tensor:
    """Root of the mean square under a Hann window of 3 x 3, at every second pixel."""
    taps = torch.tensor([0.25, 0.5, 0.25], device=features.device)
    channels = features.shape[1]
    kernel = torch.outer(taps, taps).expand(channels, 1, 3, 3)
    return (F.conv2d(features.square(), kernel, stride=2, padding=1, groups=channels) + 1e-12).sqrt()


def _check(pictures: Comparison, smallest_px: int) -> None:
    if min(pictures.image.shape[:2]) < smallest_px:
        raise NoValueError(f"the network needs {smallest_px} pixels a side")
