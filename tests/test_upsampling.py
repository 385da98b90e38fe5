"""Nearest-neighbour upsampling and the convolution behind it, put together, against both as they stand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.engines.graph import library, trace
from upscale_cli.engines.upsampling import fold_upsampling


class _Tail(nn.Module):
    """Enlarges by 4 as Real-ESRGAN does; `by` is the second factor, `kernel` the side of its convolution."""

    def __init__(self, by: float = 2, kernel: int = 3, mode: str = "nearest") -> None:
        super().__init__()
        self.by, self.mode = by, mode
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.second = nn.Conv2d(12, 3, kernel, padding=kernel // 2)

    def forward(self, lr: Tensor) -> Tensor:
        features = F.leaky_relu(self.first(F.interpolate(lr, scale_factor=2, mode="nearest")), 0.2)
        return self.second(F.interpolate(features, scale_factor=self.by, mode=self.mode))


def _run(model: object, lr: np.ndarray) -> np.ndarray:
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    return library().Core().compile_model(model, "CPU", settings)(lr)[0]


def _types(model: object) -> list[str]:
    return [each.get_type_name() for each in model.get_ordered_ops()]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("tail", "left"),
    [(_Tail(), 0), (_Tail(by=3), 1), (_Tail(kernel=5), 1), (_Tail(kernel=1), 1), (_Tail(mode="bilinear"), 1)],
    ids=["both", "another factor", "a kernel of 5", "a kernel of 1", "bilinear"],
)
def test_both_are_one_and_the_picture_is_the_same_up_to_its_border(
    tail: nn.Module, left: int, spices: np.ndarray
) -> None:
    torch.manual_seed(0)
    tail.apply(lambda each: each.reset_parameters() if isinstance(each, nn.Conv2d) else None)
    lr = np.ascontiguousarray(spices[None, :41, :57].transpose(0, 3, 1, 2), np.float32) / 255
    model = trace(tail.eval())
    fold_upsampling(model)
    assert (_types(model).count("Interpolate"), _types(model).count("ConvolutionBackpropData")) == (left, 2 - left)
    with torch.inference_mode():
        expected = tail(torch.from_numpy(lr)).numpy()
    found = _run(model, lr)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5


def test_an_enlarged_picture_that_others_read_too_stays_for_them(spices: np.ndarray) -> None:
    class Both(_Tail):
        def forward(self, lr: Tensor) -> Tensor:
            large = F.interpolate(lr, scale_factor=2, mode="nearest")
            return self.second(self.first(large)) + large

    torch.manual_seed(0)
    lr = np.ascontiguousarray(spices[None, :41, :57].transpose(0, 3, 1, 2), np.float32) / 255
    model = trace(tail := Both().eval())
    fold_upsampling(model)
    assert {"Interpolate", "ConvolutionBackpropData"} < set(_types(model))
    with torch.inference_mode():
        expected = tail(torch.from_numpy(lr)).numpy()
    assert np.abs(_run(model, lr) - expected).max() < 1e-5


class _Shuffled(nn.Module):
    """A pixel shuffle and what acts behind it."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.first, self.activation = nn.Conv2d(3, 12, 3, padding=1), activation
        if isinstance(activation, nn.PReLU):
            nn.init.uniform_(activation.weight, 0.1, 0.9)

    def forward(self, lr: Tensor) -> Tensor:
        return self.activation(F.pixel_shuffle(self.first(lr), 2)) * 2


@pytest.mark.parametrize(
    ("activation", "before"),
    [(nn.ReLU(), True), (nn.PReLU(3), True), (nn.PReLU(), True), (nn.Softmax(dim=1), False)],
    ids=["ReLU", "a slope a channel", "one slope", "softmax"],
)
def test_an_activation_behind_a_shuffle_acts_before_it(activation: nn.Module, before: bool, spices: np.ndarray) -> None:
    torch.manual_seed(0)
    network = _Shuffled(activation).eval()
    lr = np.ascontiguousarray(spices[None, :41, :57].transpose(0, 3, 1, 2), np.float32) / 255
    model = trace(network)
    (shuffle,) = (node for node in model.get_ordered_ops() if node.get_type_name() == "DepthToSpace")
    assert (shuffle.input_value(0).get_node().get_type_name() in ("Relu", "PRelu")) == before
    with torch.inference_mode():
        expected = network(torch.from_numpy(lr)).numpy()
    assert np.abs(_run(model, lr) - expected).max() < 1e-5
