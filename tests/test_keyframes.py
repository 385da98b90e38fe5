"""--keyframe-model: strong where a film stands still, never worse than the light network, nothing kept over a cut."""

import itertools
import json
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import clip, packets_of, pan, pictures_of
from command import place, program, upscale  # noqa: F401  one is a fixture
from nearest_engine import NearestEngine
from PIL import Image
from test_video_resume import PARTS, film, killed, same, whole_parts

from upscale_cli import jobs
from upscale_cli.engines import open_engine
from upscale_cli.engines.interface import Floats, Tiles
from upscale_cli.enlarge import Upscaler
from upscale_cli.errors import UsageError
from upscale_cli.keyframes import Keyframes
from upscale_cli.media.frame import Canvas, Frame
from upscale_cli.media.job import Job, PictureOptions
from upscale_cli.media.video.options import VideoOptions
from upscale_cli.metrics.fidelity import psnr
from upscale_cli.metrics.protocol import luma
from upscale_cli.networks import Combination
from upscale_cli.pipeline import process
from upscale_cli.request import NetworkOptions, RunRequest
from upscale_cli.run import run

SIZE = (64, 96)
KEYS = ["--keyframe-model", "improved"]


class Sharper(NearestEngine):
    """Nearest neighbour, with edges made stronger."""

    def infer(self, tiles: Tiles) -> Floats:
        enlarged = super().infer(tiles)
        return np.stack([each + (each - cv2.blur(each, (5, 5))) / 2 for each in enlarged]).clip(0, 1)


def opener(model: object, scale: int | None = None, pause: float = 0.0, **_: object) -> NearestEngine:
    """Nearest neighbour for bicubic, and sharper for any other."""
    kind = NearestEngine if str(model).startswith("bicubic") else Sharper
    return kind(scale or 2, name=str(model), before=lambda _: time.sleep(pause))


@pytest.fixture(scope="module")
def networks() -> tuple[Upscaler, Upscaler]:
    """A light one and a strong one that ship."""
    light, strong = (
        open_engine(name, 2, device="cpu", precision="fp32", backend="torch") for name in ("lightweight", "improved")
    )
    return Upscaler([light]), Upscaler([strong])


@pytest.fixture
def fakes() -> tuple[Upscaler, Upscaler]:
    return Upscaler([NearestEngine()]), Upscaler([Sharper()])


