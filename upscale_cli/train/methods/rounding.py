"""Training with the rounding that int8 will bring: in the forward pass convolutions see 8-bit numbers.

Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018,
arXiv:1712.05877. Rounds as `engines/quantize.py` does: weights an output channel to -127..127, what enters a
convolution as a whole to 256 levels of which zero is one; convolutions of fewer than 16 input channels stay as they
are. Gradients pass the rounding as if it were not there (straight through). The weights themselves stay floats: what
is saved is a network like any other, that `upscale models quantize` then loses less of.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

NARROWEST = 16
"""Input channels of the convolutions that are rounded, as in `engines/quantize.py`."""


class FakeQuantize(TorchFunctionMode):
    """`with FakeQuantize(): network(lr)` rounds every 2-D convolution, also those that a network calls by hand.

    The range of what enters is that of the batch: nothing is remembered, so a resumed training sees the same.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.conv2d and args[1].shape[1] >= NARROWEST:
            args = (rounded_values(args[0]), rounded_weights(args[1]), *args[2:])
        return func(*args, **(kwargs or {}))


def rounded_weights(weight: Tensor) -> Tensor:
    """O x I x h x w to 255 levels an output channel."""
    weight = weight.float()
    most = weight.detach().abs().amax((1, 2, 3))
    steps = torch.where(most > 0, most, 1.0) / 127  # a channel of nothing but zeros
    zero = torch.zeros_like(steps, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, steps, zero, 0, -127, 127)


def rounded_values(values: Tensor) -> Tensor:
    """Any shape to 256 levels of which zero, that pads pictures, is one: the middle one where there are negatives."""
    values = values.float()
    low, high = values.detach().min(), values.detach().max().clamp(min=1e-6)
    step = torch.where(low < 0, torch.maximum(-low / 128, high / 127), high / 255)
    zero = torch.where(low < 0, 128, 0).to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(values, step, zero, 0, 255)
