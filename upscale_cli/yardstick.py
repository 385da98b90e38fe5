"""What speed is measured against: how many operations this machine does a second.

Owns the convolution that every machine is good at, and how far memory grew. Knows no
picture and no file; what an engine makes of a network is for others to time.
"""

import contextlib
import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import mean

import numpy as np
import torch
from torch import nn

from upscale_cli import device as devices
from upscale_cli.engines import graph, openvino
from upscale_cli.engines.graph import BackendError
from upscale_cli.model import DTYPES

CHANNELS = 64
KERNEL = 3
DEPTH = 4
COLORS = 3
CPU_SIDE_PX, ACCELERATOR_SIDE_PX = 256, 1024  # as large as automatic tiles
SECONDS = 0.2
"""Of one measurement, once it is warm."""


@dataclass(frozen=True, slots=True)
class Rate:
    """The most operations a second that this machine was seen to do in one precision."""

    precision: str
    per_second: float
    backend: str
    """What was fastest at it."""


@dataclass(slots=True, eq=False)
class Yardstick:
    """Convolutions of 64 channels, 3 x 3, of a picture as large as a tile, by whatever can run them on a device."""

    device: torch.device
    precisions: Sequence[str]
    rates: dict[str, Rate] = field(default_factory=dict)
    """By precision, the best so far: what else runs on the machine only ever makes it slower."""
    _runs: dict[tuple[str, str], Callable[[], object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        module = _convolutions()
        for precision in self.precisions:
            if precision in DTYPES:
                self._runs["torch", precision] = _by_torch(module, self.device, precision)
            if self.device.type == "cpu":
                with contextlib.suppress(BackendError):  # it is not here: torch alone says what can be reached
                    self._add_openvino(module, precision)

    def _add_openvino(self, module: nn.Module, precision: str) -> None:
        if precision in openvino.PRECISIONS and precision.upper() in openvino.capabilities():
            self._runs["openvino", precision] = _by_openvino(module, precision)

    def measure(self) -> None:
        """Once more, by everything; a moment each."""
        for backend, precision in self._runs:
            self._measure(backend, precision)

    def now(self, precision: str) -> float | None:
        """Operations a second in this moment, by what was fastest at it; None in a precision that is not measured."""
        best = self.rates.get(precision)
        return None if best is None else self._measure(best.backend, precision)

    def _measure(self, backend: str, precision: str) -> float:
        """Keeps the best; the mean is what a network that runs now can hope for."""
        operations = 2 * KERNEL**2 * (DEPTH * CHANNELS**2 + 2 * CHANNELS * COLORS) * _side(self.device) ** 2
        times = _times(self._runs[backend, precision])
        rate = Rate(precision, operations / min(times), backend)
        known = self.rates.get(precision)
        if known is None or rate.per_second > known.per_second:
            self.rates[precision] = rate
        return operations / mean(times)


def _side(device: torch.device) -> int:
    return CPU_SIDE_PX if device.type == "cpu" else ACCELERATOR_SIDE_PX


def _times(run: Callable[[], object]) -> list[float]:
    run()
    times: list[float] = []
    while sum(times) < SECONDS:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return times


def _convolutions() -> nn.Module:
    """From colours to channels, and back in the end: so little goes in and out that it counts for nothing."""
    widths = (COLORS, *[CHANNELS] * (DEPTH + 1), COLORS)
    return nn.Sequential(*(nn.Conv2d(*pair, KERNEL, padding=KERNEL // 2, bias=False) for pair in pairwise(widths)))


def _by_torch(module: nn.Module, device: torch.device, precision: str) -> Callable[[], object]:
    # The stubs of torch know `memory_format` for tensors only.
    ready = copy.deepcopy(module).eval().to(device, DTYPES[precision], memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    side = _side(device)
    lr = torch.rand(1, COLORS, side, side).to(device, DTYPES[precision], memory_format=torch.channels_last)

    @torch.inference_mode()
    def run() -> None:
        ready(lr)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)

    return run


def _by_openvino(module: nn.Module, precision: str) -> Callable[[], object]:
    model = graph.trace(module.eval())
    model.reshape([1, COLORS, CPU_SIDE_PX, CPU_SIDE_PX])
    request = openvino.compiled(model, precision).create_infer_request()
    lr = np.random.default_rng(0).random((1, COLORS, CPU_SIDE_PX, CPU_SIDE_PX), np.float32)
    return lambda: request.infer({0: lr}, share_inputs=True, share_outputs=True)


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