def window(photo: np.ndarray, down: int, right: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.ascontiguousarray(photo[down : down + size[0], right : right + size[1]])


def moving(photo: np.ndarray, count: int) -> list[np.ndarray]:
    """A pan of 3 x 1 pixels a frame."""
    return [window(photo, 100 + index, 100 + 3 * index) for index in range(count)]


def keyed(networks: tuple[Upscaler, Upscaler], frames: Sequence[np.ndarray], every: int = 4) -> list[np.ndarray]:
    """What comes of frames in a row."""
    light, strong = networks
    keyframes = Keyframes(strong, every)
    keyframes.begin(None)
    made: list[np.ndarray] = []
    for frame in map(Frame, frames):
        canvas, picture = Canvas(2 * frame.height), None
        size = (2 * frame.height, 2 * frame.width)
        for strip in keyframes.strips(frame, light.strips(frame, *size), *size):
            picture = canvas.add(strip)
        assert picture
        made.append(picture.color)
    return made


def alone(upscaler: Upscaler, frame: np.ndarray) -> np.ndarray:
    return upscaler.enlarge(Frame(frame), 2 * frame.shape[0], 2 * frame.shape[1]).color


def asked(networks: tuple[Upscaler, Upscaler]) -> int:
    """How often the strong network was, of frames that are one tile."""
    return len(networks[1]._networks[0].engine.shapes)  # type: ignore[attr-defined]


def test_a_film_that_stands_still_is_the_strong_network_s_picture(
    networks: tuple[Upscaler, Upscaler], spices: np.ndarray
) -> None:
    frame = window(spices, 100, 100)
    best = alone(networks[1], frame)
    assert not np.array_equal(best, alone(networks[0], frame))
    for made in keyed(networks, [frame] * 6, every=2):
        np.testing.assert_array_equal(made, best)


def test_what_stands_still_beside_what_moves_is_too(fakes: tuple[Upscaler, Upscaler], spices: np.ndarray) -> None:
    frames = [window(spices, 100, 100) for _ in range(6)]
    for index, frame in enumerate(frames):
        frame[:8, index : index + 8] = 255 - frame[:8, index : index + 8]
    for frame, made in zip(frames, keyed(fakes, frames), strict=True):
        np.testing.assert_array_equal(made[60:], alone(fakes[1], frame)[60:])
    assert asked(fakes) - 6 == 2


def test_a_pan_is_nearer_to_the_truth_than_by_the_light_network_and_flickers_no_more(
    networks: tuple[Upscaler, Upscaler], spices: np.ndarray
) -> None:
    truth = [window(spices, 100 + index, 100 + 3 * index, (128, 192)) for index in range(9)]
    frames = [np.asarray(Image.fromarray(each).resize((96, 64), Image.Resampling.BICUBIC)) for each in truth]
    light, strong, made = *([alone(each, frame) for frame in frames] for each in networks), keyed(networks, frames)

    def fidelity(film: list[np.ndarray]) -> float:
        return psnr(np.concatenate(film), np.concatenate(truth))

    def flicker(film: list[np.ndarray]) -> float:
        apart = np.stack([luma(a) - luma(b) for a, b in zip(film, truth, strict=True)])
        return float(np.abs(np.diff(apart, axis=0)).mean())

    assert fidelity(light) + 0.02 < fidelity(made) < fidelity(strong)
    assert flicker(made) < 1.01 * flicker(light)


def test_a_cut_begins_with_the_strong_network_s_picture_and_shows_nothing_of_the_scene_before(
    fakes: tuple[Upscaler, Upscaler], spices: np.ndarray, photos: list[Path]
) -> None:
    with Image.open(photos[0]) as image:
        other = moving(np.asarray(image.convert("RGB")), 2)
    made = keyed(fakes, [*moving(spices, 2), *other], every=100)
    assert asked(fakes) == 2
    np.testing.assert_array_equal(made[2], alone(fakes[1], other[0]))
    for picture, expected in zip(made[2:], keyed(fakes, other, every=100), strict=True):
        np.testing.assert_array_equal(picture, expected)


def test_between_keyframes_less_is_shown_than_the_strong_network_adds(
    fakes: tuple[Upscaler, Upscaler], spices: np.ndarray
) -> None:
    frames = moving(spices, 7)
    made = keyed(fakes, frames, every=3)
    light, strong = ([alone(each, frame).astype(float) for frame in frames] for each in fakes)
    shares = [
        float(((c - a) * (b - a)).sum() / np.square(b - a).sum()) for a, b, c in zip(light, strong, made, strict=True)
    ]
    assert shares[0] == pytest.approx(1)
    assert [shares[3], shares[6]] == pytest.approx([0.4, 0.4], abs=0.01), "no more on keyframes"
    assert all(0.1 < share < 0.4 for share in (shares[1], shares[2], shares[4], shares[5]))


def test_a_film_with_keyframes_goes_on_at_whole_parts_only() -> None:
    assert VideoOptions(keyframe_every=12).remembers
    assert not VideoOptions().remembers


def test_every_frame_a_keyframe_is_the_strong_network_alone(
    fakes: tuple[Upscaler, Upscaler], spices: np.ndarray
) -> None:
    frames = moving(spices, 3)
    for frame, made in zip(frames, keyed(fakes, frames, every=1), strict=True):
        np.testing.assert_array_equal(made, alone(fakes[1], frame))


def test_frames_that_repeat_come_out_the_same(fakes: tuple[Upscaler, Upscaler], spices: np.ndarray) -> None:
    frames = [frame for frame in moving(spices, 6) for _ in range(3)]
    made = keyed(fakes, frames, every=2)
    for index in range(0, len(made), 3):
        np.testing.assert_array_equal(made[index], made[index + 1])
        np.testing.assert_array_equal(made[index], made[index + 2])


def test_a_film_that_comes_to_stand_is_made_strong_once(fakes: tuple[Upscaler, Upscaler], spices: np.ndarray) -> None:
    frames = moving(spices, 3)
    made = keyed(fakes, [*frames, *[frames[-1]] * 9], every=100)
    assert asked(fakes) == 2
    changes = [not np.array_equal(a, b) for a, b in itertools.pairwise(made[2:])]
    assert changes == [False] * 3 + [True] + [False] * 5
    np.testing.assert_array_equal(made[-1], alone(fakes[1], frames[-1]))


def test_tiles_of_two_networks_need_not_be_alike(fakes: tuple[Upscaler, Upscaler], spices: np.ndarray) -> None:
    frames = moving(spices, 3)
    tiled = Upscaler([NearestEngine()], tile_px=40), Upscaler([Sharper()], tile_px=56)
    for a, b in zip(keyed(tiled, frames), keyed(fakes, frames), strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1


@pytest.mark.parametrize(("channels", "deep"), [(1, False), (1, True), (3, True)])
def test_grey_and_16_bits_are_keyed_alike(
    fakes: tuple[Upscaler, Upscaler], spices: np.ndarray, channels: int, deep: bool
) -> None:
    factor, wide = (257, np.uint16) if deep else (1, np.uint8)
    frames = [frame[..., :channels].astype(wide) * wide(factor) for frame in moving(spices, 3)]
    made = keyed(fakes, frames)
    assert {(picture.dtype, picture.shape[2]) for picture in made} == {(np.dtype(wide), channels)}
    assert np.abs(made[0].astype(int) - alone(fakes[1], frames[0])).max() <= 1
    if channels == 3:
        for a, b in zip(made, keyed(fakes, moving(spices, 3)), strict=True):
            assert np.abs(a / factor - b).mean() < 0.5  # 8 bits were rounded


def test_every_part_of_a_film_begins_with_a_keyframe_and_the_film_says_how_many(spices: np.ndarray) -> None:
    clip(Path("in.mkv"), moving(spices, 7), times=[512 * i for i in range(7)], codec="ffv1", pix_fmt="yuv444p")
    sharper = Sharper(name="sharper")
    for target, more, notes in (
        ("out.mkv", {"part_frames": 3}, ("sharper on 3 of 7 frames",)),
        ("two.mkv", {"part_frames": 3, "temporal": 1.0, "split": True}, ("sharper on 3 of 7 frames",)),
        ("one.mkv", {}, ("sharper on 1 of 7 frames",)),
    ):
        job = Job(Path("in.mkv"), Path(target), "MATROSKA", 2 * SIZE[0], 2 * SIZE[1], "key")
        options = PictureOptions(video=VideoOptions(codec="ffv1", keyframe_every=12, **more))
        (result,) = process([job], Upscaler([NearestEngine()]), options, strong=Upscaler([sharper]))
        assert (result.error, result.notes) == (None, notes)
    pairs = zip(pictures_of(Path("out.mkv")), pictures_of(Path("one.mkv")), strict=True)
    assert [np.array_equal(a, b) for a, b in pairs] == [True] * 3 + [False] * 4


def test_a_film_killed_and_resumed_is_the_film_made_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run.__kwdefaults__, "opener", opener)
    film(Path("in.mp4"))
    words = [*PARTS, *KEYS, "--keyframe-every", "3"]
    for name, more in (("plain.mp4", []), ("straight.mp4", words[2:])):
        assert upscale("in.mp4", "-o", name, *PARTS, *more).exit_code == 0
    slowly = f"import functools; from {__name__} import opener; run.run.__kwdefaults__['opener'] = "
    before = 0
    for kill in (signal.SIGKILL, signal.SIGINT):
        child = program("in.mp4", "-o", "out.mp4", *words, before=slowly + "functools.partial(opener, pause=0.02)")
        with child:
            until = time.monotonic() + 60
            while whole_parts("out.mp4") < before + 2 and child.poll() is None:
                assert time.monotonic() < until
                time.sleep(0.005)
            child.send_signal(kill)
            child.communicate()
        before = whole_parts("out.mp4")
        assert before
    assert upscale("in.mp4", "-o", "out.mp4", *words).exit_code == 0
    same(Path("straight.mp4"), Path("out.mp4"))
    assert packets_of(Path("plain.mp4"), "video") != packets_of(Path("straight.mp4"), "video")


@pytest.mark.parametrize("words", [[*KEYS, "--keyframe-every", "5"], ["--keyframe-model", "edsr"], []])
def test_other_keyframes_begin_afresh_with_a_word(words: list[str]) -> None:
    film(Path("in.mp4"))
    killed(*KEYS)
    result = upscale("in.mp4", "-o", "out.mp4", *PARTS, *words)
    assert result.exit_code == 0
    assert "what an earlier run left of it was made otherwise: begun afresh" in result.stdout


def test_plan_start_and_result_name_both_networks() -> None:
    clip(Path("in.mkv"), pan(4), times=[512 * i for i in range(4)])
    (planned,) = json.loads(upscale("in.mkv", *KEYS, "--keyframe-every", "2", "--dry-run", "--json").stdout)["plan"]
    assert planned["forecast"]["tiles"] == 4 + 2
    assert (planned["networks"], planned["keyframe_networks"]) == (["bicubic-x2"], ["improved-x2"])
    assert "bicubic-x2, improved-x2 on keyframes" in upscale("in.mkv", *KEYS, "--dry-run").stdout
    said = upscale("in.mkv", *KEYS, "-v")
    assert "nearest on cpu in fp32 by numpy, nearest on keyframes" in said.stderr
    assert "nearest on 1 of 4 frames" in said.stdout
    assert "bicubic-x2, improved-x2 on keyframes" in said.stdout


def test_several_processes_make_the_same_films(place: Path) -> None:  # noqa: F811
    folder, times = place / "in", [512 * i for i in range(5)]
    folder.mkdir()
    for name, size in (("a.mkv", (48, 32)), ("b.mkv", (32, 48))):
        clip(folder / name, pan(5, size), times=times)
    for out, devices in (("one", "cpu"), ("two", "cpu,cpu")):
        network = NetworkOptions(
            model=Combination(("bicubic",)), keyframe_model=Combination(("improved",)), device=devices
        )
        picture = PictureOptions(video=VideoOptions(keyframe_every=2))
        request = RunRequest(inputs=(str(folder),), output=place / out, network=network, picture=picture)
        report = run(request, opener=opener)
        assert [file.notes for file in report.files] == [("improved-x2 on 3 of 5 frames",)] * 2
    for name in ("a_x2.mkv", "b_x2.mkv"):
        same_pictures = zip(pictures_of(place / "one" / name), pictures_of(place / "two" / name), strict=True)
        assert all(np.array_equal(a, b) for a, b in same_pictures)


def test_pictures_go_without_it_and_are_told_so(photos: list[Path]) -> None:
    with Image.open(photos[0]) as image:
        image.resize((48, 32)).save("a.png")
    clip(Path("b.mkv"), pan(2), times=[0, 512])
    said = upscale("a.png", "b.mkv", "-o", "out", *KEYS)
    assert said.exit_code == 0
    assert "--keyframe-model is for films: 1 picture without it." in said.stderr
    assert "done by an earlier run" in upscale("a.png", "-o", "out").stderr, "the picture is the same as without"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--keyframe-model", "imprved"], "There is no model 'imprved'. Did you mean 'improved'"),
        (["--keyframe-model", "bicubic"], "--keyframe-model bicubic is a formula"),
        (["--keyframe-model", "auto"], "--keyframe-model takes the name of a model"),
        ([*KEYS, "--keyframe-every", "0"], "--keyframe-every 0 means nothing. Use 1 or more."),
        (["--keyframe-every", "3"], "--keyframe-every is for --keyframe-model. Name the model"),
    ],
)
def test_what_means_nothing_is_refused(words: list[str], complaint: str) -> None:
    clip(Path("in.mp4"))
    result = upscale("in.mp4", *words)
    assert result.exit_code == 2
    assert complaint in result.stderr


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        ("improved", "improved is what every frame goes through already. Name a lighter model .* -m lightweight"),
        ("improved-x2", "is what every frame goes through already"),
        ("auto", "--model auto does not choose what improved is to stand beside. Name it: -m lightweight"),
    ],
)
def test_a_model_is_no_keyframe_model_beside_itself(model: str, complaint: str) -> None:
    clip(Path("in.mp4"))
    network = NetworkOptions(model=Combination((model,)), keyframe_model=Combination(("improved",)))
    picture = PictureOptions(video=VideoOptions(keyframe_every=3))
    with pytest.raises(UsageError, match=complaint):
        jobs.plan(RunRequest(inputs=("in.mp4",), network=network, picture=picture))


def test_a_film_no_larger_than_its_source_asks_no_network(spices: np.ndarray) -> None:
    sharper = Sharper()
    small = Frame(window(spices, 100, 100))
    keyframes, light = Keyframes(Upscaler([sharper]), 1), Upscaler([NearestEngine()])
    (made,) = keyframes.strips(small, light.strips(small, 32, 48), 32, 48)
    np.testing.assert_array_equal(made.color, light.enlarge(small, 32, 48).color)
    assert (sharper.shapes, keyframes.notes) == ([], ())
