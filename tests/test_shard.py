"""Shards: runs that split the work themselves do every picture once, at the same time or one after another."""

import json
import re
import threading
from pathlib import Path

import pytest
from command import ended, names, place, program, upscale  # noqa: F401  `place` is a fixture
from pictures import frame, write

from upscale_cli import jobs, journal
from upscale_cli.errors import UsageError
from upscale_cli.jobs import Plan
from upscale_cli.journal import FILE_NAME, Journal, locked, results_in
from upscale_cli.request import NetworkOptions, RunRequest, Shard

NAMES = ("a.jpg", "a.png", "b.png", "c.png", "d.png", "e.png", "sub/a.png", "sub/f.png")


@pytest.fixture
def folder(place: Path) -> Path:  # noqa: F811
    """`in/` with eight pictures, of which three want one name, and one that is none."""
    (place / "in" / "sub").mkdir(parents=True)
    for name in NAMES:
        write(place / "in" / name, frame())
    (place / "in" / "bad.png").write_bytes(b"no picture")
    return Path("in")


def plan(shard: str | None, **settings: object) -> Plan:
    options = {"network": NetworkOptions(model="bicubic"), "recursive": True, "output": Path("out"), **settings}
    return jobs.plan(
        RunRequest(inputs=("in",), shard=None if shard is None else Shard.of(shard), **options)  # type: ignore[arg-type]
    )


def becomes(*plans: Plan) -> dict[Path, Path | None]:
    return {item.source: item.job and item.job.target for each in plans for item in each.items}


@pytest.mark.parametrize("count", [1, 2, 3, 20])
@pytest.mark.parametrize("settings", [{}, {"format": "png", "output": None}])
def test_shards_cover_everything_once_under_the_names_of_the_whole(
    folder: Path, count: int, settings: dict[str, object]
) -> None:
    shards = [plan(f"{index}/{count}", **settings) for index in range(1, count + 1)]
    sizes = [len(shard.items) for shard in shards]
    assert sum(sizes) == len(NAMES) + 1
    assert max(sizes) - min(sizes) <= 1
    assert becomes(*shards) == becomes(plan(None, **settings))


def test_what_other_shards_have_finished_moves_nothing(folder: Path) -> None:
    """Beside the inputs, where every result is one more file in the folder that is listed."""
    before = becomes(plan("2/3", output=None))
    for shard in ("3/3", "1/3"):
        upscale("in", "-r", "--shard", shard)
    assert becomes(plan("2/3", output=None)) == before


def test_another_count_later_knows_what_is_done(folder: Path) -> None:
    (folder / "bad.png").unlink()
    upscale("in", "-r", "-o", "out", "--shard", "1/2")
    counts = []
    for shard in ("1/3", "2/3", "3/3"):
        result = json.loads(upscale("in", "-r", "-o", "out", "--shard", shard, "--json").stdout)
        counts.append((result["made"], result["done"], result["failed"]))
    assert [sum(count) for count in zip(*counts, strict=True)] == [4, 4, 0]
    result = json.loads(upscale("in", "-r", "-o", "out", "--json").stdout)
    assert (result["done"], result["made"]) == (8, 0)


def test_shards_at_once_do_not_wait_for_each_other(folder: Path) -> None:
    (folder / "bad.png").unlink()
    words = ("in", "-r", "-o", "out", "--json")
    children = [program(*words, "--shard", f"{index}/3", pause=0.1) for index in (1, 2, 3)]
    found = [ended(child) for child in children]
    assert [code for code, _, _ in found] == [0, 0, 0]
    assert not any("Waiting" in errors for _, _, errors in found)
    made = [file["source"] for _, output, _ in found for file in json.loads(output)["files"]]
    assert sorted(made) == sorted(f"in/{name}" for name in NAMES)
    assert len(names("out")) == 7
    assert not list(Path("out").rglob("*.part"))
    assert json.loads(upscale(*words).stdout)["done"] == len(NAMES)


def test_a_shard_alone_is_shown_and_counted(folder: Path) -> None:
    result = upscale("in", "-r", "-o", "out", "--shard", "2/4", "--dry-run")
    assert "shard 2/4: 2 of 9 inputs." in result.stderr
    assert set(re.findall(r"in/\S+", result.stdout)) == {"in/a.png", "in/d.png"}
    assert "2 to make" in result.stderr
    result = upscale("in/c.png", "-o", "out", "--shard", "2/2")
    assert result.exit_code == 0
    assert "shard 2/2: 0 of 1 input.\n" in result.stderr
    assert not Path("out").exists()


