"""Decisions taken before work starts: names and formats."""

import os
from pathlib import Path

import numpy as np
import pytest
from pictures import frame, photo, write
from planning import photographs, plan, target  # noqa: F401  the first is a fixture

from upscale_cli.errors import UsageError
from upscale_cli.media.frame import Frame
from upscale_cli.pipeline import PictureOptions
from upscale_cli.request import Size

# --- names -------------------------------------------------------------------------------------------------------


def test_beside_the_picture_or_in_a_folder_as_it_was(folder: Path, tmp_path: Path) -> None:
    beside = plan(folder, recursive=True)
    assert {item.job.target.relative_to(folder).as_posix() for item in beside.values() if item.job} == {
        "a_x2.jpg",
        "b_x2.png",
        "sub/c_x2.jpg",
    }
    out = tmp_path / "new" / "out"
    mirrored = plan(folder, recursive=True, output=out)
    assert {item.job.target.relative_to(out).as_posix() for item in mirrored.values() if item.job} == {
        "a_x2.jpg",
        "b_x2.png",
        "sub/c_x2.jpg",
    }
    assert not out.parent.exists()


def test_name_template(folder: Path) -> None:
    items = plan(folder / "a.jpg", name="{model}-{stem}-{scale}-{width}x{height}", size=Size(scale=1.5))
    assert target(items["a.jpg"]) == "bicubic-a-1.5-90x68.jpg"


def test_one_output_file(folder: Path, tmp_path: Path) -> None:
    item = plan(folder / "a.jpg", output=tmp_path / "big.webp")["a.jpg"]
    assert item.job
    assert (item.job.target, item.job.format) == (tmp_path / "big.webp", "WEBP")
    with pytest.raises(UsageError, match=r"big\.webp is one file, but there are 2 pictures"):
        plan(folder, output=tmp_path / "big.webp")
    with pytest.raises(UsageError, match="heic cannot be written"):
        plan(folder / "a.jpg", output=tmp_path / "big.heic")
    with pytest.raises(UsageError, match="is no png file"):
        plan(folder / "a.jpg", output=tmp_path / "big.webp", format="png")
    with pytest.raises(UsageError, match="both name the output"):
        plan(folder / "a.jpg", output=tmp_path / "big.webp", name="{stem}")
    (tmp_path / "dir.png").mkdir()
    assert target(plan(folder / "a.jpg", output=tmp_path / "dir.png")["a.jpg"]) == "a_x2.jpg"


def test_names_that_fall_together_are_settled_and_said(folder: Path) -> None:
    write(folder / "a.png", frame())
    items = plan(folder, format="webp")
    assert [target(item) for item in items.values()] == ["a_jpg_x2.webp", "a_png_x2.webp", "b_x2.webp"]
    assert "same name: written as a_jpg_x2.webp" in items["a.jpg"].notes[0]
    skipped = plan(folder, format="webp", on_collision="skip")
    assert [item.state for item in skipped.values()] == ["todo", "skipped", "todo"]
    with pytest.raises(UsageError, match="would both become"):
        plan(folder, format="webp", on_collision="error")


def test_a_name_too_long_for_the_disk_is_shortened(folder: Path) -> None:
    name = "é" * 125 + ".jpg"
    write(folder / name, frame())
    short = target(plan(folder)[name])
    assert len(os.fsencode(short)) <= 255
    assert "~" in short


# --- formats -----------------------------------------------------------------------------------------------------


def test_format_of_the_source_unless_it_cannot_hold_the_picture(folder: Path) -> None:
    write(folder / "deep.png", frame(depth=16))
    write(folder / "clear.webp", frame(alpha=True))
    (folder / "b.png").rename(folder / "misnamed.jpg")
    write(folder / "UPPER.bmp", frame())
    (folder / "UPPER.bmp").rename(folder / "UPPER.BMP")
    items = plan(folder, picture=PictureOptions(depth="16"))
    got = {name: (target(item), item.job.format, item.notes) for name, item in items.items() if item.job}
    assert got == {
        "UPPER.BMP": ("UPPER_x2.png", "PNG", ("BMP holds 8 bits: written as PNG",)),
        "a.jpg": ("a_x2.png", "PNG", ("JPEG holds 8 bits: written as PNG",)),
        "clear.webp": ("clear_x2.png", "PNG", ("WEBP holds 8 bits: written as PNG",)),
        "deep.png": ("deep_x2.png", "PNG", ()),
        "misnamed.jpg": ("misnamed_x2.png", "PNG", ()),
    }
    assert [target(item) for item in plan(folder).values()] == [
        "UPPER_x2.BMP",
        "a_x2.jpg",
        "clear_x2.webp",
        "deep_x2.png",
        "misnamed_x2.png",
    ]


def test_a_wanted_format_is_taken_and_its_losses_are_said(folder: Path) -> None:
    write(folder / "clear.png", frame(alpha=True, depth=16))
    item = plan(folder / "clear.png", format="jpg")["clear.png"]
    assert target(item) == "clear_x2.jpg"
    assert item.losses == ("JPEG holds 8 bits",)


def test_frames_are_not_lost_to_a_wanted_format(folder: Path) -> None:
    still = Frame(photo(), None, 0.1)
    write(folder / "film.gif", still, Frame(photo()[::-1].copy(), None, 0.1))
    assert target(plan(folder / "film.gif")["film.gif"]) == "film_x2.gif"
    item = plan(folder / "film.gif", format="jpg")["film.gif"]
    assert item.state == "failed"
    assert "JPEG holds no animation" in item.reason


def test_a_side_too_long_for_the_format(folder: Path) -> None:
    write(folder / "line.webp", Frame(np.full((2, 9000, 3), 128, np.uint8)))
    item = plan(folder / "line.webp")["line.webp"]
    assert target(item) == "line_x2.png"
    assert "at most 16383 pixels a side" in item.notes[0]
    assert plan(folder / "line.webp", format="webp")["line.webp"].state == "failed"
