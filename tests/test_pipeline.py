"""process(): whole files from real photographs, through real codecs; only the network is a fake."""

import gc
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from nearest_engine import NearestEngine, nearest
from photo_jobs import (  # noqa: F401  two are fixtures
    job,
    leftovers,
    out_folder,
    photo_sources,
    pixels,
    small_photos,
    threads,
    until,
    write_picture,
)
from PIL import Image

from upscale_cli.errors import OutOfMemoryError
from upscale_cli.lane import WAITING
from upscale_cli.media import png
from upscale_cli.media.encode import ImageSink
from upscale_cli.media.frame import Frame
from upscale_cli.media.image import ImageSource
from upscale_cli.pipeline import Event, Job, PictureOptions, Upscaler, process


def test_photographs_come_out_enlarged_in_the_order_of_the_jobs(photos: list[Path], out: Path) -> None:
    jobs = [job(path, out / f"{path.stem}.png") for path in photos[:3]]
    events: list[Event] = []
    results = list(process(jobs, Upscaler([NearestEngine()]), progress=events.append))
    assert [result.target for result in results] == [job.target for job in jobs]
    for result, path in zip(results, photos, strict=False):
        assert result.error is None
        color = pixels(path)
        np.testing.assert_array_equal(pixels(result.target), nearest(color, 2))
        assert (result.frames, result.in_pixels) == (1, color[..., 0].size)
        assert result.out_pixels == 4 * result.in_pixels
        assert (result.precision, result.retries, result.notes) == ("fp32", 0, ())
        assert 0 < result.tile_px <= 256
        assert result.seconds > 0
    assert [event.finished for event in events if event.finished] == results
    for index in range(3):
        fractions = [event.fraction for event in events if event.job_index == index]
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1
        assert len(fractions) > 2
    assert threads() == []
    assert leftovers(out) == []


def test_one_bad_file_in_the_middle_is_reported_and_the_rest_go_on(sources: list[Path], out: Path) -> None:
    bad = sources[1]
    jobs = [job(path, out / path.name) for path in sources]
    bad.write_bytes(bad.read_bytes()[:2000])
    results = list(process(jobs, Upscaler([NearestEngine()])))
    assert [result.error is None for result in results] == [True, False, True, True]
    assert "truncated" in str(results[1].error)
    assert results[1].frames == results[1].out_pixels == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in sources if path != bad)


def opened() -> set[int]:
    """What is open somewhere in this process, other tests' too."""
    return {id(each) for each in gc.get_objects() if issubclass(type(each), ImageSource | Image.Image)}


def test_a_bad_file_lets_go_of_its_pixels_at_once(sources: list[Path], out: Path) -> None:
    """Without a search for cycles: a folder of bad files must not fill the memory until there is one."""
    sources[1].write_bytes(sources[1].read_bytes()[:2000])
    gc.collect()
    before = opened()
    gc.disable()
    try:
        results = list(process([job(path, out / path.name) for path in sources], Upscaler([NearestEngine()])))
        left = opened() - before
    finally:
        gc.enable()
    assert [result.error is None for result in results] == [True, False, True, True]
    assert left == set()


def test_more_bad_files_than_may_wait_do_not_stop_the_next(sources: list[Path], out: Path) -> None:
    """Each has a place on the way to the network before it turns out to be bad."""
    jobs = [job(path, out / path.name) for path in (sources[0], *[sources[1]] * (WAITING + 1), sources[2])]
    sources[1].write_bytes(sources[1].read_bytes()[:2000])
    results = list(process(jobs, Upscaler([NearestEngine()])))
    assert [result.error is None for result in results] == [True, *[False] * (WAITING + 1), True]


def test_a_target_that_cannot_be_written_fails_alone(sources: list[Path], out: Path) -> None:
    jobs = [job(path, out / path.name) for path in sources]
    jobs[0] = job(sources[0], out / "missing" / "a.png")
    jobs[2] = job(sources[2], out / "b.bmp", format="BMP")
    results = list(process(jobs, Upscaler([NearestEngine()])))
    assert [result.error is None for result in results] == [False, True, True, True]
    assert "missing" in str(results[0].error)


