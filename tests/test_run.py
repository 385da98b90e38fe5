"""A plan carried out: exact pixels, one line a picture, and a second run that does what the first left undone."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from nearest_engine import NearestEngine, nearest
from pictures import files, frame, photo, read, write

from upscale_cli import jobs
from upscale_cli.engines import Engine
from upscale_cli.errors import OutputError, WeightsError
from upscale_cli.journal import FILE_NAME, locked
from upscale_cli.media.frame import Frame
from upscale_cli.networks import Combination
from upscale_cli.request import NetworkOptions, RunRequest, Size
from upscale_cli.run import FileReport, News, RunReport, forecast, run

BICUBIC = NetworkOptions(model="bicubic")


class Networks:
    """Opens nearest-neighbour engines and remembers which were asked for."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.offline: list[bool] = []

    def __call__(
        self, model: Combination, scale: int | None = None, *, device: str, precision: str, backend: str, offline: bool
    ) -> Engine:
        assert scale is not None
        self.opened.append(str(model))
        self.offline.append(offline)
        return NearestEngine(scale)


def nothing(*_: object, **__: object) -> Engine:
    raise WeightsError("no network is needed here")


def request(*words: Path | str, **settings: object) -> RunRequest:
    return RunRequest(inputs=tuple(map(str, words)), **{"network": BICUBIC, **settings})  # type: ignore[arg-type]


def go(*words: Path | str, **settings: object) -> RunReport:
    return run(request(*words, **settings), opener=Networks())


def states(report: RunReport) -> dict[str, str]:
    return {file.source.name: file.state for file in report.files}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for index, name in enumerate(("a.png", "b.png", "sub/c.png")):
        write(tmp_path / "in" / name, Frame(photo(30 + index, 40)))
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_every_picture_is_enlarged_exactly(folder: Path, out: Path) -> None:
    report = go(folder, recursive=True, output=out)
    assert report.exit_code == 0
    assert states(report) == {"a.png": "made", "b.png": "made", "c.png": "made"}
    for name in ("a", "b", "sub/c"):
        (large,), _, _ = read(out / f"{name}_x2.png")
        (small,), _, _ = read(folder / f"{name}.png")
        np.testing.assert_array_equal(large.color, nearest(small.color, 2))
    first = report.files[0]
    assert (first.in_size, first.out_size, first.frames, first.model) == ((40, 30), (80, 60), 1, "bicubic-x2")
    assert first.out_pixels == 80 * 60
    assert first.seconds > 0


