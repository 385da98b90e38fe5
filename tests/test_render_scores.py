"""What `upscale eval` shows: the same numbers in the table, JSON and CSV, and no part that passes for the whole."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from upscale_cli import render
from upscale_cli.errors import UsageError
from upscale_cli.evaluate import EvalReport, ImageScore, ModelReport, Problem

ALONE = ModelReport(
    model="edsr",
    network="edsr-x4",
    precision="fp32",
    backend="torch",
    device="cpu",
    parameters=1_517_571,
    gmacs_720p=114.2,
    seconds=2.5,
    scores={"psnr_y": 31.0, "ssim_y": 0.85},
    images=(
        ImageScore("a.png", {"psnr_y": 30.0, "ssim_y": 0.9}),
        ImageScore("[b].png", {"psnr_y": 32.0, "ssim_y": 0.8}),
    ),
)
FLOOR = replace(ALONE, model="bicubic", parameters=0, gmacs_720p=None, scores={"psnr_y": 28.0, "ssim_y": 0.7})
REPORT = EvalReport(
    data="[Set5]",
    scale=4,
    low_resolution="bicubic",
    pixels="border cut",
    metrics={"psnr_y": "Y", "ssim_y": "window"},
    fingerprints={"a.png": "1", "[b].png": "2"},
    models=(ALONE,),
    pictures=2,
)


def shown(report: EvalReport, capsys: pytest.CaptureFixture[str]) -> str:
    render.evaluation(report, as_json=False)
    return capsys.readouterr().out


def test_one_model_is_shown_picture_by_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table = shown(REPORT, capsys)
    rows = [line.split() for line in table.splitlines()]
    assert rows[1:3] == [["a.png", "30.00", "0.9000"], ["[b].png", "32.00", "0.8000"]]
    assert rows[4] == ["edsr", "31.00", "0.8500", "1,517,571", "114.2", "2.5"]
    for words in ("[Set5]: 2 pictures, x4; low resolution: bicubic", "all metrics: border cut", "PSNR-Y: Y", "fp32 by"):
        assert words in table
    render.evaluation(REPORT, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed["models"][0]["scores"] == {"psnr_y": 31.0, "ssim_y": 0.85}
    assert printed["models"][0]["images"][1] == {"name": "[b].png", "scores": {"psnr_y": 32.0, "ssim_y": 0.8}}
    assert (printed["whole"], printed["fingerprint"]) == (True, REPORT.fingerprint)
    render.write_scores(REPORT, tmp_path / "scores.csv")
    rows = list(csv.reader((tmp_path / "scores.csv").read_text().splitlines()))
    assert rows[0] == ["model", "image", "psnr_y", "ssim_y"]
    assert rows[3] == ["edsr", "mean", "31.0000", "0.850000"]
    with pytest.raises(UsageError, match="cannot be written"):
        render.write_scores(REPORT, tmp_path)


def test_several_models_are_rows_of_one_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    failed = ModelReport(model="hat", error="No weights for hat")
    report = replace(REPORT, models=(FLOOR, ALONE, failed))
    lines = shown(report, capsys).splitlines()
    assert [line.split() for line in lines[1:4]] == [
        ["bicubic", "28.00", "0.7000", "-", "-", "2.5"],
        ["edsr", "31.00", "0.8500", "1,517,571", "114.2", "2.5"],
        ["hat", "-", "-", "-", "-", "-"],
    ]
    assert "hat: No weights for hat" in lines
    render.write_scores(report, tmp_path / "scores.csv")
    rows = list(csv.reader((tmp_path / "scores.csv").read_text().splitlines()))
    assert [row[:2] for row in rows[1:]] == [[m, i] for m in ("bicubic", "edsr") for i in ("a.png", "[b].png", "mean")]


def test_what_was_not_scored_is_said_aloud(capsys: pytest.CaptureFixture[str]) -> None:
    problems = tuple(Problem(f"{index}.png", f"{index}.png is bad.") for index in range(25))
    broken = replace(ALONE, error="[b].png: NaN", images=ALONE.images[:1])
    text = shown(replace(REPORT, models=(broken,), pictures=27, problems=problems), capsys)
    assert "INCOMPLETE: 2 of 27 pictures were scored" in text
    assert "  not scored: 19.png is bad.\n  and 5 more\n" in text
    assert "edsr: INCOMPLETE: 1 of 2 pictures; [b].png: NaN" in text


def test_values_that_json_has_no_number_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    images = (
        ImageScore("a.png", {"psnr_y": math.inf, "ssim_y": math.nan}),
        ImageScore("b.png", {"psnr_y": 30.0, "ssim_y": 0.5}),
    )
    report = replace(REPORT, models=(replace(ALONE, images=images),))
    text = shown(report, capsys)
    assert text.splitlines()[1].split() == ["a.png", "inf", "-"]
    assert "edsr: PSNR-Y of 1 pictures is infinite: they equal their originals and are not in the mean" in text
    assert "edsr: SSIM-Y has no value for 1 pictures, which are too small or too plain" in text
    render.evaluation(report, as_json=True)
    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert printed["models"][0]["images"][0]["scores"] == {"psnr_y": "Infinity", "ssim_y": None}
    render.write_scores(report, tmp_path / "scores.csv")
    assert (tmp_path / "scores.csv").read_text().splitlines()[1] == "edsr,a.png,inf,"
