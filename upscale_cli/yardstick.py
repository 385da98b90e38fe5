"""What speed is measured against: the operations a network asks for, and how many of them this machine does a second.

Owns the counting of operations, the convolution that every machine is good at, and how far memory grew. Knows no
picture and no file; what an engine makes of a network is for others to time.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from upscale_cli import device as devices
from upscale_cli.model import DTYPES
from upscale_cli.zoo import Variant

CHANNELS = 64
KERNEL = 3
DEPTH = 4  # convolutions in a row, so that bringing the numbers in and out counts for little
CPU_SIDE_PX, ACCELERATOR_SIDE_PX = 256, 1024  # as large as automatic tiles
SECONDS = 0.2
"""Of one measurement, once it is warm."""
_PROBE_PX = 128  # no less: networks that look through windows fill smaller pictures up to one


@dataclass(frozen=True, slots=True)
class Rate:
    """The most operations a second that this machine was seen to do in one precision."""

    precision: str
    per_second: float
    backend: str
    """What was fastest at it."""


@functools.cache
def operations_per_pixel(variant: Variant) -> float:
    """What a network asks for an input pixel, a multiplication and an addition counted as two.

    Convolutions and matrix products, read off a run on the meta device, which computes shapes and nothing else; off a
    real one for networks of other packages whose code looks at numbers.
    """
    try:
        return _operations(variant, torch.device("meta"))
    except RuntimeError:
        return _operations(variant, torch.device("cpu"))


def _operations(variant: Variant, device: torch.device) -> float:
    side = -(-_PROBE_PX // variant.multiple_of) * variant.multiple_of
    with device, torch.inference_mode(), FlopCounterMode(display=False) as counter:
        # Moved there too: what was built around weights in memory is not made of meta tensors.
        variant.build().to(device).eval()(torch.full((1, 3, side, side), 0.5))
    return counter.get_total_flops() / side**2


@dataclass(slots=True, eq=False)
class Yardstick:
    """Convolutions of 64 channels, 3 x 3, of a picture as large as a tile, by whatever can run them on a device."""

    device: torch.device
    precisions: Sequence[str]
    rates: dict[str, Rate] = field(default_factory=dict)
    """By precision, the best so far: what else runs on the machine only ever makes it slower."""
    _runs: dict[tuple[str, str], Callable[[], object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for precision in self.precisions:
            if precision in DTYPES:
                self._runs["torch", precision] = _torch_convolutions(self.device, precision)

    def measure(self) -> None:
        """Once more, by everything; a moment each."""
        side = _side(self.device)
        operations = DEPTH * 2 * CHANNELS**2 * KERNEL**2 * side**2
        for (backend, precision), run in self._runs.items():
            rate = Rate(precision, operations / _best_seconds(run), backend)
            known = self.rates.get(precision)
            if known is None or rate.per_second > known.per_second:
                self.rates[precision] = rate


def _side(device: torch.device) -> int:
    return CPU_SIDE_PX if device.type == "cpu" else ACCELERATOR_SIDE_PX


def _best_seconds(run: Callable[[], object]) -> float:
    run()
    times: list[float] = []
    while sum(times) < SECONDS:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def _torch_convolutions(device: torch.device, precision: str) -> Callable[[], object]:
    layers = [nn.Conv2d(CHANNELS, CHANNELS, KERNEL, padding=KERNEL // 2, bias=False) for _ in range(DEPTH)]
    # The stubs of torch know `memory_format` for tensors only.
    module = nn.Sequential(*layers).eval().to(device, DTYPES[precision], memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    side = _side(device)
    lr = torch.rand(1, CHANNELS, side, side).to(device, DTYPES[precision], memory_format=torch.channels_last)

    @torch.inference_mode()
    def run() -> None:
        module(lr)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)

    return run


@contextlib.contextmanager
def memory_growth(device: torch.device) -> Iterator[Callable[[], int | None]]:
    """What memory grew by at the most while inside, once asked for: the device's where it has its own, else this
    process's. None where the system cannot say.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: torch.cuda.max_memory_allocated(device) - before
        return
    resident = devices.restart_peak_memory()
    yield lambda: None if resident is None else max(0, (devices.peak_memory_bytes() or resident) - resident)
