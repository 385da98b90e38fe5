"""Several devices in one run: a process each, all work done once, and what becomes of it when one of them ends."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nearest_engine import Nearest, NearestEngine, nearest
from pictures import photo, read, write

from upscale_cli import jobs, render, workers
from upscale_cli.device import is_lost, several
from upscale_cli.errors import DeviceLostError, UsageError
from upscale_cli.journal import FILE_NAME
from upscale_cli.media.frame import Frame
from upscale_cli.model import Model
from upscale_cli.networks import Chain, Combination, Network
from upscale_cli.pipeline import Job, PictureOptions
from upscale_cli.request import NetworkOptions, RunRequest, Size
from upscale_cli.run import FileReport, News, RunReport, forecast, run
from upscale_cli.worker import Made, Opener, Orders, Task
from upscale_cli.workers import Ended, make_on
from upscale_cli.zoo import find

TWO = NetworkOptions(model="bicubic", device="cpu,cpu")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures, all different."""
    (tmp_path / "in").mkdir()
    for index in range(12):
        write(tmp_path / "in" / f"{index:02}.png", Frame(photo(30 + index, 40)))
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def request(folder: Path, out: Path, network: NetworkOptions = TWO, **settings: object) -> RunRequest:
    return RunRequest(inputs=(str(folder),), output=out, network=network, **settings)  # type: ignore[arg-type]


def counts(report: RunReport) -> dict[str, int]:
    return dict(Counter(file.state for file in report.files))


def once(condition: Callable[[News], bool], action: Callable[[], None]) -> Callable[[News], None]:
    """Listens, and acts at the first news that meets the condition."""
    done: list[News] = []

    def tell(news: News) -> None:
        if not done and condition(news):
            done.append(news)
            action()

    return tell


def kill_one() -> None:
    os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)


def nothing_half_made(out: Path) -> bool:
    return not [path for path in out.iterdir() if path.name.endswith((".part", ".lock"))]


# --- the work ----------------------------------------------------------------------------------------------------


