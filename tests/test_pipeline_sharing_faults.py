"""process() where one of several pictures that go through the network together fails, or the run is ended: the others
are whole.
"""

import contextlib
import time
from collections.abc import Callable

import numpy as np
import pytest
from clips import pan
from command import names, place  # noqa: F401  one is a fixture
from nearest_engine import NearestEngine
from photo_jobs import pixels, threads, write_picture
from test_batches import Card
from test_pipeline_sharing import batches, errors, made, pictures, right, to_make

from upscale_cli import strips
from upscale_cli.engines.interface import Tiles
from upscale_cli.enlarge import Upscaler
from upscale_cli.errors import OutOfMemoryError
from upscale_cli.media.encode import ImageSink
from upscale_cli.media.frame import Frame
from upscale_cli.media.job import Job
from upscale_cli.pipeline import process


def marked(one: Job) -> Callable[[Tiles], bool]:
    """Make one picture known by a white pixel; whether it is among tiles."""
    color = pixels(one.source).copy()
    color[20, 20] = 255
    write_picture(one.source, [Frame(color)], "PNG")
    return lambda tiles: bool((tiles[:, 20, 20] == 1).all(-1).any())


# --- trouble -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["cut short", "no picture", "gone", "lies about its size"])
@pytest.mark.parametrize("bad", [0, 2, 3, 7])
def test_one_that_cannot_be_read_is_reported_and_its_neighbours_are_whole(bad: int, fault: str) -> None:
    jobs = pictures(8)
    source = jobs[bad].source
    match fault:
        case "cut short":
            source.write_bytes(source.read_bytes()[:-800])
        case "no picture":
            source.write_text("a letter")
        case "gone":
            source.unlink()
        case _:  # another size than was planned with: it is a job of its own then, and no error
            write_picture(source, [Frame(pan(1, (40, 40))[0])], "PNG")
    engine = Card(in_flight=2)
    results = made(jobs, engine)
    assert errors(results) == ([bad] if fault != "lies about its size" else [])
    right([one for at, one in enumerate(jobs) if at != bad])
    if fault == "cut short":
        assert batches(engine) == [4, 3], "it is passed over"
    assert sum(batches(engine)) == 8 - (fault != "lies about its size")


def test_more_bad_files_than_may_wait_are_passed_over() -> None:
    jobs = pictures(12)
    for one in jobs[2:10]:
        one.source.write_bytes(one.source.read_bytes()[:-800])
    engine = Card(in_flight=2)
    assert errors(made(jobs, engine)) == list(range(2, 10))
    right([*jobs[:2], *jobs[10:]])
    assert batches(engine) == [4]


@pytest.mark.parametrize("tile_px", [0, 40])
@pytest.mark.parametrize("bad", [0, 3, 8])
def test_one_that_cannot_be_written_is_reported_and_its_neighbours_are_whole(bad: int, tile_px: int) -> None:
    jobs = pictures(9, (96, 64))
    jobs[bad] = to_make(jobs[bad].source, folder="missing")
    assert errors(made(jobs, Card(in_flight=3), tile_px=tile_px)) == [bad]
    right(jobs[:bad] + jobs[bad + 1 :])


