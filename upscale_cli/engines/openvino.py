"""OpenVINO: the fastest engine on CPUs, and one that starts without torch once a network is in the cache.

Owns compiling a graph for the tiles it is given, one shape a time, and the requests that run it. Integers go in and
the conversion, the clamping and the check for NaN are part of the graph.
"""

import contextlib
import functools
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from upscale_cli import device as devices
from upscale_cli.engines.bands import BAND_BYTES
from upscale_cli.engines.graph import BackendError, Graph, library, operations
from upscale_cli.engines.interface import Floats, Tiles
from upscale_cli.engines.kept import kept
from upscale_cli.engines.quantize import Ranges, find_ranges, quantized, saturates
from upscale_cli.engines.rewriting import rewrite
from upscale_cli.errors import InferenceError, NonFiniteOutputError, OutOfMemoryError, UsageError

PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 2}
"""Of a value in each precision; what goes past a convolution stays in floats in int8 too."""
_TILE_PX = (1024, 768, 512, 384)  # a pixel takes as long in all of them; a larger one has less margin to do twice
_TILE_BYTES = 896 << 20
_KEPT_SHAPES = 4  # pictures of a folder are of few sizes; each shape holds the weights again,
_KEPT_BYTES = 1 << 30  # and the memory its tiles were computed in


class OpenVINOEngine:
    """A Graph behind the Engine interface, on the CPU."""

    backend = "openvino"
    device = "cpu"
    tileable = True
    remark = ""
    in_flight = 2  # while one is being computed, the one before is blended

    def __init__(self, graph: Graph, *, precision: str = "auto") -> None:
        """UsageError for a precision that the network or this processor is not fit for."""
        facts = graph.facts
        self.graph = graph
        self.name = facts.name
        self.scale = facts.scale
        self.margin = facts.margin
        self.exact = facts.exact
        self.multiple_of = facts.multiple_of
        self.precision = _choose(graph, precision)
        self.ranges = _ranges(graph) if self.precision == "int8" else None
        self.coarse = self.precision != "fp32"  # the last layer too is computed in it
        self.tile_px = next((side for side in _TILE_PX if self.tile_bytes(side, side) <= _TILE_BYTES), 256)
        self._compiled: OrderedDict[tuple[object, ...], _Compiled] = OrderedDict()
        self._started = False

    @property
    def operations(self) -> float:
        """Of the graph as it is compiled; in int8 a few are others."""
        return self.graph.facts.operations

    def infer(self, tiles: Tiles) -> Floats:
        """N x H x W x 3 to N x sH x sW x 3 in [0, 1]; see Engine."""
        return self.submit(tiles)().copy()

    def submit(self, tiles: Tiles) -> Callable[[], Floats]:
        """Begins in threads of the library; see Engine."""
        key = (tiles.shape, tiles.dtype)
        if key in self._compiled:
            self._compiled.move_to_end(key)
        else:
            self._make_room(tiles.shape)
            self._compiled[key] = _Compiled(self, tiles, first=not self._started)
            self._started = True
        return self._compiled[key].submit(tiles)

    def _make_room(self, shape: tuple[int, ...]) -> None:
        """Forget shapes, the longest unused first, until there is a place for another."""

        def needed(count: int, height: int, width: int, _channels: int) -> int:
            return count * self.tile_bytes(height, width)

        room = _KEPT_BYTES - needed(*shape)
        while self._compiled and (
            len(self._compiled) >= _KEPT_SHAPES or sum(needed(*each.shape) for each in self._compiled.values()) > room
        ):
            self._compiled.popitem(last=False)

    def tile_bytes(self, height: int, width: int) -> int:
        """What lives at the worst moment, in the precision of the run, two bands, and the fp32 tiles that come out."""
        facts, each, out = self.graph.facts, BYTES[self.precision], 3 * 4 * self.scale**2 * self.in_flight
        bands = 2 * min(height * width * int(facts.end_values * each), BAND_BYTES)
        return height * width * int(facts.live_values * each + out) + bands

    def available_bytes(self) -> int:
        """Free memory of the machine."""
        return devices.free_memory_bytes()

    def in_precision(self, precision: str) -> "OpenVINOEngine":
        """The same network in another precision."""
        return OpenVINOEngine(self.graph, precision=precision)


