"""What is shown: one line a name, durations for people, tables and JSON that say the same."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from upscale_cli import render
from upscale_cli.evaluate import ImageScore, Step
from upscale_cli.journal import FILE_NAME
from upscale_cli.render import screen
from upscale_cli.run import FileReport, News, RunReport
from upscale_cli.train.history import Progress


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.04, "0.0 s"),
        (1.26, "1.3 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_seconds(value: float, words: str) -> None:
    assert render.seconds(value) == words


def test_messages_are_no_markup_and_move_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    render.error("[red]x[/red] \x1b[2J\rfile exists.")
    render.warning("[bold]y")
    assert capsys.readouterr().err == "error: [red]x[/red] \\x1b[2J\\rfile exists.\nnote: [bold]y\n"


def file(name: str, state: str = "made", **values: object) -> FileReport:
    made = {"target": Path("out") / name, "in_size": (10, 5), "out_size": (20, 10), "frames": 1, "seconds": 0.5}
    return FileReport(Path(name), **{"state": state, **({"target": None} if state != "made" else made), **values})  # type: ignore[arg-type]


def test_summary(capsys: pytest.CaptureFixture[str]) -> None:
    files = (file("a.png"), file("b.png"), file("c.png", "done"), file("d.png", "failed", reason="is bad"))
    render.ran(RunReport(files, 0.004), as_json=False)
    assert capsys.readouterr().err == "2 made, 1 done by an earlier run, 1 failed in 0.0 s, 0.1 MP/s.\n"
    many = tuple(file(f"{index}.png", "done") for index in range(30))
    render.ran(RunReport((*many, files[3]), 1.0), as_json=False)
    assert capsys.readouterr().err == "failed: d.png: is bad\n0 made, 30 done by an earlier run, 1 failed.\n"
    render.ran(RunReport(files, 0.0), as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert (printed["made"], printed["done"], printed["failed"], printed["exit_code"]) == (2, 1, 1, 1)
    assert printed["files"][0]["target"] == "out/a.png"


def test_lines_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from pictures import frame, write

    from upscale_cli import jobs
    from upscale_cli.request import NetworkOptions, RunRequest

    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.png", frame())
    plan = jobs.plan(RunRequest(inputs=("a.png",), network=NetworkOptions(model="bicubic")))
    with render.RunDisplay(plan, as_json=False, verbose=True, report=None) as display:
        display.tell(News(waiting_for=Path("[out]")))
        display.tell(News(waiting_for=Path()))
        display.tell(News(opening="bicubic-x2"))
        display.tell(News(picked="bicubic-x2 on cpu in fp32 by torch", remark="it is slower"))
        display.tell(News(source=Path("a.png"), fraction=0.5))
        network = {"model": "m", "precision": "fp32", "backend": "torch", "tile_px": 64, "retries": 2}
        display.tell(News(finished=file("a.png", **network, notes=("lost",))))
        display.tell(News(finished=file("b.png", "skipped", reason="out/b.png exists")))
        display.tell(News(finished=file("c.png", "failed", reason="is bad")))
    shown = capsys.readouterr()
    assert shown.out == (
        "a.png -> out/a.png  10 x 5 -> 20 x 10  0.5 s  m, fp32 by torch, tiles of 64 px  2 retries\n  lost\n"
        "b.png: skipped, out/b.png exists\n"
    )
    assert shown.err == (
        "Another run is writing to [out]. Waiting for it to end; Ctrl-C gives up.\n"
        "Another run is writing to this folder. Waiting for it to end; Ctrl-C gives up.\n"
        "note: it is slower\nbicubic-x2 on cpu in fp32 by torch\nfailed: c.png: is bad\n"
    )
    assert not (tmp_path / FILE_NAME).exists()


def progress(step: int, steps: int, **others: Any) -> Progress:
    known = {"loss": 0.5, "terms": {"l1": 0.5}, "learning_rate": 1e-4, "images_per_second": 8.0, "loader_share": 0.25}
    return Progress(step=step, steps=steps, **(known | others))


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=100, highlight=False, color_system=None)
    monkeypatch.setattr(screen, "errors", lambda: terminal)
    with render.HeaderBar(quiet=False) as headers:
        headers.update(40, 100)
    with render.TrainingBar(quiet=False) as bar:
        bar.update(progress(50, 100, images_per_second=200.0))
    with render.EvaluationBar(quiet=False) as scores:
        scores.update(Step(3, 8, "edsr", ImageScore("a.png", {"psnr_y": 30.0})))
    for words in (
        "reading headers",
        "40/100",
        "50/100",
        "200 images/s",
        "loader 25%",
        "3/8",
        "edsr, a.png, PSNR-Y",
    ):
        assert words in shown.getvalue()


def test_news_of_a_training(capsys: pytest.CaptureFixture[str]) -> None:
    with render.TrainingBar(quiet=False) as bar:
        bar.note("66 of 68 tensors start as those of [edsr-x2]")
        bar.update(progress(1, 9, scores={"psnr_y": 30.1234, "ssim_y": 0.9, "psnr_rgb": 28.0}))
        bar.update(progress(2, 9))
    assert capsys.readouterr().err == (
        "note: 66 of 68 tensors start as those of [edsr-x2]\n"
        "step 1: PSNR-Y 30.12, SSIM-Y 0.9000, PSNR-RGB 28.00, loss 0.5000, rate 0.0001, 8 images/s, loader 25%\n"
    )
