"""Names, folders, disks, signals and other programs that get in the way, through the whole command."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command import ended, folder_with, names, place, program, upscale  # noqa: F401  `place` is a fixture
from nearest_engine import nearest
from pictures import PHOTOS, frame, photo, read, write
from PIL import Image

from upscale_cli import jobs
from upscale_cli.media.frame import Frame

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files and signals")


def weaker(what: str) -> tuple[str, ...]:
    """What to put before a program so that file permissions hold for it even where the tests run as root."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip(f"root {what}, and setpriv is not there to give that up")
    drop = "-dac_override,-dac_read_search"
    return ("setpriv", f"--bounding-set={drop}", f"--inh-caps={drop}")


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@POSIX
def test_21_names_of_every_kind_are_processed_and_printable() -> None:
    odd = ["new\nline", "-s", "--help", "with space ", "日本", "emoji😀", os.fsdecode(b"not\xff\xfeutf8"), "[x]*?"]
    odd += ["{stem}", "%s", "esc\x1b[2J", "rtl\u202egnp", "a..", "$(touch x)", "[red]"]
    Path("in").mkdir()
    for name in odd:
        write(Path("in") / f"{name}.png", frame())
    code, output, errors = ended(program("in", "-o", "out", "--report", "run.jsonl"))
    assert code == 0
    assert names("out") == sorted(f"{name}_x2.png" for name in odd)
    assert len(output.splitlines()) == len(odd)
    assert all(line.isprintable() for line in (output + errors).splitlines())
    rows = [json.loads(line) for line in Path("run.jsonl").read_text("ascii").splitlines()]
    assert sorted(Path(row["target"]).name for row in rows) == names("out")
    assert "15 done by an earlier run" in ended(program("in", "-o", "out"))[2]


def test_22_a_name_that_leaves_no_room_is_shortened_and_told_apart() -> None:
    Path("in").mkdir()
    for name in ("a" * 251, "a" * 250 + "b", "é" * 125):
        write(Path("in") / f"{name}.png", Frame(photo(4, 4)))
    assert upscale("in", "-o", "out", "--name", "{stem}_enlarged_by_{scale}").exit_code == 0
    made = names("out")
    assert len(made) == 3
    assert all(len(os.fsencode(name)) <= 255 and re.search(r"~[0-9a-f]{8}\.png$", name) for name in made)
    assert upscale("in", "-o", "out", "--name", "{stem}_enlarged_by_{scale}").stderr.startswith("0 made, 3 done")


def test_23_two_pictures_of_one_name_are_settled_before_work() -> None:
    folder_with()
    write(Path("in/a.jpg"), frame())
    renamed = upscale("in", "-o", "renamed", "-f", "png")
    assert renamed.exit_code == 0
    assert names("renamed") == ["a_jpg_x2.png", "a_png_x2.png", "z_x2.png"]
    assert "another picture has the same name: written as a_jpg_x2.png" in renamed.stdout
    skipped = upscale("in", "-o", "skipped", "-f", "png", "--on-collision", "skip")
    assert skipped.exit_code == 0
    assert names("skipped") == ["a_x2.png", "z_x2.png"]
    refusal = upscale("in", "-o", "refused", "-f", "png", "--on-collision", "error")
    assert refusal.exit_code == 2
    assert "in/a.jpg and in/a.png would both become refused/a_x2.png. Use --on-collision rename" in str(
        refusal.exception
    )
    assert not Path("refused").exists()


@POSIX
@pytest.mark.parametrize("link", [None, Path.symlink_to, Path.hardlink_to])
def test_24_an_input_is_not_replaced_unless_that_is_asked_for(link: Callable[[Path, Path], None] | None) -> None:
    folder_with()
    before = Path("in/a.png").read_bytes()
    if link:
        Path("out").mkdir()
        link(Path("out/a.png"), Path("in/a.png").absolute())
    for words in ([], ["--overwrite"]):
        result = upscale("in/a.png", "-o", "out" if link else "in", "--name", "{stem}", *words)
        assert result.exit_code == 1
        assert "is the picture itself." in result.stderr
        assert "use --in-place to replace it" in result.stderr
        assert Path("in/a.png").read_bytes() == before
    inode = Path("in/a.png").stat().st_ino
    assert upscale("in/a.png", "--in-place", "--yes").exit_code == 0
    assert read(Path("in/a.png"))[0][0].color.shape == (90, 120, 3)
    assert Path("in/a.png").stat().st_ino != inode  # a whole new file took the name


@POSIX
def test_25_loops_hidden_files_and_own_results_are_not_walked() -> None:
    folder_with()
    Path("in/sub").mkdir()
    write(Path("in/sub/b.png"), frame())
    write(Path("in/.hidden.png"), frame())
    Path("in/.thumbnails").mkdir()
    write(Path("in/.thumbnails/c.png"), frame())
    Path("in/sub/up").symlink_to("..")
    Path("in/loop").symlink_to("loop")
    Path("in/self").symlink_to(".")
    for _ in range(2):
        result = upscale("in", "-r", "-o", "in/out")
        assert result.exit_code == 0
    assert sorted(str(path) for path in Path("in/out").rglob("*.png")) == [
        "in/out/a_x2.png",
        "in/out/sub/b_x2.png",
        "in/out/z_x2.png",
    ]


