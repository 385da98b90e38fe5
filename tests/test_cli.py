"""`upscale` as a user meets it: words in, files and exit codes out. The network is a formula that needs no weights."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import names
from nearest_engine import NearestEngine, nearest
from pictures import frame, photo, read, write
from typer.testing import CliRunner, Result

from upscale_cli import run as verb
from upscale_cli.cli.app import app
from upscale_cli.cli.options import known_names
from upscale_cli.errors import UpscaleError
from upscale_cli.networks import Combination


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Nearest neighbour for every network; what was asked of it."""
    asked: list[dict[str, Any]] = []

    def opener(model: Combination, scale: int, **options: object) -> NearestEngine:
        asked.append({"model": str(model), **options})
        return NearestEngine(scale)

    for function in (verb.run, verb.forecast):
        monkeypatch.setitem(function.__kwdefaults__, "opener", opener)
    return asked


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`in/` with two pictures, in the current directory."""
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.png", frame())
    write(tmp_path / "in" / "b.jpg", frame())
    monkeypatch.chdir(tmp_path)
    return tmp_path / "in"


def upscale(*words: str) -> Result:
    """Run the command; a message meant for `main` becomes its exit code and text."""
    result = CliRunner().invoke(app, [*words])
    if isinstance(result.exception, UpscaleError):
        result.exit_code = result.exception.exit_code
        result.stderr_bytes = str(result.exception).encode()  # type: ignore[attr-defined]
    elif result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def complaint(*words: str) -> str:
    """The message of a command that means nothing."""
    result = upscale(*words)
    assert result.exit_code == 2, result.output
    return str(result.exception)


def as_json(*words: str) -> dict[str, Any]:
    return json.loads(upscale(*words, "--json").stdout)


BICUBIC = ("-m", "bicubic")


# --- the whole way -----------------------------------------------------------------------------------------------


def test_a_folder_into_a_folder(folder: Path) -> None:
    result = upscale("in", "-o", "out", *BICUBIC)
    assert result.exit_code == 0
    assert names(Path("out")) == ["a_x2.png", "b_x2.jpg"]
    np.testing.assert_array_equal(read(Path("out/a_x2.png"))[0][0].color, nearest(photo(), 2))
    assert re.search(r"in/a\.png -> out/a_x2\.png +60 x 45 -> 120 x 90", result.stdout)
    assert re.search(r"2 made in .* s, .* MP/s\.", result.stderr)
    again = upscale("in", "-o", "out", *BICUBIC)
    assert again.exit_code == 0
    assert again.stdout == ""
    assert "0 made, 2 done by an earlier run." in again.stderr
    assert "in/a.png: done" in upscale("in", "-o", "out", *BICUBIC, "-v").stdout


def test_defaults_are_span_twice_beside_the_picture(folder: Path, engines: list[dict[str, Any]]) -> None:
    assert upscale("in/a.png").exit_code == 0
    assert names(folder) == ["a.png", "a_x2.png", "b.jpg"]
    assert engines == [{"model": "span-x2", "device": "auto", "precision": "auto", "backend": "auto", "offline": False}]


def test_every_option_reaches_its_place(folder: Path, engines: list[dict[str, Any]]) -> None:
    words = "in/a.png -o big.tif -m lanczos --width 90 -t 64 --overlap 12 --precision bf16 -d cpu --depth 16 --offline"
    assert upscale(*words.split(), "--max-pixels", "3000", "--strength", "0.5", "--engine", "torch").exit_code == 0
    (large,), _, _ = read(Path("big.tif"))
    assert large.color.shape == (68, 90, 3)
    assert large.depth == 16
    assert engines == [
        {"model": "lanczos-x2", "device": "cpu", "precision": "bf16", "backend": "torch", "offline": True}
    ]


def test_several_models_as_one(folder: Path, engines: list[dict[str, Any]]) -> None:
    for words, meant in (
        (("--ensemble", "lightweight,improved"), "lightweight-x2,improved-x2"),
        (("--ensemble", "bicubic,lanczos", "--tta"), "bicubic-x2,lanczos-x2 (tta)"),
        (("--interpolate", "edsr:edsr-x2:0.7"), "edsr-x2:edsr-x2:0.7"),
        (("-m", "bicubic", "--self-ensemble"), "bicubic-x2 (tta)"),
    ):
        engines.clear()
        assert upscale("in/a.png", "-o", "out", "--overwrite", "-v", *words).exit_code == 0
        assert [asked["model"] for asked in engines] == [meant]
        result = as_json("in/a.png", "-o", "out", "--overwrite", *words)
        assert result["files"][0]["model"] == meant
        planned = as_json("in/a.png", "-o", "new", "--dry-run", *words)["plan"]
        assert planned[0]["networks"] == [meant]
    verbose = upscale("in/a.png", "-o", "last", "-v", "--ensemble", "bicubic,lanczos").stdout
    assert "bicubic-x2,lanczos-x2, fp32 by numpy, tiles of 60 px" in verbose
    shown = upscale("in/a.png", "-o", "new", "--dry-run", "--ensemble", "bicubic,lanczos", "-s", "8").stdout
    assert "bicubic-x8,lanczos-x8" in shown


def test_models_that_cannot_be_one(folder: Path) -> None:
    assert "--model and --ensemble each say" in complaint("in", "-m", "edsr", "--ensemble", "edsr,improved")
    assert "two models or more" in complaint("in", "--ensemble", "edsr")
    assert "no scale in common" in complaint("in", "--ensemble", "edsr-x2,improved-x4")
    assert "Name two models" in complaint("in", "--interpolate", "edsr:improved")


def test_combinations_are_scored(folder: Path) -> None:
    for words, name in (
        (("-m", "bicubic", "--tta"), "bicubic-x2 (tta)"),
        (("--ensemble", "bicubic,lanczos"), "bicubic-x2,lanczos-x2"),
        (("--interpolate", "lightweight:lightweight-x2:0.3"), "lightweight-x2:lightweight-x2:0.3"),
    ):
        report = as_json("eval", "--data", "in/a.png", "-s", "2", *words)
        assert report["models"][0]["network"] == name
        assert report["models"][0]["scores"]["psnr_y"] > 15
    assert "different size have no mean" in complaint("eval", "--data", "in", "--ensemble", "edsr-x2,improved-x4")


def test_scores_are_shown_before_they_are_written(folder: Path) -> None:
    result = CliRunner().invoke(app, ["eval", "--data", "in/a.png", "-s", "2", "-m", "bicubic", "--csv", "in"])
    assert "--csv in cannot be written" in str(result.exception)
    assert re.search(r"bicubic +\d\d\.\d\d", result.stdout)


def test_quality_strength_and_metadata_change_the_file(folder: Path) -> None:
    for index, words in enumerate(("", "-q 30", "--strength 0", "--strip-metadata")):
        assert upscale("in/b.jpg", "-o", f"{index}.jpg", *BICUBIC, *words.split()).exit_code == 0
    sizes = [Path(f"{index}.jpg").stat().st_size for index in range(4)]
    assert sizes[1] < sizes[0] / 2
    assert Path("2.jpg").read_bytes() != Path("0.jpg").read_bytes()


def test_recursion_and_truncation_are_asked_for(folder: Path) -> None:
    (folder / "sub").mkdir()
    whole = (folder / "b.jpg").read_bytes()
    (folder / "sub" / "cut.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    flat = upscale("in", "-o", "flat", *BICUBIC)
    assert flat.exit_code == 0
    assert "1 folder not entered. -r enters them." in flat.stderr
    deep = upscale("in", "-o", "deep", "-r", *BICUBIC)
    assert deep.exit_code == 1
    assert re.search(r"failed: in/sub/cut\.jpg: is truncated .* --allow-truncated", deep.stderr)
    assert upscale("in", "-o", "deep", "-r", "--allow-truncated", *BICUBIC).exit_code == 0
    assert names(Path("deep/sub")) == ["cut_x2.jpg"]


def test_existing_outputs(folder: Path) -> None:
    Path("out").mkdir()
    Path("out/a_x2.png").write_bytes(b"somebody's")
    blocked = upscale("in", "-o", "out", *BICUBIC)
    assert blocked.exit_code == 1
    assert "out/a_x2.png exists. Use --overwrite, --skip-existing, or choose another -o." in blocked.stderr
    assert names(Path("out")) == ["a_x2.png", "b_x2.jpg"]
    skipped = upscale("in", "-o", "out", "--skip-existing", *BICUBIC)
    assert skipped.exit_code == 0
    assert "in/a.png: skipped, out/a_x2.png exists" in skipped.stdout
    assert Path("out/a_x2.png").read_bytes() == b"somebody's"
    assert upscale("in", "-o", "out", "--overwrite", *BICUBIC).exit_code == 0
    assert upscale("in", "-o", "out", "-m", "lanczos").exit_code == 1
    assert upscale("in", "-o", "out", "-m", "lanczos", "--resume").exit_code == 0
    assert "exclude each other" in complaint("in", "--resume", "--overwrite")


def test_in_place_wants_a_word(folder: Path) -> None:
    assert "Add --yes" in complaint("in", "--in-place", *BICUBIC)
    assert read(folder / "a.png")[0][0].color.shape == (45, 60, 3)
    assert upscale("in", "--in-place", "-y", *BICUBIC).exit_code == 0
    assert read(folder / "a.png")[0][0].color.shape == (90, 120, 3)
    assert "2 done by an earlier run" in upscale("in", "--in-place", *BICUBIC).stderr


def test_json_of_a_run(folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"hello")
    result = as_json("in", "-o", "out", *BICUBIC)
    assert (result["made"], result["failed"], result["exit_code"]) == (2, 1, 1)
    assert [file["state"] for file in result["files"]] == ["made", "made", "failed"]
    first = result["files"][0]
    assert (first["source"], first["target"], first["model"]) == ("in/a.png", "out/a_x2.png", "bicubic-x2")
    assert (first["in_size"], first["out_size"], first["precision"]) == ([60, 45], [120, 90], "fp32")
    assert first["seconds"] > 0
    assert result["files"][2]["reason"].startswith("is not a picture")


def test_report_has_a_line_a_picture(folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"hello")
    assert upscale("in", "-o", "out", "--report", "log/run.jsonl", *BICUBIC).exit_code == 1
    rows = [json.loads(line) for line in Path("log/run.jsonl").read_text().splitlines()]
    assert {Path(row["source"]).name: row["state"] for row in rows} == {
        "bad.png": "failed",
        "a.png": "made",
        "b.jpg": "made",
    }
    assert all({"seconds", "tile_px", "precision", "retries", "reason", "notes"} <= row.keys() for row in rows)
    Path("taken").mkdir()
    assert "--report taken cannot be written" in complaint("in", "-o", "new", "--report", "taken", *BICUBIC)
    assert not Path("new").exists()


def test_dry_run_shows_and_writes_nothing(folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"hello")
    write(folder / "clear.png", frame(alpha=True))
    before = sorted(Path().rglob("*"))
    result = upscale("in", "-o", "out", "-s", "3", "-f", "jpg", "--dry-run", *BICUBIC)
    assert result.exit_code == 1
    assert sorted(Path().rglob("*")) == before
    assert re.search(r"in/a\.png +60 x 45 +bicubic-x3 +\d", result.stdout)
    assert re.search(r"-> out/a_x3\.jpg +180 x 135 +1 of \d+ px +\d+ MB", result.stdout)
    assert "JPEG holds no transparency" in result.stdout
    assert "failed: is not a picture" in result.stdout
    assert re.search(r"3 to make \(0\.1 MP\) in about .*, 1 failed\. Nothing was written\.", result.stderr)
    planned = as_json("in", "-o", "out", "-s", "3", "--dry-run", *BICUBIC)["plan"]
    assert [row["state"] for row in planned] == ["todo", "todo", "failed", "todo"]
    assert planned[0]["networks"] == ["bicubic-x3"]
    assert planned[0]["out_size"] == [180, 135]
    assert planned[0]["forecast"]["seconds"] > 0


def test_dry_run_without_the_weights_still_plans(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> NearestEngine:
        from upscale_cli.errors import WeightsError

        raise WeightsError("not on this machine")

    monkeypatch.setitem(verb.forecast.__kwdefaults__, "opener", absent)
    result = upscale("in", "-o", "out", "--dry-run", *BICUBIC)
    assert result.exit_code == 0
    assert "not on this machine" in result.stderr
    assert "out/a_x2.png" in result.stdout


ODD_NAMES = ["new\nline.png", "esc\x1b[2Jape.png", "日本.png", os.fsdecode(b"caf\xe9.png"), "[red]x.png", "-v.png"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_processed_and_printed_on_one_line(folder: Path, name: str) -> None:
    shutil.copy(folder / "a.png", folder / name)
    (folder / "a.png").unlink()
    (folder / "b.jpg").unlink()
    result = upscale("in", "-o", "out", *BICUBIC)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1
    assert "\x1b[2J" not in result.output
    (file,) = as_json("in", "-o", "out", *BICUBIC)["files"]
    assert file["state"] == "done"
    assert Path(file["source"]) == Path("in") / name  # surrogates and all
    assert Path(file["target"]).is_file()


# --- words that mean nothing ---------------------------------------------------------------------------------------


def test_messages_of_commands_that_mean_nothing(folder: Path) -> None:
    assert "none.jpg: there is no such file or folder" in complaint("none.jpg")
    assert complaint("modles") == "There is no file or folder 'modles'. Did you mean the command 'models'?"
    assert "Did you mean the command 'devices'" in complaint("-s", "2", "device")
    assert "give exactly one" in complaint("in", "-s", "2", "--width", "100")
    assert "'psd' cannot be written" in complaint("in", "-f", "psd")
    assert "Did you mean 'edsr'" in complaint("in", "-m", "edrs")


def test_a_folder_named_like_a_command(folder: Path) -> None:
    folder.rename("models")
    assert upscale("./models", "-o", "out", *BICUBIC).exit_code == 0
    assert names(Path("out")) == ["a_x2.png", "b_x2.jpg"]
    assert upscale("models", "list").stdout.startswith("model")


def test_options_may_come_first_and_dashes_end_them(folder: Path) -> None:
    shutil.copy(folder / "a.png", "-a.png")
    assert upscale(*BICUBIC, "-s", "3", "-o", "out", "--", "-a.png").exit_code == 0
    assert names(Path("out")) == ["-a_x3.png"]


def test_unknown_options_and_values_are_usage_errors(folder: Path) -> None:
    for words in (["in", "--sacle", "2"], ["in", "-s", "two"], ["in", "--depth", "12"], []):
        assert upscale(*words).exit_code == 2
    assert upscale("in", "--sacle", "2").stderr.count("--scale") == 1


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("-i in -n edsr --outscale 3.5", "in --model edsr --scale 3.5"),
        ("--input=in --model_name=edsr --tile_pad 8", "in --model edsr --overlap 8"),
        ("in --fp32 --ext png --max_pixels 7", "in --precision fp32 --format png --max-pixels 7"),
        ("in --model_path x_y.safetensors -o a_b", "in --model x_y.safetensors -o a_b"),
        ("in -- -n --fp32", "in -- -n --fp32"),
    ],
)
def test_names_from_other_programs(given: str, meant: str) -> None:
    assert list(known_names(given.split())) == meant.split()


def test_aliases_work_and_are_not_shown(folder: Path, engines: list[dict[str, Any]]) -> None:
    words = "-i in/a.png -o out -n bicubic --outscale 3 --tile_pad 8 --ext auto --fp32"
    assert upscale(*words.split()).exit_code == 0
    assert names(Path("out")) == ["a_x3.png"]
    assert engines[0]["precision"] == "fp32"
    assert "outscale" not in upscale("run", "--help").stdout


def test_devices() -> None:
    found = as_json("devices")["devices"]
    assert "cpu" in [device["name"] for device in found]
    assert "cpu" in upscale("devices").stdout
