"""process() where pictures of different jobs go through the network together: each comes out as alone, whatever becomes
of those it goes with.
"""

import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from clips import clip, pan
from command import names, place  # noqa: F401  one is a fixture
from nearest_engine import NearestEngine, nearest
from photo_jobs import job, pixels, threads, write_picture
from pictures import display_p3
from test_batches import Card

from upscale_cli.engines import open_engine
from upscale_cli.engines.interface import Engine, Tiles
from upscale_cli.enlarge import Upscaler
from upscale_cli.lane import WAITING
from upscale_cli.media.files import open_source
from upscale_cli.media.frame import Frame
from upscale_cli.media.image import ImageSource
from upscale_cli.media.job import Job, PictureOptions
from upscale_cli.media.metadata import Metadata
from upscale_cli.media.video.options import VideoOptions
from upscale_cli.pipeline import JobResult, process

SIZE = (48, 32)
PICTURE_BYTES = 48 * 32 * 3


def pictures(count: int, size: tuple[int, int] = SIZE, name: str = "in") -> list[Job]:
    """Photographs of one size, no two alike."""
    frames = [Frame(window) for window in pan(count, size)]
    return [to_make(write_picture(Path(f"{name}-{at}.png"), [frame], "PNG")) for at, frame in enumerate(frames)]


def to_make(source: Path, scale: float = 2, folder: str = ".") -> Job:
    return job(source, Path(folder) / f"out-{source.name}", scale)


def made(jobs: list[Job], engine: Engine, *, batch: int | None = 4, tile_px: int = 0) -> list[JobResult]:
    results = list(process(jobs, Upscaler([engine], batch=batch, tile_px=tile_px)))
    assert [result.source for result in results] == [one.source for one in jobs], "in the order of the jobs"
    assert threads() == []
    assert not [name for name in names(".") if name.endswith(".part")]
    return results


def errors(results: Sequence[JobResult]) -> list[int]:
    return [at for at, result in enumerate(results) if result.error is not None]


def batches(engine: NearestEngine) -> list[int]:
    return [shape[0] for shape in engine.shapes]


def right(jobs: Sequence[Job], scale: int = 2) -> None:
    for one in jobs:
        np.testing.assert_array_equal(pixels(one.target), nearest(pixels(one.source), scale), str(one.source))


# --- together ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_flight", [1, 2, 3])
@pytest.mark.parametrize(("count", "batch"), [(10, 4), (8, 4), (3, 4), (1, 4), (5, 1), (9, 100)])
def test_pictures_of_one_size_fill_batches(count: int, batch: int, in_flight: int) -> None:
    jobs, engine = pictures(count), Card(in_flight=in_flight)
    results = made(jobs, engine, batch=batch)
    assert errors(results) == []
    right(jobs)
    assert len(engine.shapes) == math.ceil(count / batch)
    calls = len(engine.shapes)
    assert engine.under_way == [min(in_flight, calls - call) for call in range(calls)]


@pytest.mark.parametrize("batch", [3, 5, 8, 11])
def test_a_batch_goes_on_where_a_picture_of_several_tiles_ends(batch: int) -> None:
    jobs, engine = pictures(5, (96, 64)), Card(in_flight=2)
    results = made(jobs, engine, batch=batch, tile_px=40)
    assert [(result.error, result.tile_px, result.retries, result.notes) for result in results] == [
        (None, 40, 0, ())
    ] * 5
    right(jobs)
    assert len(engine.shapes) == math.ceil(5 * 8 / batch)


def test_a_card_is_given_as_many_as_it_is_fastest_with_and_a_processor_one_unless_told_otherwise() -> None:
    jobs = pictures(20)
    for engine, batch, expected in (
        (Card(in_flight=3), None, [16, 4]),
        (NearestEngine(), None, [1] * 20),
        (NearestEngine(), 8, [8, 8, 4]),
    ):
        assert errors(made(jobs, engine, batch=batch)) == []
        right(jobs)
        assert batches(engine) == expected


