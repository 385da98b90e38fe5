"""Tiles of several frames in one batch: fewer and fuller batches, sent ahead, and every picture as if it went alone."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from clips import pan
from nearest_engine import NearestEngine, nearest
from PIL import Image

from upscale_cli.engines.interface import Floats, Tiles
from upscale_cli.enlarge import Upscaler
from upscale_cli.errors import InferenceError, OutOfMemoryError
from upscale_cli.media.frame import Frame


class Card(NearestEngine):
    """A graphics card, which works when asked, and has memory for as many batches as are in flight: the next one takes
    the place of the oldest, asked for or not.
    """

    def __init__(self, *, in_flight: int = 1, **settings: object) -> None:
        super().__init__(device="cuda", **settings)  # type: ignore[arg-type]
        self.in_flight = in_flight
        self.under_way: list[int] = []
        """Batches submitted and not asked for, whenever one is asked for."""
        self._waiting = 0
        self._slots = deque(SimpleNamespace(lr=None, sr=None) for _ in range(in_flight))

    def submit(self, tiles: Tiles) -> Callable[[], Floats]:
        slot = self._slots[0]
        self._slots.rotate(-1)
        if slot.sr is not None and self.in_flight > 1:
            slot.sr.fill(np.nan)
        slot.lr = tiles
        self._waiting += 1
        return partial(self._ask, slot)

    def _ask(self, slot: SimpleNamespace) -> Floats:
        self.under_way.append(self._waiting)
        self._waiting -= 1
        slot.sr = self.infer(slot.lr)
        return slot.sr

    def in_precision(self, precision: str) -> NearestEngine:
        return super().in_precision(precision) if precision != self.precision else Card(in_flight=self.in_flight)


def film(upscaler: Upscaler, frames: Sequence[Frame], *, static: float | None = None, ahead: int = 999) -> list[Frame]:
    """Every frame, told of as many as it wishes to be, or of `ahead`."""
    upscaler.begin(static)
    made = []
    for index, frame in enumerate(frames):
        size = frame.height * upscaler.scale, frame.width * upscaler.scale
        coming = frames[index + 1 :][: min(ahead, upscaler.ahead(frame, *size))]
        strips = list(upscaler.strips(frame, *size, coming=coming))
        alpha = None if frame.alpha is None else np.concatenate([strip.alpha for strip in strips])
        made.append(Frame(np.concatenate([strip.color for strip in strips]), alpha))
    return made


def frames_of(count: int, size: tuple[int, int] = (48, 32)) -> list[Frame]:
    return [Frame(pixels) for pixels in pan(count, size)]


def assert_same(made: Sequence[Frame], frames: Sequence[Frame], scale: int = 2) -> None:
    for picture, frame in zip(made, frames, strict=True):
        np.testing.assert_array_equal(picture.color, nearest(frame.color, scale))


@pytest.mark.parametrize("in_flight", [1, 2, 3])
@pytest.mark.parametrize(("count", "batch"), [(10, 4), (8, 4), (3, 4), (1, 4), (5, 1)])
def test_frames_of_one_tile_fill_batches(count: int, batch: int, in_flight: int) -> None:
    frames, engine = frames_of(count), Card(in_flight=in_flight)
    upscaler = Upscaler([engine], batch=batch)
    assert_same(film(upscaler, frames), frames)
    assert [shape[0] for shape in engine.shapes] == [batch] * (count // batch) + [count % batch] * (count % batch > 0)
    calls = len(engine.shapes)
    assert engine.under_way == [min(in_flight, calls - call) for call in range(calls)]


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("batch", [4, 5, 11, 100])
def test_a_batch_goes_on_where_a_frame_of_several_tiles_ends(batch: int, in_flight: int) -> None:
    frames, engine = frames_of(7, (96, 64)), Card(in_flight=in_flight)
    upscaler = Upscaler([engine], tile_px=40, batch=batch)
    tiles = 7 * upscaler.cost(64, 96).tiles
    assert_same(film(upscaler, frames), frames)
    assert tiles == 7 * 8
    assert [shape[0] for shape in engine.shapes] == [batch] * (tiles // batch) + [tiles % batch] * (tiles % batch > 0)
    assert upscaler.effort.tiles == 8


def test_the_card_is_busy_across_frames_though_each_is_a_batch_of_its_own() -> None:
    frames, engine = frames_of(6, (96, 64)), Card(in_flight=2)
    assert_same(film(Upscaler([engine], tile_px=40, batch=8), frames), frames)
    assert engine.under_way == [2] * 5 + [1]


def test_a_processor_looks_at_no_frame_before_its_time_unless_told_to_or_idle_between_frames() -> None:
    engine = NearestEngine()
    frame = frames_of(1)[0]
    assert Upscaler([engine]).ahead(frame, 64, 96) == 0
    engine.in_flight = 2
    assert Upscaler([engine], tile_px=40).ahead(frame, 64, 96) == 0, "it has several tiles"
    assert Upscaler([engine]).ahead(frame, 64, 96) == 1
    assert Upscaler([engine], batch=4).ahead(frame, 64, 96) == 7
    assert Upscaler([Card()], strength=0).ahead(frame, 64, 96) == 0, "without the network"
    assert Upscaler([Card()]).ahead(frame, 32, 48) == 0


def test_as_many_frames_are_wished_for_as_fill_what_is_in_flight() -> None:
    def ahead(upscaler: Upscaler, height: int, width: int) -> int:
        return upscaler.ahead(Frame(np.zeros((height, width, 3), np.uint8)), 2 * height, 2 * width)

    assert ahead(Upscaler([Card()]), 360, 640) == 3, "four of them are one tile of the best size"
    assert ahead(Upscaler([Card(in_flight=3)]), 360, 640) == 11
    assert ahead(Upscaler([Card(in_flight=3)]), 1080, 1920) == 1
    assert ahead(Upscaler([Card()]), 2160, 3840) == 0
    assert ahead(Upscaler([Card(in_flight=3)]), 8, 8) == 47


@pytest.mark.parametrize("told", [1, 2, 3])
def test_told_of_less_than_a_batch_takes_it_is_as_right(told: int) -> None:
    frames, engine = frames_of(9), Card(in_flight=2)
    assert_same(film(Upscaler([engine], batch=8), frames, ahead=told), frames)
    assert max(shape[0] for shape in engine.shapes) == told + 1


def test_frames_of_another_size_or_depth_begin_a_batch() -> None:
    frames = [*frames_of(3), *frames_of(2, (40, 32)), Frame(frames_of(1)[0].color.astype(np.uint16) * 257)]
    engine = Card(in_flight=2)
    assert_same(film(Upscaler([engine], batch=4), frames), frames)
    assert [shape[0] for shape in engine.shapes] == [3, 2, 1]


@pytest.mark.parametrize("static", [None, 0.0])
def test_what_was_said_to_come_and_does_not_is_forgotten(static: float | None) -> None:
    first, second, third, fourth = frames_of(4)
    upscaler = Upscaler([Card(in_flight=2)], batch=2)
    upscaler.begin(static)
    made = [
        upscaler.enlarge(first, 64, 96),
        *upscaler.strips(second, 64, 96, coming=[third, fourth]),
        *upscaler.strips(fourth, 64, 96, coming=[third]),
        *upscaler.strips(third, 64, 96),
    ]
    assert_same(made, [first, second, fourth, third])


@pytest.mark.parametrize("kind", ["grey", "deep", "clear"])
def test_grey_16_bits_and_transparency_go_together_too(kind: str) -> None:
    rng = np.random.default_rng(1)
    frames = frames_of(6)
    if kind == "grey":
        frames = [Frame(frame.color[..., :1]) for frame in frames]
    if kind == "deep":
        frames = [Frame(frame.color.astype(np.uint16) * 256 + 77) for frame in frames]
    if kind == "clear":
        frames = [Frame(frame.color, rng.choice([0, 255], (32, 48)).astype(np.uint8)) for frame in frames]
    engine = Card(in_flight=2)
    alone = film(Upscaler([NearestEngine()]), frames)
    for picture, expected in zip(film(Upscaler([engine], batch=4), frames), alone, strict=True):
        np.testing.assert_array_equal(picture.color, expected.color)
        assert kind != "clear" or (picture.alpha == expected.alpha).all()  # type: ignore[union-attr]
    assert len(engine.shapes) == 2


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_with_a_style_before_and_a_network_behind(strength: float) -> None:
    frames = frames_of(6)

    def upscaler(engines: list[NearestEngine]) -> Upscaler:
        style, *networks = engines
        return Upscaler(networks, style=style, strength=strength, batch=4)

    style, first = Card(scale=1, in_flight=2), Card(in_flight=2)
    alone = film(upscaler([NearestEngine(1), NearestEngine(), NearestEngine()]), frames)
    made = film(upscaler([style, first, Card(in_flight=3)]), frames)
    for picture, expected in zip(made, alone, strict=True):
        np.testing.assert_array_equal(picture.color, expected.color)
    assert len(style.shapes) == 2, "the first of them sees what comes"
    assert len(first.shapes) == 6


def test_a_network_twice_in_a_row_does_not_overwrite_what_it_has_under_way() -> None:
    """As x2 twice makes x4: one is asked for strips while it has tiles ahead in the card."""
    with Image.open("benchmarks/photos/spices.jpg") as image:
        frame = Frame(np.asarray(image.convert("RGB").crop((0, 0, 200, 150))).astype(np.uint16) * 257)
    engine = Card(in_flight=3)
    made = Upscaler([engine, engine], tile_px=64, batch=1).enlarge(frame, 600, 800)
    assert_same([made], [frame], 4)


# --- what stands still -------------------------------------------------------------------------------------------


def still(count: int, size: tuple[int, int] = (96, 64)) -> list[Frame]:
    """Frames of which only one corner changes, every second time."""
    frames = [pan(1, size)[0].copy() for _ in range(count)]
    for index, frame in enumerate(frames):
        frame[:8, :8] = index // 2
    return [Frame(frame) for frame in frames]


@pytest.mark.parametrize("in_flight", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 3, 20])
def test_what_stands_still_is_inferred_once_though_it_is_still_under_way(batch: int, in_flight: int) -> None:
    frames, engine = still(8), Card(in_flight=in_flight)
    upscaler = Upscaler([engine], tile_px=40, batch=batch)
    tiles = upscaler.cost(64, 96).tiles
    assert_same(film(upscaler, frames, static=0.0), frames)
    assert sum(shape[0] for shape in engine.shapes) == tiles + 3, "all of the first, one of every second"
    assert (upscaler.effort.tiles, upscaler.effort.reused) == (tiles, tiles)


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("batch", [1, 2, 4, 16])
def test_a_drift_is_seen_at_the_same_frames_in_any_company(batch: int, in_flight: int) -> None:
    frames = [Frame(np.full((32, 32, 3), 100 + index, np.uint8)) for index in range(8)]
    engine = Card(in_flight=in_flight)
    made = film(Upscaler([engine], batch=batch), frames, static=2.0)
    assert [picture.color[0, 0, 0] for picture in made] == [100, 100, 100, 103, 103, 103, 106, 106]
    assert sum(shape[0] for shape in engine.shapes) == 3


# --- trouble -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("static", [None, 0.0])
@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_out_of_memory_halves_what_goes_together_and_no_frame_is_lost(fails_at: int, static: float | None) -> None:
    calls = [0]

    def fail_once(_: np.ndarray) -> None:
        calls[0] += 1
        if calls[0] == fails_at:
            raise OutOfMemoryError("another program took it")

    frames = still(12, (48, 32))
    engine = Card(in_flight=3, before=fail_once)
    upscaler = Upscaler([engine], batch=4)
    assert_same(film(upscaler, frames, static=static), frames)
    assert {shape[0] for shape in engine.shapes[fails_at - 1 :]} <= {1, 2}
    assert upscaler.effort.tile_px == 48, "the batch is halved, not the tile"


def test_memory_for_one_tile_only_is_found_out_and_remembered() -> None:
    frames, engine = frames_of(9), Card(in_flight=2, most_pixels=48 * 32)
    upscaler = Upscaler([engine], batch=8)
    assert_same(film(upscaler, frames), frames)
    assert [shape[0] for shape in engine.shapes] == [8, 4, 2] + [1] * 9


@pytest.mark.parametrize("trouble", ["broken", "black"])
def test_a_bad_frame_is_redone_in_fp32_and_those_that_went_with_it_are_not(trouble: str) -> None:
    frames = frames_of(8)
    frames[5].color[0, 0] = 255

    def bad(tiles: np.ndarray) -> bool:
        return bool((tiles[:, 0, 0] == 1).all(-1).any())

    engine = Card(in_flight=2, precision="fp16", **{trouble: bad})
    upscaler, redone = Upscaler([engine], batch=4), []
    upscaler.begin(None)
    for index, frame in enumerate(frames):
        made = upscaler.strips(frame, 64, 96, coming=frames[index + 1 : index + 8])
        assert_same(list(made), [frame])
        redone.append(upscaler.effort.redone)
    assert redone == [0, 0, 0, 0, 0, 1, 0, 0]
    assert [shape[0] for shape in engine.shapes] == [4, 4, 1, 1, 1, 1], "who it is shows when they go apart"


def test_a_frame_that_nothing_comes_of_leaves_the_next_film_unharmed() -> None:
    frames = frames_of(8)
    frames[4].color[0, 0] = 255
    engine = Card(in_flight=3, broken=lambda tiles: bool((tiles[:, 0, 0] == 1).all(-1).any()), always=True)
    upscaler = Upscaler([engine], batch=3)
    with pytest.raises(InferenceError, match="no usable picture"):
        film(upscaler, frames)
    assert_same(film(upscaler, frames[:4]), frames[:4])


@pytest.mark.parametrize("in_flight", [1, 2, 3])
@pytest.mark.parametrize("static", [None, 0.0])
def test_of_a_bad_batch_only_its_frame_is_harmed_in_whatever_place(static: float | None, in_flight: int) -> None:
    """Every tile that was under way comes out, in its order, and is remembered where it stands still."""
    for spoilt in range(6):
        frames = still(6)
        frames[spoilt].color[20, 30] = 255

        def bad(tiles: np.ndarray) -> bool:
            return bool((tiles == 1).all(-1).any())

        engine = Card(in_flight=in_flight, precision="fp16", broken=bad)
        upscaler = Upscaler([engine], tile_px=40, batch=5)
        assert_same(film(upscaler, frames, static=static), frames)
        assert [twin.precision for twin in engine.made] == ["fp32"]


def test_an_enlargement_that_is_left_keeps_nothing() -> None:
    frames, engine = frames_of(4, (96, 64)), Card(in_flight=2)
    upscaler = Upscaler([engine], tile_px=40, batch=3)
    strips = upscaler.strips(frames[0], 128, 192, coming=frames[1:])
    next(strips)
    strips.close()
    assert_same(film(upscaler, frames), frames)
