"""process() where frames go through the network together: by their numbers alone, in bounded memory, to a clean end."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clips import clip, packets_of, pan
from command import names, place  # noqa: F401  one is a fixture
from nearest_engine import NearestEngine, nearest
from photo_jobs import threads, write_picture
from test_batches import Card

from upscale_cli.engines.interface import Floats, Tiles
from upscale_cli.enlarge import Upscaler
from upscale_cli.lane import WAITING
from upscale_cli.media.frame import Frame
from upscale_cli.media.job import Job, PictureOptions
from upscale_cli.media.video.options import VideoOptions
from upscale_cli.media.video.source import VideoSource
from upscale_cli.networks import find_networks
from upscale_cli.pipeline import JobResult, process
from upscale_cli.request import NetworkOptions
from upscale_cli.worker import Networks

SIZE = (48, 32)
FRAME_BYTES = 48 * 32 * 3


class Sociable(Card):
    """Its pictures depend a little on what goes along, as those of a card do in the last bit."""

    def infer(self, tiles: Tiles) -> Floats:
        return np.clip(super().infer(tiles) + np.float32(len(tiles) / 255), 0, 1)


def film(count: int, name: str = "in.mkv") -> Path:
    times = [index * 512 for index in range(count)]
    return clip(Path(name), pan(count, SIZE), times=times, codec="ffv1", pix_fmt="bgr0")


def job(source: Path, target: str) -> Job:
    return Job(source, Path(target), "PNG" if target.endswith("png") else "MATROSKA", 64, 96, "key")


def jobs_of(*sources: Path) -> list[Job]:
    return [job(source, f"out-{source.stem}.mkv") for source in sources]


def options_of(part: int, **video: float) -> PictureOptions:
    options = VideoOptions(part_frames=part, codec="ffv1", pix_fmt="bgr0", **video)  # type: ignore[arg-type]
    return PictureOptions(video=options)


def made(jobs: list[Job], engine: NearestEngine, *, part: int = 100, batch: int | None = 4) -> list[JobResult]:
    return list(process(jobs, Upscaler([engine], batch=batch), options_of(part)))


def batches(engine: NearestEngine) -> list[int]:
    return [shape[0] for shape in engine.shapes]


def right(path: str, count: int) -> None:
    with VideoSource(Path(path), VideoOptions(), max_pixels=1_000_000) as source:
        for picture, pixels in zip(source.frames(), pan(count, SIZE), strict=True):
            np.testing.assert_array_equal(picture.color, nearest(pixels, 2))


@pytest.mark.parametrize("in_flight", [1, 2, 3])
@pytest.mark.parametrize(
    ("count", "part", "expected"),
    [(10, 100, [4, 4, 2]), (3, 100, [3]), (1, 100, [1]), (10, 5, [4, 1, 4, 1]), (9, 4, [4, 4, 1]), (5, 1, [1] * 5)],
)
def test_frames_of_a_part_go_together_and_no_others(count: int, part: int, expected: list[int], in_flight: int) -> None:
    engine = Card(in_flight=in_flight)
    (result,) = made([job(film(count), "out.mkv")], engine, part=part)
    assert (result.error, result.frames) == (None, count)
    assert batches(engine) == expected
    right("out.mkv", count)
    assert threads() == []


def test_films_one_after_another_do_not_mix() -> None:
    engine = Card(in_flight=3)
    counts = {"a": 6, "b": 2, "c": 5}
    results = made(jobs_of(*(film(count, f"{name}.mkv") for name, count in counts.items())), engine)
    assert [(result.error, result.frames) for result in results] == [(None, count) for count in counts.values()]
    assert batches(engine) == [4, 2, 2, 4, 1]
    for name, count in counts.items():
        right(f"out-{name}.mkv", count)


@pytest.mark.parametrize("stop", [5, 9, 14])
@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_film_that_goes_on_is_the_one_made_in_one_go_to_the_last_bit(stop: int, in_flight: int) -> None:
    source = film(22)
    (straight,) = made([job(source, "straight.mkv")], Sociable(in_flight=in_flight), part=7, batch=3)

    def power_cut(_: np.ndarray) -> None:
        if len(engine.shapes) * 3 >= stop:
            raise ValueError("a power cut")

    engine = Sociable(in_flight=in_flight, before=power_cut)
    (broken,) = made([job(source, "out.mkv")], engine, part=7, batch=3)
    assert "a power cut" in str(broken.error)
    left = len(list(Path(".out.mkv.parts").glob("*.json")))
    (whole,) = made([job(source, "out.mkv")], engine := Sociable(in_flight=in_flight), part=7, batch=3)
    assert sum(batches(engine)) == 22 - 7 * left
    assert left >= stop // 7 - 1
    assert (straight.error, whole.error, whole.frames) == (None, None, 22)
    assert packets_of(Path("straight.mkv"), "video") == packets_of(Path("out.mkv"), "video")


@pytest.mark.parametrize("slow", ["reader", "network"])
def test_who_is_slow_decides_nothing(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = VideoSource.frames

    def slowly(self: VideoSource) -> Iterator[Frame]:
        for frame in frames(self):
            time.sleep(0.01)
            yield frame

    if slow == "reader":
        monkeypatch.setattr(VideoSource, "frames", slowly)
    pause = (lambda _: time.sleep(0.02)) if slow == "network" else lambda _: None
    engine = Card(in_flight=2, before=pause)
    made([job(film(9), "out.mkv")], engine)
    assert batches(engine) == [4, 4, 1]


def test_numbered_pictures_go_alone_since_a_run_may_go_on_after_any(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("out").mkdir()
    engine, source = Card(in_flight=2), film(5)
    made([job(source, "out/%02d.png")], engine)
    assert batches(engine) == [1] * 5
    Path("still").mkdir()
    engine = Card(in_flight=2)
    (result,) = process([job(source, "still/%02d.png")], Upscaler([engine], batch=4), options_of(4, skip_static=1.0))
    assert result.error is None
    assert batches(engine) == [4, 1], "where frames remember others, a run goes on at parts"


def test_frames_of_an_animation_go_together_and_pages_do_not() -> None:
    frames = [Frame(pixels, seconds=0.1) for pixels in pan(5, SIZE)]
    for name, format, expected in (("a.png", "PNG", [4, 1]), ("b.tif", "TIFF", [1] * 5)):
        engine = Card(in_flight=2)
        source = write_picture(Path(name), frames, format)
        (result,) = made([Job(source, Path(f"out-{name}"), format, 64, 96)], engine)
        assert (result.error, result.frames, batches(engine)) == (None, 5, expected)


def test_keyframes_go_through_another_network_meanwhile() -> None:
    light, strong = Card(in_flight=2), Card(in_flight=2)
    options = options_of(100, keyframe_every=3)
    upscalers = Upscaler([light], batch=4), Upscaler([strong], batch=4)
    (result,) = process([job(film(10), "out.mkv")], upscalers[0], options, strong=upscalers[1])
    assert result.error is None
    assert batches(light) == [4, 4, 2]
    assert set(batches(strong)) == {1}
    right("out.mkv", 10)


def test_a_network_that_is_light_and_strong_at_once_has_two_engines() -> None:
    opened: list[Card] = []

    def opener(*_: object, **__: object) -> Card:
        opened.append(Card(in_flight=len(opened) + 1))
        return opened[-1]

    first, second, *_ = find_networks("lightweight")
    networks = Networks(NetworkOptions(), opener)
    light, strong = networks.upscaler([first, second]), networks.upscaler([second, first], beside=[first, second])
    assert len(opened) == 2, "each is loaded once"
    assert [stage.engine for stage in light._networks] == opened
    assert strong._networks[1].engine is opened[0], "which has nothing under way when another is asked"
    assert strong._networks[0].engine is not opened[1]


# --- memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("room", "expected"), [(1, [1] * 9), (3, [2, 2, 2, 2, 1]), (4, [3, 3, 3]), (99, [4, 4, 1])])
def test_no_more_frames_are_kept_than_there_is_room_for(
    room: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for one frame alone, or for as many beside the two that are on their way."""
    monkeypatch.setattr("upscale_cli.lane.WAITING_BYTES", room * FRAME_BYTES + 5)
    engine = Card(in_flight=1)
    (result,) = made([job(film(9), "out.mkv")], engine)
    assert (result.error, batches(engine)) == (None, expected)
    right("out.mkv", 9)


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("room", [1, 2, 3, 5, 8])
def test_whatever_the_room_a_film_and_what_comes_after_it_come_through(
    room: int, in_flight: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upscale_cli.lane.WAITING_BYTES", room * FRAME_BYTES)
    sources = [film(7, "a.mkv"), write_picture(Path("b.png"), [Frame(pan(1, (320, 200))[0])], "PNG"), film(3, "c.mkv")]
    jobs = jobs_of(*sources)
    jobs[1] = Job(sources[1], Path("out-b.png"), "PNG", 400, 640)
    results = made(jobs, Card(in_flight=in_flight), part=4)
    assert [(result.error, result.frames) for result in results] == [(None, 7), (None, 1), (None, 3)]
    right("out-a.mkv", 7)
    right("out-c.mkv", 3)


def test_reading_runs_no_further_ahead_than_batches_need(monkeypatch: pytest.MonkeyPatch) -> None:
    read, ahead, frames = [0], [], VideoSource.frames

    def counted(self: VideoSource) -> Iterator[Frame]:
        for frame in frames(self):
            read[0] += 1
            yield frame

    def before(tiles: np.ndarray) -> None:
        time.sleep(0.02)  # time enough for the reader to run on, if it may
        ahead.append(read[0] - sum(batches(engine)))

    monkeypatch.setattr(VideoSource, "frames", counted)
    engine = Card(in_flight=2, before=before)
    made([job(film(40), "out.mkv")], engine)
    assert max(ahead) <= 2 * 4 + WAITING
    assert batches(engine) == [4] * 10


# --- the end -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 3, 6])
def test_a_source_that_breaks_off_fails_alone(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sources, frames = [film(9, "a.mkv"), film(5, "b.mkv")], VideoSource.frames

    def breaking(self: VideoSource) -> Iterator[Frame]:
        for index, frame in enumerate(frames(self)):
            if index == at and self.path.stem == "a":
                raise OSError("the disk is gone")
            yield frame

    monkeypatch.setattr(VideoSource, "frames", breaking)
    first, second = made(jobs_of(*sources), Card(in_flight=2))
    assert "the disk is gone" in str(first.error)
    assert second.error is None
    right("out-b.mkv", 5)
    assert threads() == []


def test_a_picture_that_fails_in_the_network_or_a_sink_that_does_leaves_the_next_film_whole() -> None:
    sources = [film(9, "a.mkv"), film(5, "b.mkv"), film(6, "c.mkv")]
    jobs = jobs_of(*sources)
    jobs[0] = job(sources[0], "missing/out.mkv")
    engine = Card(in_flight=3, broken=lambda tiles: len(tiles) == 1, always=True)
    results = made(jobs, engine)
    assert [result.error is None for result in results] == [False, False, True]
    assert "no usable picture" in str(results[1].error)
    right("out-c.mkv", 6)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_ctrl_c_in_the_network_joins_the_threads(at: int) -> None:
    def before(_: np.ndarray) -> None:
        if len(engine.shapes) == at:
            raise KeyboardInterrupt

    engine = Card(in_flight=2, before=before)
    with pytest.raises(KeyboardInterrupt):
        made([job(film(20), "out.mkv")], engine)
    assert threads() == []
    assert "out.mkv" not in names(".")


def test_ctrl_c_while_it_waits_for_frames_joins_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    from upscale_cli.lane import Lane

    get, calls = Lane.get, [0]

    def interrupted(self: Lane) -> object:
        calls[0] += self is run_sources[0]
        if calls[0] == 3:
            raise KeyboardInterrupt
        return get(self)

    run_sources: list[object] = [None]
    widen = Lane.widen

    def widened(self: Lane, more: int, size: int) -> int:
        run_sources[0] = self
        return widen(self, more, size)

    monkeypatch.setattr(Lane, "widen", widened)
    monkeypatch.setattr(Lane, "get", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made([job(film(20), "out.mkv")], Card(in_flight=2))
    assert threads() == []


def test_closed_early_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [film(2, "a.mkv"), film(20, "b.mkv")]
    engine = Card(in_flight=2)
    upscaler = Upscaler([engine], batch=4)
    with contextlib.closing(process(jobs_of(*sources), upscaler, options_of(100))) as results:
        assert next(results).error is None
    assert threads() == []
    (result,) = process(jobs_of(film(5, "c.mkv")), upscaler, options_of(100))
    assert result.error is None
    right("out-c.mkv", 5)


def test_a_fault_in_the_list_of_jobs_is_raised_where_it_is_asked() -> None:
    source = film(3)

    def jobs() -> Iterator[Job]:
        yield job(source, "out.mkv")
        raise LookupError("not a job")

    with pytest.raises(LookupError, match="not a job"):
        list(process(jobs(), Upscaler([Card()], batch=50), options_of(100)))
    assert threads() == []
