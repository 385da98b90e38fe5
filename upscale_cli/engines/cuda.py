"""CUDA: tiles cross the bus as integers while others are computed, and a shape that keeps coming is one launch.

Owns the memory that batches cross in, and the decision to replay a captured network: only once it gave, for a tile of
that shape, what the network gives eagerly. What is CUDA's own is in `Card`. The same tiles make the same picture,
whatever ran before: cuDNN chooses by rule, not by the clock.
"""

import functools
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.backends import cudnn

from upscale_cli import device as devices
from upscale_cli.engines.eager import ACCELERATOR_TILE_PX, EagerEngine
from upscale_cli.engines.interface import Floats, Tiles
from upscale_cli.model import DTYPES, Model, is_finite
from upscale_cli.zoo.cost import live_values, live_values_per_pixel

EAGER_RUNS = 3  # of a shape, before it is captured: what libraries do at first cannot be
CLOCKED = False  # cuDNN's search for the fastest algorithm: two runs may then differ in the last bit
TOLERANCES = {"fp32": 1e-3, "fp16": 1 / 255, "bf16": 1 / 255}
"""Largest difference of a replayed picture to the eager one; there should be none, for the same kernels ran."""
_MOST_SHAPES = 8  # known at a time: pictures of a folder are of few sizes, and each graph holds a picture
_MOST_VALUES = 2**32  # alive at once: no tensor then has 2^31, where kernels begin to count in 64 bits, or fail


