"""The CUDA engine with a card that this machine can play: what crosses when, what is captured, and what goes wrong."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.backends import cudnn

from upscale_cli import device as devices
from upscale_cli.engines import Ensemble, open_engine
from upscale_cli.engines import cuda as cuda_engine
from upscale_cli.engines.cuda import EAGER_RUNS, Card, CudaEngine, Pair, Replay, Replays
from upscale_cli.errors import DeviceLostError, NonFiniteOutputError, OutOfMemoryError
from upscale_cli.media.frame import Frame
from upscale_cli.model import Model, load_model
from upscale_cli.pipeline import Upscaler
from upscale_cli.zoo import find

SMALL = "lightweight-x2"
NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory.")


class SlowCard(Card):
    """The CPU as a device whose copies back end when they are waited for, as late as any may.

    `broken` is raised by the next capture, `drift` is what a replay adds; graphs run what was captured.
    """

    def __init__(self) -> None:
        self.captured: list[torch.Size] = []
        self.beside: list[Replay | None] = []
        self.replayed = self.waits = 0
        self.broken: Exception | None = None
        self.full = False
        self.drift = 0.0
        self._under_way: list[Callable[[], None]] = []

    def memory(self, size: int) -> Pair:
        if self.full:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return Pair(*(torch.full((size,), 0xAB, dtype=torch.uint8) for _ in range(2)))

    def upload(self, pair: Pair) -> None:
        assert len(self._under_way) < CudaEngine.in_flight, "what is written to may still be read"
        pair.there.copy_(pair.here)

    def computing(self) -> AbstractContextManager[object]:
        return nullcontext()

    def download(self, pairs: Sequence[Pair]) -> Callable[[], None]:
        def end() -> None:
            if end in self._under_way:
                self._under_way.remove(end)
                with torch.inference_mode():
                    for pair in pairs:
                        pair.here.copy_(pair.there)

        self._under_way.append(end)
        return end

    def capture(self, network: Callable[[Tensor], Tensor], like: Tensor, *, beside: Replay | None) -> Replay:
        if self.broken:
            raise self.broken
        self.captured.append(like.shape)
        self.beside.append(beside)
        lr, sr = torch.empty_like(like), torch.empty_like(network(like))

        def replay() -> None:
            self.replayed += 1
            sr.copy_(network(lr) + self.drift)

        return Replay(cast(torch.cuda.CUDAGraph, SimpleNamespace(replay=replay)), lr, sr)

    def wait(self) -> None:
        self.waits += 1
        for end in tuple(self._under_way):
            end()


@pytest.fixture
def card() -> SlowCard:
    return SlowCard()


def engine_on(card: Card, precision: str = "fp32") -> CudaEngine:
    return CudaEngine(load_model(SMALL, device="cpu", precision=precision), card=card)


def tiles_of(spices: np.ndarray, count: int, *, side: int = 24) -> list[np.ndarray]:
    return [spices[None, 8 * n : 8 * n + side, 100 : 104 + side] for n in range(count)]


def drain(engine: CudaEngine, tiles: Sequence[np.ndarray]) -> list[np.ndarray]:
    """All of them as the pipeline asks: `in_flight` submitted, one asked for; the pictures at the time of asking."""
    waiting, found = [], []
    for tile in tiles:
        waiting.append(engine.submit(tile))
        if len(waiting) == engine.in_flight:
            found.append(waiting.pop(0)().copy())
    return found + [asked().copy() for asked in waiting]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "kind", [lambda rgb: rgb, lambda rgb: rgb.astype(np.uint16) * 257, lambda rgb: (rgb / 255).astype(np.float32)]
)
def test_every_kind_of_tile_gives_the_eager_picture(
    precision: str, kind: Callable[[np.ndarray], np.ndarray], spices: np.ndarray, card: SlowCard
) -> None:
    tiles = kind(np.stack([spices[:20, :30], spices[300:320, 400:430]]))
    expected = open_engine(SMALL, device="cpu", precision=precision, backend="torch").infer(tiles)
    found = [engine_on(card, precision).infer(tiles), *drain(engine_on(card, precision), [tiles] * 5)]
    assert all(picture.dtype == np.float32 for picture in found)
    for picture in found:
        np.testing.assert_allclose(picture, expected, atol=1e-6)


def test_pictures_stay_until_as_many_more_are_submitted(spices: np.ndarray, card: SlowCard) -> None:
    engine = engine_on(card)
    tiles = tiles_of(spices, 8)
    expected = [engine.infer(tile) for tile in tiles]
    for tile, picture in zip(tiles, drain(engine, tiles), strict=True):
        np.testing.assert_array_equal(picture, engine.infer(tile))
    first = engine.submit(tiles[0])()
    for tile in tiles[1 : engine.in_flight]:
        engine.submit(tile)()
        np.testing.assert_array_equal(first, expected[0])


@pytest.mark.parametrize("tile_px", [0, 40])
def test_frames_of_a_film_share_batches_and_memory(tile_px: int, spices: np.ndarray, card: SlowCard) -> None:
    frames = [Frame(np.ascontiguousarray(spices[4 * n : 4 * n + 48, 100:164])) for n in range(8)]
    upscaler = Upscaler([engine_on(card)], tile_px=tile_px, batch=3)
    alone = Upscaler([open_engine(SMALL, device="cpu", precision="fp32", backend="torch")], tile_px=tile_px)
    for index, frame in enumerate(frames):
        coming = frames[index + 1 : index + 1 + upscaler.ahead(frame, 96, 128)]
        made = np.concatenate([strip.color for strip in upscaler.strips(frame, 96, 128, coming=coming)])
        assert np.abs(made.astype(int) - alone.enlarge(frame, 96, 128).color).max() <= 1
    assert card.captured == ([torch.Size((3, 3, 40, 40))] if tile_px else []), "most batches are of one shape"


def test_shapes_may_change_between_submissions(spices: np.ndarray, card: SlowCard) -> None:
    engine, eager = engine_on(card), open_engine(SMALL, device="cpu", precision="fp32", backend="torch")
    tiles = [tile for side in (16, 40, 24) for tile in tiles_of(spices, 4, side=side)]
    mixed = [tiles[index % 3 * 4 + index // 3] for index in range(len(tiles))]
    deep = [tile.astype(np.uint16) * 257 if index % 2 else tile for index, tile in enumerate(mixed)]
    for tile, picture in zip(deep, drain(engine, deep), strict=True):
        np.testing.assert_allclose(picture, eager.infer(tile), atol=1e-6)


def test_what_nobody_asked_for_is_lost_and_the_next_are_right(spices: np.ndarray, card: SlowCard) -> None:
    engine = engine_on(card)
    tiles = tiles_of(spices, 7)
    for tile in tiles[:4]:
        engine.submit(tile)
    expected = open_engine(SMALL, device="cpu", precision="fp32", backend="torch").infer(tiles[6])
    np.testing.assert_allclose(drain(engine, tiles[4:])[2], expected, atol=1e-6)


def test_a_shape_is_captured_once_it_has_come_often(spices: np.ndarray, card: SlowCard) -> None:
    engine = engine_on(card)
    tile = tiles_of(spices, 1)[0]
    for run in range(1, EAGER_RUNS + 4):
        engine.infer(tile)
        assert card.captured == [torch.Size((1, 3, 24, 28))] * (run >= EAGER_RUNS)
        assert card.replayed == max(0, run - EAGER_RUNS + 1), "once to be proved, then for every tile"
    engine.infer(tile.astype(np.uint16) * 257)
    assert len(card.captured) == 1, "what it enters the network as has one type"
    assert engine.remark == ""


def test_graphs_share_memory_and_the_oldest_goes(
    spices: np.ndarray, card: SlowCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_engine, "_MOST_SHAPES", 2)
    engine = engine_on(card)

    def come(side: int) -> None:
        drain(engine, tiles_of(spices, EAGER_RUNS, side=side))

    come(16)
    come(20)
    assert card.beside[0] is None
    assert cast(Replay, card.beside[1]).lr.shape[-2:] == (16, 20)
    assert card.waits == 0
    come(16)
    assert len(card.captured) == 2
    come(28)  # in the place of 20
    assert card.waits == 1, "before a graph is thrown away nothing may run"
    assert cast(Replay, card.beside[2]).lr.shape[-2:] == (16, 20)
    come(16)
    assert len(card.captured) == 3
    come(20)
    assert len(card.captured) == 4


def test_shapes_that_come_once_cost_nothing(spices: np.ndarray, card: SlowCard) -> None:
    engine = engine_on(card)
    for side in range(8, 40):
        engine.infer(tiles_of(spices, 1, side=side)[0])
    assert (card.captured, card.waits) == ([], 0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_replay_that_differs_is_not_used(precision: str, spices: np.ndarray, card: SlowCard) -> None:
    card.drift = 0.01
    engine = engine_on(card, precision)
    tiles = tiles_of(spices, 6)
    eager = open_engine(SMALL, device="cpu", precision=precision, backend="torch")
    for tile, picture in zip(tiles, drain(engine, tiles), strict=True):
        np.testing.assert_allclose(picture, eager.infer(tile), atol=1e-6)
    assert engine.remark == "CUDA graphs are off, which may be slower: a replay was 0.01 off"
    drain(engine, tiles_of(spices, 6, side=32))
    assert (len(card.captured), card.replayed) == (1, 1), "nothing more is captured"


def test_a_network_that_cannot_be_captured_runs_eagerly(spices: np.ndarray, card: SlowCard) -> None:
    engine, eager = engine_on(card), open_engine(SMALL, device="cpu", precision="fp32", backend="torch")
    tiles = tiles_of(spices, 6)
    drain(engine, tiles_of(spices, 6, side=32))  # proved before, and no longer trusted
    card.broken = RuntimeError("CUDA error: operation not permitted when stream is capturing\nCompile with ...")
    for tile, picture in zip(tiles, drain(engine, tiles), strict=True):
        np.testing.assert_allclose(picture, eager.infer(tile), atol=1e-6)
    assert engine.remark.endswith("may be slower: CUDA error: operation not permitted when stream is capturing")
    assert Ensemble([engine]).remark == engine.remark
    replayed = card.replayed
    drain(engine, tiles_of(spices, 2, side=32))
    assert card.replayed == replayed


def test_the_picture_says_once_why_it_may_be_slow(spices: np.ndarray, card: SlowCard) -> None:
    card.drift = 0.5
    upscaler = Upscaler([engine_on(card)], tile_px=48, batch=1)
    frame = Frame(spices[:120, :160])
    expected = Upscaler([open_engine(SMALL, device="cpu", precision="fp32", backend="torch")], tile_px=48)
    found = upscaler.enlarge(frame, 240, 320).color
    np.testing.assert_array_equal(found, expected.enlarge(frame, 240, 320).color)
    assert upscaler.effort.notes == ("CUDA graphs are off, which may be slower: a replay was 0.5 off",)
    upscaler.enlarge(frame, 240, 320)
    assert upscaler.effort.notes == ()


@pytest.mark.parametrize("within", [False, True])
def test_memory_that_ends_while_capturing_is_told_and_graphs_go(
    within: bool, spices: np.ndarray, card: SlowCard
) -> None:
    engine = engine_on(card)
    drain(engine, tiles_of(spices, 4, side=16))
    card.broken = NO_MEMORY
    if within:  # as where the end of a capture fails because of it
        card.broken = RuntimeError("operation failed due to a previous error during capture")
        card.broken.__context__ = NO_MEMORY
    with pytest.raises(OutOfMemoryError, match="has no memory for 24 x 28 pixels"):
        drain(engine, tiles_of(spices, EAGER_RUNS))
    card.broken = None
    assert (engine.remark, card.waits) == ("", 1)
    replayed = card.replayed
    drain(engine, tiles_of(spices, 1, side=16))
    assert card.replayed == replayed, "its graph was given back"


def test_smaller_tiles_follow_where_memory_ends(
    spices: np.ndarray, card: SlowCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_on(card)
    run = Model.raw

    def little(model: Model, lr: Tensor) -> Tensor:
        if lr.shape[-2] * lr.shape[-1] > 60 * 60:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return run(model, lr)

    monkeypatch.setattr(Model, "raw", little)
    upscaler = Upscaler([CudaEngine(engine.model, card=card)], tile_px=100)
    found = upscaler.enlarge_rgb8(spices[:120, :160])
    assert upscaler.effort.restarts == 1
    monkeypatch.undo()
    expected = Upscaler([engine], tile_px=50).enlarge_rgb8(spices[:120, :160])
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_no_room_for_the_batch_itself_is_told(spices: np.ndarray, card: SlowCard) -> None:
    card.full = True
    with pytest.raises(OutOfMemoryError):
        engine_on(card).submit(tiles_of(spices, 1)[0])


def test_nan_is_seen_with_the_picture_and_not_before(spices: np.ndarray, card: SlowCard) -> None:
    model = load_model(SMALL, device="cpu", precision="fp32")
    run = model.module.forward

    def forward(lr: Tensor) -> Tensor:
        sr = run(lr)
        return torch.where(lr.mean() > 0.9, torch.inf, 1) * sr

    model.module.forward = forward
    engine = CudaEngine(model, card=card)
    good, bad = tiles_of(spices, 1)[0], np.full((1, 24, 28, 3), 255, np.uint8)
    for _ in range(2):  # eager, then captured
        first, broken, last = engine.submit(good), engine.submit(bad), engine.submit(good)
        np.testing.assert_array_equal(first(), engine_on(card).infer(good))
        with pytest.raises(NonFiniteOutputError, match="gave NaN or infinity in fp32"):
            broken()
        np.testing.assert_array_equal(last(), first())
    assert engine.remark == ""


def test_nan_proves_nothing_against_a_graph(card: SlowCard) -> None:
    network = Replays(lambda lr: lr / 0, card, "fp32")
    with torch.inference_mode():
        for _ in range(EAGER_RUNS + 1):
            network(torch.zeros(1, 3, 4, 4))
    assert (len(card.captured), network.remark) == (1, "")


def test_a_lost_device_is_told_when_the_picture_is_asked_for(
    spices: np.ndarray, card: SlowCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fall_off() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might ...")

    monkeypatch.setattr(devices, "is_lost", lambda _: True)
    monkeypatch.setattr(card, "download", lambda _: fall_off)
    engine = engine_on(card)
    asked = engine.submit(tiles_of(spices, 1)[0])
    with pytest.raises(DeviceLostError, match=r"works no more: CUDA error: an illegal memory access was encountered$"):
        asked()
    monkeypatch.setattr(card, "wait", fall_off)
    with pytest.raises(DeviceLostError):
        drain(engine, tiles_of(spices, 4))


def test_fp32_means_it_and_half_precision_keeps_its_tensor_cores(card: SlowCard) -> None:
    seen = []

    def network(lr: Tensor) -> Tensor:
        seen.append((cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32))
        return lr

    before = (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32)
    for precision, tf32 in (("fp32", False), ("fp16", True), ("bf16", True)):
        with torch.inference_mode():
            Replays(network, card, precision)(torch.zeros(1, 3, 4, 4))
        assert seen.pop() == (True, False, True, tf32)
    assert before == (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32)


def test_the_twin_in_fp32_is_of_the_same_card(spices: np.ndarray, card: SlowCard) -> None:
    tile = tiles_of(spices, 1)[0]
    half = engine_on(card, "bf16")
    under_way = half.submit(tile)
    wide = half.in_precision("fp32")
    assert (wide.precision, wide.backend, wide.in_flight) == ("fp32", "torch", half.in_flight)
    np.testing.assert_array_equal(wide.infer(tile), engine_on(card).infer(tile))
    assert np.abs(under_way() - wide.infer(tile)).max() < 0.02


def test_tiles_are_such_that_no_tensor_is_too_large_to_count(card: SlowCard) -> None:
    sides = {}
    for name in ("lightweight/x2", "edsr/x4", "edsr-large/x4", "rrdb/x8", "improved/x8"):
        variant = find(name)
        # The weights are nothing to this: a network of the same shape is not built.
        model = SimpleNamespace(
            name=name, variant=variant, device=torch.device("cpu"), precision="fp16", raw=lambda lr: lr
        )
        engine = CudaEngine(cast(Model, model), card=card)
        sides[name] = engine.tile_px
        assert (engine.tile_bytes(100, 200) == 2 * engine.tile_bytes(100, 100)) is (name != "rrdb/x8")  # by bands
    assert sides["lightweight/x2"] == sides["edsr/x4"] == sides["edsr-large/x4"] == sides["rrdb/x8"] == 1024
    assert 512 <= sides["improved/x8"] < 724, "64 channels at 8 x 8 times the pixels are less than 2^31"
