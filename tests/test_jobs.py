"""Every decision taken before work starts: networks, sizes, formats, names, and what is left alone."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
from pictures import frame, photo, write

from upscale_cli import jobs
from upscale_cli.errors import OutputError, UpscaleError, UsageError
from upscale_cli.jobs import Item
from upscale_cli.media.frame import Frame
from upscale_cli.networks import Combination
from upscale_cli.pipeline import PictureOptions
from upscale_cli.request import NetworkOptions, RunRequest, Size

BICUBIC = NetworkOptions(model="bicubic")  # a formula: its networks are known without weights


def request(*words: Path | str, **settings: object) -> RunRequest:
    return RunRequest(inputs=tuple(map(str, words)), **{"network": BICUBIC, **settings})  # type: ignore[arg-type]


def plan(*words: Path | str, **settings: object) -> dict[str, Item]:
    """Items by the name of their input."""
    return {item.source.name: item for item in jobs.plan(request(*words, **settings)).items}


def target(item: Item) -> str:
    assert item.job, item.reason
    return item.job.target.name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photographs, a folder below with a third."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    write(tmp_path / "in" / "a.jpg", frame())
    write(tmp_path / "in" / "b.png", frame())
    write(tmp_path / "in" / "sub" / "c.jpg", frame())
    return tmp_path / "in"


@pytest.fixture
def restorer(tmp_path: Path) -> Path:
    """Weights of a network of scale 1 that no table has."""
    from upscale_cli.weights import formats
    from upscale_cli.zoo.cyclegan import Generator

    formats.save(tmp_path / "restorer.safetensors", Generator(scale=1, channels=4, blocks=1).state_dict(), {})
    return tmp_path / "restorer.safetensors"


# --- sizes and networks ------------------------------------------------------------------------------------------


def settings_of(path: Path, **options: object) -> str:
    return plan(path, network=NetworkOptions(**options))[path.name].settings  # type: ignore[arg-type]


def test_other_models_another_share_and_turns_are_other_settings(folder: Path) -> None:
    models = ("edsr", "lightweight")
    wanted = (
        Combination(("edsr",)),
        Combination(("edsr",), tta=True),
        Combination(models),
        Combination(models[::-1]),
        Combination(models, tta=True),
        Combination(models, share=0.5),
        Combination(models, share=0.75),
    )
    found = [settings_of(folder / "a.jpg", model=each) for each in wanted]
    assert len(set(found)) == len(wanted)
    assert found[0] == settings_of(folder / "a.jpg", model="edsr")
    assert found[1] == settings_of(folder / "a.jpg", model=Combination(("edsr",), tta=True), tile_px=64)


def test_eight_times_goes_through_the_combination_twice(folder: Path) -> None:
    both = NetworkOptions(model=Combination(("lightweight", "improved"), tta=True))
    item = plan(folder / "a.jpg", network=both, size=Size(scale=8), name="{stem}-{model}")["a.jpg"]
    assert [stage.name for stage in item.stages] == [
        "lightweight-x2,improved-x2 (tta)",
        "lightweight-x4,improved-x4 (tta)",
    ]
    assert target(item) == "a-lightweight+improved-tta.jpg"


def test_a_model_that_keeps_the_size_keeps_it_unless_asked(folder: Path, restorer: Path) -> None:
    network = NetworkOptions(model=str(restorer))
    item = plan(folder / "a.jpg", network=network)["a.jpg"]
    assert item.job
    assert ((item.job.width, item.job.height), target(item)) == ((60, 45), "a_x1.jpg")
    assert [stage.scale for stage in item.stages] == [1]
    assert plan(folder / "a.jpg", network=network, size=Size(scale=0.5))["a.jpg"].stages == item.stages
    for size in (Size(scale=2), Size(width=61)):
        with pytest.raises(UsageError, match=r"keeps a picture's size .* Use --scale 1, and then another model"):
            plan(folder / "a.jpg", network=network, size=size)


def test_all_others_double_it_unless_asked(folder: Path) -> None:
    for model in ("bicubic", "edsr-x4"):
        job = plan(folder / "a.jpg", network=NetworkOptions(model=model))["a.jpg"].job
        assert job
        assert (job.width, job.height) == (120, 90)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (Size(scale=2), (120, 90)),
        (Size(scale=2.5), (150, 112)),
        (Size(scale=0.01), (1, 1)),
        (Size(width=150), (150, 112)),
        (Size(height=90), (120, 90)),
        (Size(megapixels=0.0108), (120, 90)),
    ],
)
def test_output_size(folder: Path, size: Size, expected: tuple[int, int]) -> None:
    job = plan(folder / "a.jpg", size=size)["a.jpg"].job
    assert job
    assert (job.width, job.height) == expected


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({}, "give exactly one"),
        ({"scale": 2, "width": 3}, "--scale and --width: give exactly one"),
        ({"scale": 0}, "--scale must be above 0"),
        ({"scale": -1}, "above 0"),
        ({"scale": math.inf}, "above 0"),
        ({"scale": math.nan}, "above 0"),
        ({"megapixels": -2}, "--megapixels must be above 0"),
    ],
)
def test_sizes_that_mean_nothing(settings: dict[str, float], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Size(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"format": "psd"}, "'psd' cannot be written. Choose one of jpg"),
        ({"name": "{nom}"}, "placeholder"),
        ({"in_place": True, "output": Path("out")}, "leave out --output"),
        ({"in_place": True, "format": "png"}, "leave out"),
        ({"in_place": True, "name": "{stem}"}, "leave out"),
        ({"network": NetworkOptions(tile_px=-1)}, "--tile -1"),
        ({"network": NetworkOptions(overlap_px=-1)}, "--overlap -1"),
        ({"network": NetworkOptions(strength=1.5)}, "--strength 1.5"),
        ({"picture": PictureOptions(quality=0)}, "--quality 0"),
        ({"picture": PictureOptions(max_pixels=0)}, "--max-pixels 0"),
    ],
)
def test_settings_that_mean_nothing(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        request("a.jpg", **settings)
    assert complaint in str(caught.value)


def test_an_output_beyond_all_memory_is_refused(folder: Path) -> None:
    item = plan(folder / "a.jpg", size=Size(scale=2000))["a.jpg"]
    assert item.state == "failed"
    assert "120000 x 90000 is more than fits" in item.reason


def test_each_picture_has_the_networks_its_size_needs(folder: Path) -> None:
    write(folder / "tall.png", Frame(photo(200, 30)))
    items = plan(folder, size=Size(height=180))
    assert {name: [stage.name for stage in item.stages] for name, item in items.items()} == {
        "a.jpg": ["bicubic-x4"],
        "b.png": ["bicubic-x4"],
        "tall.png": ["bicubic-x2"],  # shrunk, without running it
    }


def test_unknown_model(folder: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'bicubic'"):
        plan(folder, network=NetworkOptions(model="bicubi"))
    with pytest.raises(UpscaleError, match="does not exist"):
        plan(folder, network=NetworkOptions(model="none.safetensors"))


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


# --- what there is to work on ------------------------------------------------------------------------------------


def test_one_bad_file_does_not_stop_the_others(folder: Path) -> None:
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_bytes(b"hello")
    (folder / "notes.txt").write_bytes(b"hello")
    os.mkfifo(folder / "pipe.png")
    items = plan(folder, folder / "notes.txt", folder / "none.jpg")
    assert {name: item.state for name, item in items.items()} == {
        "a.jpg": "todo",
        "b.png": "todo",
        "empty.png": "failed",
        "text.jpg": "failed",
        "notes.txt": "failed",
        "pipe.png": "skipped",
        "none.jpg": "failed",
    }
    assert all(item.reason for item in items.values() if item.state != "todo")
    assert str(folder) not in items["text.jpg"].reason


def test_nothing_to_work_on(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none: there is no such file or folder"):
        plan(tmp_path / "none")
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"empty: no picture was found\. -r enters its 1 folder"):
        plan(tmp_path / "empty")
    with pytest.raises(UsageError, match=r"x\*\.jpg: no file matches this pattern"):
        plan(tmp_path / "x*.jpg")


def test_output_folder_is_checked_first(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OutputError, match=r"cannot be made: .*file is not a folder\. Choose another"):
        plan(folder, output=tmp_path / "file" / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_read_only_output_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="no permission"):
        plan(folder, output=tmp_path / "closed" / "out")


# --- what is there already ---------------------------------------------------------------------------------------


def test_a_picture_is_never_its_own_output(folder: Path, tmp_path: Path) -> None:
    item = plan(folder / "a.jpg", name="{stem}")["a.jpg"]
    assert item.state == "failed"
    assert "is the picture itself" in item.reason
    # By another name of the same file, and whatever --overwrite says.
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.jpg").symlink_to(folder / "a.jpg")
    os.link(folder / "b.png", out / "b.png")
    items = plan(folder, output=out, name="{stem}", existing="overwrite")
    assert [item.state for item in items.values()] == ["failed", "failed"]
    assert all("is the picture itself" in item.reason for item in items.values())


def test_no_output_replaces_another_input(folder: Path) -> None:
    write(folder / "a_x2.jpg", frame())
    items = plan(folder, existing="overwrite")
    assert items["a.jpg"].state == "failed"
    assert "another input of this run" in items["a.jpg"].reason
    assert items["a_x2.jpg"].state == "todo"


@pytest.mark.parametrize(("existing", "state"), [("ask", "failed"), ("skip", "skipped"), ("resume", "failed")])
def test_a_stranger_at_the_target(folder: Path, tmp_path: Path, existing: str, state: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_x2.jpg").write_bytes(b"somebody's")
    items = plan(folder, output=tmp_path / "out", existing=existing)
    assert items["a.jpg"].state == state
    assert "a_x2.jpg exists" in items["a.jpg"].reason
    assert items["b.png"].state == "todo"
    assert plan(folder, output=tmp_path / "out", existing="overwrite")["a.jpg"].state == "todo"


def test_in_place_keeps_name_and_format(folder: Path) -> None:
    (folder / "link.jpg").symlink_to("a.jpg")
    write(folder / "deep.png", frame(depth=16, alpha=True))
    items = plan(folder, in_place=True)
    assert {name: (item.state, item.job and item.job.target == item.source) for name, item in items.items()} == {
        "a.jpg": ("todo", True),
        "b.png": ("todo", True),
        "deep.png": ("todo", True),
        "link.jpg": ("failed", None),
    }
    deep = plan(folder / "a.jpg", in_place=True, picture=PictureOptions(depth="16"))["a.jpg"]
    assert deep.state == "failed"
    assert "cannot stay JPEG" in deep.reason


def test_too_little_room_on_the_disk_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = jobs.shutil._ntuple_diskusage(100, 90, 10)  # type: ignore[attr-defined]
    monkeypatch.setattr(jobs.shutil, "disk_usage", lambda _: usage)
    (warning,) = jobs.plan(request(folder, recursive=True)).warnings[:1]
    assert "0.0 MB are free" in warning


def test_headers_are_counted(folder: Path) -> None:
    heard: list[tuple[int, int]] = []
    jobs.plan(request(folder), progress=lambda done, total: heard.append((done, total)))
    assert heard == [(1, 2), (2, 2)]
