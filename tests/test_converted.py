"""A style for pictures in wide spaces: as for their sRGB, with what sRGB cannot show kept, by strips and by tiles."""

from pathlib import Path

import numpy as np
import pytest
import torch
from nearest_engine import NearestEngine
from profiles import ADOBE_RGB, DISPLAY_P3, PROPHOTO, WIDE, Working
from styled import write_style

from upscale_cli import zoo
from upscale_cli.converted import Converted
from upscale_cli.cube import Cube, write_cube
from upscale_cli.engines.eager import EagerEngine
from upscale_cli.engines.lut import LutEngine, open_tables
from upscale_cli.enlarge import Upscaler
from upscale_cli.grade import Grade
from upscale_cli.media.colorspace import Assumed, meaning, space_of
from upscale_cli.media.frame import Frame
from upscale_cli.model import Model
from upscale_cli.stage import Stage
from upscale_cli.strips import Rows, whole
from upscale_cli.styles import cube_style, find_style
from upscale_cli.zoo.lut3d import identity

DEPTHS = (np.uint8, np.uint16)


def photograph(spices: np.ndarray, dtype: type) -> np.ndarray:
    """With all its low bits in use."""
    if dtype == np.uint8:
        return spices
    noise = np.random.default_rng(0).integers(0, 257, spices.shape)
    return np.minimum(spices.astype(np.uint32) * 256 + noise, 65535).astype(np.uint16)


