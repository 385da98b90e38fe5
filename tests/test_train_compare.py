"""Recipes beside each other, and rows for TensorBoard, by the command line."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from upscale_cli.cli.app import app
from upscale_cli.errors import UsageError
from upscale_cli.train.history import read

RECIPE = (
    'variant = "lightweight/x2-tiny"\nsteps = 100\nbatch = 2\npatch_px = 16\nprecision = "fp32"\nvalidate_every = 3\n'
)


@pytest.fixture
def folder(tmp_path: Path, spices: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, cut in (("data", spices[:120, :120]), ("valid", spices[220:270, 400:460])):
        (tmp_path / name).mkdir()
        Image.fromarray(cut).save(tmp_path / name / "photo.png")
    (tmp_path / "mse.toml").write_text(RECIPE + 'loss = "mse:1"\nseed = 3\n')
    (tmp_path / "l1.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def upscale(*words: str) -> Result:
    return CliRunner().invoke(app, ["train", *words, "--data", "data", "--valid", "valid", "-d", "cpu", "-o", "out"])


def test_two_recipes_become_one_table_and_one_figure(folder: Path) -> None:
    result = upscale("--compare", "mse.toml", "l1.toml", "--epochs", "2")
    assert result.exit_code == 0, result.output
    with (folder / "out" / "comparison.csv").open(newline="") as file:
        rows = {row["recipe"]: row for row in csv.DictReader(file)}
    for name in ("mse", "l1"):
        report = folder / "out" / name / "report"
        facts = json.loads((report / "training.json").read_text())
        assert float(rows[name]["psnr_y"]) == facts["scores"]["psnr_y"]
        assert rows[name]["steps"] == "6"
        assert "seed = 3\n" in (report / "config.toml").read_text(), "both start from the seed of the first"
        assert "mse" in result.stdout
        assert f"{facts['scores']['psnr_y']:.2f}" in result.stdout
    assert rows["mse"]["psnr_y"] != rows["l1"]["psnr_y"]
    with Image.open(folder / "out" / "comparison.png") as image:
        assert image.width == 1920
    again = upscale("--compare", "mse.toml", "l1.toml", "--epochs", "2", "--resume", "--json")
    assert json.loads(again.stdout)["trainings"]["l1"]["psnr_y"] == float(rows["l1"]["psnr_y"])


def test_several_recipes_without_the_word_are_refused(folder: Path) -> None:
    result = upscale("mse.toml", "l1.toml")
    assert isinstance(result.exception, UsageError)
    assert "2 recipes are given. Train one, or several with --compare." in str(result.exception)


@pytest.mark.parametrize("name", ["lightweight-x4", "recipes/lightweight-x4.toml", "lightweight-x4.toml"])
def test_a_shipped_recipe_is_found_by_name_and_by_path(name: str, folder: Path) -> None:
    from upscale_cli.cli.train.recipe import RECIPES, find_recipe

    assert find_recipe(name) == RECIPES / "lightweight-x4.toml"
    (folder / "recipes").mkdir()
    (folder / "recipes" / "lightweight-x4.toml").write_text(RECIPE)
    if name.startswith("recipes/"):
        assert find_recipe(name) == Path(name), "the user's own comes first"


def test_tensorboard_needs_its_extra_or_writes_the_rows(folder: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert upscale("l1.toml", "--steps", "6", "--tensorboard").exit_code == 0
    events = EventAccumulator(str(folder / "out" / "tensorboard")).Reload()
    found = {event.step: event.value for event in events.Scalars("psnr_y")}
    expected = {int(row["step"]): row["psnr_y"] for row in read(folder / "out")}
    assert found == pytest.approx(expected)


def test_without_the_extra_its_name_is_told(folder: Path) -> None:
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        result = upscale("l1.toml", "--steps", "3", "--tensorboard")
        assert isinstance(result.exception, UsageError)
        assert 'pip install "upscale-cli[tensorboard]"' in str(result.exception)
    else:
        pytest.skip("the extra tensorboard is installed")