class _Compiled:
    """The graph compiled for tiles of one shape, and the requests that take turns."""

    def __init__(self, engine: OpenVINOEngine, tiles: Tiles, *, first: bool) -> None:
        self.name, self.precision, self.shape = engine.name, engine.precision, tiles.shape
        precision = floats(engine.graph) if engine.ranges else engine.precision

        def fresh() -> Any:
            model = _core().read_model(engine.graph.xml)
            if engine.ranges:
                model = quantized(model, engine.ranges)
            rewrite(model, tiles.shape[:3], BYTES[engine.precision], rounded=bool(engine.ranges))
            return compiled(_whole_way(model, tiles), precision)

        with _ours(f"{self.name} for tiles of {tiles.shape[2]} x {tiles.shape[1]}"):
            key = f"{tiles.shape} {tiles.dtype} {engine.ranges}{engine.ranges and saturates()}"
            self._network = kept(engine.graph.xml.parent, key, _core(), _settings(precision), fresh, first=first)
        self._requests: list[Any] = []  # made when it is their turn: each has the memory of a tile
        self._held: list[Tiles | None] = [None] * engine.in_flight  # what they read: nothing else may keep it
        self._next = 0

    def submit(self, tiles: Tiles) -> Callable[[], Floats]:
        turn, self._next = self._next, (self._next + 1) % len(self._held)
        with _ours(self.name):
            if turn == len(self._requests):
                self._requests.append(self._network.create_infer_request())
            request = self._requests[turn]
            request.wait()  # of a tile that nobody asked for
            self._held[turn] = lr = np.require(tiles, requirements=["C", "W"])  # the library refuses others
            request.set_input_tensor(library().Tensor(lr, shared_memory=True))
            request.start_async()
        return functools.partial(self._result, request)

    def _result(self, request: Any) -> Floats:
        with _ours(self.name):
            request.wait()
            # The request keeps its memory for the tile after next.
            sr, mean = (request.get_output_tensor(index).data for index in (0, 1))
        if not np.isfinite(mean):
            raise NonFiniteOutputError(f"{self.name} gave NaN or infinity in {self.precision}.")
        return sr


@contextlib.contextmanager
def _ours(what: str) -> Iterator[None]:
    """The library's errors, which have one type, as those of the pipeline."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "alloc" in str(error):
            raise OutOfMemoryError(f"There is no memory for {what}.") from error
        reason = str(error).strip().splitlines()[-1]
        raise InferenceError(f"OpenVINO cannot run {what}: {reason}. Use --engine torch.") from error


def compiled(model: Any, precision: str) -> Any:
    """The `openvino.CompiledModel` of an `openvino.Model`, as every network here runs."""
    return _core().compile_model(model, "CPU", _settings(precision))


def _settings(precision: str) -> dict[str, str]:
    threads = os.environ.get("OMP_NUM_THREADS", "")  # as every other library here takes it
    return {
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        "NUM_STREAMS": "1",  # all threads on one tile: the least memory, and no slower
        **({"INFERENCE_NUM_THREADS": threads} if threads.isdigit() and int(threads) else {}),
    }


@functools.cache
def _core() -> Any:
    return library().Core()


def capabilities() -> frozenset[str]:
    """Number formats this processor computes in: `FP32`, `BF16`, `INT8` ..."""
    return frozenset(_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def floats(graph: Graph) -> str:
    """The fastest floats that the network and this processor are fit for; in int8 too, what is not rounded runs so."""
    return "bf16" if "bf16" in graph.facts.precisions and "BF16" in capabilities() else "fp32"


def _choose(graph: Graph, wanted: str) -> str:
    sound = graph.facts.precisions
    if wanted == "auto":
        return floats(graph)
    if wanted not in BYTES:
        raise UsageError(f"Precision {wanted!r} is unknown. Choose auto, {', '.join(BYTES)}.")
    if wanted not in (*sound, "int8"):
        raise UsageError(
            f"{graph.facts.variant} is not sound in {wanted}. Use --precision auto, or one of {', '.join(sound)}."
        )
    if wanted != "fp32" and wanted.upper() not in capabilities():
        raise BackendError(f"This processor does not compute in {wanted}. Use --precision auto, or --engine torch.")
    return wanted


def _ranges(graph: Graph) -> Ranges:
    found = find_ranges(graph.identity, graph.facts.name)
    if found is None:
        raise UsageError(
            f"{graph.facts.name} has no int8 ranges yet. Run `upscale models quantize NAME --data FOLDER` on "
            "photographs, or use another --precision."
        )
    return found


def _whole_way(model: Any, tiles: Tiles) -> Any:
    """The model for these tiles, with what stands around it: N x H x W x 3 integers in; the clamped picture out, as
    N x sH x sW x 3, and the mean of what was not clamped yet, which NaN and infinity survive.
    """
    openvino = library()
    opset = operations()
    clamp = model.output(0).get_node().input_value(0).get_node()
    mean = opset.reduce_mean(clamp.input_value(0), np.arange(4), keep_dims=False)
    model.add_outputs(mean.output(0))
    before = openvino.preprocess.PrePostProcessor(model)
    lr = before.input()
    lr.tensor().set_element_type(openvino.Type(tiles.dtype)).set_layout(openvino.Layout("NHWC"))
    lr.model().set_layout(openvino.Layout("NCHW"))
    if tiles.dtype != np.float32:
        greatest = 65535 if tiles.dtype == np.uint16 else 255
        lr.preprocess().convert_element_type(openvino.Type.f32).scale(float(greatest))
    before.output(0).tensor().set_layout(openvino.Layout("NHWC"))
    before.output(0).model().set_layout(openvino.Layout("NCHW"))
    return before.build()
