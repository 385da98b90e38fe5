"""Ways of training: what a loss in words becomes, and that every phase moves what it should towards what it should."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli import zoo
from upscale_cli.errors import UsageError, WeightsError
from upscale_cli.evaluate import make_pair
from upscale_cli.train import verb
from upscale_cli.train.config import TrainConfig
from upscale_cli.train.data import PatchSampler
from upscale_cli.train.losses import generator_loss
from upscale_cli.train.method import Method
from upscale_cli.train.methods import make_method
from upscale_cli.train.methods.cycle import POOL, Back, CycleGAN, Pool
from upscale_cli.train.methods.prune import pruned
from upscale_cli.train.methods.rounding import FakeQuantize
from upscale_cli.train.ranks import joined
from upscale_cli.train.trainer import Trainer
from upscale_cli.weights import formats
from upscale_cli.weights.loading import load_module
from upscale_cli.zoo.cyclegan import Generator
from upscale_cli.zoo.edsr import EDSR
from upscale_cli.zoo.encoders.mobilenetv2 import MobileNetV2
from upscale_cli.zoo.encoders.vgg import VGG

Batch = tuple[Tensor, Tensor]


def config(variant: str = "lightweight/x2-tiny", **settings: Any) -> TrainConfig:
    values = {"variant": variant, "steps": 20, "batch": 2, "patch_px": 16, "precision": "fp32"} | settings
    return TrainConfig(**values)


def method_of(chosen: TrainConfig, generator: nn.Module | None = None) -> Method:
    torch.manual_seed(0)
    variant = zoo.find(chosen.variant)
    return make_method(chosen, variant, generator or variant.build())


@pytest.fixture(scope="module")
def photo(spices: np.ndarray) -> np.ndarray:
    return spices[100:292, 200:400]


def batch_of(photo: np.ndarray, scale: int, *, patch_px: int = 16) -> Batch:
    """Two patches of a photograph, in bytes as the loop takes them."""
    pairs = [make_pair("spices.jpg", photo, scale)]
    settings = TrainConfig(variant="", steps=1, batch=2, patch_px=patch_px)
    drawn = PatchSampler(pairs, settings, scale=scale).batch(0)
    return drawn.lr, drawn.hr


def steps(chosen: TrainConfig, method: Method, batch: Batch, count: int = 20) -> list[dict[str, float]]:
    """The losses by name of steps on one batch."""
    with joined("cpu") as ranks:
        trainer = Trainer(chosen, method, ranks)
        return [{name: float(value) for name, value in trainer.train_step(*batch).items()} for _ in range(count)]


def falls(rows: Sequence[dict[str, float]], name: str) -> bool:
    values = [row[name] for row in rows]
    return sum(values[-5:]) < sum(values[:5])


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """VGG16 with random weights: what a loss does with features needs no trained ones, and no recipe sees this file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vgg") / "seeded-vgg16.safetensors"
    formats.save(path, VGG(depth=16, taps=("conv1_1",)).state_dict(), {})
    return str(path)


# What the words become


