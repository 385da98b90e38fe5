"""A bench measures what a run would do, keeps what it found, and shows it; seams are those that tiles make."""

import itertools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nearest_engine import NearestEngine
from PIL import Image
from typer.testing import CliRunner, Result

from upscale_cli import bench as verb
from upscale_cli import findings, seams, trial, yardstick
from upscale_cli.bench import BenchRequest
from upscale_cli.cli.app import app
from upscale_cli.engines import open_engine
from upscale_cli.errors import UpscaleError, UsageError
from upscale_cli.trial import Setting

QUICK = {
    "models": ("lightweight-x2",),
    "backends": ("torch",),
    "precisions": ("fp32",),
    "device": "cpu",
    "seconds": 0.01,
}


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Findings of its own, and as little to compute as there can be."""
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(yardstick, "DEPTH", 1)
    monkeypatch.setattr(yardstick, "CPU_SIDE_PX", 32)
    monkeypatch.setattr(yardstick, "SECONDS", 0.001)
    monkeypatch.setattr(verb, "_LEAST_HEIGHT", 64)
    monkeypatch.setattr(verb, "_MOST_HEIGHT", 64)


def request(**settings: object) -> BenchRequest:
    return BenchRequest(**{**QUICK, **settings})  # type: ignore[arg-type]


Opener = Callable[..., NearestEngine]


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Callable[[Opener], None]:
    """Put what a test makes in place of the engines."""

    def use(opener: Opener) -> None:
        monkeypatch.setattr(trial, "open_engine", opener)

    return use


# --- what is measured --------------------------------------------------------------------------------------------


def test_a_network_in_two_precisions() -> None:
    told: list[str] = []
    report = verb.bench(request(precisions=("fp32", "bf16"), tiles=(0, 48)), tell=told.append)
    assert not report.interrupted
    assert report.skipped == report.notes == ()
    assert {(row.precision, row.tile_px) for row in report.rows} == {
        (precision, tile) for precision in ("fp32", "bf16") for tile in (96, 48)
    }
    speeds = [row.in_megapixels_per_second for row in report.rows]
    assert speeds == sorted(speeds, reverse=True)
    for row in report.rows:
        assert (row.model, row.scale, row.backend) == ("lightweight-x2", 2, "torch")
        assert row.out_megapixels_per_second == pytest.approx(4 * row.in_megapixels_per_second)
        assert row.images_per_second == pytest.approx(row.in_megapixels_per_second * 1e6 / (64 * 96))
        through = (row.stages.infer + row.stages.blend) / 1e6
        assert row.frames_720p == pytest.approx(1 / (through * 1280 * 720), rel=0.5)  # medians of sums, sums of medians
        assert row.frames_720p == pytest.approx(row.frames_1080p * 2.25)
        assert min(row.stages.decode, row.stages.infer, row.stages.blend, row.stages.encode) >= 0
        assert row.first_seconds > 0
        assert row.share is not None
        assert row.share > 0
        assert row.psnr is not None
        assert row.psnr == math.inf if row.precision == "fp32" else 45 < row.psnr < 90
    assert [rate.precision for rate in report.rates] == ["fp32", "bf16"]
    assert told[0] == "lightweight-x2 by torch in fp32: first picture"


def test_every_engine_is_measured_unless_one_is_named() -> None:
    report = verb.bench(request(backends=()))
    assert {row.backend for row in report.rows} == {"torch", "openvino"}
    assert all(row.psnr is not None and row.psnr > 80 for row in report.rows)  # all of them in fp32
    assert {found.backend for found in findings.known("lightweight-x2", "cpu")} == {"torch", "openvino"}
    assert report.rates[0].backend in ("torch", "openvino")


def test_what_was_found_is_remembered_and_estimates_go_by_it(tmp_path: Path) -> None:
    from upscale_cli import jobs
    from upscale_cli.request import NetworkOptions, RunRequest
    from upscale_cli.run import forecast

    (row,) = verb.bench(request()).rows
    (found,) = findings.known("lightweight-x2", "cpu")
    assert (found.backend, found.precision, found.tile_px) == ("torch", "fp32", 96)
    assert found.seconds_per_pixel == pytest.approx(1 / (row.frames_720p * 1280 * 720))  # one tile: nothing is shared
    assert (found.first_seconds, found.bytes) == (row.first_seconds, row.memory_bytes)

    Image.new("RGB", (400, 30)).save(tmp_path / "a.png")
    network = NetworkOptions(model="lightweight", device="cpu", precision="fp32", backend="torch", tile_px=200)
    wanted = RunRequest(inputs=(str(tmp_path / "a.png"),), output=tmp_path / "out", network=network)
    (estimate,) = forecast(jobs.plan(wanted)).values()
    assert estimate.tiles == 3
    done = 3 * 152 * 30  # the least multiples of 8 that cover 400 and two times the 20 px that they share
    assert estimate.seconds == pytest.approx(found.seconds_per_pixel * done)


def test_waiting_for_the_engine_is_inference_and_nothing_else(engines: Callable[[Opener], None]) -> None:
    engines(lambda *_, **__: NearestEngine(before=lambda _: time.sleep(0.02)))
    (row,) = verb.bench(request(tiles=(48,))).rows
    tiles = 2 * 3  # of 48 px, on 64 x 96
    assert row.stages.infer >= tiles * 0.02 / (64 * 96 / 1e6)
    assert row.stages.bottleneck == "infer"
    assert row.tile_px == 48


def test_tiles_that_overlap_count_as_often_as_they_are_done(engines: Callable[[Opener], None]) -> None:
    made: list[NearestEngine] = []
    engines(lambda *_, **__: made.append(NearestEngine(before=lambda _: time.sleep(0.01))) or made[-1])
    report = verb.bench(request(tiles=(48,)))
    (row,) = report.rows
    picture = made[0].shapes[:6]
    done = sum(height * width for _, height, width, _ in picture)
    assert done > 64 * 96
    operations = NearestEngine.operations * done
    assert row.operations_per_second < operations / (len(picture) * 0.01)
    assert row.operations_per_second > operations / (len(picture) * 1.0)


@pytest.mark.parametrize("rates", [[2e9, 2e9], [1e9, 3e9]])
def test_the_share_is_of_what_convolutions_reach_meanwhile(monkeypatch: pytest.MonkeyPatch, rates: list[float]) -> None:
    """Some machines run at a third of their rate for seconds at a time: the best of all moments says nothing then."""
    moments = itertools.cycle(rates)
    monkeypatch.setattr(verb.Yardstick, "now", lambda *_: next(moments))
    (row,) = verb.bench(request(seconds=1e-6)).rows  # a picture a turn
    assert row.share == pytest.approx(row.operations_per_second / 2e9)


def test_what_cannot_run_is_told_and_the_rest_goes_on() -> None:
    report = verb.bench(request(models=("lightweight-x2", "realesr-general", "bicubic"), precisions=("fp32", "int8")))
    assert {row.model for row in report.rows} == {"lightweight-x2", "bicubic-x2"}
    reasons = {(each.setting.model, each.setting.precision): each.reason for each in report.skipped}
    assert "int8" in reasons["lightweight-x2", "int8"]
    assert "weights" in reasons["realesr-general-x4", "fp32"]
    (formula,) = [row for row in report.rows if row.model == "bicubic-x2"]
    assert formula.psnr == math.inf


def test_an_engine_that_breaks_on_the_way_is_told(engines: Callable[[Opener], None]) -> None:
    def opener(*_: object, precision: str, **__: object) -> NearestEngine:
        engine = NearestEngine(precision=precision, always=True)
        engine._broken = lambda _: precision == "bf16" and len(engine.shapes) > 1
        return engine

    engines(opener)
    report = verb.bench(request(precisions=("fp32", "bf16")))
    assert [row.precision for row in report.rows] == ["fp32"]
    ((setting, reason),) = [(each.setting, each.reason) for each in report.skipped]
    assert setting == Setting("lightweight-x2", "torch", "bf16", 0)
    assert "no usable picture" in reason


def test_one_that_is_fast_gets_all_turns_of_many_pictures(
    engines: Callable[[Opener], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "MOST_IMAGES", 5)
    engine = NearestEngine()
    engines(lambda *_, **__: engine)
    (row,) = verb.bench(request(seconds=1000)).rows
    assert row.turns == 3
    assert len(engine.shapes) == 1 + 1 + 3 * 5  # to warm up, to learn how long it takes, and the turns


def test_one_that_is_slow_gets_one_turn(engines: Callable[[Opener], None]) -> None:
    engines(lambda *_, **__: NearestEngine(before=lambda _: time.sleep(0.01)))
    (row,) = verb.bench(request(seconds=0.001)).rows
    assert row.turns == 1


def test_an_interrupted_bench_keeps_what_it_found(
    engines: Callable[[Opener], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "MOST_IMAGES", 1)

    def opener(*_: object, precision: str, **__: object) -> NearestEngine:
        engine = NearestEngine(precision=precision)

        def interrupt(_: object) -> None:
            if precision == "bf16" and len(engine.shapes) == 2:  # the first picture, the first turn
                raise KeyboardInterrupt

        engine._before = interrupt
        return engine

    engines(opener)
    report = verb.bench(request(models=("lightweight-x2", "bicubic"), precisions=("fp32", "bf16"), seconds=1000))
    assert report.interrupted
    assert {row.precision for row in report.rows} == {"fp32", "bf16"}
    assert {row.model for row in report.rows} == {"lightweight-x2"}
    assert len(findings.known("lightweight-x2", "cpu")) == 2


def test_a_cache_that_cannot_be_written_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(findings, "remember", full)
    report = verb.bench(request())
    assert len(report.rows) == 1
    assert "no space left" in report.notes[0]


def test_photographs_of_the_user(photos: list[Path], tmp_path: Path) -> None:
    report = verb.bench(request(photos=photos[0].parent))
    assert report.pictures == {"lightweight-x2": "the middle of 8 photographs, at most 96 x 64"}
    with pytest.raises(UsageError, match="holds no picture"):
        verb.bench(request(photos=tmp_path))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"seconds": 0}, "measures nothing"),
        ({"seconds": float("nan")}, "measures nothing"),
        ({"tiles": (-1,)}, "--tile -1"),
        ({"precisions": ("fp64",)}, "--precision fp64"),
        ({"backends": ("caffe",)}, "--engine caffe"),
    ],
)
def test_what_cannot_be_meant(settings: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        request(**settings)


def test_names_nobody_knows() -> None:
    with pytest.raises(UsageError, match="lightweigt"):
        verb.bench(request(models=("lightweigt",)))


# --- seams -------------------------------------------------------------------------------------------------------


def test_seams_vanish_with_the_margin(spices: np.ndarray) -> None:
    engine = open_engine("lightweight", 2, device="cpu", precision="fp32", backend="torch")
    thin, enough = seams.measure(engine, spices, [0, engine.margin])
    assert (thin.overlap_px, enough.overlap_px) == (seams.RAMP_PX, 2 * engine.margin + seams.RAMP_PX)
    assert thin.worst > 3
    assert not thin.enough
    assert enough.worst < 0.01
    assert enough.beyond == 0
    assert enough.enough


def test_a_network_that_looks_at_one_pixel_has_no_seams(spices: np.ndarray) -> None:
    assert [seam.worst for seam in seams.measure(NearestEngine(), spices, [0, 4])] == [0, 0]


@pytest.mark.parametrize("margin", [0, 4, 16, 40])
def test_three_tiles_fill_the_picture_that_seams_are_measured_on(margin: int) -> None:
    from upscale_cli.tiles import plan

    side, length = seams.side_of(margin)
    grid = plan(length, length, tile_px=side, margin=margin)
    assert grid.rows.starts == (0, side - seams.overlap_of(margin), 2 * (side - seams.overlap_of(margin)))


def test_seams_of_the_command() -> None:
    result = upscale("--seams", "-m", "lightweight", "--overlap", "8", "--overlap", "20", "-d", "cpu")
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    assert lines[0][:1] == ["lightweight-x2"]
    assert [line[:6] for line in lines[2:]] == [[f"{o}", "px", f"{m}", "px", "96", "px"] for o, m in ((8, 0), (20, 6))]
    assert lines[2][-1] == "seams"
    assert lines[3][-1] == "used"
    found = json.loads(upscale("--seams", "-m", "lightweight", "--overlap", "20", "--json", "-d", "cpu").output)
    assert found["seams"]["lightweight-x2"][0]["worst"] < 0.01


def test_seams_need_tiles_and_a_photograph_that_holds_them(tmp_path: Path) -> None:
    Image.new("RGB", (50, 50)).save(tmp_path / "small.png")
    with pytest.raises(UsageError, match="needs a photograph of 248 x 248"):
        verb.measure_seams(request(photos=tmp_path / "small.png"), overlaps=(20,))


# --- on the screen -----------------------------------------------------------------------------------------------


def upscale(*words: str) -> Result:
    result = CliRunner().invoke(app, ["bench", *words])
    if isinstance(result.exception, UpscaleError):
        raise result.exception
    return result


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--figure", "a.jpg"), "must end in .png or .svg"),
        (("--figure", "nowhere/a.png"), "no folder nowhere"),
        (("--figure", "a.png", "--seams"), "times nothing"),
    ],
)
def test_a_drawing_that_cannot_be_is_refused_before_anything_is_measured(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        upscale(*words)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    common = ("-m", "lightweight-x2,bicubic", "-d", "cpu", "--engine", "torch", "--precision", "fp32")
    result = upscale(*common, "--seconds", "0.01", "--figure", "bench.svg")
    assert result.exit_code == 0
    assert result.output.count("torch fp32") == 2
    assert (tmp_path / "bench.svg").exists()
    result = upscale("-m", "lightweight", "--precision", "int8", "--engine", "torch", "-d", "cpu", "--json")
    assert result.exit_code == 1
    assert json.loads(result.output)["rows"] == []
    assert upscale("--forget").output == "2 findings forgotten.\n"
    assert upscale("--forget").output == "0 findings forgotten.\n"


def test_ctrl_c_ends_the_command_with_130(engines: Callable[[Opener], None]) -> None:
    def interrupted(*_: object, **__: object) -> NearestEngine:
        raise KeyboardInterrupt

    engines(interrupted)
    assert upscale("-m", "lightweight", "--engine", "torch", "-d", "cpu").exit_code == 130
