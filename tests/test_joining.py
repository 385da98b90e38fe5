"""Convolutions of joined features, parted, against the network as it stands."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from upscale_cli.engines.graph import library, trace
from upscale_cli.engines.joining import part_joined
from upscale_cli.zoo import rdn, rrdb


class _Wide(nn.Module):
    """A block between a picture and a picture, as it stands in its network."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.head, self.block, self.tail = nn.Conv2d(3, 16, 3, padding=1), block, nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, lr: Tensor) -> Tensor:
        return self.tail(self.block(self.head(lr)))


class _Once(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(32, 16, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return self.conv(torch.cat((features, features.relu()), 1))


def _count(model: object, kind: str) -> int:
    return [each.get_type_name() for each in model.get_ordered_ops()].count(kind)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("block", "more", "joins"),
    [
        (rrdb.DenseBlock(16, 8), 3, 3),  # of 5 layers the last three are parted; joins: the first, two of 2 and 3
        (rdn.DenseBlock(16, 8, 4), 2, 5),  # of 4 layers the last two; its 1 x 1 goes on reading all four joins
        (_Once(), 0, 1),
    ],
    ids=["Real-ESRGAN", "RDN", "joined once"],
)
def test_the_picture_is_the_same(block: nn.Module, more: int, joins: int, spices: np.ndarray) -> None:
    torch.manual_seed(0)
    network = _Wide(block).eval()
    for each in network.modules():
        if isinstance(each, nn.Conv2d):
            each.reset_parameters()
    lr = np.ascontiguousarray(spices[None, :41, :57].transpose(0, 3, 1, 2), np.float32) / 255
    model = trace(network)
    before = _count(model, "Convolution")
    part_joined(model)
    assert (_count(model, "Convolution") - before, _count(model, "Concat")) == (more, joins)
    with torch.inference_mode():
        expected = network(torch.from_numpy(lr)).numpy()
    found = library().Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(lr)[0]
    assert np.abs(found - expected).max() < 1e-5
