"""What speed is measured against: operations, rates, and how far memory grows."""

import math
import mmap
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from upscale_cli import yardstick, zoo
from upscale_cli.media.made import made_picture
from upscale_cli.yardstick import Yardstick, memory_growth
from upscale_cli.zoo.cost import operations_per_pixel


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """As little to compute as there can be."""
    monkeypatch.setattr(yardstick, "DEPTH", 1)
    monkeypatch.setattr(yardstick, "CPU_SIDE_PX", 32)
    monkeypatch.setattr(yardstick, "SECONDS", 0.001)


@pytest.mark.parametrize("name", ["lightweight/x2", "improved/x4"])
def test_operations_are_those_of_the_convolutions(name: str) -> None:
    variant = zoo.find(name)
    total = 0

    def count(layer: nn.Conv2d, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += 2 * output.numel() * math.prod(layer.kernel_size) * layer.in_channels // layer.groups

    module = variant.build().to("meta")
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    module(torch.rand(1, 3, 128, 128, device="meta"))
    assert operations_per_pixel(variant) == total / 128**2


def test_operations_of_edsr_by_hand() -> None:
    body = 3 * 64 + (2 * 16 + 1) * 64 * 64 + 64 * 256 + 4 * 64 * 3  # 3 x 3, the last of them on the large picture
    means = 3 * 3 * (1 + 4)
    assert operations_per_pixel(zoo.find("edsr/x2")) == 2 * (9 * body + means)


def test_rates_are_the_best_of_all_times(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([[0.3, 0.2], [0.4], [0.1, 0.2], [0.4], [0.3, 0.1]])
    monkeypatch.setattr(yardstick, "_times", lambda _: next(times))
    monkeypatch.setattr(yardstick.openvino, "capabilities", frozenset)
    stick = Yardstick(torch.device("cpu"), ("fp32", "bf16", "int8"))
    operations = 2 * 9 * (64 * 64 + 2 * 3 * 64) * 32 * 32
    stick.measure()
    stick.measure()
    assert stick.rates["fp32"].backend == "torch"
    assert stick.rates["fp32"].per_second == pytest.approx(operations / 0.1)
    assert stick.rates["bf16"].per_second == pytest.approx(operations / 0.4)
    assert stick.now("fp32") == pytest.approx(operations / 0.2)  # as it is on average, for the best was another moment
    assert stick.now("int8") is None


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux keeps note of it")
def test_memory_growth_is_the_peak_and_of_its_own_time() -> None:
    for megabytes in (60, 30):
        # Pages of its own: malloc may hand out resident ones.
        with memory_growth(torch.device("cpu")) as grown, mmap.mmap(-1, megabytes * 1_000_000) as fresh:
            fresh[:: mmap.PAGESIZE] = bytes(-(-len(fresh) // mmap.PAGESIZE))
        assert 0.95 * megabytes * 1e6 < (grown() or 0) < (megabytes + 20) * 1e6


def test_the_made_picture_is_one_of_any_shape() -> None:
    picture = made_picture(48, 80)
    assert picture.shape == (48, 80, 3)
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert 0.1 < picture.std() < 0.4
