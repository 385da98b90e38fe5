"""`upscale eval`: published numbers reproduced, pairs found by name, failures that cost no more than themselves."""

import math
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from upscale_cli.errors import InputError, UsageError
from upscale_cli.evaluate import EvalRequest, Files, Step, evaluate, make_pair, pair_by_name, read_pair, read_rgb8
from upscale_cli.evaluate.contestants import Contestant
from upscale_cli.media.resize import imresize


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path, spices: np.ndarray) -> Path:
    """Two small HR images of sizes that no scale divides."""
    save(tmp_path / "hr" / "a.png", spices[100:163, 100:181])
    save(tmp_path / "hr" / "b.png", spices[200:250, 300:359])
    return tmp_path / "hr"


@pytest.mark.parametrize(("scale", "psnr"), [(2, 33.66), (3, 30.39), (4, 28.42)])
def test_bicubic_scores_on_set5_as_in_every_paper(set5: Path, scale: int, psnr: float) -> None:
    (model,) = evaluate(EvalRequest(models=("bicubic",), scale=scale, data=set5, device="cpu")).models
    assert len(model.images) == 5
    assert model.scores["psnr_y"] == pytest.approx(psnr, abs=0.02)
    assert model.scores["ssim_y"] == pytest.approx({2: 0.930, 3: 0.868, 4: 0.810}[scale], abs=0.003)


def test_a_report_carries_how_it_was_made(folder: Path) -> None:
    told: list[Step] = []
    report = evaluate(EvalRequest(models=("bicubic",), scale=4, data=folder, device="cpu"), progress=told.append)
    (model,) = report.models
    assert [step.image.name for step in told] == [image.name for image in model.images] == ["a.png", "b.png"]
    assert [(step.done, step.total) for step in told] == [(1, 2), (2, 2)]
    assert (model.model, model.network, model.precision, report.scale) == ("bicubic", "bicubic-x4", "fp32", 4)
    assert "border of 4 px" in report.protocol
    assert "imresize" in report.low_resolution
    first, second = (image.scores for image in model.images)
    assert model.scores["psnr_rgb"] == pytest.approx((first["psnr_rgb"] + second["psnr_rgb"]) / 2)
    assert first["psnr_y"] > first["psnr_rgb"] > 15
    assert report.whole


def test_models_beside_each_other_are_scored_as_each_alone(folder: Path) -> None:
    names = ("bicubic", "lanczos", "lightweight")
    together = evaluate(EvalRequest(models=names, scale=2, data=folder, device="cpu"))
    alone = [evaluate(EvalRequest(models=(name,), scale=2, data=folder, device="cpu")) for name in names]
    assert [model.images for model in together.models] == [report.models[0].images for report in alone]
    assert together.fingerprint == alone[0].fingerprint
    assert [model.parameters for model in together.models] == [0, 0, 41_516]
    bicubic, lanczos, lightweight = (model.scores["psnr_y"] for model in together.models)
    assert lightweight > lanczos > bicubic


def test_the_last_scores_are_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close = Contestant.close

    def slow(contestant: Contestant, name: str, *, whole: bool) -> None:
        time.sleep(0.05)
        close(contestant, name, whole=whole)

    monkeypatch.setattr(Contestant, "close", slow)
    report = evaluate(EvalRequest(models=("bicubic", "lanczos"), scale=2, data=folder, device="cpu"))
    assert [len(model.images) for model in report.models] == [report.pictures] * 2
    assert all(model.scores["psnr_y"] > 15 for model in report.models)


def test_a_model_that_cannot_run_costs_its_row_alone(folder: Path) -> None:
    names = ("nosuch", "bicubic", "edsr-x2", "swinir")
    report = evaluate(EvalRequest(models=names, scale=4, data=folder, device="cpu"))
    assert [bool(model.images) for model in report.models] == [False, True, False, False]
    errors = [model.error or "" for model in report.models]
    assert "There is no model 'nosuch'" in errors[0]
    assert "edsr-x2 has the native scale 2, not 4" in errors[2]
    assert "No weights for swinir-x4" in errors[3]
    assert not report.whole
    with pytest.raises(UsageError, match="There is no model"):
        evaluate(EvalRequest(models=("nosuch",), data=folder))


def test_one_image_and_no_image(folder: Path, tmp_path: Path) -> None:
    assert len(evaluate(EvalRequest(models=("bicubic",), scale=2, data=folder / "a.png")).fingerprints) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no picture to score on"):
        evaluate(EvalRequest(models=("bicubic",), scale=2, data=tmp_path / "empty"))


