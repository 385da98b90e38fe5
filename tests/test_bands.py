"""The enlarged end of a network by bands, against the whole; and what a graph is reckoned to hold in memory."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from upscale_cli.engines import bands, rewriting
from upscale_cli.engines.graph import library, trace
from upscale_cli.engines.quantize import Ranges, layers_of, quantized
from upscale_cli.engines.rewriting import rewrite
from upscale_cli.zoo import blocks, find
from upscale_cli.zoo.blocks import as_engines_run_it
from upscale_cli.zoo.cost import live_values, live_values_per_pixel
from upscale_cli.zoo.edsr import EDSR
from upscale_cli.zoo.improved import Improved
from upscale_cli.zoo.lightweight import Lightweight
from upscale_cli.zoo.rrdb import RRDBNet
from upscale_cli.zoo.srresnet import SRResNet
from upscale_cli.zoo.swinir import SwinIR


class _Picture(nn.Module):
    """A network whose picture is clamped, as in every graph; but widely, so that what is new is all seen."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.multiple = getattr(network, "unshuffle", 1)

    def forward(self, lr: Tensor) -> Tensor:
        height, width = lr.shape[-2:]
        if self.multiple > 1:
            lr = nn.functional.pad(lr, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate")
        return self.network(lr).clamp(-1e3, 1e3)


class _Late(nn.Module):
    """Layers behind an enlargement that is told by its name."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 5, padding=2)
        self.mode = mode

    def forward(self, lr: Tensor) -> Tensor:
        features = nn.functional.interpolate(self.first(lr), scale_factor=3, mode=self.mode)
        return 1 - torch.tanh(self.last(features)) + nn.functional.interpolate(lr, scale_factor=3, mode="nearest")


class _Cropped(nn.Module):
    """A convolution behind an enlargement that sees no border and keeps no size."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3)

    def forward(self, lr: Tensor) -> Tensor:
        return self.last(nn.functional.interpolate(self.first(lr), scale_factor=2, mode="nearest"))


def _small(build: type[nn.Module], **how: object) -> _Picture:
    torch.manual_seed(0)
    network = _Picture(build(**how))
    network.eval()
    return network


def _made(model: Any, lr: np.ndarray) -> np.ndarray:
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    return library().Core().compile_model(model, "CPU", settings)(lr)[0]


def _bands(model: Any) -> int:
    """Of which the picture is put together; 0 where it is made whole."""
    found = [node for node in model.get_ordered_ops() if node.get_type_name() == "Concat"]
    return next((node.get_input_size() for node in reversed(found) if node.get_attributes()["axis"] == 2), 0)


def _lr(spices: np.ndarray, height: int, width: int) -> np.ndarray:
    photo = spices[None, 100 : 100 + height, 200 : 200 + width].transpose(0, 3, 1, 2)
    return np.ascontiguousarray(photo, np.float32) / 255


@pytest.mark.parametrize("size", [(40, 26), (66, 18), (16, 30)], ids=str)
@pytest.mark.parametrize(
    "network",
    [
        _small(RRDBNet, scale=4, blocks=1, channels=8, growth=4),
        _small(RRDBNet, scale=8, blocks=1, channels=8, growth=4),
        _small(RRDBNet, scale=2, blocks=1, channels=8, growth=4, unshuffle=2),
        _small(Improved, scale=4, channels=8, layers=2, residual_every=2),
        _small(SRResNet, scale=4, blocks=1, channels=8),
        _small(_Late, mode="nearest"),
    ],
    ids=["RRDB x4", "RRDB x8", "RRDB x2 folded", "improved x4", "SRResNet x4", "nearest x3"],
)
def test_the_picture_is_the_same_in_every_row(
    network: _Picture, size: tuple[int, int], spices: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    lr = _lr(spices, *size)
    monkeypatch.setattr(bands, "BAND_BYTES", 1)
    monkeypatch.setattr(bands, "LEAST_ROWS", 5)
    model = trace(network)
    rewrite(model, (1, *size), 4)
    assert _bands(model) == -(-size[0] // network.multiple // 5)
    with torch.inference_mode():
        expected = network(torch.from_numpy(lr)).numpy()
    assert np.abs(_made(model, lr) - expected).max() < 1e-4 * expected.std()


def test_bands_are_as_high_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    network = _small(RRDBNet, scale=4, blocks=1, channels=8, growth=4)
    row = 8 * 16 * 30 * 2  # bytes of 8 features for the sixteen pixels of each of 30
    for allowed, expected in ((1000 * row, 0), (40 * row, 0), (39 * row, 2), (13 * row, 4), (1, 5)):
        monkeypatch.setattr(bands, "BAND_BYTES", allowed)
        model = trace(network)
        rewrite(model, (1, 40, 30), 2)
        assert _bands(model) == expected


@pytest.mark.parametrize(
    "network",
    [
        _small(EDSR, scale=4, blocks=1, channels=8),
        _small(Lightweight, scale=2),
        _small(_Late, mode="bilinear"),
        _small(_Cropped),
        _Picture(nn.Conv2d(3, 3, 3, padding=1)),
    ],
    ids=["nothing large at the end", "less than before", "rows that see who knows what", "fewer rows", "x1"],
)
def test_other_networks_stay_whole(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "BAND_BYTES", 1)
    monkeypatch.setattr(bands, "LEAST_ROWS", 5)
    model = trace(network)
    rewrite(model, (1, 40, 30), 4)
    rims = 3 if "EDSR" in repr(network) else 0
    assert _bands(model) == rims
    assert not bands.enlarged(model)


def test_in_int8_bands_make_what_the_whole_makes(spices: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    lr = _lr(spices, 40, 26)
    model = trace(_small(RRDBNet, scale=4, blocks=1, channels=16, growth=16))
    layers = tuple(replace(layer, low=-2.0, high=2.0) for layer in layers_of(model))
    model = quantized(model, Ranges(identity="", layers=layers, loss_db=0, pictures=0))
    made = []
    for allowed in (1 << 30, 1):
        monkeypatch.setattr(bands, "BAND_BYTES", allowed)
        copy = model.clone()
        rewrite(copy, (1, 40, 26), 2, rounded=True)
        made.append(_made(copy, lr))
    assert _bands(copy) == 5
    assert np.array_equal(*made)


def test_what_is_alive_at_once_is_counted(tmp_path: Path) -> None:
    """Two convolutions: 32 values, activated where they lie, and 3. An RRDB, at the last layer of its second block: 8
    features from before it, the block's 8, the 8 of the first half of the layer, three times 4, and those joined.
    """
    plain = _Picture(nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 3, 3, padding=1)))
    rrdb = _small(RRDBNet, scale=4, blocks=1, channels=8, growth=4)
    found = []
    for network in (plain, rrdb):
        xml = tmp_path / "graph.xml"
        library().save_model(trace(network), xml, compress_to_fp16=False)
        found.append(rewriting.live_values(xml))
    assert found == [(35, 0), (48, 128)]


@pytest.mark.parametrize("size", [(41, 25), (8, 8), (16, 30)], ids=str)
@pytest.mark.parametrize(
    "network",
    [
        partial(RRDBNet, scale=4, blocks=1, channels=8, growth=4),
        partial(RRDBNet, scale=8, blocks=1, channels=8, growth=4),
        partial(RRDBNet, scale=2, blocks=1, channels=8, growth=4, unshuffle=2),
        partial(RRDBNet, scale=1, blocks=1, channels=8, growth=4, unshuffle=4),
        partial(SwinIR, scale=4, channels=12, groups=1, depth=1, heads=2, features=8, head="nearest"),
    ],
    ids=["RRDB x4", "RRDB x8", "RRDB x2 folded", "RRDB x1 folded", "SwinIR nearest"],
)
def test_torch_too_makes_the_same_picture_by_bands(
    network: Callable[[], nn.Module], size: tuple[int, int], spices: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    whole = network().eval()
    fold = getattr(whole, "unshuffle", 1)
    lr = torch.from_numpy(_lr(spices, *(side // fold * fold for side in size)))
    cut = copy.deepcopy(whole)
    as_engines_run_it(cut)
    heights: list[int] = []
    draw = cut.draw
    monkeypatch.setattr(cut, "draw", lambda each, dtype: heights.append(each.shape[2]) or draw(each, dtype))
    monkeypatch.setattr(blocks, "BAND_VALUES", 1)
    monkeypatch.setattr(blocks, "_LEAST_ROWS", 3)
    with torch.inference_mode():
        expected, found = whole(lr), cut(lr)
    rows = -(-lr.shape[2] // whole.window) * whole.window if isinstance(whole, SwinIR) else lr.shape[2] // fold
    assert max(heights) <= 7
    assert len(heights) == -(-rows // 3)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-5 * expected.std()


def test_bands_are_as_high_as_memory_allows_and_a_training_knows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    network = RRDBNet(scale=4, blocks=1, channels=8, growth=4)
    seen: list[int] = []
    draw = network.draw
    monkeypatch.setattr(
        network, "draw", lambda features, dtype: seen.append(features.shape[2]) or draw(features, dtype)
    )
    monkeypatch.setattr(blocks, "BAND_VALUES", 20 * 8 * 16 * 10)  # 20 rows of 10 pixels
    lr = torch.rand(1, 3, 50, 10)
    with torch.inference_mode():
        network(lr)
        assert seen == [50]
        as_engines_run_it(network)
        network(lr)
    assert seen[1:] == [22, 24, 12]


def test_memory_of_a_band_is_reckoned_once_however_large_the_tile() -> None:
    variant = find("rrdb/x4")
    everywhere, in_band = live_values_per_pixel(variant)
    assert (everywhere, in_band) == (192 + 64 + 192, 3 * 64 * 16)
    assert live_values(variant, 100) == 100 * (everywhere + in_band)
    assert live_values(variant, 10**6) == 10**6 * everywhere + 3 * blocks.BAND_VALUES
