"""`upscale enhance` as its user sees it: names, depths, LUT files, one run with an enlargement, bad input."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from command import names
from pictures import display_p3, frame, read, write
from PIL import Image
from profiles import PROPHOTO, table_profile
from raw_files import write_dng
from styled import looked, write_style
from typer.testing import CliRunner, Result

from upscale_cli.cli.app import app
from upscale_cli.cube import read_cube
from upscale_cli.errors import UpscaleError
from upscale_cli.media.frame import Frame
from upscale_cli.media.image import ImageSource
from upscale_cli.media.metadata import Metadata, srgb_profile


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory with a style, `warm.safetensors`."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    write_style(Path("warm.safetensors"))
    return tmp_path


def enhance(*words: str) -> Result:
    """Run the command with that style; an error meant for `main` becomes its exit code and text."""
    style = [] if {"--style", "--apply-lut"} & set(words) else ["--style", "warm.safetensors"]
    result = CliRunner().invoke(app, ["enhance", *words, *style])
    if isinstance(result.exception, UpscaleError):
        result.exit_code = result.exception.exit_code
        result.stderr_bytes = f"error: {result.exception}\n".encode()
    elif result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def pixels(path: str | Path) -> np.ndarray:
    with ImageSource(Path(path)) as source:
        return next(iter(source.frames())).color


def deep(spices: np.ndarray) -> np.ndarray:
    return spices[:60, :80].astype(np.uint16) * 257


def test_a_folder_becomes_pictures_named_after_the_style(spices: np.ndarray) -> None:
    write(Path("in") / "a.png", Frame(spices[:60, :80]))
    write(Path("in") / "b.png", Frame(deep(spices)))
    assert enhance("in", "-o", "out").exit_code == 0
    assert names("out") == ["a_warm.png", "b_warm.png"]
    for name in ("a", "b"):
        made, image = pixels(f"out/{name}_warm.png"), pixels(f"in/{name}.png")
        assert made.dtype == image.dtype
        assert np.abs(made.astype(int) - looked(image)).max() <= 1
    again = enhance("in", "-o", "out")
    assert again.exit_code == 0
    assert "2 done by an earlier run" in again.stderr
    other = enhance("in", "-o", "out", "--strength", "0.5")
    assert other.exit_code == 1
    assert "made with other settings" in other.stderr


@pytest.mark.parametrize("network", ["lut3d", "enhance-residual"])
def test_strength_0_gives_the_input_back(network: str, spices: np.ndarray) -> None:
    write(Path("a.png"), Frame(deep(spices), deep(spices)[..., 0]))
    assert enhance("a.png", "-o", "b.png", "--strength", "0", "--network", network).exit_code == 0
    with ImageSource(Path("a.png")) as before, ImageSource(Path("b.png")) as after:
        first, second = next(iter(before.frames())), next(iter(after.frames()))
    assert np.array_equal(first.color, second.color)
    assert np.array_equal(first.alpha, second.alpha)


def test_it_is_enlarged_in_the_same_run(spices: np.ndarray) -> None:
    write(Path("a.png"), Frame(spices[:60, :80]))
    assert enhance("a.png", "-m", "bicubic", "-s", "2").exit_code == 0
    made = pixels("a_warm_x2.png")
    assert made.shape == (120, 160, 3)
    assert made.mean((0, 1)) == pytest.approx(looked(spices[:60, :80]).mean((0, 1)), abs=1)
    assert enhance("a.png", "-s", "0.5", "-o", "small.png").exit_code == 0
    assert pixels("small.png").shape == (30, 40, 3)


def test_the_table_is_written_and_applied(spices: np.ndarray) -> None:
    write(Path("in") / "a.png", Frame(deep(spices)))
    write(Path("in") / "b.png", Frame(spices[:60, :80]))
    assert enhance("in/a.png", "-o", "a.png", "--lut", "a.cube").exit_code == 0
    assert enhance("in/a.png", "-o", "again.png", "--apply-lut", "a.cube").exit_code == 0
    assert np.abs(pixels("again.png").astype(int) - pixels("a.png")).max() <= 1
    assert read_cube(Path("a.cube")).colors[0, 0, -1] == pytest.approx([0, 1, 0], abs=1e-6)  # red becomes green
    one_for_two = enhance("in", "-o", "out", "--lut", "a.cube")
    assert (one_for_two.exit_code, "there are 2 pictures" in one_for_two.stderr) == (2, True)
    assert enhance("in", "-o", "out", "--lut", "luts").exit_code == 0
    assert names("luts") == ["a_warm.cube", "b_warm.cube"]


def test_the_plan_names_the_style(spices: np.ndarray) -> None:
    write(Path("a.png"), Frame(spices[:60, :80]))
    result = enhance("a.png", "--dry-run", "--json")
    (row,) = json.loads(result.stdout)["plan"]
    assert (row["style"], row["target"], row["networks"]) == ("warm.safetensors", "a_warm.png", [])
    assert row["forecast"]["tiles"] == 1
    assert names(".") == ["a.png", "in", "warm.safetensors"]
    assert enhance("a.png", "--json", "--report", "r.jsonl").exit_code == 0
    assert json.loads(Path("r.jsonl").read_text())["model"] == "warm.safetensors"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--style", "expert-q"), "no style 'expert-q'"),
        (("--style", "warm.safetensors", "--apply-lut", "x.cube"), "Choose one"),
        (("--apply-lut", "none.cube"), r"none.cube cannot be read"),
        (("--style", "warm.safetensors", "--strength", "3"), "--strength 3"),
        (("--style", "expert-b"), "is untrained"),
    ],
)
def test_what_means_nothing_ends_before_it_begins(words: tuple[str, ...], said: str) -> None:
    write(Path("a.png"), frame())
    result = enhance("a.png", *words)
    assert result.exit_code in (1, 2)
    assert said in result.stderr
    assert names(".") == ["a.png", "in", "warm.safetensors"]


def test_a_table_that_is_none_makes_no_picture() -> None:
    write(Path("a.png"), frame())
    Path("curves.cube").write_text("LUT_1D_SIZE 2\n0 0 0\n1 1 1\n")
    result = enhance("a.png", "--apply-lut", "curves.cube")
    assert result.exit_code == 1
    assert "curves.cube is a LUT of one dimension" in result.stderr
    assert names(".") == ["a.png", "curves.cube", "in", "warm.safetensors"]


def test_odd_pictures_are_right_and_bad_ones_do_not_stop_the_rest(spices: np.ndarray) -> None:
    image = Image.fromarray(spices[:60, :80])
    image.convert("L").save("in/grey.png")
    image.convert("CMYK").save("in/cmyk.tif")
    write(Path("in") / "linear.tif", Frame(deep(spices)))  # 16 bits without a profile
    Path("in/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    Image.new("L", (20_000, 15_000)).save("in/huge.png", compress_level=1)
    result = enhance("in", "-o", "out")
    assert result.exit_code == 1
    assert names("out") == ["cmyk_warm.tif", "grey_warm.png", "linear_warm.tif"]
    assert "3 made, 2 failed" in result.stderr
    assert "huge.png" in result.stderr
    assert "broken.jpg" in result.stderr
    assert pixels("out/grey_warm.png").shape == (60, 80, 1)
    assert np.abs(pixels("out/linear_warm.tif").astype(int) - looked(deep(spices))).max() <= 1
    assert np.abs(pixels("out/cmyk_warm.tif").astype(int) - looked(pixels("in/cmyk.tif"))).max() <= 1


def test_the_styles_are_listed_with_what_trains_them() -> None:
    result = enhance("--list-styles")
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [f"expert-{expert}" for expert in "abcde" for _ in range(2)]
    assert all("upscale train " in line for line in lines if "untrained" in line)


def test_the_split_picture_has_before_on_the_left_and_is_no_input(spices: np.ndarray) -> None:
    smooth = np.full((60, 80, 3), (200, 100, 40), np.uint8)
    write(Path("in") / "a.png", Frame(smooth))
    assert enhance("in", "--compare", "-s", "1.5", "-m", "bicubic").exit_code == 0
    assert names("in") == ["a.png", "a_warm_x1.5.png", "a_warm_x1.5_compare.jpg"]
    both = pixels("in/a_warm_x1.5_compare.jpg").astype(int)
    assert both.shape == (90, 120, 3)
    assert np.abs(both[:, :50] - (200, 100, 40)).max() <= 4
    assert np.abs(both[:, -50:] - (100, 200, 20)).max() <= 4
    again = enhance("in", "--compare", "-s", "1.5", "-m", "bicubic")
    assert "1 done by an earlier run" in again.stderr
    assert len(names("in")) == 3


def test_a_split_picture_that_is_there_is_not_replaced_without_a_word(spices: np.ndarray) -> None:
    write(Path("a.png"), Frame(spices[:60, :80]))
    Path("b_compare.jpg").write_text("mine")
    kept = enhance("a.png", "-o", "b.png", "--compare")
    assert kept.exit_code == 1
    assert "b_compare.jpg exists. Use --overwrite" in kept.stderr
    assert Path("b_compare.jpg").read_text() == "mine"
    assert Path("b.png").exists()
    assert enhance("a.png", "-o", "b.png", "--compare", "--overwrite").exit_code == 0
    assert pixels("b_compare.jpg").shape == (60, 80, 3)


def test_a_table_names_the_options_it_has_no_use_for(spices: np.ndarray) -> None:
    write(Path("a.png"), Frame(spices[:60, :80]))
    result = enhance("a.png", "-o", "b.png", "--tile", "32", "--precision", "bf16")
    assert result.exit_code == 0
    assert "--precision and --tile are for networks" in result.stderr
    assert "are for networks" not in enhance("a.png", "-o", "c.png", "-m", "bicubic", "--tile", "32").stderr


def test_the_contact_sheet_holds_every_picture_and_needs_no_other_file(spices: np.ndarray) -> None:
    write(Path("in") / "a <b>.png", Frame(deep(spices)))
    write(Path("in") / "c.png", Frame(spices[:60, :80], spices[:60, :80, 0]))
    Path("in/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    assert enhance("in", "-o", "out", "--report", "sheet.html").exit_code == 1
    page = Path("sheet.html").read_text("utf-8")
    shots = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(shots) == 4
    with Image.open(io.BytesIO(base64.b64decode(shots[1]))) as image:
        assert image.size == (80, 60)
        assert np.asarray(image).mean((0, 1)) == pytest.approx(looked(spices[:60, :80]).mean((0, 1)), abs=3)
    assert "a &lt;b&gt;.png" in page
    assert "broken.jpg" in page
    assert not re.findall(r"(?:https?:|//)[a-z]", page)


def test_camera_raw_becomes_a_deep_tiff_in_the_style_and_enlarged_too(spices: np.ndarray) -> None:
    pytest.importorskip("rawpy")
    write_dng(Path("in/a.dng"), spices[:64, :80])
    assert enhance("in", "-o", "out").exit_code == 0
    assert enhance("in", "-o", "out", "-m", "bicubic", "-s", "2").exit_code == 0
    assert enhance("in", "-o", "plain", "--strength", "0").exit_code == 0
    assert names("out") == ["a_warm.tif", "a_warm_x2.tif"]
    made, developed = pixels("out/a_warm.tif"), pixels("plain/a_warm.tif")
    assert made.dtype == np.uint16
    assert np.abs(made.astype(int) - looked(developed)).max() <= 1
    large = pixels("out/a_warm_x2.tif")
    assert large.shape == (2 * made.shape[0], 2 * made.shape[1], 3)


def notes(result: Result) -> dict[str, list[str]]:
    """What is said of each picture."""
    return {Path(file["source"]).name: file["notes"] for file in json.loads(result.stdout)["files"]}


def test_the_profile_says_what_the_style_sees_and_stays(spices: np.ndarray) -> None:
    wide, plain = Metadata(icc=PROPHOTO.icc), Metadata(icc=srgb_profile())
    image = deep(spices)
    write(Path("in/deep.tif"), Frame(image, image[..., 0]), metadata=wide)
    write(Path("in/photo.jpg"), Frame(spices[:60, :80]), metadata=wide, quality=95)
    write(Path("in/srgb.tif"), Frame(image), metadata=plain)
    write(Path("in/table.png"), Frame(spices[:60, :80]), metadata=Metadata(icc=table_profile()))
    result = enhance("in", "-o", "out", "--json", "--quality", "100")
    assert result.exit_code == 0
    said = notes(result)
    assert (said["deep.tif"], said["photo.jpg"], said["srgb.tif"]) == ([], [], [])
    assert said["table.png"] == [
        "its profile 'for tests' is no matrix profile (it leads from RGB to Lab): its colours are taken for sRGB"
    ]
    assert np.abs(pixels("out/srgb_warm.tif").astype(int) - looked(image)).max() <= 1, "as ever"
    assert np.abs(pixels("out/table_warm.png").astype(int) - looked(spices[:60, :80])).max() <= 1
    for name, most in (("deep_warm.tif", 8), ("photo_warm.jpg", 14)):  # JPEG is JPEG
        (made,), metadata, _ = read(Path("out") / name)
        source = pixels(f"in/{name.replace('_warm', '')}")
        colors = PROPHOTO.to_srgb(source)
        shown = np.clip(colors, 0, 1)
        styled = shown[..., [1, 0, 2]] * [1, 1, 0.5] + colors - shown
        expected = np.clip(PROPHOTO.from_srgb(styled), 0, 1) * np.iinfo(source.dtype).max
        assert metadata.icc == PROPHOTO.icc
        off = np.abs(made.color - expected)
        assert off[expected > np.iinfo(source.dtype).max / 20].max() <= most
        assert np.median(off) <= 1.5
        assert np.abs(made.color - looked(source).astype(int)).mean() > 1.5, "not the style of the bare numbers"
    (alpha,) = (each.alpha for each in read(Path("out/deep_warm.tif"))[0])
    assert np.array_equal(alpha, image[..., 0])


def test_a_linear_picture_is_one_if_so_assumed(spices: np.ndarray) -> None:
    values = spices[:60, :80] / 255
    light = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    stored = np.rint(light * 65535).astype(np.uint16)
    write(Path("linear.tif"), Frame(stored))
    write(Path("grey.tif"), Frame(stored[..., 1:2]))
    write(Path("eight.png"), Frame(spices[:60, :80]))
    taken = enhance("linear.tif", "eight.png", "-o", "plain", "--json")
    said = "16 bits without a profile, taken for sRGB; if they are linear light, --assume-profile linear says so"
    assert notes(taken) == {"linear.tif": [said], "eight.png": []}
    assert np.abs(pixels("plain/linear_warm.tif").astype(int) - looked(stored)).max() <= 1
    other = enhance("linear.tif", "-o", "plain", "--assume-profile", "linear")
    assert (other.exit_code, "made with other settings" in other.stderr) == (1, True)
    result = enhance("linear.tif", "grey.tif", "-o", "out", "--assume-profile", "linear", "--compare", "--json")
    assert notes(result) == {"linear.tif": [], "grey.tif": []}
    made = pixels("out/linear_warm.tif") / 65535
    seen = np.where(made > 0.0031308, 1.055 * made ** (1 / 2.4) - 0.055, made * 12.92)
    assert np.abs(seen * 255 - spices[:60, :80][..., [1, 0, 2]] * [1, 1, 0.5]).max() < 0.2
    assert pixels("out/grey_warm.tif").shape == (60, 80, 1)
    shown = pixels("out/linear_warm_compare.jpg")[:, :38].astype(int)
    assert np.abs(shown - spices[:60, :38]).mean() < 6, "light is shown as sRGB"


def test_a_file_says_what_pictures_without_a_profile_are_in(spices: np.ndarray) -> None:
    write(Path("bare.tif"), Frame(deep(spices)))
    write(Path("tagged.tif"), Frame(deep(spices)), metadata=Metadata(icc=display_p3()))
    Path("p3.icc").write_bytes(display_p3())
    assert enhance("bare.tif", "tagged.tif", "-o", "out", "--assume-profile", "p3.icc").exit_code == 0
    assert np.array_equal(pixels("out/bare_warm.tif"), pixels("out/tagged_warm.tif"))
    assert read(Path("out/bare_warm.tif"))[1].icc is None, "the picture goes on to carry none"
    for words, code, reason in (("none.icc", 1, "no such file"), ("bare.tif", 2, "it is no ICC profile")):
        result = enhance("bare.tif", "-o", "again", "--assume-profile", words)
        assert (result.exit_code, f"--assume-profile {words}: {reason}" in result.stderr) == (code, True)
    assert not Path("again").exists()


def test_networks_after_the_style_get_the_pictures_own_colours(spices: np.ndarray) -> None:
    write(Path("a.tif"), Frame(deep(spices)), metadata=Metadata(icc=PROPHOTO.icc))
    assert enhance("a.tif", "-o", "one.tif").exit_code == 0
    assert enhance("a.tif", "-o", "two.tif", "-m", "bicubic", "-s", "2").exit_code == 0
    (large,), metadata, _ = read(Path("two.tif"))
    assert metadata.icc == PROPHOTO.icc
    assert large.color.mean((0, 1)) == pytest.approx(pixels("one.tif").mean((0, 1)), rel=0.01)