def expected(space: Working, image: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """The photograph brought to sRGB, given `warm`, and brought back; what sRGB cannot show added to the style's."""
    colors = space.to_srgb(image)
    shown = np.clip(colors, 0, 1)
    styled = shown[..., [1, 0, 2]] * [1, 1, 0.5]
    mixed = strength * styled + (1 - strength) * shown
    return np.clip(space.from_srgb(mixed + colors - shown), 0, 1) * np.iinfo(image.dtype).max


@pytest.fixture(name="warm", scope="module")
def warm_engine(tmp_path_factory: pytest.TempPathFactory) -> LutEngine:
    return open_tables(find_style(str(write_style(tmp_path_factory.mktemp("style") / "warm.safetensors"))))


@pytest.fixture(name="nothing", scope="module")
def nothing_engine(tmp_path_factory: pytest.TempPathFactory) -> LutEngine:
    """A .cube file that changes nothing."""
    path = tmp_path_factory.mktemp("luts") / "nothing.cube"
    write_cube(path, Cube(np.ascontiguousarray(identity(17).numpy().transpose(1, 2, 3, 0))), title="nothing")
    return open_tables(cube_style(path))


def residual() -> EagerEngine:
    """enhance-residual that has learned something, no matter what."""
    torch.manual_seed(0)
    variant = zoo.find("enhance-residual/x1")
    return EagerEngine(Model("x", variant, variant.build().eval(), device=torch.device("cpu"), precision="fp32"))


def styled(engine: LutEngine | EagerEngine, image: np.ndarray, space: Working, **options: object) -> np.ndarray:
    upscaler = Upscaler([], style=engine, **options)  # type: ignore[arg-type]
    return upscaler.enlarge(Frame(image), *image.shape[:2], space=space_of(space.icc)).color


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("dtype", DEPTHS)
@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_the_style_is_given_to_its_srgb(
    name: str, dtype: type, strength: float, warm: LutEngine, spices: np.ndarray
) -> None:
    image = photograph(spices, dtype)[:200]
    made = styled(warm, image, WIDE[name], style_strength=strength)
    assert made.dtype == dtype
    off = np.abs(made - expected(WIDE[name], image, strength))
    light = expected(WIDE[name], image, strength) / np.iinfo(dtype).max > 0.02
    assert off[light].max() < (0.6 if dtype == np.uint8 else 8)
    assert off.max() < (1.1 if dtype == np.uint8 else 120), (
        "of the darkest, 65535 levels of a gamma are finer than sRGB's"
    )


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("dtype", DEPTHS)
def test_a_style_that_changes_nothing_gives_the_picture_back(
    name: str, dtype: type, nothing: LutEngine, spices: np.ndarray
) -> None:
    image = photograph(spices, dtype)
    made = styled(nothing, image, WIDE[name])
    off = np.abs(made.astype(int) - image)
    assert off.max() <= (0 if dtype == np.uint8 else 12), "beside a bright channel floats know the darkest so well"
    assert np.mean(off > 1) < 0.001
    assert np.mean(WIDE[name].to_srgb(image) < -0.02) > 0.001, "colours beyond sRGB are among them"


def test_colours_beyond_srgb_stay_beyond_it(tmp_path: Path) -> None:
    """A green that sRGB has not, made a little darker: what is shown of it becomes 0.9 of that, the rest is kept."""
    engine = open_tables(find_style(str(write_style(tmp_path / "a.safetensors", lambda colors: 0.9 * colors))))
    image = np.full((8, 8, 3), (20000, 40000, 20000), np.uint16)
    colors = PROPHOTO.to_srgb(image)
    assert colors.min() < -0.2
    for strength, share in ((1.0, 0.9), (0.5, 0.95)):
        made = PROPHOTO.to_srgb(styled(engine, image, PROPHOTO, style_strength=strength))
        assert np.abs(made - np.where(colors > 0, share * colors, colors)).max() < 1e-3


def test_strength_0_touches_nothing(warm: LutEngine, spices: np.ndarray) -> None:
    deep = photograph(spices, np.uint16)
    assert np.array_equal(styled(warm, deep, PROPHOTO, style_strength=0), deep)
    assert not Upscaler([], style=warm, style_strength=0).styled


def test_strips_equal_the_whole(spices: np.ndarray) -> None:
    torch.manual_seed(0)
    engine = LutEngine("x", [(1.0, zoo.find("lut3d/x1").build().eval())])  # type: ignore[list-item]
    image = photograph(spices, np.uint16).repeat(2, 0).repeat(2, 1)
    space = space_of(ADOBE_RGB.icc)
    assert len(Grade(engine).plan(*image.shape[:2]).rows.starts) > 1
    stage = Converted(Grade(engine), space)
    strips = list(stage.enlarge(whole(image), dtype=image.dtype, tick=lambda *_: None))
    assert len(strips) > 1
    rows = Rows((image[top : top + 50] for top in range(0, len(image), 50)), image.shape, image.dtype)
    again = np.concatenate(list(stage.enlarge(rows, dtype=image.dtype, tick=lambda *_: None)))
    assert np.array_equal(np.concatenate(strips), again)
    # the same by hand: the sRGB of the whole through the network, and back
    shown = np.rint(np.clip(space.to_srgb(image), 0, 1) * 65535).astype(np.uint16)
    look = Upscaler([], style=engine).enlarge(Frame(shown), *shown.shape[:2]).color / np.float32(65535)
    kept = space.to_srgb(image) - shown / np.float32(65535)
    assert np.abs(space.from_srgb(look + kept, image.dtype).astype(int) - again).max() <= 1


def test_a_residual_style_sees_srgb_tile_by_tile(spices: np.ndarray) -> None:
    image = photograph(spices, np.uint16)[:100, :130]
    large, small = (styled(residual(), image, PROPHOTO, tile_px=side).astype(int) for side in (1000, 64))
    colors = PROPHOTO.to_srgb(image)
    shown = np.rint(np.clip(colors, 0, 1) * 65535).astype(np.uint16)
    look = Upscaler([], style=residual(), tile_px=1000).enlarge(Frame(shown), *shown.shape[:2]).color
    back = np.clip(PROPHOTO.from_srgb(look / 65535 + colors - shown / 65535), 0, 1) * 65535
    bright = back > 5000
    assert np.abs(large - back)[bright].max() < 8
    assert np.abs(small - large)[bright].max() < 8
    assert np.abs(large - image).mean() > 100, "it does something"
    half = styled(residual(), (image >> 8).astype(np.uint8), PROPHOTO, style_strength=0.5, tile_px=64)
    assert np.abs(half - (large + image) / 2 / 257).mean() < 2


def test_rows_are_let_go_only_when_nobody_wants_them(spices: np.ndarray) -> None:
    """A stage asks for rows above what it has made; what it has made asks for them again."""
    image = spices[:160, :64]
    tops = range(0, 160, 8)
    rows = Rows((image[top : top + 8] for top in tops), image.shape, image.dtype)
    inner = Stage(NearestEngine(1, margin=8), tile_px=48, overlap_px=None, batch=1)
    held = []
    made = []
    for strip in Converted(inner, space_of(PROPHOTO.icc)).enlarge(rows, dtype=image.dtype, tick=lambda *_: None):
        made.append(strip)
        held.append(len(rows._held))
    assert np.array_equal(np.concatenate(made), image)
    assert len(made) > 3
    assert max(held) < len(tops) / 2


def test_networks_after_it_get_the_space_of_the_source(warm: LutEngine, spices: np.ndarray) -> None:
    image = photograph(spices, np.uint8)[:60, :80]
    upscaler = Upscaler([NearestEngine(2)], style=warm)
    made = upscaler.enlarge(Frame(image), 120, 160, space=space_of(DISPLAY_P3.icc)).color
    by_hand = expected(DISPLAY_P3, image).repeat(2, 0).repeat(2, 1)
    assert np.abs(made - by_hand).max() < 1.1
    assert upscaler.enlarge(Frame(image), 30, 40, space=space_of(DISPLAY_P3.icc)).color.shape == (30, 40, 3)


def test_alpha_and_grey_stay_what_they_are(warm: LutEngine, spices: np.ndarray) -> None:
    image, alpha = spices[:60, :80], np.maximum(spices[:60, :80, 0], 1)
    made = Upscaler([], style=warm).enlarge(Frame(image, alpha), 60, 80, space=space_of(ADOBE_RGB.icc))
    assert np.array_equal(made.alpha, alpha)
    assert np.array_equal(made.color, styled(warm, image, ADOBE_RGB))
    grey = photograph(spices, np.uint16)[:60, :80, 1:2]
    light = meaning(None, format="TIFF", channels=1, depth=16, assumed=Assumed("linear")).space
    toned = Upscaler([], style=warm).enlarge(Frame(grey), 60, 80, space=light).color
    values = np.where(grey > 205, 1.055 * (grey / 65535) ** (1 / 2.4) - 0.055, grey / 65535 * 12.92)
    darker = values * (0.299 + 0.587 + 0.114 / 2)
    back = np.where(darker > 0.04045, ((darker + 0.055) / 1.055) ** 2.4, darker / 12.92) * 65535
    assert toned.shape == grey.shape
    assert np.abs(toned - back).max() < 4
