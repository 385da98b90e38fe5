"""Recipes that ship: each names its source, starts from what there is, and lowers its own loss on photographs."""

import dataclasses
import re
from pathlib import Path

import pytest
import torch

from upscale_cli import zoo
from upscale_cli.evaluate import Pair, make_pair, read_rgb8
from upscale_cli.manifest import load_manifest
from upscale_cli.train import verb
from upscale_cli.train.config import TrainConfig, read_recipe
from upscale_cli.train.data import PatchSampler
from upscale_cli.train.data.unprocessed import Push, push_back
from upscale_cli.train.methods import make_method
from upscale_cli.train.ranks import joined
from upscale_cli.train.trainer import Trainer
from upscale_cli.weights import formats
from upscale_cli.zoo.encoders.vgg import VGG

RECIPES = sorted((Path(verb.__file__).parent / "recipes").glob("*.toml"))
WANTED = {
    "srresnet-x4",
    "edsr-large-x4",
    "ablation-l1-x2",
    "ablation-mse-x2",
    "rdn-mse-x2",
    "rdn-ssim-x2",
    "realesrnet-x4",
    "realesrgan-x4",
    "srgan-x4",
    "cyclegan",
    "drct-x4",
    "simplecnn-l1-x2",
    "simplecnn-l2-x2",
    "simplecnn-perceptual-x2",
    "mobilenetv2-x2",
    "resnet18-unet-x2",
    "lightweight-classic-x4",
    "improved-classic-x4",
    "lightweight-distilled-x4",
    "edsr-pruned-x4",
    "lightweight-int8-x2",
    "lut3d",
    "lut3d-distilled",
    "enhance-residual",
    "enhance-residual-distilled",
}
WATCHED = {"cyclegan": "cycle", "realesrgan-x4": "l1", "srgan-x4": "perceptual"}
"""What says that a network gets better where it plays a game; elsewhere the sum of all terms."""
DULL = Push(exposure_ev=-1, flatness=0.5, saturation=0.7)
FROM_PUBLISHED = re.compile(r"runs/([a-z0-9-]+)/weights\.safetensors")


def test_what_was_asked_for_is_there() -> None:
    assert {recipe.stem for recipe in RECIPES} >= WANTED


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_names_its_source_and_its_start(recipe: Path) -> None:
    config = read_recipe(recipe, {"steps": 7})
    assert config.steps == 7
    variant = zoo.find(config.variant)
    head = recipe.read_text("utf-8").splitlines()[0]
    assert head.startswith("# ")
    assert re.search(r"arXiv:\d{4}\.\d{4,5}|imresize|started from x2", head), "a paper, or what made our own weights"
    assert recipe.stem.endswith(f"-x{variant.scale}") or variant.scale == 1
    if config.teacher:
        assert load_manifest().find(config.teacher).scale == variant.scale
    if stage := FROM_PUBLISHED.fullmatch(config.init):
        first = next(path for path in RECIPES if path.stem == stage[1])
        before = read_recipe(first).variant
        other_scale = zoo.find(before).architecture == variant.architecture and "started from x2" in head
        assert before == config.variant or other_scale
    elif config.init and config.init not in {entry.name for entry in load_manifest().encoders}:
        source = load_manifest().find(config.init)
        assert source.usable
        assert zoo.find(source.variant).architecture == variant.architecture


@pytest.mark.parametrize(
    ("first", "second", "differ"),
    [
        ("ablation-l1-x2", "ablation-mse-x2", {"loss"}),
        ("rdn-mse-x2", "rdn-ssim-x2", {"loss"}),
        ("simplecnn-l1-x2", "simplecnn-l2-x2", {"loss"}),
        (
            "simplecnn-l1-x2",
            "simplecnn-perceptual-x2",
            {"loss", "perceptual_net", "perceptual_layers", "perceptual_criterion"},
        ),
    ],
)
def test_what_is_compared_differs_in_the_loss_alone(first: str, second: str, differ: set[str]) -> None:
    one, other = (dataclasses.asdict(read_recipe(RECIPES[0].with_name(f"{name}.toml"))) for name in (first, second))
    assert {name for name in one if one[name] != other[name]} == differ


