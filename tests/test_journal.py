"""What a run notes, and what the next one may conclude from it."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from upscale_cli.errors import OutputError
from upscale_cli.journal import FILE_NAME, LOCK_NAME, Journal, locked, remove_remains, results_in

SETTINGS = "x2"


def make(folder: Path, name: str = "a.jpg", *, finish: bool = True, settings: str = SETTINGS) -> tuple[Path, Path]:
    """A source, and its output made and noted as a run does it; without `finish` as a run killed at the last moment."""
    source, target = folder / name, folder / "out" / f"{Path(name).stem}_x2.jpg"
    target.parent.mkdir(exist_ok=True)
    source.write_bytes(b"source " + os.fsencode(name))
    journal = Journal(target.parent)
    journal.begin(source, target, settings, height=4, width=6)
    target.write_bytes(b"output of " + os.fsencode(name))
    if finish:
        assert journal.finish(source, target, engine="nearest on cpu", seconds=1.5, pixels=6)
    return source, target


def state(source: Path, target: Path, settings: str = SETTINGS) -> str:
    return Journal(target.parent).state(source, target, settings, height=2, width=3)


def test_what_is_made_is_done_until_something_changes(tmp_path: Path) -> None:
    source, target = make(tmp_path)
    assert state(source, target) == "done"
    assert state(source, target, "x4") == "other settings"
    assert state(source, tmp_path / "out" / "other.jpg") == "absent"
    source.write_bytes(b"another picture, longer")
    assert state(source, target) == "changed input"
    make(tmp_path)
    target.write_bytes(b"edited by hand")
    assert state(source, target) == "unknown"
    target.unlink()
    assert state(source, target) == "absent"


def test_a_touched_input_is_judged_by_its_content(tmp_path: Path) -> None:
    source, target = make(tmp_path)
    os.utime(source, ns=(1, 1))
    assert state(source, target) == "done"
    content = source.read_bytes()
    source.write_bytes(bytes([content[0] ^ 1]) + content[1:])  # as long, another picture
    assert state(source, target) == "changed input"


def test_an_output_of_another_input_is_not_ours(tmp_path: Path) -> None:
    _, target = make(tmp_path)
    other = tmp_path / "a.png"
    other.write_bytes(b"source a.jpg")
    assert state(other, target) == "unknown"
    stranger = tmp_path / "out" / "b_x2.jpg"
    stranger.write_bytes(b"somebody's")
    assert state(tmp_path / "a.jpg", stranger) == "unknown"


def test_killed_before_the_note_but_after_the_output(tmp_path: Path) -> None:
    source, target = make(tmp_path, finish=False)
    assert state(source, target) == "done"
    assert results_in(target.parent) == [target]
    Journal(target.parent).confirm(target)
    target.write_bytes(b"edited afterwards")
    assert state(source, target) == "unknown"


def test_killed_before_the_output(tmp_path: Path) -> None:
    source, target = make(tmp_path, finish=False)
    target.unlink()
    assert state(source, target) == "absent"
    assert results_in(target.parent) == []


def test_killed_before_an_old_output_was_replaced(tmp_path: Path) -> None:
    source, target = make(tmp_path, settings="x4")
    Journal(target.parent).begin(source, target, SETTINGS, height=4, width=6)
    assert state(source, target, "x4") == "done"
    assert state(source, target) == "other settings"


def test_in_place(tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"small")
    journal = Journal(tmp_path)
    assert journal.state(photo, photo, SETTINGS, height=2, width=3) == "absent"
    journal.begin(photo, photo, SETTINGS, height=4, width=6)
    assert Journal(tmp_path).state(photo, photo, SETTINGS, height=2, width=3) == "absent"
    photo.write_bytes(b"enlarged")
    # Killed here, it is known by its new size; edited by somebody meanwhile, it has another.
    assert Journal(tmp_path).state(photo, photo, SETTINGS, height=4, width=6) == "done"
    assert Journal(tmp_path).state(photo, photo, SETTINGS, height=2, width=3) == "absent"
    assert journal.finish(photo, photo, engine="nearest", seconds=1, pixels=6)
    assert Journal(tmp_path).state(photo, photo, SETTINGS, height=4, width=6) == "done"
    assert results_in(tmp_path) == []
    photo.write_bytes(b"a new picture under that name")
    assert Journal(tmp_path).state(photo, photo, SETTINGS, height=2, width=3) == "absent"


def test_input_changed_while_it_was_read_is_not_noted(tmp_path: Path) -> None:
    source, target = tmp_path / "a.jpg", tmp_path / "a_x2.jpg"
    source.write_bytes(b"before")
    journal = Journal(tmp_path)
    journal.begin(source, target, SETTINGS, height=4, width=6)
    source.write_bytes(b"changed")
    target.write_bytes(b"of before, or of a mixture")
    assert not journal.finish(source, target, engine="nearest", seconds=1, pixels=6)
    assert state(source, target) == "changed input"


@pytest.mark.parametrize("name", ["new\nline.jpg", "日本.jpg", os.fsdecode(b"\xff\xe9.jpg"), "[red].jpg", " .jpg"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    source, target = make(tmp_path, name)
    assert state(source, target) == "done"
    assert results_in(target.parent) == [target]
    (tmp_path / "out" / FILE_NAME).read_text("ascii")


@pytest.mark.parametrize("torn", [1, 5, 100])
def test_a_torn_last_line_costs_only_itself(tmp_path: Path, torn: int) -> None:
    first, second = make(tmp_path, "a.jpg"), make(tmp_path, "b.jpg")
    journal = tmp_path / "out" / FILE_NAME
    journal.write_bytes(journal.read_bytes()[:-torn])
    assert state(*first) == "done"
    assert state(*second) == "done"  # its output is there, and that it was begun was noted
    third = make(tmp_path, "c.jpg")
    assert state(*third) == "done"
    assert state(*first) == "done"


def test_foreign_lines_are_passed_over(tmp_path: Path) -> None:
    source, target = make(tmp_path)
    journal = tmp_path / "out" / FILE_NAME
    lines = journal.read_bytes()
    journal.write_bytes(b"\x00\xff\n[]\n7\n{}\n" + json.dumps({"target": "x"}).encode() + b"\n" + lines)
    assert state(source, target) == "done"


def test_without_a_journal_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    assert results_in(tmp_path) == []
    assert results_in(tmp_path / "none") == []
    (tmp_path / FILE_NAME).mkdir()
    assert Journal(tmp_path).records == {}


def test_same_folder_by_a_link_is_the_same_journal(tmp_path: Path) -> None:
    source, target = make(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    assert state(tmp_path / "link" / source.name, tmp_path / "link" / "out" / target.name) == "done"


def test_speed_is_known_by_what_ran(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    make(tmp_path, "b.jpg")
    assert Journal(tmp_path / "out").seconds_per_pixel("nearest on cpu") == pytest.approx(0.25)
    assert Journal(tmp_path / "out").seconds_per_pixel("edsr-x2 on cpu") is None


def test_remains_of_our_outputs_are_removed_and_nothing_else(tmp_path: Path) -> None:
    long = "n" * 80 + ".jpg"
    ours = [".a.jpg.0123abcd.part", f".{long[:59]}.00000000.part"]
    others = [".b.jpg.0123abcd.part", ".a.jpg.part", "a.jpg.0123abcd.part", ".a.jpg.0123ABCD.part", "a.jpg"]
    for name in (*ours, *others):
        (tmp_path / name).write_bytes(b"x")
    remove_remains([tmp_path / "a.jpg", tmp_path / long, tmp_path / "no folder" / "a.jpg"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_two_runs_wait_for_each_other(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "out"
    order: list[str] = []
    waited = threading.Event()

    def second() -> None:
        with locked(folder, waiting=lambda _: waited.set()):
            order.append("second")

    with locked(folder, waiting=lambda _: order.append("nobody was there")):
        thread = threading.Thread(target=second)
        thread.start()
        assert waited.wait(10)
        time.sleep(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert not (folder / LOCK_NAME).exists()


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with (
        pytest.raises(OutputError, match=r"file/out cannot be written: not a directory\. Choose another"),
        locked(tmp_path / "file" / "out", waiting=lambda _: None),
    ):
        pass
