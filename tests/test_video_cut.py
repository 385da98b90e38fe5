"""Parts of a film, samples of it, and frames that repeat."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import clip, packets_of, pan, pictures_of, rich, times_of
from command import names, place, upscale  # noqa: F401  one is a fixture
from test_video_resume import film, killed, same, whole_parts

from upscale_cli.errors import UsageError
from upscale_cli.media.video.options import VideoOptions, seconds_of


def test_a_part_of_a_film_begins_at_nought_and_its_sound_stays_beside_it() -> None:
    source = film(Path("in.mp4"))
    assert upscale("in.mp4", "-o", "out.mp4", "--start", "0.2", "--end", "0:01").exit_code == 0
    kept = [time for time in times_of(source) if Fraction(2, 10) <= time < 1]
    assert times_of(Path("out.mp4")) == [time - kept[0] for time in kept]
    sound = packets_of(source, "audio")
    made = packets_of(Path("out.mp4"), "audio")
    first = float(kept[0] * 1000)
    assert [packet for packet, _ in made] == [packet for packet, at in sound if first <= at < 1000]
    moved = [at - first for _, at in sound if first <= at < 1000]
    assert all(abs(at - expected) <= 1.5 for (_, at), expected in zip(made, moved, strict=True))


def test_chapters_are_cut_with_the_film() -> None:
    rich(Path("in.mkv"), clip(Path("plain.mp4"), sounds=["eng", "deu"]))
    assert upscale("in.mkv", "-o", "out.mkv", "--start", "0.3").exit_code == 0
    with av.open("out.mkv") as made:
        assert [chapter["metadata"] for chapter in made.chapters()] == [{"title": "Two"}]
        assert made.chapters()[0]["start"] == 0


def test_a_cut_film_goes_on_after_a_kill() -> None:
    film(Path("in.mp4"))
    words = ("--start", "0.2")
    killed(*words)
    assert whole_parts("out.mp4") >= 3
    assert upscale("in.mp4", "-o", "out.mp4", "--part-frames", "4", *words).exit_code == 0
    assert upscale("in.mp4", "-o", "straight.mp4", "--part-frames", "4", *words).exit_code == 0
    same(Path("straight.mp4"), Path("out.mp4"))


def test_a_preview_is_three_seconds_of_the_middle_in_a_file_of_its_own() -> None:
    clip(Path("in.mp4"), pan(50, (48, 32)), times=[index * 12800 // 5 for index in range(50)])
    assert upscale("in.mp4", "--preview").exit_code == 0
    assert upscale("in.mp4", "-o", "out.mp4", "--preview").exit_code == 0
    assert names(".") == ["in.mp4", "in_x2_preview.mp4", "out_preview.mp4"]
    assert len(times_of(Path("out_preview.mp4"))) == 15
    whole = pictures_of(Path("in.mp4"))
    first = pictures_of(Path("out_preview.mp4"))[0][:64].reshape(32, 2, 48, 2).mean((1, 3))
    near = min(range(50), key=lambda index: abs(whole[index][:32] - first).mean())
    assert 16 <= near <= 19


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--start", "soon"], "'soon' is no time"),
        (["--start", "2", "--end", "1"], "is no part of a film"),
        (["--start", "99"], "it has no frame between --start and --end"),
        (["--in-place", "-y", "--end", "1"], "would lose the rest of the film"),
    ],
)
def test_times_that_mean_nothing_are_refused(words: list[str], said: str) -> None:
    clip(Path("in.mp4"))
    result = upscale("in.mp4", *words)
    assert result.exit_code in (1, 2)
    assert said in result.stderr
    assert names(".") == ["in.mp4"]


def test_times_are_read_as_people_write_them() -> None:
    assert [seconds_of(words) for words in ("90", "1:30", "0:01:30", "1:0:0.5")] == [90, 90, 90, 3600.5]
    with pytest.raises(UsageError):
        seconds_of("1:2:3:4")


def test_the_window_of_a_preview_lies_in_the_middle_of_what_is_asked_for() -> None:
    assert VideoOptions(preview=True).window(10) == (3.5, 6.5)
    assert VideoOptions(preview=True, start=2, end=8).window(10) == (3.5, 6.5)
    assert VideoOptions(preview=True).window(2) == (0, 3)
    assert VideoOptions().window(10) is None


def test_a_split_film_shows_the_source_on_the_left_and_what_came_of_it_on_the_right() -> None:
    frames = pan(4, (48, 32))
    clip(Path("in.mkv"), frames, times=[index * 512 for index in range(4)], codec="ffv1", pix_fmt="yuv444p")
    for words in ([], ["--split"], ["--split", "--preview"]):
        assert upscale("in.mkv", "--codec", "ffv1", *words).exit_code == 0
    assert names(".") == ["in.mkv", "in_x2.mkv", "in_x2_preview_split.mkv", "in_x2_split.mkv"]
    films = [pictures_of(Path(name)) for name in ("in_x2.mkv", "in_x2_split.mkv", "in.mkv")]
    for whole, split, source in zip(*films, strict=True):
        luma = split[0]
        assert np.array_equal(split[:, :, 49:], whole[:, :, 49:])
        assert (luma[:, 47:49] == 235).all()  # white
        smooth = cv2.resize(source[0], None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC).astype(int)
        errors = [abs(smooth - found)[:, :46].mean() for found in (luma, whole[0])]
        assert errors[0] < 1
        assert errors[1] > 2 * errors[0]
