"""What networks share that work at the size of their output: the picture is enlarged first, then repaired.

Enlarged by the bicubic that the pictures of training are made smaller with (Keys, a = -0.5, mirrored borders, as
MATLAB's imresize and all published scores): torch's own has a = -0.75 and repeated borders. No tensor of it stands in
a state dict, so that one set of weights fits every scale.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from upscale_cli.zoo.interpolation import Interpolation, cubic


class Bicubic(Interpolation):
    """N x 3 x H x W -> N x 3 x sH x sW; computed in fp32 whatever precision the network around it is held in."""

    def __init__(self, *, scale: int) -> None:
        super().__init__(scale=scale, kernel=cubic, support=2)

    def forward(self, lr: Tensor) -> Tensor:
        return super().forward(lr.float()).to(lr.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Bicubic":
        # Follows the network to its device; in 16 bits the taps of a phase would no longer sum to 1.
        exact = self.weight
        super()._apply(fn, recurse)
        self.weight = exact.to(self.weight.device)
        return self


def padded(image: Tensor, multiple: int, *, least: int = 1) -> Tensor:
    """Last row and column repeated until height and width are multiples, and no less than `least`."""
    bottom, right = (max(size + -size % multiple, least) - size for size in image.shape[-2:])
    return F.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image
