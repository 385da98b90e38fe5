"""What a bench found, on the screen: the table, its JSON, and a drawing."""

import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from upscale_cli import render
from upscale_cli.bench import BenchReport, Row, Skipped
from upscale_cli.errors import OutputError
from upscale_cli.render import bench as rendered
from upscale_cli.trial import Setting, Stages
from upscale_cli.yardstick import Rate


def row(backend: str, precision: str, speed: float, psnr: float | None, **stages: float) -> Row:
    times = Stages(**({"decode": 0.01, "infer": 0.8 / speed, "blend": 0.02, "encode": 0.1234} | stages))
    through = (times.infer + times.blend) / 1e6
    return Row(
        model="improved-x2",
        scale=2,
        backend=backend,
        precision=precision,
        tile_px=256,
        stages=times,
        in_megapixels_per_second=speed,
        out_megapixels_per_second=4 * speed,
        images_per_second=speed / 0.1536,
        frames_720p=1 / through / (1280 * 720),
        frames_1080p=1 / through / (1920 * 1080),
        turns=3,
        spread=0.034,
        first_seconds=12.3,
        memory_bytes=1_234_000_000,
        operations_per_second=1e11,
        share=0.785,
        psnr=psnr,
        notes=("out of memory 1x, went on with tiles of 128 px",) if backend == "torch" else (),
    )


REPORT = BenchReport(
    machine="AMD EPYC 7B13 64-Core Processor, 64 cores; upscale 0.1.0, torch 2.13.0, openvino 2026.4.1",
    pictures={"improved-x2": "a made picture of 480 x 320"},
    operations_per_pixel={"improved-x2": 1_196_928.0},
    rates=(Rate("fp32", 5.1e11, "torch"), Rate("bf16", 1e12, "openvino")),
    rows=(
        row("openvino", "bf16", 131.5, 56.123),
        row("openvino", "fp32", 1.25, 99.9, encode=9.0),
        row("torch", "fp32", 0.0312, math.inf),
    ),
    skipped=(
        Skipped(Setting("improved-x2", "torch", "int8", 0), "Precision [int8] is unknown."),
        Skipped(Setting("improved-x2", "torch", "int8", 64), "Precision [int8] is unknown."),
    ),
    notes=("the cache cannot be written",),
    interrupted=True,
)


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_screen(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=width, highlight=False, color_system=None)
    monkeypatch.setattr(rendered, "_console", lambda: console)
    render.benched(REPORT, as_json=False)
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in shown.getvalue()
    words = [re.split(r"  +", line.strip()) for line in lines]
    first = next(index for index, line in enumerate(words) if line[0] == "openvino bf16")
    assert words[first][1:] == ["132", "856", "41.6", "12 s", "78%", "0.0100", "0.0200"]
    assert words[first + 1] == ["256 px", "526", "3%", "18.5", "1.2 GB", "56.1", "0.00608", "* 0.123"]
    assert "not measured: improved-x2 by torch in int8, improved-x2 by torch in int8 with tiles of 64 px" in (
        " ".join(shown.getvalue().split())
    )
    assert "interrupted" in capsys.readouterr().err


def test_the_bottleneck_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    render.benched(REPORT, as_json=False)
    output = capsys.readouterr().out
    marked = re.findall(r"\* [\d.]+", output)
    assert marked == ["* 0.123", "* 9.00", "* 25.6"]
    assert "equal" in output
    assert "torch fp32: out of memory 1x, went on with tiles of 128 px" in output


def test_json_holds_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    render.benched(REPORT, as_json=True)
    output = capsys.readouterr().out
    assert "Infinity" not in output
    found = json.loads(output)
    assert found["rows"][0]["bottleneck"] == "encode"
    assert found["rows"][0]["psnr"] == 56.123
    assert (found["rows"][2]["psnr"], found["rows"][2]["equals_fp32"]) == (None, True)
    assert found["skipped"][1]["setting"]["tile_px"] == 64
    assert found["rates"][1] == {"precision": "bf16", "per_second": 1e12, "backend": "openvino"}


@pytest.mark.parametrize(
    ("value", "words"), [(0.0, "0"), (0.012345, "0.0123"), (0.999, "0.999"), (1.234, "1.23"), (1234.5, "1,234")]
)
def test_figures_have_three_digits(value: float, words: str) -> None:
    assert rendered.figure(value) == words


def test_a_drawing(tmp_path: Path) -> None:
    render.draw_bench(REPORT, tmp_path / "bench.svg")
    drawn = (tmp_path / "bench.svg").read_text("utf-8")
    widths = [int(width) for width in re.findall(r'<rect x="\d+" y="\d+" width="(\d+)"', drawn)]
    assert len(widths) == 3
    assert widths[1] == pytest.approx(widths[0] * 1.25 / 131.5, abs=1)
    assert widths[2] == 1
    assert "openvino bf16, 256 px" in drawn
    assert "132, 78% of the rate, 56.1 dB" in drawn

    render.draw_bench(REPORT, tmp_path / "bench.PNG")
    with Image.open(tmp_path / "bench.PNG") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[1] == 2 * 960
    blue = (pixels == (0x00, 0x77, 0xBB)).all(axis=2)
    assert blue.sum(axis=1).max() == 2 * widths[0]
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        render.draw_bench(REPORT, tmp_path / "folder.svg")
