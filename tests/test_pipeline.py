"""process(): whole files from real photographs, through real codecs; only the network is a fake."""

import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from nearest_engine import NearestEngine, nearest
from PIL import Image, ImageCms

from upscale_cli.errors import OutOfMemoryError
from upscale_cli.lane import WAITING, Clock, Lane, StoppedError
from upscale_cli.media import png
from upscale_cli.media.encode import ImageSink
from upscale_cli.media.frame import Frame
from upscale_cli.media.image import ImageSource, probe
from upscale_cli.media.metadata import Metadata
from upscale_cli.pipeline import Event, Job, JobResult, PictureOptions, Upscaler, process

PATIENCE_S = 20  # how long a thread may take to show up before a test says it never will


def job(source: Path, target: Path, scale: float = 2, format: str = "PNG") -> Job:
    info = probe(source)
    return Job(source, target, format, round(info.height * scale), round(info.width * scale))


def small_photos(photos: list[Path], folder: Path, count: int = 4) -> list[Path]:
    """Real photographs, cut to 160 x 120 so that the network's part stays cheap; PNG, so that they are exact."""
    folder.mkdir(exist_ok=True)
    made = []
    for path in photos[:count]:
        with Image.open(path) as image:
            image.crop((100, 100, 260, 220)).save(folder / f"{path.stem}.png")
        made.append(folder / f"{path.stem}.png")
    return made


@pytest.fixture
def sources(photos: list[Path], tmp_path: Path) -> list[Path]:
    return small_photos(photos, tmp_path / "in")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def pixels(path: Path) -> np.ndarray:
    with ImageSource(path) as source:
        return next(iter(source.frames())).color


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("upscale-")]


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix not in (".png", ".tif", ".jpg"))


def until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


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


def test_a_lane_lets_a_frame_in_by_number_and_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upscale_cli.lane.WAITING_BYTES", 100)
    lane: Lane[str] = Lane()
    entered: list[int] = []

    def enter() -> None:
        for size in (500, 60, 60, 30, 5):
            lane.reserve(size)
            entered.append(size)

    thread = threading.Thread(target=enter)
    thread.start()
    # a frame beyond the limit goes alone; then 60, whose neighbour must wait; then 60 and 30, which fill the two places
    for size, inside in ((500, 1), (60, 2), (60, 4)):
        until(lambda inside=inside: len(entered) == inside, "a frame that fits is kept waiting")
        time.sleep(0.02)
        assert len(entered) == inside
        lane.release(size)
    thread.join(PATIENCE_S)
    assert entered == [500, 60, 60, 30, 5]
    lane.close()
    with pytest.raises(StoppedError):
        lane.reserve(1)


def test_seconds_leave_out_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 13.0, 100.0, 104.0])
    monkeypatch.setattr("upscale_cli.lane.time.perf_counter", lambda: next(now))
    clock = Clock()
    for _ in range(2):
        clock.start()
        clock.stop()
        clock.stop()
    assert clock.seconds == 7


def test_seconds_hold_reading_enlarging_and_writing(sources: list[Path], out: Path) -> None:
    results = list(
        process(
            [job(path, out / path.name) for path in sources],
            Upscaler([NearestEngine(before=lambda _: time.sleep(0.1))]),
        )
    )
    assert all(result.seconds > 0.1 for result in results)


# --- leaving early -----------------------------------------------------------------------------------------------


def test_ctrl_c_in_the_network_joins_the_threads_and_leaves_no_temporary(sources: list[Path], out: Path) -> None:
    calls: list[int] = []

    def before(_: np.ndarray) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    finished: list[JobResult] = []
    with pytest.raises(KeyboardInterrupt):
        finished.extend(
            process([job(path, out / path.name) for path in sources], Upscaler([NearestEngine(before=before)]))
        )
    assert threads() == []
    assert leftovers(out) == []
    for path in out.iterdir():
        np.testing.assert_array_equal(pixels(path), nearest(pixels(sources[0]), 2))


