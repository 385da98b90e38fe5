"""The linear end of a network as one convolution, against the layers as they stand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from upscale_cli.engines import open_engine
from upscale_cli.engines.graph import library, trace
from upscale_cli.engines.tail import fold_tail, linear_end, live_values_folded
from upscale_cli.zoo.edsr import EDSR
from upscale_cli.zoo.improved import Improved
from upscale_cli.zoo.rdn import RDN


def _small(build: type[nn.Module], **how: object) -> nn.Module:
    torch.manual_seed(0)
    return build(**how).eval()


def _run(model: object, lr: np.ndarray) -> np.ndarray:
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    return library().Core().compile_model(model, "CPU", settings)(lr)[0]


@pytest.mark.parametrize("size", [(41, 57), (3, 3), (4, 30)], ids=str)
@pytest.mark.parametrize(
    ("network", "layers"),
    [
        (_small(EDSR, scale=2, blocks=1, channels=8), 2),
        (_small(EDSR, scale=3, blocks=1, channels=8), 2),
        (_small(EDSR, scale=4, blocks=1, channels=8), 3),
        (_small(EDSR, scale=8, blocks=1, channels=8), 4),
        (_small(RDN, scale=4, blocks=1, layers=1, channels=8, growth=8), 3),
    ],
    ids=["EDSR x2", "EDSR x3", "EDSR x4", "EDSR x8", "RDN x4"],
)
def test_the_picture_is_the_same_to_its_corners(
    network: nn.Module, layers: int, size: tuple[int, int], spices: np.ndarray
) -> None:
    height, width = size
    lr = np.ascontiguousarray(spices[None, :height, :width].transpose(0, 3, 1, 2), np.float32) / 255
    model = trace(network)
    assert len(linear_end(model)) == layers
    fold_tail(model)
    with torch.inference_mode():
        expected = network(torch.from_numpy(lr)).numpy()
    found = _run(model, lr)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize(
    "network",
    [_small(Improved, scale=4, channels=8, layers=2, residual_every=2), nn.Conv2d(3, 3, 3, padding=1)],
    ids=["activations between", "nothing enlarged"],
)
def test_what_is_not_linear_stays(network: nn.Module) -> None:
    model = trace(network.eval())
    before = [each.get_friendly_name() for each in model.get_ordered_ops()]
    fold_tail(model)
    assert [each.get_friendly_name() for each in model.get_ordered_ops()] == before
    assert live_values_folded(model) == 0


def test_enlarged_features_that_others_read_too_stay(spices: np.ndarray) -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            large = nn.functional.pixel_shuffle(self.first(lr), 2)
            return self.last(large) + large

    assert not linear_end(trace(_small(Both)))


def test_of_a_network_in_use_the_tiles_are_larger_and_pictures_of_one_pixel_come_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spices: np.ndarray
) -> None:
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path))
    engine = open_engine("edsr-x4", device="cpu", precision="fp32")
    exact = open_engine("edsr-x4", device="cpu", precision="fp32", backend="torch")
    for height, width in ((1, 1), (2, 5), (5, 2), (3, 4), (24, 30)):
        tile = spices[None, :height, :width]
        assert np.abs(engine.infer(tile) - exact.infer(tile)).max() < 1e-5
    (facts,) = tmp_path.rglob("facts.json")
    assert json.loads(facts.read_text())["live_values"] == 3 * 64  # of 64 channels; 1,536 where they are enlarged
    assert engine.tile_px == 768