def test_one_job_in_another_format_or_place_goes_along() -> None:
    jobs, engine = pictures(4), Card()
    jobs[1] = dataclasses.replace(jobs[1], target=Path("out.tif"), format="TIFF")
    assert errors(made(jobs, engine)) == []
    right(jobs)
    assert batches(engine) == [4]


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_real_network_makes_of_pictures_together_what_it_makes_of_each(backend: str) -> None:
    jobs = pictures(6, (24, 20))
    engine = open_engine("lightweight", 2, device="cpu", precision="fp32", backend=backend)
    assert errors(made(jobs, engine, batch=1)) == []
    alone = [pixels(one.target) for one in jobs]
    asked: list[int] = []

    class Counted:
        def __getattr__(self, name: str) -> object:
            return getattr(engine, name)

        def submit(self, tiles: Tiles) -> object:
            asked.append(len(tiles))
            return engine.submit(tiles)

    assert errors(made(jobs, Counted())) == []  # type: ignore[arg-type]
    assert asked == [4, 2]
    for one, expected in zip(jobs, alone, strict=True):
        together = pixels(one.target)
        assert np.abs(together.astype(int) - expected).max() <= 1
        assert np.abs(expected.astype(int) - nearest(pixels(one.source), 2)).mean() < 12, "they are not mixed up"


# --- all kinds ---------------------------------------------------------------------------------------------------


def kinds() -> list[Job]:
    """A folder of everything, some of it twice in a row."""
    rng, jobs = np.random.default_rng(0), []
    colors, wide = pan(30, SIZE), pan(2, (40, 32))

    def add(name: str, *frames: Frame, scale: float = 2, format: str = "PNG") -> None:
        source = write_picture(Path(name), list(frames), format)
        jobs.append(dataclasses.replace(to_make(source, scale), format=format))

    for at in range(2):
        add(f"plain-{at}.png", Frame(colors[at]))
    for at in range(2):
        add(f"wide-{at}.png", Frame(wide[at]))
    for at in range(2, 4):
        add(f"grey-{at}.png", Frame(colors[at][..., :1]))
    for at in range(4, 6):
        add(f"deep-{at}.png", Frame(colors[at].astype(np.uint16) * 256 + 77))
    for at in range(6, 8):
        add(f"clear-{at}.png", Frame(colors[at], rng.choice([0, 255], (32, 48)).astype(np.uint8)))
    for at in (8, 11):
        add(f"moving-{at}.png", *(Frame(color, seconds=0.1) for color in colors[at : at + 3]))
    for at in (14, 15):
        add(f"pages-{at}.tif", *map(Frame, colors[at : at + 2]), format="TIFF")
    for at in (16, 17):
        add(f"larger-{at}.png", Frame(colors[at]), scale=3)
    for at in (18, 19):
        add(f"needless-{at}.png", Frame(colors[at]), scale=1)
    add("last.png", Frame(colors[20]))
    source = clip(Path("film.mkv"), colors[21:26], times=[512 * at for at in range(5)], codec="ffv1", pix_fmt="bgr0")
    jobs.insert(8, Job(source, Path("out-film.mkv"), "MATROSKA", 64, 96, "key"))
    return jobs


def contents(one: Job) -> list[np.ndarray]:
    """Every frame of what was made, and its alpha."""
    with open_source(one.target, PictureOptions()) as source:
        return [part for frame in source.frames() for part in (frame.color, frame.alpha) if part is not None]


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_in_a_folder_of_everything_each_comes_out_as_alone(strength: float) -> None:
    options = PictureOptions(video=VideoOptions(part_frames=100, codec="ffv1", pix_fmt="bgr0"))
    jobs = kinds()
    alone = []
    for one in jobs:
        (result,) = process([one], Upscaler([NearestEngine()], strength=strength), options)
        assert result.error is None
        alone.append(contents(one))
        one.target.unlink()
    for order in (jobs, jobs[::-1]):
        engine = Card(in_flight=3)
        results = list(process(order, Upscaler([engine], batch=4, strength=strength), options))
        assert errors(results) == []
        for one, expected in zip(jobs, alone, strict=True):
            for part, like in zip(contents(one), expected, strict=True):
                np.testing.assert_array_equal(part, like, str(one.source))
            one.target.unlink()
        # A film is one job, as is an animation; pages go one by one, and what is not enlarged does not go at all.
        film, moving, pages = [4, 1], [3, 3], [1, 1, 1, 1]
        if order is jobs:
            assert batches(engine) == [2, 2, 2, 2, *film, 2, *moving, *pages, 2, 1]
        else:
            assert batches(engine) == [1, 2, *pages, *moving, 2, *film, 2, 2, 2, 2]


