"""Which files the words of a command line mean, and what their outputs are called."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscale_cli.errors import UsageError
from upscale_cli.media.paths import (
    NAME_BYTES,
    Found,
    check_template,
    choose_targets,
    fill_template,
    find_pictures,
    picture_files,
    shorten,
    shown,
)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(root: Path, *, recursive: bool = True, leave_out: Path | None = None) -> list[str]:
    listing = find_pictures([str(root)], recursive=recursive, leave_out=leave_out)
    return [str(found.path.relative_to(root)) for found in listing.pictures]


def test_folder_one_level_or_to_the_bottom(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "sub/c.tif", "sub/deep/d.webp", ".cache/e.jpg")
    listing = find_pictures([str(tmp_path)])
    assert [found.path.name for found in listing.pictures] == ["a.PNG", "b.jpg"]
    assert listing.folders == 1
    assert not listing.refused
    deep = find_pictures([str(tmp_path)], recursive=True)
    assert [(str(found.below), found.path.name) for found in deep.pictures] == [
        (".", "a.PNG"),
        (".", "b.jpg"),
        ("sub", "c.tif"),
        ("sub/deep", "d.webp"),
    ]


def test_a_file_named_twice_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg")
    monkeypatch.chdir(tmp_path)
    listing = find_pictures(["a.jpg", "./a.jpg", str(tmp_path), "*.jpg"])
    assert listing.pictures == (Found(Path("a.jpg"), Path(), named=True),)


def test_patterns_the_shell_left_alone(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.png", "sub/c.jpg", "x[1].jpg", "x1.jpg")
    assert [f.path.name for f in find_pictures([f"{tmp_path}/**/*.jpg"]).pictures] == [
        "a.jpg",
        "c.jpg",
        "x1.jpg",
        "x[1].jpg",
    ]
    # A name that exists as it stands is that file, not a pattern.
    assert [f.path.name for f in find_pictures([f"{tmp_path}/x[1].jpg"]).pictures] == ["x[1].jpg"]
    (refused,) = find_pictures([f"{tmp_path}/*.bmp"]).refused
    assert "no file matches" in refused.reason
    assert refused.failed


def test_missing_file_is_refused_and_the_others_found(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    listing = find_pictures([f"{tmp_path}/none.jpg", f"{tmp_path}/a.jpg"])
    assert [found.path.name for found in listing.pictures] == ["a.jpg"]
    assert [(r.path.name, r.failed) for r in listing.refused] == [("none.jpg", True)]


def test_loops_of_links_end_and_real_folders_keep_their_name(tmp_path: Path) -> None:
    touch(tmp_path, "z/a.jpg")
    (tmp_path / "z/up").symlink_to(tmp_path)
    (tmp_path / "alias").symlink_to(tmp_path / "z")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    listing = find_pictures([str(tmp_path)], recursive=True)
    assert [str(found.path.relative_to(tmp_path)) for found in listing.pictures] == ["z/a.jpg"]
    assert [refused.path.name for refused in listing.refused] == ["loop.jpg"]


def test_linked_picture_is_a_picture_of_its_own(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    assert names(tmp_path) == ["a.jpg", "b.jpg"]


def test_output_folder_inside_the_input_is_not_read(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "out/a_x2.jpg", "outer/b.jpg")
    assert names(tmp_path, leave_out=tmp_path / "out") == ["a.jpg", "outer/b.jpg"]
    # Named as the input itself, it is what the user wants read.
    assert names(tmp_path / "out", leave_out=tmp_path / "out") == ["a_x2.jpg"]


def test_results_of_earlier_runs_are_no_input_unless_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a_x2.jpg", "sub/b.jpg", "sub/b_x2.jpg")

    def results_in(folder: Path) -> list[Path]:
        return [folder / "a_x2.jpg", folder / "sub/b_x2.jpg"] if folder == tmp_path else []

    listing = find_pictures([str(tmp_path)], recursive=True, results_in=results_in)
    assert [found.path.name for found in listing.pictures] == ["a.jpg", "b.jpg"]
    assert listing.results == 2
    named = find_pictures([str(tmp_path), f"{tmp_path}/a_x2.jpg"], results_in=results_in)
    assert [found.path.name for found in named.pictures] == ["a.jpg", "a_x2.jpg"]


def test_special_files_are_never_opened(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "shot.DNG")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.png")[:100])
        listing = find_pictures([str(tmp_path)])
    assert [found.path.name for found in listing.pictures] == ["a.jpg", "shot.DNG"]
    reasons = {refused.path.name: refused.reason for refused in listing.refused}
    assert reasons == {
        "pipe.png": "a FIFO, not a file",
        "s.png": "a socket, not a file",
        "folder.png": "a folder, not a file (-r enters it)",
    }
    assert not any(refused.failed for refused in listing.refused)
    (named,) = find_pictures([str(tmp_path / "pipe.png"), "/dev/null"]).refused[:1]
    assert named.failed
    assert find_pictures(["/dev/null"]).refused[0].reason == "a device, not a file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_closed_folder_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "closed/b.jpg")
    (tmp_path / "closed").chmod(0)
    listing = find_pictures([str(tmp_path)], recursive=True)
    (tmp_path / "closed").chmod(0o700)
    assert [found.path.name for found in listing.pictures] == ["a.jpg"]
    assert [(r.path.name, r.reason, r.failed) for r in listing.refused] == [("closed", "permission denied", True)]


ODD_NAMES = ["-v.jpg", "a b.jpg", "new\nline.jpg", "日本 🌄.jpg", os.fsdecode(b"latin-\xe9.jpg"), "[red]x[bold].jpg"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_found_and_shown_on_one_line(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name)
    (found,) = find_pictures([str(tmp_path)]).pictures
    assert found.path.read_bytes() == b"x"
    line = shown(found.path.name)
    assert line.isprintable()
    line.encode("utf-8")


def test_shown_escapes_what_would_move_the_cursor() -> None:
    assert shown("a\x1b[2Jb\n") == "a\\x1b[2Jb\\n"
    assert shown(os.fsdecode(b"\xe9.jpg")) == "\\xe9.jpg"
    assert shown("é 🌄") == "é 🌄"


def test_picture_files_of_a_folder_and_of_a_file(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a.png", "c.txt", "sub/d.jpg")
    assert picture_files(tmp_path) == [tmp_path / "a.png", tmp_path / "b.jpg"]
    assert picture_files(tmp_path / "b.jpg") == [tmp_path / "b.jpg"]


def test_template() -> None:
    template = "{stem}_{model}_x{scale}_{width}x{height}"
    filled = fill_template(template, stem="a", model="m", scale=2.5, width=3, height=4)
    assert filled == "a_m_x2.5_3x4"
    assert fill_template("{scale}", stem="", model="", scale=2.0, width=1, height=1) == "2"
    check_template("{stem}_x{scale}")


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{stm}", "placeholder {stm}, which is not known. Use {stem}"),
        ("{stem.__class__}", "not known"),
        ("{}", "not known"),
        ("{stem", "not a template"),
        ("{width:zz}", "not a template"),
        ("a/{stem}", "does not make a file name"),
        ("", "does not make a file name"),
        ("..", "does not make a file name"),
        ("{stem}.png", "choose the format with -f"),
    ],
)
def test_broken_template_is_refused_before_any_work(template: str, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_template(template)
    assert complaint in str(caught.value)


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=300))
def test_no_name_is_too_long_and_long_ones_stay_apart(stem: str) -> None:
    name = shorten(stem, ".jpg")
    assert len(os.fsencode(name)) <= NAME_BYTES
    assert name.endswith(".jpg")
    if len(os.fsencode(stem)) <= NAME_BYTES - 4:
        assert name == f"{stem}.jpg"
    assert shorten(stem + "a" * 260, ".jpg") != shorten(stem + "a" * 261, ".jpg")


def targets(sources: list[str], rule: str = "rename") -> list[str | None]:
    paths = [Path(source) for source in sources]
    chosen = choose_targets(paths, lambda i, more: Path(f"out/{paths[i].stem}{more}.png"), rule=rule)  # type: ignore[arg-type]
    return [path and path.name for path in chosen]


def test_collisions() -> None:
    assert targets(["a.jpg", "b.jpg"]) == ["a.png", "b.png"]
    # Renamed by what tells them apart, so that the names do not depend on which was there first.
    assert targets(["a.jpg", "a.png", "b.jpg"]) == ["a_jpg.png", "a_png.png", "b.png"]
    assert targets(["a.png", "a.jpg"]) == ["a_png.png", "a_jpg.png"]
    assert targets(["1/a.jpg", "2/a.jpg", "a_2.jpg"]) == ["a.png", "a_3.png", "a_2.png"]
    assert targets(["a.jpg", "a.png", "a_jpg.png"]) == ["a_2.png", "a_png.png", "a_jpg.png"]
    # One file on a disk that does not tell upper from lower case, or composed from decomposed letters.
    assert targets(["A.jpg", "a.jpg"]) == ["A.png", "a_2.png"]
    assert targets(["e\u0301.jpg", "\xe9.png"]) == ["e\u0301_jpg.png", "\xe9_png.png"]
    assert targets(["a.jpg", "a.png", "b.jpg"], "skip") == ["a.png", None, "b.png"]
    with pytest.raises(UsageError, match=r"a\.jpg and a\.png would both become out/a\.png"):
        targets(["a.jpg", "a.png"], "error")