def test_a_network_that_gives_no_picture_leaves_no_file(sources: list[Path], out: Path) -> None:
    spoiled = pixels(sources[1])[0, 0] / np.float32(255)

    def broken(tiles: np.ndarray) -> bool:
        return bool((tiles[0, 0, 0] == spoiled.astype(np.float32)).all())

    engine = NearestEngine(precision="bf16", broken=broken, always=True)
    results = list(process([job(path, out / path.name) for path in sources], Upscaler([engine])))
    assert [result.error is None for result in results] == [True, False, True, True]
    assert "no usable picture" in str(results[1].error)
    assert not (out / sources[1].name).exists()
    assert leftovers(out) == []


def test_a_source_with_fewer_frames_than_it_promises_is_an_error(
    sources: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageSource, "frames", lambda _: iter([]))
    result = next(process([job(sources[0], out / "a.png")], Upscaler([NearestEngine()])))
    assert str(result.error).endswith("holds 0 of the 1 pictures it promises.")
    assert list(out.iterdir()) == []


def test_trouble_that_was_overcome_is_noted_in_the_result(sources: list[Path], out: Path) -> None:
    engine = NearestEngine(precision="bf16", broken=lambda _: True, most_pixels=70 * 70)
    result = next(process([job(sources[0], out / "a.png")], Upscaler([engine])))
    assert result.error is None
    assert result.retries > 2
    assert any("out of memory" in note for note in result.notes)
    assert any("redone in fp32: NaN or black in bf16" in note for note in result.notes)
    np.testing.assert_array_equal(pixels(out / "a.png"), nearest(pixels(sources[0]), 2))