def test_a_weighted_sum_is_that_of_its_terms(photo: np.ndarray, vgg_file: str) -> None:
    chosen = config(
        loss="l1:0.5, ssim:2, perceptual:0.1, teacher:3",
        teacher="bicubic-x2",
        perceptual_net="vgg16",
        perceptual_layers="relu2_2:0.5, conv3_1",
        perceptual_weights=vgg_file,
    )
    method = method_of(chosen)
    (phase,) = method.phases
    lr, hr = (image.float() / 255 for image in batch_of(photo, 2))
    terms = phase.loss(lr, hr)
    sr = method.networks["generator"](lr)
    assert list(terms) == ["l1", "ssim", "perceptual", "teacher"]
    assert float(terms["l1"].detach()) == pytest.approx(0.5 * float(F.l1_loss(sr, hr).detach()))
    bicubic = load_module("bicubic-x2", 2)[2](lr)
    assert float(terms["teacher"].detach()) == pytest.approx(3 * float(F.l1_loss(sr, bicubic).detach()))
    sum(terms.values(), torch.zeros(())).backward()
    assert all(value.grad is not None for value in method.networks.parameters())
    assert len(list(method.networks.parameters())) == 8, "neither VGG nor the teacher is trained or kept"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "l1:1, percptual:1"}, "Did you mean 'perceptual'"),
        ({"loss": "teacher:1"}, "names a teacher, which is not set"),
        ({"teacher": "edsr-x4"}, "The teacher edsr-x4 makes x4, not x2. Choose one of x2"),
        ({"teacher": "nobody-x2"}, "no model 'nobody-x2'"),
        ({"loss": "ms-ssim:1"}, "needs 176 x 176 pixels; patch_px = 16 makes 32 x 32. Set patch_px to 88"),
        ({"loss": "cycle:1, gan:1"}, "train a cyclegan; lightweight/x2-tiny is none"),
        ({"loss": "perceptual:1", "perceptual_layers": "conv6_1"}, "perceptual_layers names 'conv6_1'"),
        ({"loss": "perceptual:1", "perceptual_layers": "conv3_4", "perceptual_net": "vgg16"}, "names 'conv3_4'"),
        ({"loss": "perceptual:1", "perceptual_layers": "pool5", "patch_px": 8}, "16 x 16, .* needs 32 x 32"),
        (
            {"loss": "l1:1, gan:1", "discriminator": "patch", "patch_px": 8},
            "shows the discriminator 16 x 16 .* 24 x 24",
        ),
        ({"prune": 0.5}, "Set init to one"),
        ({"prune": 1.0, "init": "x"}, "prune is 1.0; it must be in"),
        ({"prune": 0.99, "init": "x"}, "leaves none of the 8 channels"),
    ],
)
def test_a_contradiction_is_named_with_the_way_out(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        method_of(config(**settings))


def test_a_cyclegan_has_no_pairs() -> None:
    with pytest.raises(UsageError, match="A cyclegan has no pairs: its loss is made of gan, cycle and identity"):
        method_of(config("cyclegan/x2-tiny", loss="l1:1, gan:1, cycle:10"))


def test_vgg_without_weights_names_row_file_and_setting() -> None:
    with pytest.raises(
        WeightsError, match=r"encoder vgg19 is pinned .*vgg19-dcbb9e9d.pth.*--set perceptual_weights=FILE"
    ):
        method_of(config(loss="perceptual:1"))


# The game


@pytest.mark.parametrize("discriminator", ["unet", "srgan", "patch"])
@pytest.mark.parametrize("game", ["vanilla", "lsgan", "relativistic"])
def test_each_phase_moves_its_own_network(discriminator: str, game: str, photo: np.ndarray) -> None:
    chosen = config(loss="l1:1, gan:0.1", discriminator=discriminator, discriminator_channels=4, gan=game)
    method = method_of(chosen)
    before = {name: value.detach().clone() for name, value in method.networks.named_parameters()}
    (row,) = steps(chosen, method, batch_of(photo, 2), 1)
    assert set(row) == {"loss", "l1", "gan", "discriminator"}
    assert row["loss"] == pytest.approx(row["l1"] + row["gan"])
    unmoved = [name for name, value in method.networks.named_parameters() if torch.equal(value, before[name])]
    # What is relative to the other's mean does not feel what is added to both.
    assert len(unmoved) <= (game == "relativistic")


def test_the_discriminator_judges_what_the_generator_was_paid_for(photo: np.ndarray) -> None:
    """Every part of a batch in parts meets its own pictures, made before the generator moved."""
    chosen = config(loss="l1:1, gan:1", discriminator_channels=4, accumulate=2)
    method = method_of(chosen)
    generator, judge = method.networks["generator"], method.networks["discriminator"]
    lr, hr = (image.float() / 255 for image in batch_of(photo, 2))
    parts = list(zip(lr.chunk(2), hr.chunk(2), strict=True))
    expected = [generator(part).detach() for part, _ in parts]
    for part in parts:
        method.phases[0].loss(*part)
    with torch.no_grad():
        for value in generator.parameters():
            value.zero_()
    judge.eval()  # the estimate of the spectral norm stands still
    for (small, large), made in zip(parts, expected, strict=True):
        paid = method.phases[1].loss(small, large)["discriminator"]
        by_hand = (F.softplus(-judge(large)).mean() + F.softplus(judge(made)).mean()) / 2
        assert float(paid.detach()) == pytest.approx(float(by_hand.detach()), rel=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "l1:1, gan:0.1", "gan": "relativistic", "accumulate": 2},
        {"variant": "cyclegan/x2-tiny", "loss": "gan:1, cycle:10", "gan": "lsgan", "patch_px": 24},
    ],
    ids=["pairs", "cycle"],
)
def test_a_game_goes_on_with_the_same_bits(settings: dict[str, Any], photo: np.ndarray) -> None:
    chosen = config(**settings, discriminator_channels=4, learning_rate=1e-3)
    batch = batch_of(photo, 2, patch_px=chosen.patch_px)
    with joined("cpu") as ranks:
        whole = Trainer(chosen, method_of(chosen), ranks)
        for _ in range(30):
            whole.train_step(*batch)
        saved = copy.deepcopy(whole.checkpoint())
        resumed = Trainer(chosen, method_of(chosen), ranks)
        resumed.restore(saved)
        for _ in range(3):
            assert resumed.train_step(*batch) == whole.train_step(*batch)
    assert whole.networks.state_dict().keys() == resumed.networks.state_dict().keys()
    for name, value in whole.networks.state_dict().items():
        assert torch.equal(resumed.networks.state_dict()[name], value), name


