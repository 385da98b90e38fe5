"""Runs in processes of their own: two on one folder, and one that is ended half-way."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from nearest_engine import NearestEngine
from pictures import files

from upscale_cli.journal import LOCK_NAME
from upscale_cli.request import NetworkOptions, RunRequest
from upscale_cli.run import RunReport, run


def test_two_processes_on_one_folder_tear_nothing(photos: list[Path], tmp_path: Path) -> None:
    children = [start(photos, tmp_path / "out") for _ in range(2)]
    outputs = [json.loads(child.communicate(timeout=60)[0]) for child in children]
    assert sorted(states["made"] for states in outputs) == [0, len(photos)]
    assert sorted(states["done"] for states in outputs) == [0, len(photos)]
    assert sorted(files(tmp_path / "out")) == [f"{photo.stem}_x2.jpg" for photo in photos]


PROGRAM = """
import json, sys, time
from collections import Counter
from pathlib import Path
sys.path.insert(0, {tests!r})
from nearest_engine import NearestEngine
from upscale_cli.request import NetworkOptions, RunRequest
from upscale_cli.run import RunReport, run
inputs, out, pause = {inputs!r}, Path({out!r}), {pause!r}
request = RunRequest(inputs=tuple(inputs), output=out, network=NetworkOptions(model="bicubic"))
opener = lambda name, scale, **_: NearestEngine(scale, before=lambda _: time.sleep(pause))
try:
    report = run(request, opener=opener)
except KeyboardInterrupt:
    sys.exit(130)
counts = Counter(file.state for file in report.files)
print(json.dumps({{state: counts[state] for state in ("made", "done", "failed")}}))
"""


def start(inputs: list[Path], out: Path, *, pause: float = 0.0) -> "subprocess.Popen[str]":
    """A run in a process of its own, `pause` seconds a tile."""
    program = PROGRAM.format(
        tests=str(Path(__file__).parent), inputs=[str(path) for path in inputs], out=str(out), pause=pause
    )
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


def wait_for(condition: object, child: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert child.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)


def through(inputs: list[Path], out: Path) -> RunReport:
    """The same run in this process."""
    request = RunRequest(inputs=tuple(map(str, inputs)), output=out, network=NetworkOptions(model="bicubic"))
    return run(request, opener=lambda _, scale=None, **__: NearestEngine(scale or 1))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_ended_half_way_goes_on_to_identical_bytes(photos: list[Path], tmp_path: Path, how: int) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    through(photos, whole)
    with start(photos, out, pause=0.02) as child:
        wait_for(lambda: len(list(out.glob("*.jpg"))) >= 3, child)
        child.send_signal(how)
        assert child.wait(60) == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    finished = {name: (out / name).stat().st_mtime_ns for name in files(out) if name.endswith(".jpg")}
    assert 3 <= len(finished) < len(photos)
    for name in finished:  # nothing half-made under a final name
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    if how == signal.SIGINT:
        assert not list(out.glob(".*.part"))
        assert not (out / LOCK_NAME).exists()
    report = through(photos, out)
    assert sum(file.state == "done" for file in report.files) == len(finished)
    assert sum(file.state == "made" for file in report.files) == len(photos) - len(finished)
    assert {name: (out / name).stat().st_mtime_ns for name in finished} == finished
    assert files(out) == files(whole)
