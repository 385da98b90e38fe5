"""What stands still in a film is inferred once, tile by tile, and the film is the one that comes of inferring all."""

from pathlib import Path

import numpy as np
import pytest
from clips import clip, pan, pictures_of, times_of
from command import place, upscale  # noqa: F401  one is a fixture
from nearest_engine import NearestEngine, nearest
from photo_jobs import write_picture
from test_video_resume import PARTS, killed, same, whole_parts

from upscale_cli.enlarge import Upscaler
from upscale_cli.media.frame import Frame
from upscale_cli.media.job import Job, PictureOptions
from upscale_cli.media.video.options import VideoOptions
from upscale_cli.pipeline import JobResult, process


def still(count: int, size: tuple[int, int] = (96, 64)) -> list[np.ndarray]:
    """Frames in which only one corner moves."""
    frames = [pan(1, size)[0].copy() for _ in range(count)]
    for index, frame in enumerate(frames):
        frame[:8, index : index + 8] = 255 - frame[:8, index : index + 8]
    return frames


def inferred(upscaler: Upscaler, frames: list[np.ndarray]) -> list[np.ndarray]:
    """What comes of frames in a row."""
    height, width = frames[0].shape[0] * upscaler.scale, frames[0].shape[1] * upscaler.scale
    return [upscaler.enlarge(Frame(frame), height, width).color for frame in frames]


def made(frames: list[np.ndarray], engine: NearestEngine, **video: float) -> JobResult:
    """A film without loss, through the pipeline."""
    clip(Path("in.mkv"), frames, times=[index * 512 for index in range(len(frames))], codec="ffv1", pix_fmt="yuv444p")
    height, width = frames[0].shape[:2]
    job = Job(Path("in.mkv"), Path("out.mkv"), "MATROSKA", 2 * height, 2 * width, "key")
    options = PictureOptions(video=VideoOptions(**video))  # type: ignore[arg-type]
    (result,) = process([job], Upscaler([engine], tile_px=40), options)
    assert (result.error, result.frames) == (None, len(frames))
    return result


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiles_that_did_not_change_are_not_inferred_again_and_seams_stay(dtype: type) -> None:
    frames = [frame.astype(dtype) * (257 if dtype == np.uint16 else 1) for frame in still(3)]
    engine = NearestEngine()
    upscaler = Upscaler([engine], tile_px=40)
    upscaler.begin(0.0)
    for frame, picture in zip(frames, inferred(upscaler, frames), strict=True):
        np.testing.assert_array_equal(picture, nearest(frame, 2))
    tiles = upscaler.cost(64, 96).tiles
    assert tiles > 4
    assert len(engine.shapes) == tiles + 2, "all of the first frame, and one of each other"
    assert (upscaler.effort.tiles, upscaler.effort.reused) == (tiles, tiles - 1)


@pytest.mark.parametrize("batch", [2, 3, 50])
def test_batches_are_filled_with_what_changed(batch: int) -> None:
    frames = still(2)
    frames[1][40:] += 1
    engine = NearestEngine()
    upscaler = Upscaler([engine], tile_px=40, batch=batch)
    upscaler.begin(0.0)
    for frame, picture in zip(frames, inferred(upscaler, frames), strict=True):
        np.testing.assert_array_equal(picture, nearest(frame, 2))
    assert sum(shape[0] for shape in engine.shapes) < 2 * upscaler.cost(64, 96).tiles
    assert max(shape[0] for shape in engine.shapes) <= batch


def test_a_drift_of_small_steps_is_seen_when_it_has_gone_too_far() -> None:
    frames = [np.full((32, 32, 3), 100 + index, np.uint8) for index in range(8)]
    engine = NearestEngine()
    upscaler = Upscaler([engine])
    upscaler.begin(2.0)
    assert [picture[0, 0, 0] for picture in inferred(upscaler, frames)] == [100, 100, 100, 103, 103, 103, 106, 106]
    assert len(engine.shapes) == 3


def test_networks_in_a_row_each_leave_out_what_they_know() -> None:
    engines = [NearestEngine(), NearestEngine()]
    upscaler = Upscaler(engines, tile_px=40)
    frames = still(2)
    upscaler.begin(0.0)
    for frame, picture in zip(frames, inferred(upscaler, frames), strict=True):
        np.testing.assert_array_equal(picture, nearest(frame, 4))
    assert [engine.shapes[-1][1:] for engine in engines] == [(40, 40, 3), (40, 40, 3)]
    first, second = (len(engine.shapes) for engine in engines)
    assert first + second < 1.5 * upscaler.cost(64, 96).tiles


def test_pictures_that_have_nothing_in_common_share_nothing() -> None:
    engine = NearestEngine()
    inferred(Upscaler([engine]), [pan(1)[0]] * 3)
    assert len(engine.shapes) == 3


def test_a_film_says_how_many_tiles_were_inferred_once_and_keeps_every_time() -> None:
    first, second = pan(2, (48, 32))
    engine = NearestEngine()
    result = made([first, first, first, second, second, first], engine)
    assert [note for note in result.notes if "inferred once" in note] == [
        "6 of 12 tiles as in an earlier frame: inferred once"
    ]
    assert len(engine.shapes) == 6
    pictures = pictures_of(Path("out.mkv"))
    assert (pictures[0] == pictures[2]).all()
    assert not np.array_equal(pictures[2], pictures[3])
    assert times_of(Path("out.mkv")) == times_of(Path("in.mkv"))


def test_every_part_of_a_film_begins_without_memory() -> None:
    engine = NearestEngine()
    made([pan(1, (24, 16))[0]] * 7, engine, part_frames=3)
    assert len(engine.shapes) == 3


def test_frames_of_an_animation_that_repeat_are_inferred_once_and_pages_are_not() -> None:
    frames = [Frame(each, seconds=0.1) for each in pan(2)]
    repeated = [frames[0], frames[0], frames[1]]
    for name, format, count in (("a.png", "PNG", 2), ("b.tif", "TIFF", 3)):
        engine = NearestEngine()
        job = Job(write_picture(Path(name), repeated, format), Path(f"out-{name}"), format, 96, 128)
        (result,) = process([job], Upscaler([engine]))
        assert (result.error, len(engine.shapes)) == (None, count)


def test_a_killed_film_goes_on_to_the_same_frames() -> None:
    frames = [np.clip(pan(1, (48, 32))[0] + np.uint8(index // 3), 0, 255) for index in range(48)]
    clip(Path("in.mp4"), frames, times=[index * 512 for index in range(48)], sounds=["eng"])
    words = ("--skip-static", "4")
    killed(*words)
    assert whole_parts("out.mp4") >= 3
    assert upscale("in.mp4", "-o", "out.mp4", *PARTS, *words).exit_code == 0
    said = upscale("in.mp4", "-o", "straight.mp4", *PARTS, *words)
    assert said.exit_code == 0
    assert "tiles as in an earlier frame: inferred once" in said.stdout
    same(Path("straight.mp4"), Path("out.mp4"))


def test_a_threshold_that_means_nothing_is_refused() -> None:
    clip(Path("in.mp4"))
    result = upscale("in.mp4", "--skip-static", "-1")
    assert (result.exit_code, "--skip-static -1 means nothing" in result.stderr) == (2, True)