def test_a_discriminator_learns_to_tell_and_a_generator_to_fool(photo: np.ndarray) -> None:
    batch = batch_of(photo, 2)
    lazy = config(loss="gan:1e-9", discriminator_channels=8, learning_rate=1e-3, warmup_steps=0)
    told = steps(lazy, method_of(lazy), batch)
    assert told[-1]["discriminator"] < 0.9 * told[0]["discriminator"]
    method = method_of(config(loss="gan:1", discriminator_channels=8, learning_rate=1e-3, warmup_steps=0))
    judge = method.networks["discriminator"].eval().requires_grad_(False)
    lr = batch[0].float() / 255
    optimizer = torch.optim.Adam(method.networks["generator"].parameters(), lr=3e-3)
    paid = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = generator_loss("vanilla", judge(method.networks["generator"](lr)))
        loss.backward()
        optimizer.step()
        paid.append(float(loss.detach()))
    assert paid[-1] < paid[0]


# CycleGAN


def test_a_cyclegan_learns_to_go_there_and_back(photo: np.ndarray) -> None:
    game = {"loss": "gan:1, cycle:10, identity:5", "gan": "lsgan", "discriminator_channels": 4}
    settings = config("cyclegan/x2-tiny", **game, patch_px=24, learning_rate=2e-3, warmup_steps=0)
    method = method_of(settings)
    assert isinstance(method, CycleGAN)
    lr, _ = batch_of(photo, 2, patch_px=24)
    _, hr = batch_of(photo[::-1, ::-1], 2, patch_px=24)  # another place: no pairs
    before = {name: value.detach().clone() for name, value in method.networks.named_parameters()}
    rows = steps(settings, method, (lr, hr))
    assert list(rows[0]) == ["loss", "gan", "cycle", "identity", "judge_lr", "judge_hr"]
    assert rows[-1]["cycle"] < 0.8 * rows[0]["cycle"]
    assert falls(rows, "identity")
    assert falls(rows, "judge_lr")
    unmoved = [name for name, value in method.networks.named_parameters() if torch.equal(value, before[name])]
    # A bias in front of instance normalisation changes nothing, so nothing changes it.
    assert all(name.endswith("bias") for name in unmoved)


def test_the_way_back_is_of_the_same_make_and_shrinks() -> None:
    forth = Generator(scale=2, channels=8, blocks=1)
    back = Back(forth)
    assert back(torch.rand(1, 3, 48, 40)).shape == (1, 3, 24, 20)
    assert len(back.translate.model) == len(forth.model)


def test_the_pool_gives_back_half_of_the_older_pictures_and_is_in_checkpoints() -> None:
    torch.manual_seed(0)
    pool = Pool(1)
    numbers = torch.arange(1.0, 1001.0)
    given = torch.cat([pool(number.expand(1, 3, 1, 1))[:, 0, 0, 0] for number in numbers])
    assert torch.equal(given[:POOL], numbers[:POOL]), "until it is full, each is judged at once"
    older = given[POOL:] != numbers[POOL:]
    assert 0.4 < older.float().mean() < 0.6
    assert len(given[POOL:].unique()) == 950, "from then on no picture comes twice"
    again = Pool(1)
    again.load_state_dict(pool.state_dict())
    torch.manual_seed(1)
    one = pool(torch.full((40, 3, 1, 1), -1.0))
    torch.manual_seed(1)
    assert torch.equal(again(torch.full((40, 3, 1, 1), -1.0)), one)


# Transfer and teachers


def test_an_encoder_starts_the_network_that_has_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = MobileNetV2()
    path = tmp_path / "mobilenetv2.safetensors"
    classifier = {"classifier.weight": torch.rand(1000, 1280), "classifier.bias": torch.rand(1000)}
    formats.save(path, encoder.state_dict() | classifier, {})
    module = zoo.find("mobilenetv2/x2").build()
    assert verb.transfer(module, str(path)) == len(encoder.state_dict())
    assert torch.equal(module.get_parameter("encoder.conv_stem.weight"), encoder.conv_stem.weight)
    with pytest.raises(UsageError, match="'resnet18' is an encoder, and this network has none"):
        verb.transfer(zoo.find("edsr/x2-tiny").build(), "resnet18")