def test_a_fault_nobody_foresaw_fails_its_file_and_no_other(
    sources: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = ImageSink.write

    def fault(self: ImageSink, frame: Frame, *, height: int | None = None) -> None:
        if self.path.name == sources[1].name:
            raise LookupError("a codec's bug")
        write(self, frame, height=height)

    monkeypatch.setattr(ImageSink, "write", fault)
    results = list(process([job(path, out / path.name) for path in sources], Upscaler([NearestEngine()])))
    assert [result.error is None for result in results] == [True, False, True, True]
    assert results[1].error == "Unexpected LookupError: a codec's bug. Please report it with this file."
    assert leftovers(out) == []


# --- three at a time ---------------------------------------------------------------------------------------------


def test_decoding_runs_ahead_of_the_network_and_encoding_behind_it(
    sources: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each picture waits, inside the network, for what the other threads must be doing at that moment."""
    decoded: list[Path] = []
    frames = ImageSource.frames

    def watched(self: ImageSource) -> Iterator[Frame]:
        for frame in frames(self):
            decoded.append(self.path)
            yield frame

    monkeypatch.setattr(ImageSource, "frames", watched)
    calls: list[int] = []

    def before(_: np.ndarray) -> None:
        index = len(calls)
        calls.append(index)
        if index + 1 < len(sources):
            until(lambda: sources[index + 1] in decoded, "the next picture is not read meanwhile")
        if index > 0:
            until((out / sources[index - 1].name).exists, "the last picture is not written meanwhile")

    jobs = [job(path, out / path.name) for path in sources]
    assert [result.error for result in process(jobs, Upscaler([NearestEngine(before=before)]))] == [None] * 4
    assert len(calls) == 4


@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG"])
def test_a_picture_is_encoded_while_it_is_enlarged(
    sources: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    """Each row of tiles waits, inside the network, until the strip before the last one is with the sink."""
    written: list[int] = []
    write = ImageSink.write

    def watched(self: ImageSink, frame: Frame, *, height: int | None = None) -> None:
        write(self, frame, height=height)
        written.append(frame.height)

    def before(_: np.ndarray) -> None:
        calls.append(1)
        until(lambda: len(written) >= (len(calls) - 1) // columns - 1, "no strip is written meanwhile")

    monkeypatch.setattr(ImageSink, "write", watched)
    calls: list[int] = []
    columns = 4
    upscaler = Upscaler([NearestEngine(before=before)], tile_px=60)
    result = next(process([job(sources[0], out / "a.png", format=format)], upscaler))
    assert result.error is None
    assert len(calls) == columns * len(written) == 12
    assert sum(written) == 240
    if format != "JPEG":
        np.testing.assert_array_equal(pixels(out / "a.png"), nearest(pixels(sources[0]), 2))


def test_a_sink_that_fails_in_mid_picture_stops_its_enlargement(
    sources: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(png.Writer, "write", full)
    engine = NearestEngine()
    jobs = [job(sources[0], out / "a.png"), job(sources[1], out / "b.tif", format="TIFF")]
    first, second = process(jobs, Upscaler([engine], tile_px=28))
    assert str(first.error).endswith(
        "a.png cannot be written: No space left on device. Make room there, or choose another -o."
    )
    assert second.error is None
    assert first.frames == 0
    assert len(engine.shapes) < 1.5 * Upscaler([engine], tile_px=28).cost(120, 160).tiles
    assert [path.name for path in out.iterdir()] == ["b.tif"]


def test_out_of_memory_in_mid_picture_writes_no_row_twice(sources: list[Path], out: Path) -> None:
    calls: list[int] = []

    def before(_: np.ndarray) -> None:
        calls.append(1)
        if len(calls) == 7:
            raise OutOfMemoryError("another program took it")

    for format in ("PNG", "TIFF"):
        calls.clear()
        target = out / f"a.{format.lower()}"
        result = next(
            process([job(sources[0], target, format=format)], Upscaler([NearestEngine(before=before)], tile_px=60))
        )
        assert (result.error, result.retries) == (None, 1)
        np.testing.assert_array_equal(pixels(target), nearest(pixels(sources[0]), 2))


def test_reading_never_runs_far_ahead(photos: list[Path], tmp_path: Path, out: Path) -> None:
    paths = small_photos(photos, tmp_path / "in", 8)
    asked: list[int] = []
    ahead: list[int] = []

    def jobs() -> Iterator[Job]:
        for index, path in enumerate(paths):
            asked.append(index)
            yield job(path, out / path.name)

    def before(_: np.ndarray) -> None:
        time.sleep(0.03)  # time enough for the reader to run on, if it may
        ahead.append(len(asked) - len(ahead))

    assert len(list(process(jobs(), Upscaler([NearestEngine(before=before)])))) == 8
    # one in the network, one decoded, and the name of one more that waits for its place
    assert max(ahead) <= WAITING + 1


def test_seconds_hold_reading_enlarging_and_writing(sources: list[Path], out: Path) -> None:
    results = list(
        process(
            [job(path, out / path.name) for path in sources],
            Upscaler([NearestEngine(before=lambda _: time.sleep(0.1))]),
        )
    )
    assert all(result.seconds > 0.1 for result in results)


# --- memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("format", "depth"), [("PNG", "keep"), ("TIFF", "keep"), ("TIFF", "16")])
def test_memory_is_the_source_and_a_few_strips(out: Path, format: str, depth: Literal["keep", "16"]) -> None:
    """Whatever the height: an enlargement of 144 million samples is never whole in memory."""
    row = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 256, 3)
    photo = np.tile(row, (3000, 16, 1))[:, :4000]
    source = write_picture(out / "in.tif", [Frame(photo)], "TIFF")
    jobs = [job(source, out / "a.bin", format=format)]
    upscaler = Upscaler([NearestEngine()])
    tracemalloc.start()
    try:
        result = next(process(jobs, upscaler, PictureOptions(depth=depth)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.error is None
    sample = 2 if depth == "16" else 1
    strip = result.tile_px * 2 * 8000 * 3 * sample
    assert peak < 2.2 * photo.nbytes + 4 * strip, "reading may have two copies of the source"
    assert 2 * photo.nbytes + 4 * strip < 0.9 * 4 * photo.nbytes * sample


def test_many_large_pictures_wait_one_at_a_time(photos: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a limit below two results, no more than one is written, one made and one source read at a time."""
    monkeypatch.setattr("upscale_cli.lane.WAITING_BYTES", 4_000_000)
    jobs = [job(path, out / f"{path.stem}.tif", 2, "TIFF") for path in photos[:5]]
    result_bytes = max(one.height * one.width * 3 for one in jobs)
    list(process(jobs[:1], Upscaler([NearestEngine()])))  # what is loaded once
    tracemalloc.start()
    try:
        assert all(result.error is None for result in process(jobs, Upscaler([NearestEngine()], tile_px=64)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * result_bytes
