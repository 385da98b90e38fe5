"""A picture through a table of colours: exact at every size and depth, in strips, mixed with its source."""

from pathlib import Path

import numpy as np
import pytest
import torch
from nearest_engine import NearestEngine
from styled import dim, looked, warm, write_style

from upscale_cli import zoo
from upscale_cli.cube import Cube, read_cube, write_cube
from upscale_cli.engines.compose import Softened
from upscale_cli.engines.eager import EagerEngine
from upscale_cli.engines.lut import LutEngine, open_tables
from upscale_cli.enlarge import Upscaler
from upscale_cli.errors import UsageError
from upscale_cli.grade import Grade
from upscale_cli.media.frame import Frame
from upscale_cli.model import Model
from upscale_cli.strips import Rows
from upscale_cli.styles import cube_style, find_style

DEPTHS = (np.uint8, np.uint16)


def photograph(spices: np.ndarray, dtype: type, factor: int = 1) -> np.ndarray:
    """With all its low bits in use."""
    image = spices.repeat(factor, 0).repeat(factor, 1)
    if dtype == np.uint8:
        return image
    noise = np.random.default_rng(0).integers(0, 257, image.shape)
    return np.minimum(image.astype(np.uint32) * 256 + noise, 65535).astype(np.uint16)


def styled(engine: LutEngine, image: np.ndarray, **options: object) -> np.ndarray:
    upscaler = Upscaler([], style=engine, **options)  # type: ignore[arg-type]
    return upscaler.enlarge(Frame(image), *image.shape[:2]).color


@pytest.fixture(name="engine", scope="module")
def warm_engine(tmp_path_factory: pytest.TempPathFactory) -> LutEngine:
    return open_tables(find_style(str(write_style(tmp_path_factory.mktemp("style") / "warm.safetensors"))))


@pytest.mark.parametrize("dtype", DEPTHS)
def test_every_pixel_is_looked_up_exactly(dtype: type, engine: LutEngine, spices: np.ndarray) -> None:
    image = photograph(spices, dtype)[:, :-3]
    made = styled(engine, image)
    assert made.dtype == dtype
    # A value in the middle between two integers may be rounded to either.
    assert np.abs(made.astype(int) - looked(image)).max() <= 1
    assert np.mean(made != looked(image)) < (0.2 if dtype == np.uint8 else 0.25)


@pytest.mark.parametrize("variant", ["lut3d/x1", "lut3d/x1-adaint"])
def test_strips_of_a_large_picture_equal_the_network_on_all_of_it(variant: str, spices: np.ndarray) -> None:
    torch.manual_seed(0)
    module = zoo.find(variant).build().eval()
    with torch.no_grad():
        for value in module.parameters():
            value.add_(0.02 * torch.randn_like(value))
    image = photograph(spices, np.uint16, factor=2)[:, :1201]
    engine = LutEngine("x", [(1.0, module)])  # type: ignore[list-item]
    assert len(Grade(engine).plan(*image.shape[:2]).rows.starts) > 1
    assert engine.shrink_factor(*image.shape[:2]) == 2
    with torch.inference_mode():
        wide = torch.from_numpy(image / np.float32(65535)).permute(2, 0, 1)[None]
        expected = module(wide)[0].clamp(0, 1).permute(1, 2, 0).numpy() * 65535
    assert np.abs(styled(engine, image) - expected).max() < 1.5


def test_a_picture_that_comes_by_strips_gets_the_look_of_the_whole(engine: LutEngine, spices: np.ndarray) -> None:
    torch.manual_seed(0)
    module = zoo.find("lut3d/x1").build().eval()
    for network in (engine, LutEngine("x", [(1.0, module)])):  # type: ignore[list-item]
        strips = [spices[top : top + 50] for top in range(0, len(spices), 50)]
        rows = Rows(iter(strips), spices.shape, spices.dtype)
        made = np.concatenate(list(Grade(network).enlarge(rows, dtype=spices.dtype, tick=lambda *_: None)))
        assert np.array_equal(made, styled(network, spices))


def test_strength_mixes_with_the_source_and_none_leaves_it(engine: LutEngine, spices: np.ndarray) -> None:
    deep = photograph(spices, np.uint16)
    for image in (spices, deep):
        assert np.array_equal(styled(engine, image, style_strength=0), image)
    half = styled(engine, deep, style_strength=0.5).astype(int)
    assert np.abs(half - (deep.astype(int) + looked(deep)) / 2).max() <= 1.5