def test_a_student_comes_nearer_to_its_teacher(photo: np.ndarray) -> None:
    chosen = config("lightweight/x2", teacher="edsr-x2", loss="l1:1e-6", learning_rate=2e-3, warmup_steps=0)
    rows = steps(chosen, method_of(chosen), batch_of(photo, 2))
    assert list(rows[0]) == ["loss", "l1", "teacher"]
    assert rows[-1]["teacher"] < 0.8 * rows[0]["teacher"]


# Pruning


PRUNABLE = ("lightweight/x3", "improved/x4", "edsr/x4", "srvgg/x4-16c")


@pytest.mark.parametrize("name", PRUNABLE)
def test_what_is_pruned_first_is_what_did_nothing(name: str, photo: np.ndarray) -> None:
    """A smaller network hides in a larger one full of zeros: pruning finds it, and it makes the same picture."""
    torch.manual_seed(0)
    variant = zoo.find(name)
    large = variant.build().eval()
    for key, value in large.named_parameters():
        if value.ndim == 4:
            channels = value.shape[0]
            rows = channels // 64 if channels % 64 == 0 and channels > 64 else 1
            if channels >= 32 and "tail.weight" not in key and not key.startswith("body.34"):
                dead = torch.arange(channels).reshape(-1, rows)[1::2].flatten()
                with torch.no_grad():
                    value[dead] = 0
                    large.get_parameter(key.replace("weight", "bias"))[dead] = 0
    smaller, network = pruned(variant, large, 0.5)
    assert smaller.scale == variant.scale
    assert smaller.parameters == sum(value.numel() for value in network.parameters()) < 0.4 * variant.parameters
    lr = torch.from_numpy(photo[:24, :24].copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        expected = large(lr)
        assert (expected - F.interpolate(lr, scale_factor=variant.scale)).abs().max() > 1e-3
        assert torch.allclose(network.eval()(lr), expected, atol=1e-6)


def test_pruning_keeps_the_heaviest_channels() -> None:
    torch.manual_seed(0)
    variant = zoo.find("lightweight/x2-tiny")
    module = variant.build()
    head = module.get_parameter("head.weight").detach()
    smaller, network = pruned(variant, module, 0.25)
    kept = head.abs().sum((1, 2, 3)).topk(6).indices.sort().values
    assert torch.equal(network.get_parameter("head.weight"), head[kept])
    assert smaller.name == "lightweight/x2-6f-1l"


def test_a_wide_edsr_keeps_its_residual_scale() -> None:
    """No tensor shows the factor of 0.1 that 256 channels have and fewer have not."""
    torch.manual_seed(0)
    module = EDSR(scale=2, blocks=1, channels=256, residual_scale=0.1).eval()
    with torch.no_grad():
        for key in ("head.0", "body.0.body.0", "body.0.body.2", "body.1"):
            for kind in ("weight", "bias"):
                module.get_parameter(f"{key}.{kind}")[128:] = 0
        for kind in ("weight", "bias"):
            module.get_parameter(f"tail.0.0.{kind}")[512:] = 0
    _, network = pruned(zoo.find("edsr/x2"), module, 0.5)
    lr = torch.rand(1, 3, 12, 12)
    with torch.no_grad():
        assert torch.allclose(network.eval()(lr), module(lr), atol=1e-5)


def test_what_cannot_be_pruned_is_said() -> None:
    with pytest.raises(UsageError, match=r"cyclegan/x2-tiny cannot be pruned\. Those that can: lightweight, improved"):
        pruned(zoo.find("cyclegan/x2-tiny"), zoo.find("cyclegan/x2-tiny").build(), 0.5)


# Rounding


def test_a_network_trained_with_rounding_bears_it_better(photo: np.ndarray) -> None:
    chosen = config("lightweight/x2", quantize_aware=True, learning_rate=3e-4, warmup_steps=0)
    lr, hr = batch_of(photo, 2)

    def error(module: nn.Module) -> float:
        with torch.no_grad(), FakeQuantize():
            return float(F.l1_loss(module(lr.float() / 255), hr.float() / 255))

    module = load_module("lightweight-x2", 2)[2]
    before = error(module)
    rows = steps(chosen, method_of(chosen, module), (lr, hr))
    assert rows[0]["l1"] == pytest.approx(before, rel=1e-4)
    assert error(module) < before
    assert falls(rows, "l1")
