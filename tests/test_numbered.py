"""Numbered pictures, `shots/%06d.png`, are a film: in, out, and broken off in the middle."""

import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import clip, pan, times_of
from command import ended, names, place, program, upscale  # noqa: F401  one is a fixture
from PIL import Image

from upscale_cli.errors import UsageError
from upscale_cli.media.metadata import srgb_profile
from upscale_cli.media.video.options import VideoOptions
from upscale_cli.numbered import Numbered

COUNT = 12


def shots(first: int = 1, *, alpha: bool = False, count: int = COUNT, **save: object) -> list[np.ndarray]:
    """`shots/0001.png` and so on."""
    Path("shots").mkdir()
    frames = pan(count, (48, 32))
    for index, pixels in enumerate(frames):
        cover = np.full((32, 48, int(alpha)), 20 * index, np.uint8)
        Image.fromarray(np.concatenate([pixels, cover], 2)).save(f"shots/{first + index:04}.png", **save)
    return frames


def film(**options: object) -> Path:
    frames = pan(COUNT, (48, 32))
    times = [index * 512 for index in range(COUNT)]
    return clip(Path("in.mkv"), frames, times=times, codec="ffv1", pix_fmt="yuv444p", **options)  # type: ignore[arg-type]


def read(path: str | Path) -> np.ndarray:
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert found is not None
    return found


def test_a_film_becomes_pictures_numbered_from_one() -> None:
    film(sounds=["eng"])
    result = upscale("in.mkv", "-o", "out/%03d.png")
    assert result.exit_code == 0, result.stderr
    assert names("out") == [f"{number:03}.png" for number in range(1, COUNT + 1)]
    assert "audio dropped: pictures have none. --fps 25 makes a film of them again" in result.stdout
    for index, pixels in enumerate(pan(COUNT, (48, 32)), 1):
        made = read(f"out/{index:03}.png")[..., ::-1]
        assert abs(made.astype(int) - pixels.repeat(2, 0).repeat(2, 1)).max() <= 6  # by way of YUV
    assert not list(Path("out").glob(".*.made"))


def test_frames_of_more_than_eight_bits_become_pictures_of_sixteen() -> None:
    clip(Path("in.mkv"), times=[0, 512], codec="ffv1", pix_fmt="yuv420p10le")
    assert upscale("in.mkv", "--frames").exit_code == 0
    assert names("in_x2") == ["000001.png", "000002.png"]
    made = read("in_x2/000001.png")
    assert (made.dtype, made.shape) == (np.uint16, (96, 128, 3))
    assert len(np.unique(made)) > 256


def test_numbered_pictures_become_a_film_at_the_rate_that_is_said() -> None:
    frames = shots()
    result = upscale("shots/%04d.png", "--fps", "29.97", "-o", "out.mkv", "--codec", "ffv1")
    assert result.exit_code == 0, result.stderr
    at = [Fraction(index * 1001, 30000) for index in range(COUNT)]
    assert max(abs(a - b) for a, b in zip(times_of(Path("out.mkv")), at, strict=True)) <= Fraction(1, 2000)
    with av.open("out.mkv") as made:
        for pixels, frame in zip(frames, made.decode(video=0), strict=True):
            assert np.array_equal(frame.to_ndarray(format="rgb24"), pixels.repeat(2, 0).repeat(2, 1))


def test_such_a_film_is_one_that_players_show() -> None:
    shots()
    result = upscale("shots/%04d.png", "--fps", "25")
    assert result.exit_code == 0, result.stderr
    assert times_of(Path("shots/shots_x2.mp4")) == [Fraction(index, 25) for index in range(COUNT)]
    with av.open("shots/shots_x2.mp4") as made:
        frame = next(made.decode(video=0))
        assert made.streams.video[0].average_rate == 25
    assert (frame.format.name, frame.colorspace, frame.color_trc, frame.color_range) == ("yuv420p", 1, 13, 1)


def test_pictures_to_pictures_keep_numbers_transparency_and_profile() -> None:
    shots(first=7, alpha=True, icc_profile=srgb_profile())
    assert upscale("shots/%04d.png", "-o", "out/a%d.png").exit_code == 0
    assert sorted(names("out")) == sorted(f"a{number}.png" for number in range(7, 7 + COUNT))
    assert (read("out/a9.png")[..., 3] == 40).all()
    with Image.open("out/a9.png") as image:
        assert image.info["icc_profile"] == srgb_profile()
    result = upscale("shots/%04d.png", "--fps", "25", "-o", "out.mp4")
    assert "transparency dropped" in result.stdout
    assert "colour profile dropped" in result.stdout


def test_a_part_of_numbered_pictures_keeps_their_numbers() -> None:
    shots(first=100)
    assert upscale("shots/%04d.png", "--fps", "10", "--start", "0.5", "--end", "0.8", "-o", "out/%d.png").exit_code == 0
    assert names("out") == ["105.png", "106.png", "107.png"]


def test_a_missing_number_is_named() -> None:
    shots()
    Path("shots/0004.png").unlink()
    Path("shots/0007.png").unlink()
    result = upscale("shots/%04d.png", "--fps", "25", "-o", "out.mp4")
    assert result.exit_code == 1
    assert "0004.png is missing, and 1 more between 1 and 12" in result.stderr


def test_a_picture_of_another_size_is_named() -> None:
    shots()
    Image.fromarray(pan(1)[0]).save("shots/0005.png")
    result = upscale("shots/%04d.png", "--fps", "25", "-o", "out.mp4")
    assert result.exit_code == 1
    assert "shots/0005.png is 64 x 48, the first of them 48 x 32" in result.stderr
    assert not Path("out.mp4").exists()


