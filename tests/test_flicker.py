"""The flicker score: values known by hand, of frames and of whole films, enlarged here or made already."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from clips import clip
from PIL import Image
from typer.testing import CliRunner

from upscale_cli.cli.app import app
from upscale_cli.errors import UsageError
from upscale_cli.evaluate import EvalReport, EvalRequest, evaluate
from upscale_cli.evaluate.compare import compare
from upscale_cli.metrics.flicker import flicker, warping_error
from upscale_cli.metrics.protocol import NoValueError, Since, luma
from upscale_cli.motion import Motion
from upscale_cli.render.scores import to_json

COUNT = 5
TIMES = [index * 512 for index in range(COUNT)]


def still(shape: tuple[int, int]) -> Motion:
    return Motion(np.zeros((*shape, 2), np.float32), np.ones(shape, np.bool_))


def test_a_film_that_stands_still_has_none(spices: np.ndarray) -> None:
    assert warping_error(luma(spices), luma(spices), still(spices.shape[:2])) == pytest.approx(0, abs=1e-5)


def test_noise_of_every_frame_counts_as_its_deviation_times_the_root_of_two() -> None:
    plane = np.full((200, 300), 120.0)
    first, second = plane + np.random.default_rng(0).normal(0, 3, (2, 200, 300))
    assert warping_error(second, first, still(plane.shape)) == pytest.approx(3 * math.sqrt(2), rel=0.02)


def test_a_pan_has_next_to_none_where_the_motion_is_known(spices: np.ndarray) -> None:
    before, now = luma(spices[100:200, 100:220]), luma(spices[100:200, 107:227])
    motion = Motion(np.full((100, 120, 2), (7, 0), np.float32), np.ones((100, 120), np.bool_))
    assert warping_error(now, before, motion) < 1e-4
    assert warping_error(now, before, still((100, 120))) > 10


def test_what_is_hidden_counts_nothing_and_a_cut_has_no_value(spices: np.ndarray) -> None:
    now = luma(spices)
    before, known = now.copy(), np.ones(now.shape, np.bool_)
    before[:100], known[:100] = 0, False
    motion = Motion(np.zeros((*now.shape, 2), np.float32), known)
    assert warping_error(now, before, motion) < 1e-4
    known[:300] = False
    with pytest.raises(NoValueError, match="less than half"):
        warping_error(now, before, Motion(motion.flow, known))


def test_the_source_s_own_error_is_taken_off(spices: np.ndarray) -> None:
    since = Since(spices, still(spices.shape[:2]), 1.25)
    assert flicker(luma(spices), since) == pytest.approx(-1.25, abs=1e-5)
    for missing in (None, Since(spices, still(spices.shape[:2]), math.nan)):
        with pytest.raises(NoValueError):
            flicker(luma(spices), missing)


def film(path: Path, frames: list[np.ndarray]) -> Path:
    """Without loss."""
    path.parent.mkdir(exist_ok=True)
    return clip(path, frames, times=TIMES[: len(frames)], codec="ffv1", pix_fmt="bgr0")


@pytest.fixture
def frames(spices: np.ndarray) -> list[np.ndarray]:
    """A pan of 2 x 4 pixels a frame."""
    return [np.ascontiguousarray(spices[100 + 2 * i : 164 + 2 * i, 100 + 4 * i : 228 + 4 * i]) for i in range(COUNT)]


def doubled(frames: list[np.ndarray]) -> list[np.ndarray]:
    return [np.asarray(Image.fromarray(f).resize((2 * f.shape[1], 2 * f.shape[0]), Image.BICUBIC)) for f in frames]


def test_a_film_without_an_original_is_scored_beside_films_made_of_it(tmp_path: Path, frames: list[np.ndarray]) -> None:
    source, chance = film(tmp_path / "in.mkv", frames), np.random.default_rng(1)
    made = doubled(frames)
    film(tmp_path / "calm.mkv", made)
    noisy = [(f + chance.normal(0, 6, f.shape)).clip(0, 255).astype(np.uint8) for f in made]
    film(tmp_path / "noisy.mkv", noisy)
    request = EvalRequest(
        models=("bicubic",), made=(tmp_path / "calm.mkv", tmp_path / "noisy.mkv"), lr=source, device="cpu"
    )
    report = evaluate(request)
    assert (list(report.metrics), report.frames, report.scale, report.whole) == (["flicker"], COUNT, 2, True)
    bicubic, calm, worse = (model.scores["flicker"] for model in report.models)
    assert abs(bicubic) < 0.05
    assert abs(calm) < 0.3
    assert worse > 2
    assert report.originals == {}
    assert report.source_error is not None
    assert report.source_error > 0
    assert "DIS flow" in report.protocol


def test_against_originals_every_frame_counts_alike(tmp_path: Path, frames: list[np.ndarray]) -> None:
    path = film(tmp_path / "hr.mkv", frames)
    told: list[int] = []
    models = ("bicubic", "lightweight")
    # Tiles of a given size: chosen ones go by the memory that is free.
    request = EvalRequest(models=models, scale=2, data=path, device="cpu", tile_px=64)
    report = evaluate(request, progress=lambda step: told.append(step.total))
    assert told == [2 * COUNT] * (2 * COUNT)
    assert list(report.metrics) == ["psnr_y", "ssim_y", "psnr_rgb", "flicker"]
    assert list(report.originals) == ["flicker"]
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, pixels in enumerate(frames):
        Image.fromarray(pixels).save(folder / f"{index}.png")
    singles = evaluate(EvalRequest(models=models, scale=2, data=folder, device="cpu", tile_px=64))
    for film_row, row in zip(report.models, singles.models, strict=True):
        for name in singles.metrics:
            assert film_row.scores[name] == pytest.approx(row.scores[name], abs=1e-9)
    assert compare(report, to_json(report))
    with pytest.raises(UsageError, match="flicker: single pictures have none"):
        evaluate(EvalRequest(models=("bicubic",), data=folder, metrics=("flicker",)))


def test_folders_of_films_are_paired_by_name(tmp_path: Path, frames: list[np.ndarray]) -> None:
    for name in ("a", "b"):
        film(tmp_path / "lr" / f"{name}.mkv", frames[:3])
        film(tmp_path / "hr" / f"{name}.mkv", doubled(frames[:3]))
        film(tmp_path / "out" / f"{name}_x2.mkv", doubled(frames[: 3 if name == "a" else 2]))
    report = evaluate(EvalRequest(made=(tmp_path / "out",), data=tmp_path / "hr", lr=tmp_path / "lr"))
    (row,) = report.models
    assert [image.name for image in row.images] == ["a.mkv"]
    assert row.scores["psnr_y"] == math.inf
    assert row.error == "b.mkv: b_x2.mkv ends after 2 frames."
    assert not report.whole


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("short", "other.mkv ends after 3 frames"),
        ("long", "other.mkv has more frames than the 3 it is compared with"),
        ("size", "other.mkv is 128 x 64, not 256 x 128. Give the --scale"),
    ],
)
def test_a_film_that_does_not_belong_to_the_source_is_named(
    tmp_path: Path, frames: list[np.ndarray], change: str, reason: str
) -> None:
    source = film(tmp_path / "in.mkv", frames[:3] if change == "long" else frames)
    made = {"short": doubled(frames)[:3], "long": doubled(frames), "size": frames}[change]
    report = evaluate(EvalRequest(made=(film(tmp_path / "other.mkv", made),), lr=source, scale=2))
    (row,) = report.models
    assert not row.images
    assert reason in (row.error or "")


def test_what_cannot_be_scored_says_what_is_missing(tmp_path: Path, frames: list[np.ndarray]) -> None:
    source = film(tmp_path / "in.mkv", frames[:2])
    Image.fromarray(frames[0]).save(tmp_path / "in.png")
    with pytest.raises(UsageError, match="Give --data"):
        EvalRequest(models=("bicubic",))
    with pytest.raises(UsageError, match=r"what in\.mkv was made of: --lr FILM"):
        EvalRequest(made=(source,), data=source)
    with pytest.raises(UsageError, match=r"psnr_y: needs an original\. Give --data"):
        evaluate(EvalRequest(models=("bicubic",), lr=source, metrics=("psnr_y",)))
    with pytest.raises(UsageError, match="holds pictures and films"):
        evaluate(EvalRequest(models=("bicubic",), data=tmp_path))
    with pytest.raises(UsageError, match="only films are scored"):
        evaluate(EvalRequest(models=("bicubic",), lr=tmp_path / "in.png"))


def test_the_command_prints_score_and_protocol(tmp_path: Path, frames: list[np.ndarray]) -> None:
    source = film(tmp_path / "in.mkv", frames[:3])
    made = film(tmp_path / "out.mkv", doubled(frames[:3]))
    words = ["eval", str(made), "--lr", str(source), "-d", "cpu"]
    table = CliRunner().invoke(app, words)
    assert table.exit_code == 0
    text = " ".join(table.stdout.split())
    for part in ("1 films, 3 frames", "Flicker (lower is better): warping error", "(after Lai 2018)", "bicubic: "):
        assert part in text
    printed = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert printed["models"][0]["scores"]["flicker"] == pytest.approx(0, abs=0.3)
    report = evaluate(EvalRequest(made=(made,), lr=source))
    assert isinstance(report, EvalReport)
    assert CliRunner().invoke(app, [*words, "--figure", str(tmp_path / "a.png")]).exit_code != 0
