"""`upscale eval`: published numbers reproduced, pairs found by name, and errors that name the pair."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from upscale_cli.errors import InputError, UsageError
from upscale_cli.evaluate import EvalRequest, evaluate, make_pair, pair_by_name, read_pairs, read_rgb8
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
    report = evaluate(EvalRequest(model="bicubic", scale=scale, data=set5, device="cpu"))
    assert len(report.images) == 5
    assert report.mean.psnr_y == pytest.approx(psnr, abs=0.02)
    assert report.mean.ssim_y == pytest.approx({2: 0.930, 3: 0.868, 4: 0.810}[scale], abs=0.003)


def test_a_report_carries_how_it_was_made(folder: Path) -> None:
    told: list[str] = []
    report = evaluate(
        EvalRequest(model="bicubic", scale=4, data=folder, device="cpu"), progress=lambda image: told.append(image.name)
    )
    assert told == [image.name for image in report.images] == ["a.png", "b.png"]
    assert (report.model, report.scale, report.precision) == ("bicubic-x4", 4, "fp32")
    assert "border of 4 px" in report.protocol
    assert "imresize" in report.low_resolution
    first, second = (image.scores for image in report.images)
    assert report.mean.psnr_rgb == pytest.approx((first.psnr_rgb + second.psnr_rgb) / 2)
    assert first.psnr_y > first.psnr_rgb > 15


def test_one_image_and_no_image(folder: Path, tmp_path: Path) -> None:
    assert len(evaluate(EvalRequest(model="bicubic", scale=2, data=folder / "a.png")).images) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no picture to score on"):
        evaluate(EvalRequest(model="bicubic", scale=2, data=tmp_path / "empty"))


def test_low_resolution_from_a_folder_scores_as_if_made_here(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        save(tmp_path / "lr" / f"{path.stem}x2.png", make_pair(path.name, read_rgb8(path), 2).lr)
    made = evaluate(EvalRequest(model="bicubic", scale=2, data=folder))
    read = evaluate(EvalRequest(model="bicubic", scale=2, data=folder, lr=tmp_path / "lr"))
    assert read.images == made.images
    assert read.low_resolution == f"read from {tmp_path / 'lr'}"


def test_partners_are_found_by_name(folder: Path, tmp_path: Path, spices: np.ndarray) -> None:
    files = sorted(folder.iterdir())
    first = save(tmp_path / "lr" / "a_x4.png", spices[:15, :20])
    with pytest.raises(UsageError, match=r"b\.png has no partner in .*lr: expected one named b or bx4 or b_x4"):
        pair_by_name(files, tmp_path / "lr", 4)
    second = save(tmp_path / "lr" / "b.png", spices[:12, :14])
    assert pair_by_name(files, tmp_path / "lr", 4) == {files[0]: first, files[1]: second}


def test_a_partner_of_the_wrong_size_is_named(folder: Path, tmp_path: Path, spices: np.ndarray) -> None:
    partner = save(tmp_path / "lr" / "a.png", spices[:30, :40])
    with pytest.raises(InputError, match=r"lr/a\.png is 40 x 30; times 2 .* a\.png, which is 81 x 63"):
        next(read_pairs({folder / "a.png": partner}, 2))
    fitting = save(tmp_path / "lr" / "a.png", spices[:31, :40])
    assert next(read_pairs({folder / "a.png": fitting}, 2)).hr.shape == (62, 80, 3)


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