def test_ctrl_c_while_a_file_is_half_written_removes_it(sources: list[Path], out: Path) -> None:
    """The writer holds an open sink and waits for the next frame of an animation when the run is stopped."""
    frames = [Frame(pixels(path), seconds=0.05) for path in sources]
    source = write_picture(out.parent / "moving.png", frames, "PNG")
    calls: list[int] = []

    def before(_: np.ndarray) -> None:
        calls.append(1)
        if len(calls) == 3:
            until(lambda: leftovers(out) != [], "no sink was opened")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(
            process(
                [job(source, out / "moving.webp", format="WEBP")], Upscaler([NearestEngine(before=before)], tile_px=500)
            )
        )
    assert list(out.iterdir()) == []
    assert threads() == []


def test_ctrl_c_in_the_middle_of_a_picture_removes_what_was_written(sources: list[Path], out: Path) -> None:
    calls: list[int] = []

    def before(_: np.ndarray) -> None:
        calls.append(1)
        if len(calls) == 7:
            until(lambda: leftovers(out) != [], "no sink was opened for the first strips")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(process([job(sources[0], out / "a.png")], Upscaler([NearestEngine(before=before)], tile_px=60)))
    assert list(out.iterdir()) == []
    assert threads() == []


def test_closing_the_iterator_early_stops_everything(sources: list[Path], out: Path) -> None:
    results = process([job(path, out / path.name) for path in sources], Upscaler([NearestEngine()]))
    assert next(results).error is None
    results.close()
    assert threads() == []
    assert leftovers(out) == []


def test_a_fault_in_the_list_of_jobs_is_raised_where_it_is_asked(sources: list[Path], out: Path) -> None:
    def jobs() -> Iterator[Job]:
        yield job(sources[0], out / "a.png")
        raise LookupError("not a job")

    with pytest.raises(LookupError, match="not a job"):
        list(process(jobs(), Upscaler([NearestEngine()])))
    assert threads() == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one program")
def test_a_real_interrupt_leaves_nothing_half_done(photos: list[Path], out: Path) -> None:
    """SIGINT to a program of its own, in the middle of a long run."""
    program = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from nearest_engine import NearestEngine
