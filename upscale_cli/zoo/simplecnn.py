"""Simple CNN: three convolutions on a picture enlarged before, 21,123 parameters.

Dong et al., Image Super-Resolution Using Deep Convolutional Networks (SRCNN), TPAMI 2016, arXiv:1501.00092, with 3 x 3
kernels, on RGB: 3 -> 64 -> 32 -> 3, ReLU between them, and the enlarged picture added, so that the network only draws
the detail (Kim et al., VDSR, arXiv:1511.04587: without it 600 steps end 1.3 dB below bicubic, with it 0.4 dB above).
One set of weights fits every scale, best the one it was trained at.

Keys: conv1, conv2, conv3. A file says nothing of its scale: without a name it is taken for x2.
"""

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.zoo.blocks import narrowed
from upscale_cli.zoo.layout import fitting, width
from upscale_cli.zoo.preupsampled import Bicubic
from upscale_cli.zoo.variant import Architecture, Shapes, Variant


class SimpleCNN(nn.Module):
    """N x 3 x H x W -> N x 3 x sH x sW, [0, 1]."""

    def __init__(self, *, scale: int, channels: Sequence[int] = (64, 32), kernels: Sequence[int] = (3, 3, 3)) -> None:
        super().__init__()
        first, second = channels
        self.enlarge = Bicubic(scale=scale)
        self.conv1 = nn.Conv2d(3, first, kernels[0], padding=kernels[0] // 2)
        self.conv2 = nn.Conv2d(first, second, kernels[1], padding=kernels[1] // 2)
        self.conv3 = nn.Conv2d(second, 3, kernels[2], padding=kernels[2] // 2)

    def forward(self, lr: Tensor) -> Tensor:
        image = self.enlarge(lr)
        features = F.relu(self.conv1(narrowed(image, self)))
        return self.conv3(F.relu(self.conv2(features))).to(lr.dtype) + image


def _variant(name: str, module: partial[SimpleCNN], parameters: int) -> Variant:
    scale, kernels = module.keywords["scale"], module.keywords.get("kernels", (3, 3, 3))
    reach = sum(kernel // 2 for kernel in kernels)  # at the size of the output
    return Variant(
        name,
        "simplecnn",
        module,
        scale=scale,
        margin=-(-reach // scale) + 2,  # and what bicubic sees around it
        exact=True,
        parameters=parameters,
    )


VARIANTS = tuple(_variant(f"simplecnn/x{scale}", partial(SimpleCNN, scale=scale), 21_123) for scale in (2, 3, 4))


def recognise(shapes: Shapes) -> Variant | None:
    """Any widths, and odd kernels up to 15."""
    channels = (width(shapes, "conv1.weight"), width(shapes, "conv2.weight"))
    kernels = tuple(width(shapes, f"conv{number}.weight", 2) for number in (1, 2, 3))
    if not all(channels) or any(kernel % 2 == 0 or kernel > 15 for kernel in kernels):
        return None
    name = f"simplecnn/x2-{channels[0]}-{channels[1]}-k{kernels[0]}{kernels[1]}{kernels[2]}"
    module = partial(SimpleCNN, scale=2, channels=channels, kernels=kernels)
    return fitting(shapes, _variant(name, module, 0), VARIANTS)


ARCHITECTURE = Architecture("simplecnn", VARIANTS, recognise=recognise)