def test_a_picture_that_cannot_be_read_costs_itself_alone(folder: Path) -> None:
    whole = evaluate(EvalRequest(models=("bicubic",), scale=2, data=folder))
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:200])
    save(folder / "small.png", np.zeros((1, 40, 3), np.uint8))
    report = evaluate(EvalRequest(models=("bicubic",), scale=2, data=folder))
    assert report.models[0].images == whole.models[0].images
    assert (report.pictures, len(report.fingerprints), report.whole) == (4, 2, False)
    assert [problem.name for problem in report.problems] == ["broken.png", "small.png"]
    assert "too small for x2" in report.problems[1].reason
    with pytest.raises(InputError, match="too small for x2"):
        evaluate(EvalRequest(models=("bicubic",), scale=2, data=folder / "small.png"))


def test_a_picture_equal_to_its_original_has_no_part_in_the_mean(tmp_path: Path, spices: np.ndarray) -> None:
    save(tmp_path / "flat.png", np.full((40, 40, 3), 90, np.uint8))
    save(tmp_path / "photo.png", spices[:40, :40])
    (model,) = evaluate(EvalRequest(models=("bicubic",), scale=2, data=tmp_path, device="cpu")).models
    flat, photo = model.images
    assert flat.scores["psnr_y"] == math.inf
    assert model.scores["psnr_y"] == photo.scores["psnr_y"] < 60
    assert (model.without_error("psnr_y"), model.without_error("ssim_y")) == (1, 0)


def test_low_resolution_from_a_folder_scores_as_if_made_here(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        save(tmp_path / "lr" / f"{path.stem}x2.png", make_pair(path.name, read_rgb8(path), 2).lr)
    made = evaluate(EvalRequest(models=("bicubic",), scale=2, data=folder))
    read = evaluate(EvalRequest(models=("bicubic",), scale=2, data=folder, lr=tmp_path / "lr"))
    assert read.models[0].images == made.models[0].images
    assert read.fingerprint == made.fingerprint
    assert read.low_resolution == f"read from {tmp_path / 'lr'}"


def test_partners_are_found_by_name(folder: Path, tmp_path: Path, spices: np.ndarray) -> None:
    files = sorted(folder.iterdir())
    first = save(tmp_path / "lr" / "a_x4.png", spices[:15, :20])
    partners = pair_by_name(files, tmp_path / "lr", 4)
    assert partners == {files[0]: first, files[1]: None}
    with pytest.raises(InputError, match=r"b\.png has no partner: expected one named b or bx4 or b_x4"):
        read_pair("b.png", Files(files[1], partners[files[1]], paired=True), 4)
    second = save(tmp_path / "lr" / "b.png", spices[:12, :14])
    assert pair_by_name(files, tmp_path / "lr", 4) == {files[0]: first, files[1]: second}


def test_a_partner_of_the_wrong_size_is_named(folder: Path, tmp_path: Path, spices: np.ndarray) -> None:
    partner = save(tmp_path / "lr" / "a.png", spices[:30, :40])
    with pytest.raises(InputError, match=r"lr/a\.png is 40 x 30; times 2 .* a\.png, which is 81 x 63"):
        read_pair("a.png", Files(folder / "a.png", partner, paired=True), 2)
    fitting = save(tmp_path / "lr" / "a.png", spices[:31, :40])
    assert read_pair("a.png", Files(folder / "a.png", fitting, paired=True), 2).hr.shape == (62, 80, 3)


def test_a_pair_is_cut_from_the_top_left(spices: np.ndarray) -> None:
    hr = spices[:63, :81]
    pair = make_pair("a", hr, 4)
    assert np.array_equal(pair.hr, hr[:60, :80])
    assert np.array_equal(pair.lr, imresize(hr[:60, :80], 15, 20))
    with pytest.raises(InputError, match="a is 81 x 3: too small for x4"):
        make_pair("a", hr[:3], 4)


def test_scores_are_taken_on_8_bit_rgb(tmp_path: Path, spices: np.ndarray) -> None:
    grey = spices[:20, :30, 1]
    assert np.array_equal(read_rgb8(save(tmp_path / "grey.png", grey)), np.repeat(grey[..., None], 3, axis=2))
    deep = grey.astype(np.uint16) * 257 + 100
    assert np.array_equal(read_rgb8(save(tmp_path / "deep.png", deep))[..., 0], grey)