def test_waiting_for_another_run_is_no_time_at_work(folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from upscale_cli import run as module  # pyright: ignore[reportAttributeAccessIssue]

    now = [0.0]
    prepare = module._prepare

    def after_hours(*arguments: object) -> object:
        now[0] += 10_000
        return prepare(*arguments)

    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(module, "_prepare", after_hours)
    assert go(folder, output=out).seconds == 0


def test_two_networks_in_a_row(folder: Path, out: Path) -> None:
    report = go(folder / "a.png", output=out, size=Size(scale=16))
    assert report.files[0].model == "bicubic-x2 + bicubic-x8"
    (large,), _, _ = read(out / "a_x16.png")
    np.testing.assert_array_equal(large.color, nearest(photo(30, 40), 16))


def test_networks_are_opened_once_and_only_those_needed(folder: Path, out: Path) -> None:
    write(folder / "wide.png", Frame(photo(20, 90)))
    networks = Networks()
    report = run(request(folder, output=out, size=Size(width=160)), opener=networks)
    assert networks.opened == ["bicubic-x4", "bicubic-x2"]
    assert [file.source.name for file in report.files] == ["a.png", "b.png", "wide.png"]
    assert [file.model for file in report.files] == ["bicubic-x4", "bicubic-x4", "bicubic-x2"]


def test_turned_eight_times_is_another_result_and_another_speed(folder: Path, out: Path) -> None:
    """With the formula itself, which turns along: the pixels stay, and what is known of them does not."""
    turned = NetworkOptions(model=Combination(("bicubic",), tta=True), precision="fp32")
    plain = NetworkOptions(model="bicubic", precision="fp32")
    (file,) = run(request(folder / "a.png", output=out, network=turned)).files
    assert (file.state, file.model) == ("made", "bicubic-x2 (tta)")
    (large,), _, _ = read(out / "a_x2.png")
    assert "(tta) on cpu in fp32" in (out / FILE_NAME).read_text()
    assert run(request(folder / "a.png", output=out, network=turned)).files[0].state == "done"
    assert "made with other settings" in run(request(folder / "a.png", output=out, network=plain)).files[0].reason
    (file,) = run(request(folder / "a.png", output=out, network=plain, existing="resume")).files
    assert (file.state, file.model) == ("made", "bicubic-x2")
    (once,), _, _ = read(out / "a_x2.png")
    np.testing.assert_allclose(large.color, once.color, atol=1)


def test_a_combination_is_opened_as_one(folder: Path, out: Path) -> None:
    networks = Networks()
    both = NetworkOptions(model=Combination(("bicubic", "lanczos"), tta=True))
    (file,) = run(request(folder / "a.png", output=out, network=both, size=Size(scale=8)), opener=networks).files
    assert networks.opened == [file.model] == ["bicubic-x8,lanczos-x8 (tta)"]


def test_no_network_where_nothing_grows(folder: Path, out: Path) -> None:
    (file,) = go(folder / "a.png", output=out, size=Size(scale=0.5)).files
    assert file.model == ""
    assert "resized without a network" in file.notes[0]
    assert read(out / "a_x0.5.png")[0][0].color.shape == (15, 20, 3)


def test_a_second_run_needs_no_network(folder: Path, out: Path) -> None:
    go(folder, output=out)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    report = run(request(folder, output=out), opener=nothing)
    assert set(states(report).values()) == {"done"}
    assert report.exit_code == 0
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_only_what_changed_is_made_again(folder: Path, out: Path) -> None:
    go(folder, output=out)
    write(folder / "b.png", Frame(photo(30, 40, name="spices")))
    assert states(go(folder, output=out)) == {"a.png": "done", "b.png": "made"}
    (large,), _, _ = read(out / "b_x2.png")
    np.testing.assert_array_equal(large.color, nearest(photo(30, 40, name="spices"), 2))


def test_other_settings_replace_nothing_unasked(folder: Path, out: Path) -> None:
    go(folder, output=out)
    before = files(out)
    lanczos = NetworkOptions(model="lanczos")
    report = go(folder, output=out, network=lanczos)
    assert set(states(report).values()) == {"failed"}
    assert report.exit_code == 1
    assert "made with other settings. --resume makes it again" in report.files[0].reason
    assert files(out) == before
    assert set(states(go(folder, output=out, network=lanczos, existing="resume")).values()) == {"made"}
    assert set(states(go(folder, output=out, network=lanczos)).values()) == {"done"}


def test_overwrite_makes_everything_again(folder: Path, out: Path) -> None:
    go(folder, output=out)
    (out / "b_x2.png").write_bytes(b"somebody's")
    assert set(states(go(folder, output=out, existing="overwrite")).values()) == {"made"}
    assert read(out / "b_x2.png")[0]


def test_results_beside_the_pictures_are_not_enlarged_again(folder: Path) -> None:
    assert states(go(folder)) == {"a.png": "made", "b.png": "made"}
    assert states(go(folder)) == {"a.png": "done", "b.png": "done"}
    assert states(go(folder, size=Size(scale=4))) == {"a.png": "made", "b.png": "made"}
    assert sorted(files(folder)) == ["a.png", "a_x2.png", "a_x4.png", "b.png", "b_x2.png", "b_x4.png", "sub/c.png"]
    (warning,) = [warning for warning in jobs.plan(request(folder)).warnings if "result" in warning]
    assert warning == "4 results of earlier runs left out. Name them to enlarge them again."


def test_one_bad_picture_and_the_others(folder: Path, out: Path) -> None:
    whole = (folder / "b.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    heard: list[FileReport] = []
    report = run(
        request(folder, output=out),
        opener=Networks(),
        tell=lambda news: heard.append(news.finished) if news.finished else None,
    )
    assert states(report) == {"a.png": "made", "b.png": "made", "cut.png": "failed"}
    assert report.exit_code == 1
    assert sorted(files(out)) == ["a_x2.png", "b_x2.png"]
    assert {file.source.name for file in heard} == {"a.png", "b.png", "cut.png"}
    assert "truncated" in report.files[2].reason
    # Mended, it is all that is left to do.
    (folder / "cut.png").write_bytes(whole)
    assert states(go(folder, output=out)) == {"a.png": "done", "b.png": "done", "cut.png": "made"}


def test_a_picture_removed_meanwhile(folder: Path, out: Path) -> None:
    plan = jobs.plan(request(folder, output=out))
    (folder / "a.png").unlink()
    report = run(plan, opener=Networks())
    assert states(report) == {"a.png": "failed", "b.png": "made"}
    assert "cannot be read" in report.files[0].reason


def test_a_picture_changed_meanwhile_is_made_again_next_time(folder: Path, out: Path) -> None:
    def change(_tiles: object) -> None:
        os.utime(folder / "a.png", ns=(1, 1))

    def opener(*_: object, **__: object) -> Engine:
        return NearestEngine(2, before=change)

    (file,) = run(request(folder / "a.png", output=out), opener=opener).files
    assert file.notes == ("the next run will make it again: the picture was changed while it was read",)


def test_what_a_format_drops_is_said(folder: Path, out: Path) -> None:
    write(folder / "clear.png", frame(alpha=True))
    (file,) = go(folder / "clear.png", output=out, format="jpg").files
    assert any("transparency" in note for note in file.notes)


def test_in_place_once(folder: Path) -> None:
    small = photo(30, 40)
    assert states(go(folder, in_place=True)) == {"a.png": "made", "b.png": "made"}
    (large,), _, _ = read(folder / "a.png")
    np.testing.assert_array_equal(large.color, nearest(small, 2))
    assert states(go(folder, in_place=True)) == {"a.png": "done", "b.png": "done"}
    report = go(folder, in_place=True, size=Size(scale=4))
    assert "replaced by an earlier run with other settings" in report.files[0].reason
    assert states(go(folder, in_place=True, existing="overwrite")) == {"a.png": "made", "b.png": "made"}
    assert read(folder / "a.png")[0][0].color.shape == (120, 160, 3)


ODD_NAMES = ["-s.png", "new\nline.png", "日本 🌄.png", os.fsdecode(b"caf\xe9.png"), "[bold]x.png", "é" * 125 + ".png"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_made_noted_and_known_again(folder: Path, out: Path, name: str) -> None:
    write(folder / name, frame())
    (file,) = go(folder / name, output=out).files
    assert file.state == "made"
    assert file.target
    assert file.target.is_file()
    assert [file.state for file in go(folder / name, output=out).files] == ["done"]


def test_the_journal_and_the_outputs_are_all_that_stays(folder: Path, out: Path) -> None:
    go(folder, output=out)
    assert sorted(path.name for path in out.iterdir()) == [FILE_NAME, "a_x2.png", "b_x2.png"]


def test_a_folder_that_fails_only_when_written(folder: Path, out: Path) -> None:
    plan = jobs.plan(request(folder, output=out))
    out.write_bytes(b"a file has come here")
    with pytest.raises(OutputError, match="cannot be written: file exists"):
        run(plan, opener=nothing)


def test_a_folder_below_that_cannot_be_made(folder: Path, out: Path) -> None:
    plan = jobs.plan(request(folder, output=out, recursive=True))
    out.mkdir()
    (out / "sub").write_bytes(b"a file has come here")
    report = run(plan, opener=Networks())
    assert states(report) == {"a.png": "made", "b.png": "made", "c.png": "failed"}
    assert "sub cannot be written" in report.files[2].reason


def test_without_networks_nothing_begins(folder: Path, out: Path) -> None:
    with pytest.raises(WeightsError, match="no network"):
        run(request(folder, output=out), opener=nothing)
    assert files(out) == {}


def test_remains_of_a_killed_run_are_removed(folder: Path, out: Path) -> None:
    out.mkdir()
    (out / ".a_x2.png.0123abcd.part").write_bytes(b"half")
    (out / ".z_x2.png.0123abcd.part").write_bytes(b"of another run")
    go(folder, output=out)
    assert sorted(files(out)) == [".z_x2.png.0123abcd.part", "a_x2.png", "b_x2.png"]


def test_a_forecast_writes_nothing_and_fetches_nothing(folder: Path, out: Path) -> None:
    before = files(folder)
    networks = Networks()
    plan = jobs.plan(request(folder, output=out))
    found = forecast(plan, opener=networks)
    assert networks.offline == [True]
    assert files(folder) == before
    assert not out.exists()
    assert set(found) == {folder / "a.png", folder / "b.png"}
    assert all(each.tiles == 1 and each.seconds > 0 and each.bytes > 0 for each in found.values())


def test_a_forecast_goes_by_what_ran_here(folder: Path, out: Path) -> None:
    (made,) = go(folder / "a.png", output=out).files
    found = forecast(jobs.plan(request(folder, output=out)), opener=Networks())
    assert set(found) == {folder / "b.png"}
    assert found[folder / "b.png"].seconds == pytest.approx(made.seconds * 31 / 30, abs=0.002)


def test_who_listens_may_end_it(folder: Path, out: Path) -> None:
    """As a closed pipe does."""

    def tell(news: News) -> None:
        if news.finished:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run(request(folder, output=out), opener=Networks(), tell=tell)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("upscale")] == []
    assert not list(out.glob(".*.part"))
    assert set(states(go(folder, output=out)).values()) <= {"done", "made"}


# --- more than one run -------------------------------------------------------------------------------------------


def test_a_second_run_waits_and_then_finds_all_done(folder: Path, out: Path) -> None:
    plan = jobs.plan(request(folder, output=out))
    waiting = threading.Event()
    reports: list[RunReport] = []

    def tell(news: News) -> None:
        if news.waiting_for:
            waiting.set()

    def second() -> None:
        reports.append(run(plan, opener=nothing, tell=tell))

    thread = threading.Thread(target=second)
    with locked(out, waiting=lambda _: None):
        thread.start()
        assert waiting.wait(20)
        elsewhere = out.parent / "elsewhere"
        go(folder, output=elsewhere)
        for path in elsewhere.iterdir():  # as if the run that holds the lock had made them
            path.rename(out / path.name)
    thread.join(20)
    assert set(states(reports[0]).values()) == {"done"}