def test_a_style_is_shared_by_neighbours_of_one_space_and_by_no_others() -> None:
    jobs = pictures(9)
    for at in (3, 7, 8):
        write_picture(jobs[at].source, [Frame(pixels(jobs[at].source))], "PNG", Metadata(icc=display_p3()))

    def upscaler(style: NearestEngine) -> Upscaler:
        return Upscaler([NearestEngine()], style=style, batch=4)

    alone = []
    for one in jobs:
        assert [result.error for result in process([one], upscaler(NearestEngine(1)))] == [None]
        alone.append(pixels(one.target))
    style = Card(scale=1, in_flight=2)
    assert errors(list(process(jobs, upscaler(style)))) == []
    for one, expected in zip(jobs, alone, strict=True):
        np.testing.assert_array_equal(pixels(one.target), expected)
    assert batches(style) == [3, 1, 3, 1, 1]


def test_pictures_that_look_alike_are_not_compared() -> None:
    """Two that differ by a level are two, and tiles that are one are no remark: pictures are no film."""
    color = pan(1, SIZE)[0] // 2
    jobs = [to_make(write_picture(Path(f"{at}.png"), [Frame(color + at // 2)], "PNG")) for at in range(4)]
    engine, options = Card(in_flight=2), PictureOptions(video=VideoOptions(skip_static=4.0))
    results = list(process(jobs, Upscaler([engine], batch=4), options))
    assert [result.notes for result in results] == [()] * 4
    right(jobs)
    assert batches(engine) == [4]


# --- time and memory ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slow", ["reader", "network"])
def test_who_is_slow_decides_nothing(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = ImageSource.frames

    def slowly(self: ImageSource) -> Iterator[Frame]:
        time.sleep(0.01)
        yield from frames(self)

    jobs = pictures(9)
    if slow == "reader":
        monkeypatch.setattr(ImageSource, "frames", slowly)
    engine = Card(in_flight=2, before=(lambda _: time.sleep(0.02)) if slow == "network" else lambda _: None)
    assert errors(made(jobs, engine)) == []
    assert batches(engine) == [4, 4, 1]


def test_reading_runs_no_further_ahead_than_batches_need() -> None:
    jobs, ahead, asked = pictures(40), [], [0]

    def counted() -> Iterator[Job]:
        for one in jobs:
            asked[0] += 1
            yield one

    def before(_: Tiles) -> None:
        time.sleep(0.02)  # time enough for the reader to run on, if it may
        ahead.append(asked[0] - sum(batches(engine)))

    engine = Card(in_flight=2, before=before)
    assert errors(list(process(counted(), Upscaler([engine], batch=4)))) == []
    assert max(ahead) <= 2 * 4 + WAITING + 1
    assert batches(engine) == [4] * 10


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("room", [1, 2, 3, 5, 8, 99])
def test_whatever_the_room_all_come_through_a_huge_one_too(
    room: int, in_flight: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for a picture that cannot come in before another has gone."""
    monkeypatch.setattr("upscale_cli.lane.WAITING_BYTES", room * PICTURE_BYTES + 5)
    jobs = [*pictures(6), *pictures(2, (320, 200), "huge"), *pictures(3, name="more")]
    engine = Card(in_flight=in_flight)
    assert errors(made(jobs, engine)) == []
    right(jobs)
    company = [shape[0] for shape in engine.shapes if shape[1:3] == (32, 48)]
    assert max(company) == max(1, min(4, room - WAITING + 1))


def test_a_picture_of_another_kind_is_not_waited_for() -> None:
    """What comes next may take long to read; of what is at hand the header of that is enough."""
    jobs, begun = [*pictures(2), *pictures(1, (40, 40), "other")], []
    frames = ImageSource.frames

    def read(self: ImageSource) -> Iterator[Frame]:
        if self.path == jobs[2].source:
            deadline = time.monotonic() + 20
            while not begun and time.monotonic() < deadline:
                time.sleep(0.005)
            assert begun, "the first two wait for the third"
        yield from frames(self)

    engine = Card(before=begun.append)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageSource, "frames", read)
        assert errors(made(jobs, engine)) == []
    assert batches(engine) == [2, 1]
