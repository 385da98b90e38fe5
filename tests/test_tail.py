"""The end of a network in fewer products, against the layers as they stand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from upscale_cli import zoo
from upscale_cli.engines import open_engine
from upscale_cli.engines.graph import library, trace
from upscale_cli.engines.rewriting import operations
from upscale_cli.engines.tail import linear_end, shorten_tail
from upscale_cli.model import Model
from upscale_cli.zoo.blocks import LinearEnd
from upscale_cli.zoo.cost import operations_per_pixel
from upscale_cli.zoo.edsr import EDSR
from upscale_cli.zoo.improved import Improved
from upscale_cli.zoo.rdn import RDN
from upscale_cli.zoo.rrdb import RRDBNet


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
    shorten_tail(model, min(lr.shape[2:]))
    with torch.inference_mode():
        expected = network(torch.from_numpy(lr)).numpy()
    found = _run(model, lr)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5


class _Active(nn.Module):
    """An activation behind the shuffle, and a last convolution of some size and number of channels."""

    def __init__(self, activation: nn.Module, *, kernel: int = 3, out: int = 3, by: int = 2) -> None:
        super().__init__()
        self.first, self.activation, self.by = nn.Conv2d(3, 6 * by**2, 3, padding=1), activation, by
        self.last = nn.Conv2d(6, out, kernel, padding=kernel // 2)
        if isinstance(activation, nn.PReLU):
            nn.init.uniform_(activation.weight, 0.1, 0.9)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return self.last(self.activation(nn.functional.pixel_shuffle(self.first(lr), self.by)))


@pytest.mark.parametrize("size", [(41, 57), (1, 1), (2, 9)], ids=str)
@pytest.mark.parametrize(
    ("network", "moved"),
    [
        (_small(Improved, scale=4, channels=8, layers=2, residual_every=2), True),
        (_small(_Active, activation=nn.PReLU(6)), True),
        (_small(_Active, activation=nn.PReLU(), kernel=9), True),
        (_small(_Active, activation=nn.ReLU(), by=3), False),  # 27 channels: twice the products
        (_small(_Active, activation=nn.ReLU(), out=6), False),
        (_small(_Active, activation=nn.Tanh()), False),
    ],
    ids=["improved", "a slope a channel", "9 x 9", "by 3", "six channels", "tanh"],
)
def test_with_an_activation_the_last_convolution_moves_where_that_pays(
    network: nn.Module, moved: bool, size: tuple[int, int], spices: np.ndarray
) -> None:
    lr = np.ascontiguousarray(spices[None, : size[0], : size[1]].transpose(0, 3, 1, 2), np.float32) / 255
    model = trace(network)
    assert not linear_end(model)
    shorten_tail(model, min(size))
    kinds = [node.get_type_name() for node in model.get_ordered_ops()]
    assert [kind for kind in kinds if kind in ("Convolution", "DepthToSpace")][-1] == (
        "DepthToSpace" if moved else "Convolution"
    )
    with torch.inference_mode():
        expected = network(torch.from_numpy(lr)).numpy()
    assert np.abs(_run(model, lr) - expected).max() < 1e-5


def test_enlarged_features_that_others_read_too_stay() -> None:
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
    assert json.loads(facts.read_text())["live_values"] == 4 * 64  # of 64 channels; 2,048 where they are enlarged
    assert engine.tile_px == 768  # of 256


class _Network:
    """A variant of the zoo as engines run it by torch, in fp32 on the processor, and as it is defined."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(0)
        self.variant = zoo.find(name)
        self.module = self.variant.build().eval()
        for parameter in self.module.parameters():  # so that no picture is clamped
            nn.init.normal_(parameter, 0.0, 0.02)
        self.model = Model(name, self.variant, self.module, device=torch.device("cpu"), precision="fp32")


@pytest.mark.parametrize("size", [(41, 57), (1, 1), (1, 9), (2, 5), (5, 2), (3, 3)], ids=str)
@pytest.mark.parametrize("name", ["edsr/x2", "edsr/x3", "edsr/x4", "edsr/x8", "rdn/x4-tiny", "swinir-light/x2"])
def test_torch_draws_the_same_by_one_convolution(name: str, size: tuple[int, int], spices: np.ndarray) -> None:
    network = _Network(name)
    lr = torch.from_numpy(spices[None, : size[0], : size[1]].transpose(0, 3, 1, 2) / np.float32(255))
    with torch.inference_mode():
        expected = network.module(lr)
        found = network.model.raw(lr.contiguous(memory_format=torch.channels_last))
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-5 * max(1.0, float(expected.std()))


def test_the_convolution_is_no_weight_and_the_network_is_left_as_it_is() -> None:
    network = _Network("edsr/x4")
    (end,) = (each for each in network.model.module.modules() if isinstance(each, LinearEnd))
    assert end.kernel is not None
    assert end.kernel.shape == (48, 64, 5, 5)
    (given,) = (each for each in network.module.modules() if isinstance(each, LinearEnd))
    assert given.kernel is None
    assert network.model.module.state_dict().keys() == network.module.state_dict().keys()
    half = network.model.in_precision("bf16").module
    assert next(each for each in half.modules() if isinstance(each, LinearEnd)).kernel.dtype == torch.bfloat16


def test_an_end_with_more_in_it_stays() -> None:
    model = _Network("rdn-small/x2").model
    assert all(each.kernel is None for each in model.module.modules() if isinstance(each, LinearEnd))


def test_operations_are_those_that_are_computed(tmp_path: Path) -> None:
    """By torch and in a graph EDSR's end is 48 channels of 5 x 5; in a graph no nearest neighbours are convolved."""

    def in_graph(network: nn.Module) -> float:
        library().save_model(trace(network), tmp_path / "graph.xml", compress_to_fp16=False)
        return operations(tmp_path / "graph.xml")

    edsr, rrdb = _small(EDSR, scale=4, blocks=16), _small(RRDBNet, scale=4, blocks=1, channels=16, growth=8)
    body = 2 * (9 * (3 * 64 + 33 * 64 * 64) + 25 * 64 * 48)
    for found in (in_graph(edsr), operations_per_pixel(zoo.find("edsr/x4"), folded=True)):
        assert body < found < 1.03 * body  # the rim of a tile, and two layers of constants
    as_defined = 2 * 9 * (3 * 16 + 16 * 16 + 3 * (4 * 16 * 8 + 6 * 8 * 8 + 48 * 16) + 36 * 16 * 16 + 16 * 3 * 16)
    assert in_graph(rrdb) == as_defined - 2 * 20 * 16 * 16 * 5
