"""Rounding while training: that of the int8 engine, with gradients that pass."""

import torch
import torch.nn.functional as F
from torch import nn

from upscale_cli.train.methods.rounding import FakeQuantize, rounded_values, rounded_weights


def test_rounding_is_that_of_the_engine() -> None:
    from upscale_cli.engines.quantize import grid

    for values in (torch.randn(4, 8, 5, 5), torch.rand(2, 16, 3, 3) * 7, -torch.rand(3, 3), torch.zeros(2, 2)):
        low, high = grid(min(float(values.min()), 0), max(float(values.max()), 1e-6))
        step = (high - low) / 255
        expected = ((values / step).round() * step).clamp(low, high)
        assert torch.allclose(rounded_values(values), expected, atol=step * 1e-3 + 1e-9)
        assert len(rounded_values(values).unique()) <= 256
    weight = torch.randn(6, 16, 3, 3) * torch.logspace(-3, 2, 6)[:, None, None, None]
    weight[2] = 0
    rounded = rounded_weights(weight)
    for channel, exact in zip(rounded, weight, strict=True):
        assert len(channel.unique()) <= 255
        assert (channel - exact).abs().max() <= exact.abs().max() / 127 / 2 * 1.001


def test_rounding_lets_gradients_through_and_leaves_narrow_convolutions() -> None:
    torch.manual_seed(0)
    for width, changes in ((15, False), (16, True)):
        conv = nn.Conv2d(width, 4, 3)
        values = torch.randn(1, width, 6, 6, requires_grad=True)
        exact = conv(values)
        with FakeQuantize():
            rounded = conv(values)
            by_hand = F.conv2d(values, conv.weight, conv.bias)
        assert torch.equal(rounded, by_hand)
        assert torch.equal(rounded, exact) != changes
        assert torch.allclose(rounded, exact, atol=0.1)
        ours, theirs = (torch.autograd.grad(made.sum(), (values, conv.weight)) for made in (rounded, exact))
        for one, other in zip(ours, theirs, strict=True):
            assert torch.allclose(one, other, atol=0.05 * float(other.abs().max()))
