"""Every decision taken before work starts: networks, sizes, and what is left alone."""

import math
import os
from pathlib import Path

import pytest
from pictures import frame, photo, write
from planning import photographs, plan, request, target  # noqa: F401  the first is a fixture

from upscale_cli import jobs
from upscale_cli.errors import OutputError, UpscaleError, UsageError
from upscale_cli.media.frame import Frame
from upscale_cli.networks import Combination
from upscale_cli.pipeline import PictureOptions
from upscale_cli.request import NetworkOptions, Size


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
