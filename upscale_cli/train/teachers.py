"""Trained networks whose pictures another one learns: one, or several whose pictures are averaged.

Hinton et al., arXiv:1503.02531, for pictures as He et al., FAKD, ICIP 2020. They are frozen. Refuses to know a loss.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from upscale_cli.errors import UsageError
from upscale_cli.evaluate import Pixels
from upscale_cli.model import Picture
from upscale_cli.weights.loading import load_module


class Teachers(nn.Module):
    """N x 3 x H x W in [0, 1] to the mean of the pictures that the networks make of it, in [0, 1]; any H and W. In fp32
    also where a pupil is not: bf16 has as few steps as 8 bits, and a pupil would learn these.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.eval().requires_grad_(False)

    def forward(self, lr: Tensor) -> Tensor:
        with torch.autocast(lr.device.type, enabled=False):
            return torch.stack([network(lr) for network in self.networks]).mean(0)


def load_teachers(names: str, scale: int) -> Teachers:
    """Of models or weights files, `a,b`. UsageError for one of another scale, WeightsError where weights lack."""
    networks = []
    for word in names.split(","):
        name, variant, module = load_module(word.strip(), scale)
        if variant.scale != scale:
            raise UsageError(f"The teacher {name} makes x{variant.scale}, not x{scale}. Choose one of x{scale}.")
        networks.append(Picture(module, variant))
    return Teachers(networks)


def retouch_by(teachers: Teachers) -> Callable[[Pixels], Pixels]:
    """H x W x 3 8-bit RGB to what they make of it, rounded; may be called from several threads."""

    @torch.inference_mode()
    def retouch(photo: Pixels) -> Pixels:
        tensor = torch.tensor(photo).permute(2, 0, 1)[None].float() / 255
        return (teachers(tensor)[0].permute(1, 2, 0) * 255).round_().to(torch.uint8).numpy()

    return retouch
