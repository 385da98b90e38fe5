"""The report of a training: what it holds, that it says what happened, and that it can be looked at."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from upscale_cli import render
from upscale_cli.evaluate import EvalRequest, evaluate
from upscale_cli.render.curves import draw_curves, ticks
from upscale_cli.render.triptych import draw_triptych, farthest_off
from upscale_cli.train.card import card, read_facts
from upscale_cli.train.config import TrainConfig, parse_config
from upscale_cli.train.validation import Sample
from upscale_cli.train.verb import TrainReport, TrainRequest, train

CONFIG = TrainConfig(
    variant="lightweight/x2-tiny",
    steps=12,
    batch=2,
    patch_px=16,
    precision="fp32",
    validate_every=3,
    metrics=("psnr_y", "ssim_y", "delta_e"),
    best_by="delta_e",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, spices: np.ndarray) -> TrainReport:
    folder = tmp_path_factory.mktemp("trained")
    for name, number in (("data", 2), ("valid", 8)):
        (folder / name).mkdir()
        for index in range(number):
            cut = spices[40 * index : 40 * index + 80, 50 * index : 50 * index + 100]
            Image.fromarray(cut).save(folder / name / f"{index}.png")
    request = TrainRequest(
        config=CONFIG, data=(str(folder / "data"),), valid=(str(folder / "valid"),), folder=folder / "out", device="cpu"
    )
    report = train(request)
    assert report
    return report


@pytest.fixture(scope="module")
def folder(trained: TrainReport) -> Path:
    return render.write_report(trained)


def test_the_report_holds_curves_pictures_settings_facts_and_a_card(trained: TrainReport, folder: Path) -> None:
    assert folder == trained.weights.parent / "report"
    names = {path.name for path in folder.iterdir()}
    pictures = {f"{kind}-{index}.png" for kind in ("best", "worst") for index in (1, 2, 3)}
    assert names == {"README.md", "config.toml", "curves.png", "training.json", *pictures}
    assert parse_config(tomllib.loads((folder / "config.toml").read_text()), origin="") == CONFIG
    assert read_facts(folder) == trained.facts
    assert render.write_report(trained) == folder, "an older report is replaced"
    assert not list(folder.parent.glob(".*"))


def test_its_scores_are_those_of_eval(trained: TrainReport) -> None:
    assert trained.verdict
    valid = trained.weights.parent.parent / "valid"
    request = EvalRequest(models=(trained.weights,), data=valid, metrics=CONFIG.metrics, device="cpu")
    expected = evaluate(request).models[0]
    assert trained.verdict.scores == pytest.approx(dict(expected.scores), rel=1e-6)
    by_ssim = sorted(trained.verdict.images, key=lambda image: -image.scores["ssim_y"])
    assert [sample.name for sample in trained.verdict.best] == [image.name for image in by_ssim[:3]]
    assert [sample.name for sample in trained.verdict.worst] == [image.name for image in by_ssim[:-4:-1]]


def test_the_best_step_is_that_of_the_metric_named(trained: TrainReport) -> None:
    validated = {row["step"]: row["delta_e"] for row in trained.history if "delta_e" in row}
    assert list(validated) == [3, 6, 9, 12]
    assert trained.facts.best_step == min(validated, key=lambda step: validated[step])


def test_the_card_opens_with_what_the_hub_reads(trained: TrainReport, folder: Path) -> None:
    _, head, body = (folder / "README.md").read_text().split("---\n", 2)
    front = yaml.safe_load(head)
    assert front["license"] == "apache-2.0"
    assert front["pipeline_tag"] == "image-to-image"
    assert {"super-resolution", "lightweight", "x2"} <= set(front["tags"])
    (result,) = front["model-index"][0]["results"]
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert trained.verdict
    assert values == pytest.approx(dict(trained.verdict.scores), abs=1e-4)
    assert "12 steps of 2 patches from data;" in body
    assert str(trained.weights.parent) not in body, "whose folders they are is nobody's business"
    front = yaml.safe_load(card(trained.facts, name="a/b", license="mit").split("---\n")[1])
    assert (front["license"], front["model-index"][0]["name"]) == ("mit", "a/b")


def test_what_is_printed(trained: TrainReport, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    render.training(trained, folder, as_json=False)
    said = capsys.readouterr().out
    assert f"Use it with `upscale PATH -m {trained.weights}`." in said
    assert "validation: PSNR-Y " in said
    render.training(trained, folder, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["scores"] == dict(trained.facts.scores or {})
    assert len(document["images"]) == 8


def test_curves_have_a_panel_a_quantity_and_a_line_a_training(tmp_path: Path) -> None:
    one = [
        {"step": 10.0 * n, "loss": 1 / n, "loss_l1": 0.5 / n, "loss_gan": 0.5 / n, "psnr_y": 20.0 + n}
        for n in (1, 2, 3)
    ]
    other = [{"step": 10.0 * n, "loss": 2 / n, "psnr_y": 19.0 + n} for n in (1, 2, 3)]
    draw_curves({"one": one, "other": other}, tmp_path / "two.svg")
    drawn = (tmp_path / "two.svg").read_text()
    for words in ("loss by step", "PSNR-Y by step", ">one<", ">other<"):
        assert words in drawn
    assert drawn.count('stroke-width="1.5"') == 4
    draw_curves({"one": one}, tmp_path / "one.svg")
    drawn = (tmp_path / "one.svg").read_text()
    assert all(f">{name}<" in drawn for name in ("all", "l1", "gan"))
    draw_curves({"one": one[:1]}, tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as image:
        assert np.asarray(image.convert("L")).std() > 5


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 300) == [0, 50, 100, 150, 200, 250, 300]
    assert ticks(23.1, 25.02) == [23.5, 24.0, 24.5, 25.0]
    assert ticks(0.83, 0.8412) == pytest.approx([0.83, 0.832, 0.834, 0.836, 0.838, 0.84])


def test_a_triptych_shows_the_place_that_is_farthest_off(spices: np.ndarray) -> None:
    hr = spices[:200, :300]
    sr = hr.copy()
    sr[120:150, 210:250] = 255 - sr[120:150, 210:250]
    top, left = farthest_off(sr, hr, 64)
    assert top <= 120
    assert top + 64 >= 150
    assert left <= 210
    assert left + 64 >= 250
    image = np.asarray(draw_triptych(Sample("a.png", {"psnr_y": 20.0, "ssim_y": 0.5}, hr[::2, ::2], sr, hr)))
    crops = image[-412:-12].astype(int)
    third = (image.shape[1] - 48) // 3 + 12
    difference = np.abs(crops[:, third + 12 : third + 412] - crops[:, 2 * third + 12 : 2 * third + 412]).mean()
    assert difference > 10, "SR and HR differ in the crop"