def killed_film_to_pictures() -> dict[str, int]:
    film()
    with program("in.mkv", "-o", "out/%03d.png", pause=0.03) as child:
        while len(list(Path("out").glob("0*.png"))) < 4 and child.poll() is None:
            time.sleep(0.005)
        child.kill()
        child.communicate()
    made = {path.name: path.stat().st_mtime_ns for path in Path("out").glob("0*.png")}
    assert 4 <= len(made) < COUNT
    return made


def test_pictures_that_a_killed_run_made_are_not_made_again() -> None:
    before = killed_film_to_pictures()
    refused = upscale("out/%03d.png", "--fps", "25", "-o", "early.mp4")
    assert "not all of them are made yet" in refused.stderr
    code, _, errors = ended(program("in.mkv", "-o", "out/%03d.png"))
    assert code == 0, errors
    after = {path.name: path.stat().st_mtime_ns for path in Path("out").glob("0*.png")}
    assert sum(after[name] != at for name, at in before.items()) <= 1  # that which the kill came between to note
    assert upscale("in.mkv", "-o", "straight/%03d.png").exit_code == 0
    for name in names("straight"):
        assert np.array_equal(read(f"out/{name}"), read(f"straight/{name}"))
    again = upscale("in.mkv", "-o", "out/%03d.png")
    assert "1 done by an earlier run" in again.stderr


def test_other_settings_make_all_of_them_again_with_a_word() -> None:
    killed_film_to_pictures()
    result = upscale("in.mkv", "-o", "out/%03d.png", "-s", "3")
    assert result.exit_code == 0, result.stderr
    assert "begun afresh" in result.stdout
    assert {read(path).shape for path in Path("out").glob("0*.png")} == {(96, 144, 3)}


def test_what_stands_there_is_not_replaced_unasked_and_what_is_left_of_it_is_told() -> None:
    film()
    Path("out").mkdir()
    for number in (1, 99):
        Image.fromarray(pan(1)[0]).save(f"out/{number:03}.png")
    before = Path("out/001.png").read_bytes()
    assert "exists" in upscale("in.mkv", "-o", "out/%03d.png").stderr
    assert Path("out/001.png").read_bytes() == before
    result = upscale("in.mkv", "-o", "out/%03d.png", "--overwrite")
    assert "1 more pictures of such a name were there before: 099.png" in result.stdout
    assert names("out")[-1] == "099.png"


def test_a_folder_of_numbered_pictures_stays_a_batch_and_leaves_out_results() -> None:
    shots(count=3)
    assert upscale("shots/%04d.png").exit_code == 0
    result = upscale("shots", "-o", "out")
    assert "3 results of earlier runs left out" in result.stderr
    assert names("out") == ["0001_x2.png", "0002_x2.png", "0003_x2.png"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["shots/%04d.png", "-o", "out.mp4"], 1, "Say --fps, such as --fps 25"),
        (["shots/%04d.png", "--preview"], 1, "Say --fps"),
        (["shots/%04d.png", "--fps", "many", "-o", "out.mp4"], 2, "--fps many means nothing"),
        (["shots", "--fps", "25"], 2, "--fps is for numbered pictures"),
        (["shots", "--frames"], 2, "--frames is for films"),
        (["shots/0001.png", "-o", "out/%03d.png"], 1, "is a picture, which %03d.png is not for"),
        (["shots/%04d.png", "-o", "out/%03d"], 2, "need the ending of a picture"),
        (["shots/%05d.png", "-o", "out.mp4", "--fps", "25"], 2, "no picture has such a name"),
        (["shots/%04d.png", "-o", "shots/%04d.png"], 1, "is the picture itself"),
        (["shots/%04d.png", "--in-place", "-y"], 1, "--in-place is for their folder"),
        (["shots/%04d.png", "--frames", "-o", "out.mp4"], 2, "makes pictures of a film"),
    ],
)
def test_wishes_that_cannot_be_meant_are_refused(words: list[str], code: int, said: str) -> None:
    shots(count=2)
    result = upscale(*words)
    assert (result.exit_code, said in result.stderr) == (code, True), result.stderr
    assert (names("."), names("shots")) == (["shots"], ["0001.png", "0002.png"])


def test_a_name_with_a_number_is_read_as_printf_writes_it(tmp_path: Path) -> None:
    six, plain = Numbered.of(tmp_path / "a_%06d.b.png"), Numbered.of(tmp_path / "%d.png")
    assert six is not None
    assert plain is not None
    assert [six.file(7).name, plain.file(7).name] == ["a_000007.b.png", "7.png"]
    assert [six.number(name) for name in ("a_000007.b.png", "a_1000000.b.png", "a_7.b.png", "a_000007.png")] == [
        7, 1000000, None, None,
    ]  # fmt: skip
    assert plain.number("07.png") is None
    assert Numbered.of(tmp_path / "%06d_%d.png") is None
    (tmp_path / "%d.png").touch()
    assert Numbered.of(tmp_path / "%d.png") is None


@pytest.mark.parametrize(
    ("said", "rate"), [("25", Fraction(25)), ("23.976", Fraction(24000, 1001)), ("30000/1001", Fraction(30000, 1001)),
                       ("12.5", Fraction(25, 2))],
)  # fmt: skip
def test_rates_are_those_of_television_where_they_are_meant(said: str, rate: Fraction) -> None:
    assert VideoOptions(fps=said).rate == rate
    with pytest.raises(UsageError):
        VideoOptions(fps="0")
