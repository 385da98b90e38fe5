"""--temporal: what a network adds flickers less, nothing of the frame before stays, and resuming changes nothing."""

import signal
import time
from pathlib import Path

import numpy as np
import pytest
from clips import clip, packets_of, pan, pictures_of, times_of
from command import place, program, upscale  # noqa: F401  one is a fixture
from PIL import Image
from test_video_resume import PARTS, film, same, whole_parts

from upscale_cli.calm import Calm
from upscale_cli.errors import UsageError
from upscale_cli.media.frame import Frame
from upscale_cli.media.video.options import VideoOptions
from upscale_cli.metrics.fidelity import psnr
from upscale_cli.metrics.flicker import warping_error
from upscale_cli.metrics.protocol import luma
from upscale_cli.motion import Motion

HEIGHT, WIDTH = 128, 192


def sources(spices: np.ndarray, count: int = 5) -> list[np.ndarray]:
    """A pan of 3 x 2 pixels a frame."""
    return [np.ascontiguousarray(spices[100 + 2 * i : 164 + 2 * i, 100 + 3 * i : 196 + 3 * i]) for i in range(count)]


def plain(source: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(source).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def noisy(films: list[np.ndarray]) -> list[np.ndarray]:
    """What a network that flickers makes of them."""
    chance = np.random.default_rng(2)
    return [(plain(f) + chance.normal(0, 5, (HEIGHT, WIDTH, 3))).clip(0, 255).astype(np.uint8) for f in films]


def calmed(
    films: list[np.ndarray], made: list[np.ndarray], strength: float = 1, rows: int = HEIGHT
) -> list[np.ndarray]:
    """Through strips of so many rows."""
    calm = Calm(strength)
    found: list[np.ndarray] = []
    for source, picture in zip(films, made, strict=True):
        strips = (Frame(picture[top : top + rows]) for top in range(0, HEIGHT, rows))
        found.append(np.concatenate([s.color for s in calm.strips(Frame(source), strips, HEIGHT, WIDTH)]))
    return found


def error(films: list[np.ndarray], made: list[np.ndarray]) -> float:
    """The warping error of the last two frames."""
    grey = [np.rint(luma(source)).astype(np.uint8) for source in films[-2:]]
    return warping_error(luma(made[-1]), luma(made[-2]), Motion.between(*grey).enlarged(HEIGHT, WIDTH))


def test_what_was_added_flickers_less_the_more_is_asked_for_and_comes_nearer(spices: np.ndarray) -> None:
    films = sources(spices)
    made = noisy(films)
    errors = [error(films, calmed(films, made, strength)) for strength in (0, 0.3, 0.6, 1)]
    assert errors[0] == pytest.approx(error(films, made))
    assert errors[3] < errors[2] < errors[1] < errors[0]
    assert errors[3] < 0.8 * errors[0]
    assert psnr(calmed(films, made)[-1], plain(films[-1])) > psnr(made[-1], plain(films[-1])) + 1


def test_at_strength_0_and_at_the_beginning_every_pixel_stays(spices: np.ndarray) -> None:
    films = sources(spices, 3)
    made = noisy(films)
    assert all(np.array_equal(a, b) for a, b in zip(calmed(films, made, 0), made, strict=True))
    assert np.array_equal(calmed(films, made)[0], made[0])


def test_strips_make_what_the_whole_makes(spices: np.ndarray) -> None:
    films = sources(spices, 3)
    made = noisy(films)
    for rows in (64, 128):
        assert all(np.array_equal(a, b) for a, b in zip(calmed(films, made, 1, rows), calmed(films, made), strict=True))


def test_a_cut_shows_nothing_of_the_scene_before(spices: np.ndarray, photos: list[Path]) -> None:
    with Image.open(photos[0]) as image:
        other = np.asarray(image.convert("RGB"))[50:114, 50:146]
    films = [*sources(spices, 2), np.ascontiguousarray(other)]
    made = noisy(films)
    assert np.array_equal(calmed(films, made)[2], made[2])


def test_what_moves_leaves_no_ghost(spices: np.ndarray) -> None:
    ground = np.ascontiguousarray(spices[300:364, 400:496])
    before, now = ground.copy(), ground.copy()
    before[20:44, 20:44] = (250, 250, 250)
    now[20:44, 60:84] = (250, 250, 250)
    films = [before, now]
    made = [plain(before).copy(), plain(now)]
    made[0][40:88, 40:88] = (0, 250, 0)  # the network draws something onto what then goes away
    gone = calmed(films, made)[1][40:88, 40:88].astype(int) - made[1][40:88, 40:88]
    assert np.abs(gone).max() <= 2


def test_a_frame_that_repeats_comes_out_the_same(spices: np.ndarray) -> None:
    films = [*sources(spices, 2), sources(spices, 2)[1]]
    made = noisy(films)
    found = calmed(films, [*made[:2], made[1]])
    assert not np.array_equal(found[1], made[1])
    assert np.array_equal(found[2], found[1])


@pytest.mark.parametrize(("channels", "deep"), [(1, False), (1, True), (3, True)])
def test_grey_and_16_bits_are_calmed_alike(spices: np.ndarray, channels: int, deep: bool) -> None:
    films = sources(spices, 3)
    made, wide = noisy(films), np.uint16 if deep else np.uint8
    usual = calmed(films, made)
    factor = 257 if deep else 1
    calm = Calm(1)
    for source, picture, expected in zip(films, made, usual, strict=True):
        frame = Frame(source[..., :channels].astype(wide) * factor)
        strips = [Frame(picture[..., :channels].astype(wide) * factor)]
        (found,) = calm.strips(frame, strips, HEIGHT, WIDTH)
        assert (found.color.dtype, found.channels) == (wide, channels)
        if channels == 3:
            assert np.abs(found.color / factor - expected).mean() < 0.5  # 8 bits were rounded


def test_a_film_killed_and_resumed_is_the_film_made_in_one_go() -> None:
    film(Path("in.mp4"))
    words = [*PARTS, "--temporal", "1"]
    for name, more in (("plain.mp4", []), ("straight.mp4", ["--temporal", "1"])):
        assert upscale("in.mp4", "-o", name, *PARTS, *more).exit_code == 0
    before = 0
    for kill in range(2):
        child = program("in.mp4", "-o", "out.mp4", *words, pause=0.02)
        with child:
            until = time.monotonic() + 60
            while whole_parts("out.mp4") < before + 2 and child.poll() is None:
                assert time.monotonic() < until
                time.sleep(0.005)
            child.send_signal(signal.SIGKILL if kill else signal.SIGINT)
            child.communicate()
        before = whole_parts("out.mp4")
        assert before
    assert upscale("in.mp4", "-o", "out.mp4", *words).exit_code == 0
    same(Path("straight.mp4"), Path("out.mp4"))
    assert times_of(Path("plain.mp4")) == times_of(Path("straight.mp4"))
    assert packets_of(Path("plain.mp4"), "video") != packets_of(Path("straight.mp4"), "video")


def test_parts_begin_anew_so_the_first_frame_of_each_is_the_network_s_own() -> None:
    clip(Path("in.mkv"), pan(6), times=[512 * i for i in range(6)], codec="ffv1", pix_fmt="yuv444p")
    for name, words in (("plain.mkv", []), ("calm.mkv", ["--temporal", "1"])):
        assert upscale("in.mkv", "-o", name, "--codec", "ffv1", "--part-frames", "3", *words).exit_code == 0
    pairs = zip(pictures_of(Path("plain.mkv")), pictures_of(Path("calm.mkv")), strict=True)
    assert [np.array_equal(a, b) for a, b in pairs] == [True, False, False, True, False, False]


def test_what_means_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--temporal 1\.5 means nothing"):
        VideoOptions(temporal=1.5)
    assert VideoOptions(temporal=0.1).remembers