def test_the_numbers_are_those_of_the_papers() -> None:
    recipe = {path.stem: read_recipe(path) for path in RECIPES}
    srresnet, edsr = recipe["srresnet-x4"], recipe["edsr-large-x4"]
    assert (srresnet.patch_px, srresnet.loss, srresnet.learning_rate) == (24, "mse:1", 1e-4)
    assert (edsr.batch, edsr.learning_rate, edsr.steps // edsr.validate_every) == (32, 1e-4, 50)
    assert (edsr.step_every // edsr.validate_every, edsr.step_factor) == (10, 0.5)
    for name, patch, batch, rate, epochs in (
        ("lightweight-classic-x4", 64, 4, 2e-4, 10),
        ("improved-classic-x4", 128, 8, 1e-4, 30),
    ):
        classic = recipe[name]
        assert (classic.patch_px, classic.batch, classic.learning_rate) == (patch, batch, rate)
        assert classic.steps // classic.validate_every == epochs
    assert recipe["improved-classic-x4"].schedule == "plateau"
    for name in ("mobilenetv2-x2", "resnet18-unet-x2"):
        transfer = recipe[name]
        assert (transfer.learning_rate, transfer.schedule) == (5e-4, "plateau")
        assert transfer.steps // transfer.validate_every == 20


# Twenty steps


@pytest.fixture(scope="module")
def pictures(photos: list[Path]) -> list[tuple[str, torch.Tensor]]:
    return [(path.name, torch.from_numpy(read_rgb8(path)[:240, :240].copy())) for path in photos[:4]]


@pytest.fixture(scope="module")
def vgg_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """VGG with random weights: that a loss falls needs no trained ones. No recipe sees these files."""
    folder = tmp_path_factory.mktemp("vgg")
    files = {}
    for depth in (16, 19):
        torch.manual_seed(0)
        path = folder / f"seeded-vgg{depth}.safetensors"
        formats.save(path, VGG(depth=depth, taps=("conv1_1",)).state_dict(), {})
        files[f"vgg{depth}"] = str(path)
    return files


def shrunk(config: TrainConfig, vgg_files: dict[str, str]) -> TrainConfig:
    """The recipe on two small patches; the tiny network of its kind, unless it starts from weights that ship."""
    starts = config.init and not FROM_PUBLISHED.fullmatch(config.init) and load_manifest().rows(config.init)
    ships = bool(starts) and starts[0].status == "bundled"
    tiny = [variant.name for variant in zoo.variants() if variant.name.endswith("-tiny")]
    architecture = zoo.find(config.variant).architecture
    same = [name for name in tiny if zoo.find(name).architecture == architecture]
    chosen = config.variant if ships or not same else same[0]
    return dataclasses.replace(
        config,
        variant=chosen,
        init=config.init if ships else "",
        revive=config.revive and ships,
        teacher=re.sub(r"-x\d$", f"-x{zoo.find(chosen).scale}", config.teacher),
        batch=min(config.batch, 2),
        patch_px=24
        if architecture == "cyclegan"
        else 32 // zoo.find(chosen).scale
        if "perceptual" in config.loss
        else 12,
        discriminator_channels=8,
        perceptual_weights=vgg_files[config.perceptual_net],
        precision="fp32",
    )


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_twenty_steps_lower_the_loss(
    recipe: Path, pictures: list[tuple[str, torch.Tensor]], vgg_files: dict[str, str]
) -> None:
    """On one batch of photographs, so that nothing falls or rises for the patches that were drawn."""
    config = shrunk(read_recipe(recipe), vgg_files)
    variant = zoo.find(config.variant)
    if variant.task == "enhance":
        pairs = [Pair(name, picture.numpy(), push_back(picture.numpy(), DULL)) for name, picture in pictures]
    else:
        pairs = [make_pair(name, picture.numpy(), variant.scale) for name, picture in pictures]
    torch.manual_seed(config.seed)
    module = variant.build()
    if config.init:
        verb.transfer(module, config.init)
    batch = PatchSampler(pairs, config, scale=variant.scale).batch(0)
    watched = WATCHED.get(recipe.stem, "loss")
    with joined("cpu") as ranks:
        trainer = Trainer(config, make_method(config, variant, module), ranks)
        losses = [float(trainer.train_step(batch.lr, batch.hr)[watched]) for _ in range(20)]
    assert sum(losses[-5:]) < sum(losses[:5]), losses