from upscale_cli.pipeline import Job, Upscaler, process
paths = {[str(path) for path in photos]!r} * 20
out = Path({str(out)!r})
jobs = [Job(Path(path), out / f"{{index}}.png", "PNG", 640, 960) for index, path in enumerate(paths)]
try:
    for result in process(jobs, Upscaler([NearestEngine()])):
        print("done", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "done\n"
        child.send_signal(2)
        output = child.stdout.read()
        assert child.wait(PATIENCE_S) == 130
    assert output.endswith("interrupted\n")
    assert leftovers(out) == []
    for path in out.iterdir():
        assert pixels(path).shape == (640, 960, 3)


# --- what goes through -------------------------------------------------------------------------------------------


def write_picture(path: Path, frames: list[Frame], format: str, metadata: Metadata | None = None) -> Path:
    with ImageSink(path, format=format, metadata=metadata or Metadata()) as sink:
        for frame in frames:
            sink.write(frame)
    return path


def test_grey_stays_grey_and_16_bits_stay_16(sources: list[Path], out: Path) -> None:
    photo = pixels(sources[0])
    grey = photo[..., :1]
    deep = photo.astype(np.uint16) * 256 + 77
    jobs = [
        job(write_picture(out / "grey-in.png", [Frame(grey)], "PNG"), out / "grey.png"),
        job(write_picture(out / "deep-in.png", [Frame(deep)], "PNG"), out / "deep.png"),
        job(write_picture(out / "tiff-in.tif", [Frame(deep)], "TIFF"), out / "tiff.tif", format="TIFF"),
    ]
    assert [result.error for result in process(jobs, Upscaler([NearestEngine()], tile_px=64))] == [None] * 3
    np.testing.assert_array_equal(pixels(out / "grey.png"), nearest(grey, 2))
    np.testing.assert_array_equal(pixels(out / "deep.png"), nearest(deep, 2))
    np.testing.assert_array_equal(pixels(out / "tiff.tif"), nearest(deep, 2))


def test_depth_16_keeps_what_lies_between_the_steps_of_8_bits(sources: list[Path], out: Path) -> None:
    options = PictureOptions(depth="16")
    result = next(process([job(sources[0], out / "a.png", 1.5)], Upscaler([NearestEngine()]), options))
    assert result.error is None
    made = pixels(out / "a.png")
    assert made.dtype == np.uint16
    assert (made % 257 != 0).mean() > 0.5


def test_transparency_goes_through_without_a_fringe(out: Path) -> None:
    y, x = np.mgrid[:90, :90] - 44.5
    alpha = (np.clip(30 - np.hypot(x, y), 0, 1) * 255).astype(np.uint8)
    color = np.zeros((90, 90, 3), np.uint8)
    color[alpha > 0] = (255, 0, 0)
    source = write_picture(out / "disc.png", [Frame(color, alpha)], "PNG")
    assert next(process([job(source, out / "a.png", 2.7)], Upscaler([NearestEngine(3)], tile_px=40))).error is None
    with Image.open(out / "a.png") as image:
        assert image.size == (243, 243)
        made = np.asarray(image)
    assert (made[made[..., 3] > 0][:, :3] == (255, 0, 0)).all()
    assert made[121, 121, 3] == 255
    assert made[0, 0, 3] == 0


def test_every_frame_of_an_animation_is_enlarged_with_its_time(sources: list[Path], out: Path) -> None:
    frames = [Frame(pixels(path), seconds=0.1 * (index + 1)) for index, path in enumerate(sources)]
    source = write_picture(out / "in.png", frames, "PNG", Metadata(loop=0))
    events: list[Event] = []
    result = next(process([job(source, out / "out.png")], Upscaler([NearestEngine()]), progress=events.append))
    assert (result.error, result.frames) == (None, 4)
    assert result.out_pixels == 4 * 320 * 240
    with ImageSource(out / "out.png") as made:
        for before, after in zip(frames, made.frames(), strict=True):
            np.testing.assert_array_equal(after.color, nearest(before.color, 2))
            assert after.seconds == pytest.approx(before.seconds)
    assert [round(event.fraction, 3) for event in events] == [0.25, 0.5, 0.75, 1, 1]


def test_an_animation_that_breaks_in_the_middle_leaves_no_file(sources: list[Path], out: Path) -> None:
    calls: list[int] = []

    def broken(_: np.ndarray) -> bool:
        calls.append(1)
        return len(calls) > 2

    frames = [Frame(pixels(path), seconds=0.1) for path in sources]
    source = write_picture(out.parent / "in.png", frames, "PNG")
    engine = NearestEngine(broken=broken, always=True)
    first, second = process([job(source, out / "a.png"), job(sources[0], out / "b.png", 1)], Upscaler([engine]))
    assert "no usable picture" in str(first.error)
    assert first.frames == 2
    assert second.error is None
    assert [path.name for path in out.iterdir()] == ["b.png"]


def test_pages_of_different_sizes_are_enlarged_alike(sources: list[Path], out: Path) -> None:
    photo = pixels(sources[0])
    source = write_picture(out / "in.tif", [Frame(photo), Frame(photo[:50, :40])], "TIFF")
    result = next(process([job(source, out / "out.tif", format="TIFF")], Upscaler([NearestEngine()])))
    assert (result.error, result.frames) == (None, 2)
    with ImageSource(out / "out.tif") as made:
        assert [frame.color.shape for frame in made.frames()] == [(240, 320, 3), (100, 80, 3)]


def test_metadata_go_along_or_only_the_profile(photos: list[Path], out: Path) -> None:
    with Image.open(photos[0]) as image:
        exif = Image.Exif()
        exif[0x010F] = "A camera"
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        image.crop((0, 0, 80, 60)).save(out / "in.jpg", exif=exif, icc_profile=profile)
    for keep in (True, False):
        target = out / f"{keep}.png"
        options = PictureOptions(keep_metadata=keep)
        assert next(process([job(out / "in.jpg", target)], Upscaler([NearestEngine()]), options)).error is None
        with Image.open(target) as made:
            assert made.info["icc_profile"] == profile
            assert made.getexif().get(0x010F) == ("A camera" if keep else None)


def test_notes_of_reading_and_writing_are_in_the_result(sources: list[Path], out: Path) -> None:
    deep = pixels(sources[0]).astype(np.uint16) * 257
    source = write_picture(out / "in.png", [Frame(deep)], "PNG")
    results = list(
        process(
            [job(source, out / "a.jpg", format="JPEG"), job(source, out / "b.png", 0.5)], Upscaler([NearestEngine()])
        )
    )
    assert results[0].notes == ("JPEG holds 8 bits: reduced from 16 bits",)
    assert results[1].notes == ("no larger than its source: resized without a network",)
    assert results[1].tile_px == 0


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