@pytest.mark.parametrize("in_flight", [1, 3])
def test_one_whose_disk_fills_in_mid_picture_leaves_its_neighbours_whole(
    in_flight: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The enlargement is left in its middle, with tiles of the next ones under way."""
    jobs, write, failed = pictures(7, (64, 400)), ImageSink.write, [False]

    def full(self: ImageSink, frame: Frame, *, height: int | None = None) -> None:
        if self.path == jobs[2].target:
            failed[0] = True
            raise OSError("the disk is full")
        write(self, frame, height=height)

    def before(_: Tiles) -> None:
        time.sleep(0.02 * (not failed[0]))  # time enough for the writer to fail before the picture is done

    monkeypatch.setattr(ImageSink, "write", full)
    assert errors(made(jobs, Card(in_flight=in_flight, before=before), tile_px=40, batch=3)) == [2]
    right(jobs[:2] + jobs[3:])


def test_one_that_fails_behind_the_network_in_mid_picture_leaves_its_neighbours_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its error holds on to the half-made picture, and the network has not ended with that by itself."""
    monkeypatch.setattr(strips, "_BAND_PIXELS", 5000)
    jobs = [to_make(one.source, scale=3) for one in pictures(5, (64, 200))]
    assert errors(made(jobs, NearestEngine(), tile_px=40)) == []
    alone, resize, calls = [pixels(one.target) for one in jobs], strips._resize_planes, [0]

    def no_memory(*settings: object) -> np.ndarray:
        calls[0] += 1
        if calls[0] == 10:
            raise MemoryError
        return resize(*settings)  # type: ignore[arg-type]

    monkeypatch.setattr(strips, "_resize_planes", no_memory)
    (bad,) = errors(made(jobs, Card(in_flight=2), tile_px=40, batch=5))
    for at, (one, expected) in enumerate(zip(jobs, alone, strict=True)):
        if at != bad:
            np.testing.assert_array_equal(pixels(one.target), expected)


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_out_of_memory_halves_what_goes_together_and_no_picture_is_lost(fails_at: int, in_flight: int) -> None:
    calls = [0]

    def fail_once(_: Tiles) -> None:
        calls[0] += 1
        if calls[0] == fails_at:
            raise OutOfMemoryError("another program took it")

    jobs, engine = pictures(12), Card(in_flight=in_flight, before=fail_once)
    results = made(jobs, engine)
    right(jobs)
    assert [result.retries for result in results] == [int(at == 4 * (fails_at - 1)) for at in range(12)]
    assert {result.tile_px for result in results} == {48}, "the batch is halved, not the tile"
    assert set(batches(engine)[fails_at - 1 :]) <= {1, 2}


def test_memory_for_less_than_one_picture_is_found_out_once() -> None:
    jobs, engine = pictures(6, (96, 64)), Card(in_flight=2, most_pixels=1500)
    results = made(jobs, engine, batch=4)
    right(jobs)
    assert [result.retries > 0 for result in results] == [True] + [False] * 5
    assert results[0].tile_px == results[5].tile_px < 64


@pytest.mark.parametrize("trouble", ["broken", "black"])
@pytest.mark.parametrize("bad", [0, 2, 5, 7])
def test_one_with_nan_or_black_is_redone_in_fp32_and_its_neighbours_are_not(bad: int, trouble: str) -> None:
    jobs = pictures(8)
    engine = Card(in_flight=2, precision="fp16", **{trouble: marked(jobs[bad])})
    results = made(jobs, engine)
    right(jobs)
    assert [result.retries for result in results] == [int(at == bad) for at in range(8)]
    assert [bool(result.notes) for result in results] == [at == bad for at in range(8)]
    assert [batches(twin) for twin in engine.made] == [[1]]


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("bad", [0, 2, 5, 7])
def test_one_that_the_network_makes_nothing_of_fails_alone(bad: int, in_flight: int) -> None:
    jobs = pictures(8)
    engine = Card(in_flight=in_flight, broken=marked(jobs[bad]), always=True)
    assert errors(made(jobs, engine)) == [bad]
    right(jobs[:bad] + jobs[bad + 1 :])
    assert jobs[bad].target.name not in names(".")


# --- the end -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 2, 3])
def test_ctrl_c_in_the_network_leaves_what_is_whole(at: int) -> None:
    def before(_: Tiles) -> None:
        if len(engine.shapes) == at:
            raise KeyboardInterrupt

    jobs, engine = pictures(20), Card(in_flight=2, before=before)
    with pytest.raises(KeyboardInterrupt):
        made(jobs, engine)
    assert threads() == []
    done = [one for one in jobs if one.target.exists()]
    assert len(done) <= 4 * at
    right(done)


def test_closed_early_nothing_is_kept_and_nothing_half_made_stays() -> None:
    jobs, engine = pictures(20), Card(in_flight=2)
    upscaler = Upscaler([engine], batch=4)
    with contextlib.closing(process(jobs, upscaler)) as results:
        assert next(results).error is None
    assert threads() == []
    right([one for one in jobs if one.target.exists()])
    others = pictures(5, name="other")
    assert errors(list(process(others, upscaler))) == []
    right(others)