@pytest.mark.parametrize("words", ["2/0", "3/2", "0/4", "x", "", "1/", "-1/2", "1/2/3", "1.0/2", "²/3"])
def test_what_is_no_share_is_refused(folder: Path, words: str) -> None:
    result = upscale("in", "-o", "out", "--shard", words)
    assert result.exit_code == 2
    assert re.search(
        rf"--shard {re.escape(words)} (is no share\. .* from 1/N to N/N|means nothing\. .* 2/8)", result.stderr
    )
    assert not Path("out").exists()


def test_an_input_of_another_shard_is_no_target(place: Path) -> None:  # noqa: F811
    Path("in").mkdir()
    for name in ("a.png", "a_x2.png"):
        write(Path("in") / name, frame())
    for settings in ({}, {"existing": "overwrite"}):
        (item,) = plan("1/2", output=None, **settings).items
        assert item.state == "failed"
        assert "is another input of this run" in item.reason


def test_a_run_of_all_waits_for_a_shard_and_a_shard_for_another_count(tmp_path: Path) -> None:
    """They may want the same outputs; shards of one count do not."""
    order: list[str] = []

    def later(share: str) -> tuple[threading.Thread, threading.Event]:
        waiting = threading.Event()

        def hold() -> None:
            with locked(tmp_path, share, waiting=lambda _: waiting.set()):
                order.append(share)

        thread = threading.Thread(target=hold)
        thread.start()
        return thread, waiting

    with locked(tmp_path, "1-of-2", waiting=lambda _: order.append("nobody was there")):
        with locked(tmp_path, "2-of-2", waiting=lambda _: order.append("a friend was there")):
            others = [later(share) for share in ("", "1-of-3", "1-of-2")]
            assert all(waiting.wait(20) for _, waiting in others)
        assert order == []
    for thread, _ in others:
        thread.join(20)
    assert sorted(order) == ["", "1-of-2", "1-of-3"]
    assert list(tmp_path.iterdir()) == []


def test_of_two_journals_the_later_note_counts(tmp_path: Path) -> None:
    source, target = tmp_path / "a.jpg", tmp_path / "a_x2.jpg"
    source.write_bytes(b"photo")
    for share, settings in (("2-of-2", "x2"), ("", "x4"), ("1-of-3", "x8")):
        note = Journal(tmp_path, share)
        note.begin(source, target, settings, height=4, width=6)
        target.write_bytes(settings.encode())
        assert note.finish(source, target, engine="nearest", seconds=1, pixels=6)
        for reader in ("", "1-of-2", "7-of-9"):
            assert Journal(tmp_path, reader).state(source, target, settings, height=2, width=3) == "done"
    Journal(tmp_path).begin(source, target, "x2", height=4, width=6)  # and is killed before it is made
    assert Journal(tmp_path).state(source, target, "x8", height=2, width=3) == "done"
    assert len((tmp_path / FILE_NAME).read_bytes().splitlines()) == 3
    (tmp_path / ".upscale-journal-mine.jsonl").write_bytes((tmp_path / FILE_NAME).read_bytes())
    assert Journal(tmp_path).state(source, target, "x8", height=2, width=3) == "done"


def test_a_clock_that_is_put_back_does_not_turn_a_journal_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "a.jpg", tmp_path / "a_x2.jpg"
    source.write_bytes(b"photo")
    for now, settings in ((1000, "x2"), (10, "x4")):
        monkeypatch.setattr(journal.time, "time_ns", lambda now=now: now)
        note = Journal(tmp_path)
        note.begin(source, target, settings, height=4, width=6)
        target.write_bytes(settings.encode())
        note.finish(source, target, engine="nearest", seconds=1, pixels=6)
    target.write_bytes(b"x4")
    assert Journal(tmp_path).records["a_x2.jpg"].settings == "x4"


def test_a_result_replaced_while_the_folder_is_listed_is_no_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "a.jpg", tmp_path / "a_x2.jpg"
    source.write_bytes(b"photo")
    other = Journal(tmp_path, "1-of-2")

    def make(content: bytes) -> None:
        other.begin(source, target, "x2", height=4, width=6)
        target.write_bytes(content)
        other.finish(source, target, engine="nearest", seconds=1, pixels=6)

    make(b"first")
    read, times = journal._read, []

    def read_and_replace(folder: Path) -> dict[str, journal.Record]:
        records = read(folder)
        times.append(len(times))
        if len(times) == 1:
            make(b"second, longer")
        return records

    monkeypatch.setattr(journal, "_read", read_and_replace)
    assert results_in(tmp_path) == [target]


def test_share_is_checked_where_it_is_made() -> None:
    assert Shard.of("2/8") == Shard(2, 8)
    with pytest.raises(UsageError, match="9/8 is no share"):
        Shard(9, 8)