def test_grey_stays_grey_and_alpha_stays(engine: LutEngine, spices: np.ndarray) -> None:
    grey = spices[:90, :80, 1:2]
    alpha = spices[:90, :80, 0]
    made = Upscaler([], style=engine).enlarge(Frame(grey, alpha), 90, 80)
    assert made.color.shape == grey.shape
    assert np.array_equal(made.alpha, alpha)
    expected = looked(grey.repeat(3, 2)) @ [0.299, 0.587, 0.114]
    assert np.abs(made.color[..., 0] - expected).max() <= 1.2


def test_styles_are_mixed_by_their_shares(tmp_path: Path, spices: np.ndarray) -> None:
    one, two = write_style(tmp_path / "a.safetensors"), write_style(tmp_path / "b.safetensors", dim)
    style = find_style(f"{one}:1,{two}:3")
    assert style.shares == (0.25, 0.75)
    assert style.file_name == "a-0.25+b-0.75"
    made = styled(open_tables(style), photograph(spices, np.uint16)).astype(int)
    image = photograph(spices, np.uint16)
    expected = 0.25 * looked(image, style=warm) + 0.75 * looked(image, style=dim)
    assert np.abs(made - expected).max() <= 1.5


def test_the_table_of_a_picture_gives_the_same_picture_as_a_file(engine: LutEngine, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 65536, (60, 70, 3)).astype(np.uint16)
    upscaler = Upscaler([], style=engine, style_strength=0.5)
    made = upscaler.enlarge(Frame(image), 60, 70).color
    assert upscaler.cube is not None
    write_cube(tmp_path / "a.cube", upscaler.cube, title="a")
    applied = open_tables(cube_style(tmp_path / "a.cube"))
    assert not applied.adaptive
    assert np.abs(styled(applied, image).astype(int) - made).max() <= 1
    assert read_cube(tmp_path / "a.cube").colors.shape == (33, 33, 33, 3)


def test_the_domain_of_a_file_is_kept_to(tmp_path: Path, spices: np.ndarray) -> None:
    """Half of the range is mapped to all of it: values are doubled, and those beyond are the last."""
    colors = np.stack(np.meshgrid(*[np.linspace(0, 1, 5, dtype=np.float32)] * 3, indexing="ij"), -1)[..., ::-1]
    write_cube(tmp_path / "a.cube", Cube(np.ascontiguousarray(colors), high=(0.5, 0.5, 0.5)), title="a")
    made = styled(open_tables(cube_style(tmp_path / "a.cube")), spices).astype(int)
    assert np.abs(made - np.minimum(2 * spices.astype(int), 255)).max() <= 1


def test_a_style_comes_before_the_enlargement(engine: LutEngine, spices: np.ndarray) -> None:
    image = photograph(spices, np.uint16)[:60, :80]
    upscaler = Upscaler([NearestEngine(2)], style=engine)
    ticks: list[tuple[int, int]] = []
    made = upscaler.enlarge(Frame(image), 120, 160, progress=lambda *tick: ticks.append(tick)).color
    assert np.abs(made.astype(int) - looked(image).repeat(2, 0).repeat(2, 1)).max() <= 1
    assert ticks[-1] == (2, 2)
    reduced = upscaler.enlarge(Frame(image), 30, 40)
    assert "no larger than its source" in upscaler.effort.remarks[0]
    assert abs(reduced.color.mean() - looked(image).mean()) < 40


def test_a_residual_style_shows_no_steps_between_tiles(spices: np.ndarray) -> None:
    """Tiles with its margin give the picture of the whole, whatever it has learned."""
    torch.manual_seed(0)
    module = zoo.find("enhance-residual/x1").build().eval()
    model = Model("x", zoo.find("enhance-residual/x1"), module, device=torch.device("cpu"), precision="fp32")
    image = photograph(spices, np.uint16)[:100, :130]
    whole = Upscaler([], style=EagerEngine(model), tile_px=1000).enlarge(Frame(image), 100, 130).color
    assert np.abs(whole.astype(int) - image).mean() > 100  # it does something
    tiled = Upscaler([], style=EagerEngine(model), tile_px=64).enlarge(Frame(image), 100, 130).color
    assert np.abs(tiled.astype(int) - whole).max() <= 1
    half = Upscaler([], style=EagerEngine(model), style_strength=0.5, tile_px=64)
    mixed = half.enlarge(Frame(image), 100, 130).color
    assert np.abs(mixed - (image.astype(float) + whole) / 2).max() <= 1.5


def test_what_enlarges_is_no_style() -> None:
    with pytest.raises(UsageError, match="enlarges 2 times"):
        Softened(NearestEngine(2), 0.5)