class CudaEngine(EagerEngine):
    """A Model behind the Engine interface, on a CUDA device."""

    in_flight = 3  # one that is computed, one on its way out, one that is blended

    def __init__(self, model: Model, *, card: "Card | None" = None) -> None:
        super().__init__(model)
        self.tile_px = min(ACCELERATOR_TILE_PX, math.isqrt(int(_MOST_VALUES / live_values_per_pixel(model.variant)[0])))
        self._card = card or Card(model.device)
        self._network = Replays(model.raw, self._card, model.precision)
        self._slots = deque(_Slot(self._card) for _ in range(self.in_flight))

    def infer(self, tiles: Tiles) -> Floats:
        """N x H x W x 3 to N x sH x sW x 3 in [0, 1]; see Engine."""
        return self.submit(tiles)().copy()

    def submit(self, tiles: Tiles) -> Callable[[], Floats]:
        """Begins on the device; see Engine."""
        slot = self._slots[0]
        self._slots.rotate(-1)
        with self.model.failures(*tiles.shape[1:3]):
            try:
                slot.done()  # also of a batch that nobody asked for
                return self._begin(slot, tiles)
            except (RuntimeError, MemoryError):
                self._network.forget()  # ends what is half done, and gives memory to smaller tiles
                raise
            finally:
                self.remark = self._network.remark

    def tile_bytes(self, height: int, width: int) -> int:
        """The largest things alive at once, in the precision of the run, and pictures in fp32: those under way, the
        graph's own, and two while it is proved. Graphs share what else they need, and take it when eager runs have
        given it back.
        """
        values = live_values(self.model.variant, height * width)
        out = 3 * 4 * self.scale**2 * (self.in_flight + 3)
        return int(values * DTYPES[self.precision].itemsize) + height * width * out

    def in_precision(self, precision: str) -> "CudaEngine":
        """The same network in another precision."""
        return CudaEngine(self.model.in_precision(precision), card=self._card)

    @torch.inference_mode()
    def _begin(self, slot: "_Slot", tiles: Tiles) -> Callable[[], Floats]:
        count, height, width, channels = tiles.shape
        shape = (count, height * self.scale, width * self.scale, channels)
        lr = slot.pair("lr", tiles.shape, getattr(torch, tiles.dtype.name))
        sr, finite = slot.pair("sr", shape, torch.float32), slot.pair("finite", (), torch.bool)
        lr.here.numpy()[...] = tiles
        self._card.upload(lr)
        with self._card.computing():
            unit = lr.there.permute(0, 3, 1, 2).to(torch.float32)
            if lr.there.dtype != torch.float32:
                unit /= torch.iinfo(lr.there.dtype).max
            raw = self._network(unit)
            finite.there.copy_(is_finite(raw))
            torch.clamp(raw.permute(0, 2, 3, 1), 0, 1, out=sr.there)
        slot.done = self._card.download([sr, finite])
        return functools.partial(self._result, slot.done, sr.here, finite.here)

    def _result(self, done: Callable[[], None], sr: Tensor, finite: Tensor) -> Floats:
        with self.model.failures(*(side // self.scale for side in sr.shape[1:3])):
            done()
        if not finite:
            raise self.model.non_finite()
        return sr.numpy()


class Pair(NamedTuple):
    """The same tensor on both sides of the bus."""

    here: Tensor
    there: Tensor


class _Slot:
    """Memory of one batch under way; grows to the largest, so that none waits for an allocation."""

    def __init__(self, card: "Card") -> None:
        self.done: Callable[[], None] = lambda: None
        """Waits until nothing reads or writes it."""
        self._card = card
        self._held: dict[str, Pair] = {}

    def pair(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> Pair:
        """Of that shape, with anything in it; where the last one of that name lay, if there is room."""
        size = math.prod(shape) * dtype.itemsize
        if name not in self._held or self._held[name].here.numel() < size:
            self._held.pop(name, None)
            self._held[name] = self._card.memory(size)
        here, there = (side[:size].view(dtype).view(tuple(shape)) for side in self._held[name])
        return Pair(here, there)


class Replay(NamedTuple):
    """A network captured for inputs of one shape; what it gives stays until the next call."""

    graph: torch.cuda.CUDAGraph
    lr: Tensor
    sr: Tensor

    def __call__(self, lr: Tensor) -> Tensor:
        self.lr.copy_(lr)
        self.graph.replay()
        return self.sr


class Replays:
    """A network: eager until a shape has come often enough to be captured, and for good once that went wrong."""

    def __init__(self, network: Callable[[Tensor], Tensor], card: "Card", precision: str) -> None:
        self.remark = ""
        """What went wrong."""
        self._network = network
        self._card = card
        self._precision = precision
        self._known: OrderedDict[torch.Size, int | Replay] = OrderedDict()  # or how often it came

    def __call__(self, lr: Tensor) -> Tensor:
        """N x 3 x H x W to what the network gives, which stays until the next call."""
        known = self._known.setdefault(lr.shape, 0)
        self._known.move_to_end(lr.shape)
        if isinstance(known, Replay):
            return known(lr)
        if len(self._known) > _MOST_SHAPES:
            if isinstance(next(iter(self._known.values())), Replay):
                self._card.wait()  # no graph is thrown away while it runs
            self._known.popitem(last=False)
        # TF32 is no fp32. In half precision it is allowed: refusing it has kept cuDNN from all tensor cores.
        tf32 = self._precision != "fp32"
        with cudnn.flags(enabled=True, benchmark=CLOCKED, deterministic=not CLOCKED, allow_tf32=tf32):
            sr = self._network(lr)
            proved = self._proved(lr, sr) if known + 1 == EAGER_RUNS and not self.remark else None
        self._known[lr.shape] = proved or known + 1
        return sr

    def forget(self) -> None:
        """Give back the memory of all that was captured."""
        self._card.wait()
        self._known.clear()

    def _proved(self, lr: Tensor, sr: Tensor) -> Replay | None:
        """The captured network, if it makes `sr` of `lr`."""
        others = (known for known in self._known.values() if isinstance(known, Replay))
        try:
            replay = self._card.capture(self._network, lr, beside=next(others, None))
            apart = float((replay(lr) - sr).abs_().max())
        except RuntimeError as error:
            if _for_memory(error):
                raise MemoryError from error
            reason = str(error).partition("\n")[0]
        else:
            if apart <= TOLERANCES[self._precision]:
                return replay
            if not is_finite(sr):  # of which no graph is to blame
                return None
            reason = f"a replay was {apart:.2g} off"
        self.forget()
        self.remark = f"CUDA graphs are off, which may be slower: {reason}"
        return None


def _for_memory(error: BaseException | None) -> bool:
    """Also where ending a capture failed because memory had run out in it."""
    return error is not None and (devices.is_out_of_memory(error) or _for_memory(error.__context__))


class Card:
    """The device: a stream for the network and for each way, pinned memory, graphs."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._in, self._work, self._out = (torch.cuda.Stream(device) for _ in range(3))
        self.wait()  # for weights that are still on their way

    def memory(self, size: int) -> Pair:
        """So many bytes on both sides of the bus."""
        with torch.cuda.stream(self._in):  # memory that only copies have used: no kernel may still write there
            there = torch.empty(size, dtype=torch.uint8, device=self._device)
        return Pair(torch.empty(size, dtype=torch.uint8, pin_memory=True), there)

    def upload(self, pair: Pair) -> None:
        """Begin to copy; what is computed from now on waits for the end."""
        with torch.cuda.stream(self._in):
            pair.there.copy_(pair.here, non_blocking=True)
        self._work.wait_stream(self._in)

    def computing(self) -> AbstractContextManager[object]:
        """Inside, the network's stream is the current one."""
        return torch.cuda.stream(self._work)

    def download(self, pairs: Sequence[Pair]) -> Callable[[], None]:
        """Begin to copy what was computed, and return what waits for the end."""
        self._out.wait_stream(self._work)
        with torch.cuda.stream(self._out):
            for pair in pairs:
                pair.here.copy_(pair.there, non_blocking=True)
        return self._out.record_event().synchronize

    def capture(self, network: Callable[[Tensor], Tensor], like: Tensor, *, beside: Replay | None) -> Replay:
        """The network for inputs like this one, in the memory of another graph: they never run at once."""
        lr, graph = torch.empty_like(like), torch.cuda.CUDAGraph()
        pool = beside.graph.pool() if beside else None
        with torch.cuda.graph(graph, pool=pool, stream=self._work, capture_error_mode="thread_local"):
            sr = network(lr)
        return Replay(graph, lr, sr)

    def wait(self) -> None:
        """Until nothing is under way."""
        torch.cuda.synchronize(self._device)
