"""process() left early, by Ctrl-C, by closing it or by a fault outside: its threads end, no file stays half-made."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from nearest_engine import NearestEngine, nearest
from photo_jobs import (  # noqa: F401  two are fixtures
    PATIENCE_S,
    job,
    leftovers,
    out_folder,
    photo_sources,
    pixels,
    threads,
    until,
    write_picture,
)

from upscale_cli.media.frame import Frame
from upscale_cli.pipeline import Job, JobResult, Upscaler, process


def test_ctrl_c_in_the_network_joins_the_threads_and_leaves_no_temporary(sources: list[Path], out: Path) -> None:
    calls: list[int] = []

    def before(_: np.ndarray) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    finished: list[JobResult] = []
    with pytest.raises(KeyboardInterrupt):
        finished.extend(
            process([job(path, out / path.name) for path in sources], Upscaler([NearestEngine(before=before)]))
        )
    assert threads() == []
    assert leftovers(out) == []
    for path in out.iterdir():
        np.testing.assert_array_equal(pixels(path), nearest(pixels(sources[0]), 2))


def test_ctrl_c_while_a_file_is_half_written_removes_it(sources: list[Path], out: Path) -> None:
    """The writer holds an open sink and waits for the next frame of an animation when the run is stopped."""
    frames = [Frame(pixels(path), seconds=0.05) for path in sources]
    source = write_picture(out.parent / "moving.png", frames, "PNG")
    calls: list[int] = []

    def before(_: np.ndarray) -> None:
        calls.append(1)
        if len(calls) == 3:
            until(lambda: leftovers(out) != [], "no sink was opened")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(
            process(
                [job(source, out / "moving.webp", format="WEBP")], Upscaler([NearestEngine(before=before)], tile_px=500)
            )
        )
    assert list(out.iterdir()) == []
    assert threads() == []


def test_ctrl_c_in_the_middle_of_a_picture_removes_what_was_written(sources: list[Path], out: Path) -> None:
    calls: list[int] = []

    def before(_: np.ndarray) -> None:
        calls.append(1)
        if len(calls) == 7:
            until(lambda: leftovers(out) != [], "no sink was opened for the first strips")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(process([job(sources[0], out / "a.png")], Upscaler([NearestEngine(before=before)], tile_px=60)))
    assert list(out.iterdir()) == []
    assert threads() == []


def test_closing_the_iterator_early_stops_everything(sources: list[Path], out: Path) -> None:
    results = process([job(path, out / path.name) for path in sources], Upscaler([NearestEngine()]))
    assert next(results).error is None
    results.close()
    assert threads() == []
    assert leftovers(out) == []


def test_a_fault_in_the_list_of_jobs_is_raised_where_it_is_asked(sources: list[Path], out: Path) -> None:
    def jobs() -> Iterator[Job]:
        yield job(sources[0], out / "a.png")
        raise LookupError("not a job")

    with pytest.raises(LookupError, match="not a job"):
        list(process(jobs(), Upscaler([NearestEngine()])))
    assert threads() == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one program")
def test_a_real_interrupt_leaves_nothing_half_done(photos: list[Path], out: Path) -> None:
    """SIGINT to a program of its own, in the middle of a long run."""
    program = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from nearest_engine import NearestEngine
from upscale_cli.pipeline import Job, Upscaler, process
paths = {[str(path) for path in photos]!r} * 20
out = Path({str(out)!r})
jobs = [Job(Path(path), out / f"{{index}}.png", "PNG", 640, 960) for index, path in enumerate(paths)]
try:
    for result in process(jobs, Upscaler([NearestEngine()])):
        print("done", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "done\n"
        child.send_signal(2)
        output = child.stdout.read()
        assert child.wait(PATIENCE_S) == 130
    assert output.endswith("interrupted\n")
    assert leftovers(out) == []
    for path in out.iterdir():
        assert pixels(path).shape == (640, 960, 3)