@pytest.mark.parametrize("words", [("-o", "taken"), ("-o", "taken/below"), ("-o", "missing/a.png", "--name", "x")])
def test_26_an_output_that_cannot_be_is_one_message_before_any_work(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_with()
    Path("taken").write_bytes(b"a file")
    result = upscale("in/a.png", *words)
    assert result.exit_code in (1, 2)
    assert len(str(result.exception).splitlines()) == 1
    assert result.stdout == ""
    assert names(".") == ["in", "taken"]


@POSIX
def test_26_a_folder_that_may_not_be_written_is_told_before_a_network_is_loaded() -> None:
    folder_with()
    Path("closed").mkdir(mode=0o555)
    before = "run.run.__kwdefaults__['opener'] = lambda *_, **__: print('a network was loaded')"
    for target in ("closed", "closed/below"):
        code, output, errors = ended(program("in", "-o", target, before=before, prefix=weaker("writes everywhere")))
        assert (code, output) == (1, "")
        assert re.fullmatch(r"error: closed\S* cannot be written: no permission.*-o\.\n", errors)
    code, _, errors = ended(program("in/a.png", "--name", "x", prefix=weaker("writes everywhere")))
    assert code == 0
    Path("in").chmod(0o555)
    code, _, errors = ended(program("in/a.png", prefix=weaker("writes everywhere")))
    Path("in").chmod(0o755)
    assert code == 1
    assert "in cannot be written" in errors


@POSIX
def test_27_a_full_disk_leaves_nothing_half_made_and_the_next_run_goes_on() -> None:
    """A limit on the size of files stands for the disk: what does not fit fails in the same calls."""
    folder_with()
    with Image.open(PHOTOS / "dunes.jpg") as image:
        for suffix in ("jpg", "png", "tif", "webp"):
            image.save(f"in/large.{suffix}", quality=95)
    limit = 40_000
    code, _, errors = ended(
        program("in", "-o", "out", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    )
    assert code == 1
    assert errors.count("cannot be written: File too large. Make room there, or choose another -o.") == 4
    assert sorted(path.name for path in Path("out").iterdir()) == [".upscale-journal.jsonl", "a_x2.png", "z_x2.png"]
    assert "\n4 made, 2 done by an earlier run" in upscale("in", "-o", "out").stderr


def test_28_files_that_go_or_change_after_they_were_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    folder_with()
    for name in ("gone", "cut", "other"):
        write(Path(f"in/{name}.png"), frame())
    plan = jobs.plan

    def planned(*words: object, **options: object) -> jobs.Plan:
        made = plan(*words, **options)  # type: ignore[arg-type]
        Path("in/gone.png").unlink()
        Path("in/cut.png").write_bytes(Path("in/cut.png").read_bytes()[:3000])
        write(Path("in/other.png"), Frame(photo(45, 60, name="otters")))
        return made

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "plan", planned)
        result = upscale("in", "-o", "out")
    assert result.exit_code == 1
    assert "failed: in/gone.png: cannot be read: No such file or directory." in result.stderr
    assert "failed: in/cut.png: is truncated" in result.stderr
    assert names("out") == ["a_x2.png", "other_x2.png", "z_x2.png"]
    assert np.array_equal(read(Path("out/other_x2.png"))[0][0].color, nearest(photo(name="otters"), 2))


@pytest.mark.parametrize("same_time", [False, True])
def test_28_an_output_never_stays_when_its_input_is_another(same_time: bool) -> None:
    folder_with()
    assert upscale("in", "-o", "out").exit_code == 0
    before = Path("in/a.png").stat()
    write(Path("in/a.png"), Frame(photo(name="otters")))
    if same_time:
        os.utime("in/a.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "1 made" in upscale("in", "-o", "out").stderr
    assert np.array_equal(read(Path("out/a_x2.png"))[0][0].color, nearest(photo(name="otters"), 2))
    os.utime("in/z.png")  # touched, and still the same
    assert upscale("in", "-o", "out").stderr.startswith("0 made, 2 done")


@POSIX
def test_29_what_only_looks_like_a_file_is_skipped_with_its_kind() -> None:
    folder_with()
    Path("in/folder.png").mkdir()
    os.mkfifo("in/fifo.png")
    Path("in/device.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("in/socket.png")
        code, output, _ = ended(program("in", "-o", "out"))
        named = ended(program("in/fifo.png", "in/device.png", "in/socket.png", "in/a.png", "-o", "out"))
    assert code == 0
    assert names("out") == ["a_x2.png", "z_x2.png"]
    for kind in ("folder", "fifo", "device", "socket"):
        assert re.search(rf"in/{kind}\.png: skipped, a {kind}, not a file", output, re.IGNORECASE)
    assert named[0] == 1
    assert named[2].count("failed: ") == 3


@POSIX
def test_30_a_file_that_may_not_be_read_is_reported_and_the_others_go_on() -> None:
    folder_with()
    write(Path("in/mine.png"), frame())
    Path("in/mine.png").chmod(0)
    Path("in/closed").mkdir(mode=0)
    code, _, errors = ended(program("in", "-r", "-o", "out", prefix=weaker("reads everything")))
    Path("in/closed").chmod(0o755)
    assert code == 1
    assert "failed: in/mine.png: cannot be read: Permission denied." in errors
    assert "failed: in/closed: permission denied" in errors
    assert names("out") == ["a_x2.png", "z_x2.png"]


@POSIX
@pytest.mark.parametrize("times", [1, 2])
def test_31_ctrl_c_ends_with_130_and_leaves_no_temporary(times: int) -> None:
    Path("in").mkdir()
    for index in range(6):
        write(Path(f"in/{index}.png"), frame())
    child = program("in", "-o", "out", pause=0.3)
    until(lambda: Path("out/1_x2.png").exists())
    for _ in range(times):
        child.send_signal(signal.SIGINT)
        time.sleep(0.01)
    code, _, errors = ended(child)
    assert code in (130, -signal.SIGINT)  # a shell shows both as 130
    assert "Traceback" not in errors
    assert re.search(r"Interrupted: \d made, \d left\. The same command goes on from here\.", errors)
    assert 2 <= len(names("out")) < 6
    assert sorted(path.name for path in Path("out").glob(".*")) == [".upscale-journal.jsonl"]
    for name in names("out"):
        assert np.array_equal(read(Path("out") / name)[0][0].color, nearest(photo(), 2))


@POSIX
def test_32_a_killed_run_goes_on_to_the_bytes_of_an_uninterrupted_one() -> None:
    Path("in").mkdir()
    for index, path in enumerate(sorted(PHOTOS.glob("*.jpg"))[:5]):
        write(Path(f"in/{index}.jpg"), Frame(photo(name=path.stem)))
    child = program("in", "-o", "out", pause=0.2)
    until(lambda: Path("out/1_x2.jpg").exists())
    child.kill()
    ended(child)
    done = {name: Path("out", name).stat().st_mtime_ns for name in names("out")}
    assert 2 <= len(done) < 5
    left = 5 - len(done)
    assert f"{left} made, {len(done)} done by an earlier run" in upscale("in", "-o", "out").stderr
    assert upscale("in", "-o", "whole").exit_code == 0
    assert names("out") == names("whole")
    for name in names("whole"):
        assert Path("out", name).read_bytes() == Path("whole", name).read_bytes()
        assert done.get(name, Path("out", name).stat().st_mtime_ns) == Path("out", name).stat().st_mtime_ns


@POSIX
def test_33_two_runs_on_one_folder_wait_for_each_other() -> None:
    Path("in").mkdir()
    for index in range(4):
        write(Path(f"in/{index}.png"), frame())
    children = [program("in", "-o", "out", pause=0.1) for _ in range(2)]
    found = [ended(child) for child in children]
    assert [code for code, _, _ in found] == [0, 0]
    assert sorted(len(output.splitlines()) for _, output, _ in found) == [0, 4]
    assert sum("Another run is writing to" in errors for _, _, errors in found) == 1
    for index in range(4):
        assert np.array_equal(read(Path(f"out/{index}_x2.png"))[0][0].color, nearest(photo(), 2))


@POSIX
def test_34_pipes_carry_a_picture_or_nothing() -> None:
    write(Path("a.png"), frame())

    def piped(data: bytes) -> tuple[int, bytes, str]:
        Path("stdin").write_bytes(data)
        with Path("stdin").open("rb") as file:
            code, made, said = ended(program("-", "-o", "-", stdin=file, text=False, errors=None))
        return code, made, said.decode()

    code, made, _ = piped(Path("a.png").read_bytes())
    assert code == 0
    Path("b.png").write_bytes(made)
    assert read(Path("b.png"))[0][0].color.shape == (90, 120, 3)
    for data, says in (
        (b"", "is empty"),
        (b"hello", "is not a picture"),
        (Path("a.png").read_bytes()[:2000], "truncated"),
    ):
        code, made, said = piped(data)
        assert (code, made) == (1, b"")
        assert says in said
        assert "Traceback" not in said


@POSIX
def test_34_a_reader_that_goes_away_ends_the_run_with_141_and_no_traceback() -> None:
    write(Path("a.png"), Frame(photo(400, 400)))
    with program("a.png", "-o", "-") as child:
        assert child.stdout
        assert child.stderr
        child.stdout.close()
        errors = child.stderr.read()
    assert child.returncode == 141
    assert "Traceback" not in errors


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "avif", "gif"])
def test_51_the_same_input_gives_the_same_bytes(suffix: str) -> None:
    Path("in").mkdir()
    write(Path("in/a.png"), Frame(photo(150, 170)))
    for folder, words in (("first", ()), ("again", ()), ("tiles", ("-t", "64"))):
        assert upscale("in", "-o", folder, "-f", suffix, *words).exit_code == 0
    first = Path(f"first/a_x2.{suffix}").read_bytes()
    assert Path(f"again/a_x2.{suffix}").read_bytes() == first
    assert Path(f"tiles/a_x2.{suffix}").read_bytes() == first
