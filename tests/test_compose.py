"""Several models as one: the mean of their pictures, of eight turned pictures, or of their weights, in numbers."""

import copy
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from nearest_engine import NearestEngine, nearest

from upscale_cli import zoo
from upscale_cli.engines import Engine, Ensemble, SelfEnsemble, open_engine
from upscale_cli.engines.eager import EagerEngine
from upscale_cli.engines.interface import Tiles
from upscale_cli.enlarge import Upscaler
from upscale_cli.errors import UsageError
from upscale_cli.evaluate import EvalRequest, evaluate
from upscale_cli.manifest import load_manifest
from upscale_cli.model import Model, load_mixture, load_model
from upscale_cli.networks import Combination
from upscale_cli.weights import formats, source
from upscale_cli.zoo.cost import live_values_per_pixel
from upscale_cli.zoo.cyclegan import Generator

SMALL = "lightweight-x2"


def opened(*models: str | Path, share: float | None = None, tta: bool = False) -> Engine:
    return open_engine(Combination(models, share=share, tta=tta), device="cpu", precision="fp32")


def tiles_of(picture: np.ndarray, *corners: tuple[int, int], height: int = 24, width: int = 40) -> Tiles:
    cut = [picture[top : top + height, left : left + width] for top, left in corners]
    return np.stack(cut).astype(np.float32) / 255


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second checkpoint of the network that ships as lightweight-x2: its kernels are weaker."""
    state, metadata = formats.read_state(source.locate(load_manifest().find(SMALL)))
    path = tmp_path_factory.mktemp("weights") / "other.safetensors"
    formats.save(path, {key: value * 0.8 for key, value in state.items()}, {"variant": metadata["variant"]})
    return path


# --- averages of pictures ----------------------------------------------------------------------------------------


def test_an_ensemble_is_the_mean_of_its_pictures(spices: np.ndarray) -> None:
    lr = spices[200:264, 100:190]
    alone = [Upscaler([opened(name)]).enlarge_rgb8(lr).astype(float) for name in (SMALL, "improved-x2", "bicubic-x2")]
    assert np.abs(alone[0] - alone[1]).max() > 10, "two networks that agree would show nothing"
    for count in (2, 3):
        engine = opened(*(SMALL, "improved-x2", "bicubic-x2")[:count])
        made = Upscaler([engine], tile_px=64).enlarge_rgb8(lr).astype(float)
        assert np.abs(made - np.mean(alone[:count], axis=0)).max() <= 1
    assert engine.name == "lightweight-x2,improved-x2,bicubic-x2"


def test_an_ensemble_is_as_careful_as_its_most_careful_member() -> None:
    first = NearestEngine(margin=3, name="first", available=100)
    second = NearestEngine(margin=9, name="second", precision="bf16", tileable=False, available=100)
    second.exact = False
    both = Ensemble([first, second])
    assert (both.name, both.scale, both.margin, both.exact, both.tileable) == ("first,second", 2, 9, False, False)
    assert (both.precision, both.device, both.available_bytes()) == ("fp32/bf16", "cpu", 100)
    assert both.tile_bytes(10, 20) == 10 * 20 * (1000 + 4 * 3 * 4)
    wide = both.in_precision("fp32")
    assert wide.precision == "fp32"
    assert wide.members[0] is first
    assert second.made == [wide.members[1]]


def test_pictures_of_different_size_have_no_mean() -> None:
    with pytest.raises(UsageError, match=r"edsr-x2 x2, improved-x4 x4\. Name models of one --scale"):
        opened("edsr-x2", "improved-x4")


@pytest.mark.parametrize("wrap", [lambda engine: Ensemble([engine, NearestEngine()]), SelfEnsemble])
def test_a_broken_tile_of_one_is_redone_by_all_in_fp32(wrap: type, spices: np.ndarray) -> None:
    lr = spices[:60, :100]
    trouble = NearestEngine(precision="bf16", broken=lambda tiles: bool(tiles.mean() > 0))
    upscaler = Upscaler([wrap(trouble)], tile_px=64)
    np.testing.assert_array_equal(upscaler.enlarge_rgb8(lr), nearest(lr, 2))
    assert upscaler.effort.redone > 0


# --- eight turns -------------------------------------------------------------------------------------------------


class Skewed(NearestEngine):
    """Nearest neighbour, brighter towards the right and much brighter downwards: no turn of it is another."""

    def infer(self, tiles: Tiles) -> Tiles:
        made = super().infer(tiles) / 2
        height, width = made.shape[1:3]
        return (made + shade(height, width)[..., None]).astype(np.float32)


def shade(height: int, width: int) -> np.ndarray:
    return np.linspace(0, 0.1, width)[None, :] + np.linspace(0, 0.3, height)[:, None]


def test_turning_changes_nothing_of_a_network_that_turns_along(spices: np.ndarray) -> None:
    engine = NearestEngine(3)
    tiles = tiles_of(spices, (0, 0), (50, 60), (100, 7))
    np.testing.assert_allclose(SelfEnsemble(engine).infer(tiles), tiles.repeat(3, 1).repeat(3, 2), atol=1e-6)
    assert sorted(engine.shapes) == [(3, 24, 40, 3)] * 4 + [(3, 40, 24, 3)] * 4


def test_what_a_network_favours_is_averaged_away(spices: np.ndarray) -> None:
    tiles = tiles_of(spices, (10, 20), (90, 300))
    made = SelfEnsemble(Skewed(2)).infer(tiles)
    np.testing.assert_allclose(made, tiles.repeat(2, 1).repeat(2, 2) / 2 + 0.2, atol=1e-6)


def test_it_is_the_mean_of_all_eight_turns_of_a_photograph(spices: np.ndarray) -> None:
    engine = opened(SMALL)
    tiles = tiles_of(spices, (210, 130))
    turned_back = []
    for quarters in range(4):
        for mirrored in (False, True):
            turned = np.rot90(tiles[0, :, ::-1] if mirrored else tiles[0], quarters)
            back = np.rot90(engine.infer(turned[None])[0], -quarters)
            turned_back.append(back[:, ::-1] if mirrored else back)
    assert np.ptp(turned_back, axis=0).max() > 2 / 255, "a network that turns along would show nothing"
    made = opened(SMALL, tta=True).infer(tiles)
    np.testing.assert_allclose(made[0], np.mean(turned_back, axis=0), atol=1e-6)


def test_a_self_ensemble_is_its_engine_eight_times() -> None:
    inner = NearestEngine(margin=7, precision="bf16", tileable=False, name="inner", available=100)
    engine = SelfEnsemble(inner)
    assert (engine.name, engine.scale, engine.margin, engine.exact, engine.tileable) == (
        "inner (tta)",
        2,
        7,
        True,
        False,
    )
    assert (engine.device, engine.precision, engine.available_bytes()) == ("cpu", "bf16", 100)
    assert engine.tile_bytes(10, 20) == 10 * 20 * (1000 + 4 * 3 * 4)
    assert engine.in_precision("fp32").precision == "fp32"


def scores(data: Path, *models: str, tta: bool = False) -> float:
    request = EvalRequest(models=(Combination(models, tta=tta),), data=data, device="cpu")
    return evaluate(request).models[0].scores["psnr_y"]


@pytest.fixture
def crops(tmp_path: Path, photos: Sequence[Path]) -> Path:
    from PIL import Image

    for path in photos[:4]:
        with Image.open(path) as image:
            image.crop((150, 150, 246, 246)).save(tmp_path / f"{path.stem}.png")
    return tmp_path


def test_eight_turns_and_two_networks_score_higher(crops: Path) -> None:
    alone = scores(crops, SMALL)
    assert scores(crops, SMALL, tta=True) >= alone
    assert scores(crops, SMALL, "improved-x2") >= alone


def test_eight_turns_score_higher_on_set5(set5: Path) -> None:
    assert scores(set5, "lightweight-x4", tta=True) > scores(set5, "lightweight-x4")


# --- mixed weights -----------------------------------------------------------------------------------------------


def test_both_ends_of_a_mixture_are_its_models(other: Path, spices: np.ndarray) -> None:
    tiles = tiles_of(spices, (210, 130))
    first, second = (opened(model).infer(tiles) for model in (SMALL, other))
    assert np.abs(first - second).max() > 5 / 255
    np.testing.assert_array_equal(opened(SMALL, other, share=0.0).infer(tiles), first)
    np.testing.assert_array_equal(opened(SMALL, other, share=1.0).infer(tiles), second)


def test_a_share_is_of_the_second_models_weights(other: Path) -> None:
    mixed = load_mixture(SMALL, other, 0.75, device="cpu", precision="fp32")
    assert mixed.name == "lightweight-x2:other:0.75"
    assert mixed.variant.name == "lightweight/x2"
    first = load_model(SMALL, device="cpu", precision="fp32").module.state_dict()
    for key, value in mixed.module.state_dict().items():
        np.testing.assert_allclose(value, first[key] * (0.25 + 0.75 * 0.8), rtol=1e-5, atol=1e-8)


def test_a_mixture_turns_too(other: Path, spices: np.ndarray) -> None:
    engine = opened(SMALL, other, share=0.5, tta=True)
    assert engine.name == "lightweight-x2:other:0.5 (tta)"
    alone = opened(SMALL, other, share=0.5)
    tiles = tiles_of(spices, (210, 130))
    mirrored = (alone.infer(tiles) + alone.infer(tiles[:, :, ::-1])[:, :, ::-1]) / 2
    assert np.abs(engine.infer(tiles) - mirrored).mean() < np.abs(engine.infer(tiles) - alone.infer(tiles)).mean()


def test_only_one_network_with_other_weights_can_be_mixed() -> None:
    with pytest.raises(
        UsageError, match=r"lightweight-x2 is lightweight/x2 and improved-x2 is improved/x2: .* Use --ensemble"
    ):
        opened(SMALL, "improved-x2", share=0.5)
    with pytest.raises(UsageError, match="lightweight-x2 is lightweight/x2 and lightweight-x4 is lightweight/x4"):
        opened(SMALL, "lightweight-x4", share=0.5)
    with pytest.raises(UsageError, match="bicubic-x2 and bicubic-x2 are formulas"):
        opened("bicubic-x2", "bicubic-x2", share=0.5)


# --- networks unlike the others ---------------------------------------------------------------------------------


def test_a_network_that_must_see_the_whole_picture_and_keeps_its_size(tmp_path: Path, spices: np.ndarray) -> None:
    """From a file whose hyperparameters no table has, alone and turned; random weights show tiles well enough."""
    torch.manual_seed(0)
    state = Generator(scale=1, channels=4, blocks=1).state_dict()
    formats.save(tmp_path / "own.safetensors", {key: value * 20 for key, value in state.items()}, {})
    lr = spices[200:264, 100:201]
    for tta in (False, True):
        engine = opened(tmp_path / "own.safetensors", tta=tta)
        assert (engine.scale, engine.tileable) == (1, False)
        upscaler = Upscaler([engine], tile_px=48)
        made = upscaler.enlarge_rgb8(lr)
        assert upscaler.effort.tile_px == 101
        assert upscaler.effort.notes == (f"{engine.name} must see the whole picture: not cut into tiles",)
        whole = engine.infer((lr / np.float32(255))[None])[0]
        np.testing.assert_allclose(made, whole * 255, atol=0.51)
        assert np.abs(made - lr.astype(float)).mean() > 5
        assert np.abs(whole[:48, :48] - engine.infer((lr[:48, :48] / np.float32(255))[None])[0]).max() > 3 / 255


class Looking(torch.nn.Module):
    """A convolution, once it has looked at the numbers; as codes of other packages do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 12, 3, padding=1)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pixel_shuffle(self.conv(lr) + lr.mean().item(), 2)


def test_the_memory_of_a_network_that_looks_at_numbers_is_measured() -> None:
    variant = zoo.Variant("looking/x2", "foreign", Looking, 2, 16, 336)
    assert live_values_per_pixel(variant) == (3 + 12 + 12, 0)


def test_a_variant_made_around_a_module_goes_all_the_way(spices: np.ndarray) -> None:
    """As other packages give them: a module with its weights, and what is known of it."""
    network = load_model(SMALL, device="cpu", precision="fp32").module
    variant = zoo.Variant("foreign/x2", "foreign", partial(copy.deepcopy, network), 2, 16, 41_516)
    engine = EagerEngine(Model("foreign", variant, network, device=load_model(SMALL, device="cpu").device))
    assert engine.tile_bytes(8, 8) > 0
    assert not any(value.is_meta for value in network.state_dict().values())
    lr = spices[200:240, 100:150]
    made = Upscaler([SelfEnsemble(Ensemble([engine, opened(SMALL)]))]).enlarge_rgb8(lr)
    np.testing.assert_allclose(made, Upscaler([opened(SMALL, tta=True)]).enlarge_rgb8(lr), atol=1)
