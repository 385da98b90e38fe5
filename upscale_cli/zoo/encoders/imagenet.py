"""What encoders trained on ImageNet share: how they want their pictures, and what of their weights is not for us."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

MEAN = (0.485, 0.456, 0.406)  # RGB, in [0, 1]
STD = (0.229, 0.224, 0.225)
CLASSIFIERS = ("fc.", "classifier.", "head.", "pre_logits.")
"""How the keys of the layers begin that turn features into classes, in timm, torchvision and pytorch-fid."""


class Normalise(nn.Module):
    """N x 3 x H x W in [0, 1] RGB to mean 0 and deviation 1 over ImageNet. Constants, in no state dict."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).reshape(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.mean.to(image.dtype)) / self.std.to(image.dtype)


def without_classifier(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict without the layers that name classes: what an encoder here loads strictly."""
    return {key: value for key, value in state.items() if not key.startswith(CLASSIFIERS)}


def start(network: nn.Module) -> None:
    """He et al., arXiv:1502.01852, over what leaves a layer: without it fifty layers let nothing through untrained."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            leaving = module.weight[0, 0].numel() * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / leaving))
