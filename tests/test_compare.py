"""`upscale eval --compare` and `--figure`: no regression passes, nothing incomparable is compared, and crops fit."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_render_scores import ALONE, REPORT

from upscale_cli import render
from upscale_cli.errors import UsageError
from upscale_cli.evaluate import EvalReport, EvalRequest, ImageScore, evaluate, read_rgb8
from upscale_cli.evaluate.compare import compare, read_baseline
from upscale_cli.evaluate.exhibit import detailed_square, exhibits, most_different
from upscale_cli.render.scores import to_json


def having(*scores: dict[str, float]) -> EvalReport:
    images = tuple(ImageScore(name, each) for name, each in zip(("a.png", "[b].png"), scores, strict=True))
    return replace(REPORT, models=(replace(ALONE, images=images),))


WHOLE = having({"psnr_y": 30.0, "ssim_y": 0.9}, {"psnr_y": 32.0, "ssim_y": 0.8})


@pytest.mark.parametrize(
    ("psnr", "ssim", "regressed"),
    [(32.0, 0.8, []), (31.985, 0.8, []), (31.97, 0.8, ["psnr_y"]), (40.0, 0.7997, ["ssim_y"]), (40.0, 0.79985, [])],
)
def test_a_regression_is_what_exceeds_the_tolerance_in_the_mean(psnr: float, ssim: float, regressed: list[str]) -> None:
    now = having({"psnr_y": 30.0, "ssim_y": 0.9}, {"psnr_y": psnr, "ssim_y": ssim})
    changes = compare(now, to_json(WHOLE))
    assert [change.metric for change in changes if change.regressed] == regressed
    assert changes[0].difference == pytest.approx((psnr - 32) / 2)


def test_a_picture_that_equalled_its_original_must_still() -> None:
    perfect = having({"psnr_y": math.inf, "ssim_y": 1.0}, {"psnr_y": 32.0, "ssim_y": 0.8})
    spoiled = having({"psnr_y": 60.0, "ssim_y": 1.0}, {"psnr_y": 32.0, "ssim_y": 0.8})
    assert [change.regressed for change in compare(spoiled, to_json(perfect))] == [True, False]
    assert not any(change.regressed for change in compare(perfect, to_json(spoiled)))
    assert not any(change.regressed for change in compare(perfect, to_json(perfect)))


def test_what_means_something_else_is_not_compared(tmp_path: Path) -> None:
    for other, words in (
        (replace(WHOLE, fingerprints={"c.png": "3"}), "other pictures"),
        (replace(WHOLE, scale=2), "its scale is 2, not 4"),
        (replace(WHOLE, pixels="whole"), "its protocol is 'whole', not 'border cut'"),
        (replace(WHOLE, metrics={"psnr_y": "RGB", "ssim_y": "window"}), "its protocol of psnr_y is another"),
        (replace(WHOLE, models=()), "no scores of edsr"),
        (replace(WHOLE, metrics={"fid": ""}), "none of psnr_y, ssim_y"),
    ):
        with pytest.raises(UsageError, match=words):
            compare(WHOLE, to_json(other))
    with pytest.raises(UsageError, match="cannot be read: no such file"):
        read_baseline(tmp_path / "none.json")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(UsageError, match="is not what `upscale eval --json` prints"):
        read_baseline(tmp_path / "list.json")


def test_the_table_of_changes(capsys: pytest.CaptureFixture[str]) -> None:
    now = having({"psnr_y": 30.0, "ssim_y": 0.9}, {"psnr_y": 31.0, "ssim_y": 0.8})
    changes = compare(now, to_json(WHOLE))
    render.evaluation(now, changes, as_json=False)
    assert capsys.readouterr().out.splitlines()[-2].split()[-2:] == ["-0.500", "REGRESSED"]
    render.evaluation(now, changes, as_json=True)
    assert json.loads(capsys.readouterr().out)["changes"][0]["regressed"] is True


def test_crops_stand_side_by_side_where_the_detail_is(tmp_path: Path, spices: np.ndarray) -> None:
    data = tmp_path / "data"
    data.mkdir()
    Image.fromarray(spices[:200, :260]).save(data / "spices.png")
    Image.fromarray(np.full((80, 80, 3), 70, np.uint8)).save(data / "flat.png")
    request = EvalRequest(models=("bicubic", "lightweight"), scale=2, data=data, device="cpu")
    report = evaluate(request)
    assert most_different(report) == ["spices.png", "flat.png"]
    rows = exhibits(request, report)
    assert [cell.label.split()[0] for cell in rows[0]] == ["spices.png:", "bicubic", "lightweight", "HR"]
    hr = read_rgb8(data / "spices.png")
    side = len(rows[0][-1].pixels)
    top, left = detailed_square(hr, side, step=2)
    assert np.array_equal(rows[0][-1].pixels, hr[top : top + side, left : left + side])
    assert all(cell.pixels.shape == (side, side, 3) for cell in rows[0])
    errors = [np.abs(cell.pixels.astype(int) - rows[0][-1].pixels).mean() for cell in rows[0]]
    assert errors[0] > errors[1] > errors[2] > errors[3] == 0
    render.write_crops(rows, tmp_path / "crops.png")
    with Image.open(tmp_path / "crops.png") as page:
        assert page.width == 4 * (side + 4) + 4
    with pytest.raises(UsageError, match="must end in"):
        render.check_crops(tmp_path / "crops.pdf")
