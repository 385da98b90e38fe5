"""`upscale models quantize`: which convolutions of a network bear 8-bit integers, measured on photographs.

Owns the choice. Where all bear it within the wanted loss, all are rounded. Else convolutions that read the same
tensors are rounded alone, in the range that was seen and in one clipped to it, and what that does to pictures is
measured; then as many are rounded as the loss allows, and those left out first cost most for what they save. Refuses to
guess a loss where there is no photograph.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from upscale_cli.engines.graph import Graph, library, open_graph
from upscale_cli.engines.openvino import BYTES, compiled, floats
from upscale_cli.engines.quantize import (
    Group,
    Layer,
    Pixels,
    Ranges,
    Values,
    find_ranges,
    layers_of,
    observe,
    own_path,
    planes,
    quantized,
)
from upscale_cli.engines.rewriting import rewrite
from upscale_cli.errors import UsageError
from upscale_cli.evaluate import Pair, make_pair, read_rgb8
from upscale_cli.media.paths import picture_files
from upscale_cli.metrics.fidelity import psnr
from upscale_cli.metrics.protocol import luma
from upscale_cli.networks import Combination

MAX_LOSS_DB = 0.1
PICTURES = 16
SIDE_PX = 96  # of what the network is given
_PLACES = 8  # looked at in each photograph; the one with the most detail is taken
_ALONE = 4  # pictures on which each group is measured alone
_SECONDS = 4.0  # for the two speeds
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeRequest:
    """What to round, and what it may cost."""

    model: str | Combination
    scale: float | None = None
    data: Path | None = None
    """Folder of photographs, or one; without it the ranges that are there are measured for speed."""
    max_loss: float = MAX_LOSS_DB
    """PSNR-Y in dB against the photographs, the mean of all, that may be lost to fp32."""
    output: Path | None = None
    """The file of ranges; where `--precision int8` finds it unless given."""
    offline: bool = False


@dataclass(frozen=True, slots=True)
class QuantizeReport:
    """What is rounded now, what it costs and what it brings."""

    model: str
    scale: int
    file: Path | None
    """What was written; None where ranges that were there were looked at."""
    layers: tuple[Layer, ...]
    loss_db: float
    pictures: int
    speed: float
    """Of int8 as a multiple of that of `compared_with`, on one tile, in alternating runs."""
    compared_with: str


def quantize(request: QuantizeRequest, *, progress: Progress | None = None) -> QuantizeReport:
    """Measure the ranges of a network and keep them where the engine finds them.

    UsageError where no photograph is given and none shipped with ranges, or nothing can be rounded at that loss;
    WeightsError, BackendError for what cannot be had as a graph; InputError for a photograph, OutputError for the file.
    """
    graph = open_graph(Combination.of(request.model), request.scale, offline=request.offline)
    model = library().Core().read_model(graph.xml)
    file = None
    if request.data is not None:
        ranges = _measured(graph, model, _pairs(request.data, graph.facts.scale), request, progress or _silent)
        file = request.output or own_path(graph.identity)
        ranges.write(file)
    elif (found := find_ranges(graph.identity, graph.facts.name)) is not None:
        ranges = found
    else:
        raise UsageError(f"{graph.facts.name} has no int8 ranges yet. Give --data a folder of photographs.")
    return QuantizeReport(
        model=graph.facts.name,
        scale=graph.facts.scale,
        file=file,
        layers=ranges.layers,
        loss_db=ranges.loss_db,
        pictures=ranges.pictures,
        speed=_speed(model, ranges, floats(graph)),
        compared_with=floats(graph),
    )


class _Trials:
    """What rounding does to the pictures a network makes."""

    def __init__(self, graph: Graph, model: Any, pairs: Sequence[Pair]) -> None:
        self.identity = graph.identity
        self.model = model
        self.layers = layers_of(model)
        self.pairs = pairs
        self.border = graph.facts.scale
        self.floats = floats(graph)
        self.exact = self.pictures(model, "fp32", pairs)

    def ranges(self, chosen: dict[Group, tuple[float, float]]) -> Ranges:
        layers = list(self.layers)
        for group, (low, high) in chosen.items():
            for place, scales in zip(group.members, group.scales, strict=True):
                layers[place] = replace(layers[place], low=low, high=high, scales=scales)
        return Ranges(identity=self.identity, layers=tuple(layers), loss_db=math.nan, pictures=len(self.pairs))

    def error(self, chosen: dict[Group, tuple[float, float]]) -> float:
        """Mean square difference to fp32 of what is made with nothing else rounded than `chosen`."""
        found = self.pictures(quantized(self.model, self.ranges(chosen)), "fp32", self.pairs[:_ALONE])
        return fmean(float(np.square(a - b).mean()) for a, b in zip(found, self.exact, strict=False))

    def loss(self, chosen: dict[Group, tuple[float, float]]) -> float:
        """PSNR-Y lost, in dB, the mean of all pictures, with the rest in the precision it will run in."""
        made = self.pictures(quantized(self.model, self.ranges(chosen)), self.floats, self.pairs)
        return fmean(
            self._psnr(before, pair) - self._psnr(after, pair)
            for before, after, pair in zip(self.exact, made, self.pairs, strict=True)
        )

    def pictures(self, model: Any, precision: str, pairs: Sequence[Pair]) -> list[Values]:
        run = _compiled(model, precision, *pairs[0].lr.shape[:2], rounded=True)
        return [np.clip(run(planes(pair.lr))[0], 0, 1) for pair in pairs]

    def _psnr(self, made: Values, pair: Pair) -> float:
        inside = slice(self.border, -self.border)
        picture = np.rint(made[0].transpose(1, 2, 0) * 255).astype(np.uint8)
        return min(psnr(luma(picture[inside, inside]), luma(pair.hr[inside, inside])), 100.0)  # of black, infinite


def _measured(graph: Graph, model: Any, pairs: Sequence[Pair], request: QuantizeRequest, progress: Progress) -> Ranges:
    groups = observe(model, [pair.lr for pair in pairs])
    if not groups:
        raise UsageError(f"{graph.facts.name} has no convolution that integers would make faster.")
    trials = _Trials(graph, model, pairs)
    # Alone takes twenty minutes where a network has hundreds of convolutions, and most networks need none of it.
    everywhere = min(
        ({group: group.clipped for group in groups}, {group: group.whole for group in groups}), key=trials.error
    )
    if (loss := trials.loss(everywhere)) <= request.max_loss:
        return replace(trials.ranges(everywhere), loss_db=round(loss, 4))
    alone: list[tuple[float, Group, tuple[float, float]]] = []
    for place, group in enumerate(groups):
        progress(place, len(groups))
        tried = [(trials.error({group: ends}), group, ends) for ends in dict.fromkeys((group.whole, group.clipped))]
        alone.append(min(tried, key=lambda each: each[0]))
    progress(len(groups), len(groups))
    # Errors add up, being independent of each other: those that cost most for what they save come first.
    alone.sort(key=lambda each: each[0] / each[1].multiplications, reverse=True)
    # The fewest to leave out, as if leaving out one more never made it worse; often that is none.
    few, many, left_out, loss = 0, len(alone), 0, math.inf
    while few < many:
        lost = trials.loss({group: ends for _, group, ends in alone[left_out:]})
        if lost <= request.max_loss:
            many, loss = left_out, lost
        else:
            few = left_out + 1
        left_out = (few + many) // 2
    if few == len(alone):
        raise UsageError(
            f"{graph.facts.name} loses more than {request.max_loss:g} dB whatever is rounded to int8. "
            "Allow more with --max-loss, or use it in another --precision."
        )
    ranges = trials.ranges({group: ends for _, group, ends in alone[few:]})
    return replace(ranges, loss_db=round(loss, 4))


def _pairs(data: Path, scale: int) -> list[Pair]:
    """Squares of photographs at both resolutions, where there is most detail: there rounding costs what it costs, while
    out of focus and in a sky no precision but fp32 is good enough.
    """
    files = picture_files(data)
    pairs: list[Pair] = []
    rng = np.random.default_rng(0)
    side = SIDE_PX * scale
    for path in files[:: -(-len(files) // PICTURES)] if files else ():
        photo = read_rgb8(path)
        height, width = photo.shape[0] - side, photo.shape[1] - side
        if min(height, width) < 0:
            continue
        corners = zip(rng.integers(0, height + 1, _PLACES), rng.integers(0, width + 1, _PLACES), strict=True)
        squares = [np.ascontiguousarray(photo[top : top + side, left : left + side]) for top, left in corners]
        pairs.append(make_pair(path.name, max(squares, key=_detail), scale))
    if not pairs:
        raise UsageError(f"{data} holds no photograph of {side} x {side} pixels or more. Give --data larger ones.")
    return pairs


def _detail(square: Pixels) -> float:
    return sum(float(np.abs(np.diff(luma(square), axis=axis)).mean()) for axis in (0, 1))


def _compiled(model: Any, precision: str, height: int, width: int, *, rounded: bool) -> Any:
    model = model.clone()
    rewrite(model, (1, height, width), BYTES[precision], rounded=rounded)
    return compiled(model, precision)


def _speed(model: Any, ranges: Ranges, precision: str) -> float:
    lr = np.random.default_rng(0).random((1, 3, 128, 128), np.float32)
    both = ((model, False), (quantized(model, ranges), True))
    runs = [_compiled(each, precision, 128, 128, rounded=rounded).create_infer_request() for each, rounded in both]
    seconds: tuple[list[float], list[float]] = ([], [])
    while len(seconds[0]) < 3 or sum(map(sum, seconds)) < _SECONDS:
        for run, taken in zip(runs, seconds, strict=True):
            start = time.perf_counter()
            run.infer({0: lr})
            taken.append(time.perf_counter() - start)
    return min(seconds[0]) / min(seconds[1])


def _silent(_done: int, _all: int) -> None:
    pass