def test_two_processes_share_the_work_and_the_cores(
    folder: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    monkeypatch.setattr(workers, "all_threads", lambda: 6)
    heard: list[News] = []
    report = run(request(folder, out), opener=Nearest(0.05, tmp_path / "log", together=2), tell=heard.append)
    assert report.exit_code == 0
    assert [file.source.name for file in report.files] == [f"{index:02}.png" for index in range(12)]
    for index, file in enumerate(report.files):
        assert (file.state, file.model, file.out_size) == ("made", "bicubic-x2", (80, 2 * (30 + index)))
        assert file.target
        (large,), _, _ = read(file.target)
        np.testing.assert_array_equal(large.color, nearest(photo(30 + index, 40), 2))
    logs = list((tmp_path / "log").iterdir())
    assert [log.read_text() for log in logs] == ["3", "3"]
    assert str(os.getpid()) not in [log.name for log in logs]
    assert os.environ["OMP_NUM_THREADS"] == "6"
    finished = [news.finished.source for news in heard if news.finished]
    assert sorted(finished) == sorted(file.source for file in report.files)
    assert {news.source for news in heard if news.source} == set(finished)
    assert [news.picked for news in heard if news.picked] == ["nearest on cpu in fp32 by numpy"]
    assert nothing_half_made(out)
    assert multiprocessing.active_children() == []
    lines = [json.loads(line) for line in (out / FILE_NAME).read_text().splitlines()]
    assert Counter(bool(line["engine"]) for line in lines) == {False: 12, True: 12}
    assert counts(run(request(folder, out), opener=Nearest(fault=UsageError("no network is needed")))) == {"done": 12}


def test_several_networks_and_fewer_pictures_than_devices(folder: Path, out: Path, tmp_path: Path) -> None:
    for path in sorted(folder.iterdir())[1:]:
        path.unlink()
    write(folder / "wide.png", Frame(photo(20, 90)))
    three = replace(TWO, device="cpu,cpu,cpu")
    report = run(request(folder, out, three, size=Size(width=160)), opener=Nearest(0, tmp_path / "log", together=2))
    assert [file.model for file in report.files] == ["bicubic-x4", "bicubic-x2"]
    assert counts(report) == {"made": 2}
    assert len(list((tmp_path / "log").iterdir())) == 2


def test_a_bad_picture_fails_alone(folder: Path, out: Path) -> None:
    whole = (folder / "03.png").read_bytes()
    (folder / "03.png").write_bytes(whole[: len(whole) // 2])
    report = run(request(folder, out), opener=Nearest())
    assert counts(report) == {"made": 11, "failed": 1}
    assert "truncated" in report.files[3].reason
    assert not (out / "03_x2.png").exists()


def test_a_forecast_counts_devices(folder: Path, out: Path) -> None:
    run(request(folder / "00.png", out), opener=Nearest(pause=0.05))
    record = json.loads((out / FILE_NAME).read_text().splitlines()[-1])
    assert record["engine"].endswith("2 at once")
    found = forecast(jobs.plan(request(folder, out)), opener=Nearest())
    expected = record["seconds"] / record["pixels"] * 31 * 40 / 2
    assert found[folder / "01.png"].seconds == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("auto", ("auto",)),
        ("cpu", ("cpu",)),
        ("cuda:9", ("cuda:9",)),
        ("cpu,cpu", ("cpu", "cpu")),
        ("cpu, cpu ,cpu", ("cpu",) * 3),
    ],
)
def test_lists_of_devices(names: str, expected: tuple[str, ...]) -> None:
    assert several(names) == expected


@pytest.mark.parametrize("names", ["cpu,", ",", "cpu,tpu", "cpu,cuda:99", "cpu,cpu cpu"])
def test_a_list_with_what_is_no_device_is_refused(names: str, folder: Path, out: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no device|is not there|not supported"):
        run(request(folder, out, replace(TWO, device=names)), opener=Nearest())
    assert not out.exists()


def test_all_of_the_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert several("cuda:all") == ("cuda:0", "cuda:1", "cuda:2")
    assert several("cpu,1,cuda") == ("cpu", "cuda:1", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no CUDA device"):
        several("cuda:all")


# --- what goes wrong ---------------------------------------------------------------------------------------------


@POSIX
def test_a_killed_process_costs_what_it_held(folder: Path, out: Path, tmp_path: Path) -> None:
    heard: list[str] = []
    kill = once(lambda news: bool(news.finished), kill_one)

    def tell(news: News) -> None:
        kill(news)
        heard.extend([news.trouble] * bool(news.trouble))

    report = run(request(folder, out), opener=Nearest(0.1, tmp_path / "log", together=2), tell=tell)
    failed = [file for file in report.files if file.state == "failed"]
    assert {file.reason for file in failed} == {"the worker on cpu ended: signal 9. The same command tries it again."}
    assert 1 <= len(failed) <= 5
    assert counts(report) == {"made": 12 - len(failed), "failed": len(failed)}
    assert report.exit_code == 1
    assert heard == ["the worker on cpu ended: signal 9"]
    assert nothing_half_made(out)
    assert run(request(folder, out), opener=Nearest()).exit_code == 0


@POSIX
def test_without_any_process_the_rest_is_left(
    folder: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def kill_all() -> None:
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGKILL)

    plan = jobs.plan(request(folder, out))
    with render.RunDisplay(plan, as_json=False, verbose=False, report=out.parent / "run.jsonl") as display:
        kill = once(lambda news: bool(news.finished), kill_all)

        def tell(news: News) -> None:
            display.tell(news)
            kill(news)

        report = run(plan, opener=Nearest(0.1, tmp_path / "log", together=2), tell=tell)
    render.ran(report, as_json=False)
    left = [file for file in report.files if file.state == "left"]
    assert len(left) >= 2
    reason = "not begun: the worker on cpu ended: signal 9. The same command goes on from here."
    assert {file.reason for file in left} == {reason}
    assert report.exit_code == 1
    errors = capsys.readouterr().err
    assert errors.count("not begun") == 1
    assert f"left: {len(left)} of 12, {reason}" in errors
    assert f"{len(left)} left" in errors.splitlines()[-1]
    assert len((out.parent / "run.jsonl").read_text().splitlines()) == 12
    assert nothing_half_made(out)
    assert counts(run(request(folder, out), opener=Nearest())).keys() <= {"made", "done"}


def crew(folder: Path, out: Path, opener: Opener, *devices: str) -> tuple[list[Made], list[str]]:
    """What becomes of the folder on devices of any name, and which ended."""
    network = Network(Combination(("bicubic-x2",)), 2, "")
    orders = Orders(NetworkOptions(), PictureOptions(), (Chain((network,)),), opener)
    out.mkdir()
    tasks = [
        Task(index, 0, Job(path, out / path.name, "PNG", 2 * (30 + index), 80))
        for index, path in enumerate(sorted(folder.iterdir()))
    ]
    fates: list[str] = []

    def hear(message: object) -> None:
        fates.extend([message.reason] if isinstance(message, Ended) else [])

    return list(make_on(devices, orders, tasks, begin=lambda _: None, hear=hear)), fates


def test_a_lost_device_costs_one_picture(folder: Path, out: Path, tmp_path: Path) -> None:
    results, fates = crew(folder, out, Nearest(0.02, tmp_path / "log", together=2, lost="two"), "one", "two")
    assert sorted(made.index for made in results) == list(range(12))
    (failed,) = (made.result for made in results if made.result.error)
    assert failed.error == (
        "The device two works no more: unspecified launch failure. The same command tries it again."
    )
    assert fates == ["the worker on two ended: The device two works no more: unspecified launch failure"]
    assert len(list(out.iterdir())) == 11


def test_what_is_wrong_with_a_network_ends_the_run(folder: Path, out: Path) -> None:
    with pytest.raises(UsageError, match=r"Precision 'fp8' is unknown\."):
        run(request(folder, out), opener=Nearest(fault=UsageError("Precision 'fp8' is unknown.")))
    assert multiprocessing.active_children() == []


def test_a_device_that_cannot_begin(folder: Path, out: Path) -> None:
    report = run(request(folder, out), opener=Nearest(fault=RuntimeError("no driver")))
    assert counts(report) == {"left": 12}
    assert report.files[0].reason.startswith("not begun: the worker on cpu ended: RuntimeError: no driver. ")


def test_a_device_lost_in_this_process(folder: Path, out: Path) -> None:
    done: list[FileReport] = []

    def opener(*_: object, **__: object) -> NearestEngine:
        def before(_tiles: object) -> None:
            if len(done) >= 3:
                raise DeviceLostError("The device cuda works no more: unspecified launch failure")

        return NearestEngine(2, before=before)

    def tell(news: News) -> None:
        done.extend([news.finished] if news.finished else [])

    report = run(request(folder, out, NetworkOptions(model="bicubic")), opener=opener, tell=tell)
    tally = counts(report)
    assert tally["failed"] == 1
    assert tally["made"] >= 3
    assert tally["made"] + tally["left"] == 11
    assert len([path for path in out.iterdir() if path.suffix == ".png"]) == tally["made"]
    assert report.files[-1].reason == (
        "not begun: The device cuda works no more: unspecified launch failure. The same command goes on from here."
    )
    assert counts(run(request(folder, out), opener=Nearest())) == {"done": tally["made"], "made": 12 - tally["made"]}


def test_a_device_is_lost_when_it_does_nothing_more() -> None:
    """The meta device computes shapes only: no number ever comes back from it."""
    assert not is_lost(torch.device("cpu"))
    assert is_lost(torch.device("meta"))
    variant = find("edsr/x2-tiny")
    model = Model("a", variant, variant.build(), device=torch.device("meta"), precision="fp32")
    with pytest.raises(DeviceLostError, match=r"^The device meta works no more: [^\n]+$"):
        model(torch.zeros(1, 3, 8, 8))


# --- the end of the parent ---------------------------------------------------------------------------------------

PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
from nearest_engine import Nearest
from upscale_cli import run
from upscale_cli.cli.app import main
if __name__ == "__main__":
    run.run.__kwdefaults__["opener"] = Nearest(pause=0.2)
    sys.argv = ["upscale", {folder!r}, "-o", {out!r}, "-m", "bicubic", "-d", "cpu,cpu"]
    main()
"""


def start(folder: Path, out: Path) -> "subprocess.Popen[str]":
    """The command in a session of its own, once it has made two pictures."""
    code = PROGRAM.format(tests=str(Path(__file__).parent), folder=str(folder), out=str(out))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    child = subprocess.Popen([sys.executable, "-c", code], text=True, start_new_session=True, **pipes)  # type: ignore[call-overload]
    until = time.monotonic() + 60
    while len(list(out.glob("*.png"))) < 2:
        assert child.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    return child


def end_of_all(child: "subprocess.Popen[str]") -> str:
    """What was written to standard error, which ends when the last process that holds it does."""
    return child.communicate(timeout=30)[1]


@POSIX
@pytest.mark.parametrize("everyone", [True, False])
def test_ctrl_c_ends_all_and_leaves_nothing(folder: Path, out: Path, everyone: bool) -> None:
    """As a terminal sends it, to every process, or to the parent alone."""
    child = start(folder, out)
    (os.killpg if everyone else os.kill)(child.pid, signal.SIGINT)
    errors = end_of_all(child)
    assert child.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in errors
    assert "The same command goes on from here." in errors
    assert nothing_half_made(out)
    made = [path for path in out.iterdir() if path.suffix == ".png"]
    assert 2 <= len(made) < 12
    assert all(read(path)[0][0].color.shape[1] == 80 for path in made)
    report = run(request(folder, out), opener=Nearest())
    assert counts(report) == {"done": len(made), "made": 12 - len(made)}


@POSIX
def test_no_process_outlives_its_parent(folder: Path, out: Path) -> None:
    child = start(folder, out)
    child.kill()
    end_of_all(child)
    assert not list(out.glob(".*.part"))
    assert run(request(folder, out), opener=Nearest()).exit_code == 0


# --- ten thousand pictures ---------------------------------------------------------------------------------------


def held_at_the_last(folder: Path, out: Path, count: int) -> int:
    """Bytes that Python holds when the last of `count` pictures is told of: none is on its way then, as before it
    anything from one to all that the queues take."""
    folder.mkdir()
    write(folder / "000.png", Frame(photo(90, 120)))  # 32 kB of pixels, and four times that when enlarged
    data = (folder / "000.png").read_bytes()
    for index in range(count):
        (folder / f"{index:03}.png").write_bytes(data)
    plan = jobs.plan(request(folder, out, NetworkOptions(model="bicubic")))
    held = []

    with render.RunDisplay(plan, as_json=True, verbose=False, report=None) as display:

        def tell(news: News) -> None:
            display.tell(news)
            if news.finished:
                held.append(tracemalloc.get_traced_memory()[0])

        tracemalloc.start()
        try:
            assert counts(run(plan, opener=Nearest(), tell=tell)) == {"made": count}
        finally:
            tracemalloc.stop()
    return held[-1]


def test_memory_does_not_grow_with_the_pictures(tmp_path: Path) -> None:
    held = [held_at_the_last(tmp_path / f"in{count}", tmp_path / f"out{count}", count) for count in (10, 40, 200)]
    _, few, many = held  # the first imports what the others use
    assert (many - few) / 160 < 4096
