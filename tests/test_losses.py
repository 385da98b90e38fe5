"""Losses: their numbers on photographs are the published ones, and their slopes lead to the original."""

from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from upscale_cli import zoo
from upscale_cli.errors import UsageError
from upscale_cli.metrics import fidelity
from upscale_cli.train import losses
from upscale_cli.train.losses import Game, Perceptual, discriminator_loss, generator_loss, ms_ssim, ssim
from upscale_cli.train.teachers import load_teachers
from upscale_cli.train.terms import PIXEL, TERMS, parse_terms
from upscale_cli.zoo.encoders.vgg import VGG, layer_names


@pytest.fixture(scope="module")
def pair(spices: np.ndarray) -> tuple[Tensor, Tensor]:
    """A photograph, 1 x 3 x 192 x 200, and what is left of it after shrinking it to a third."""
    real = torch.from_numpy(spices[100:292, 200:400].copy()).permute(2, 0, 1)[None].float() / 255
    blurred = F.interpolate(F.avg_pool2d(real, 3, ceil_mode=True), size=real.shape[-2:], mode="bicubic").clamp(0, 1)
    return blurred, real


def seeded_vgg(depth: Literal[16, 19], *taps: str) -> VGG:
    """Random weights: what a loss does with features needs no trained ones, and nothing else here uses them."""
    torch.manual_seed(0)
    return VGG(depth=depth, taps=taps)


# Pixels


def test_the_pixel_losses_are_their_formulas(pair: tuple[Tensor, Tensor]) -> None:
    a, b = (image.double() for image in pair)
    difference = (a - b).numpy()
    expected = {
        "l1": np.abs(difference).mean(),
        "mse": np.square(difference).mean(),
        "charbonnier": np.sqrt(np.square(difference) + 1e-6).mean(),
    }
    for name, value in expected.items():
        assert float(losses.PIXEL_TERMS[name]()(a, b)) == pytest.approx(value, rel=1e-12)


def test_ssim_is_that_of_the_scores(pair: tuple[Tensor, Tensor]) -> None:
    for channel in range(3):
        a, b = (image[:, channel : channel + 1] for image in pair)
        expected = fidelity.ssim(a[0, 0].double().numpy(), b[0, 0].double().numpy(), peak=1.0)
        assert 0.3 < expected < 0.95
        assert float(ssim(a, b)) == pytest.approx(expected, abs=1e-5)
    mean = np.mean([fidelity.ssim(*(x[0, c].double().numpy() for x in pair), peak=1.0) for c in range(3)])
    assert float(losses.SSIM()(*pair)) == pytest.approx(1 - mean, abs=1e-5)


def test_ms_ssim_is_the_product_over_five_scales(pair: tuple[Tensor, Tensor]) -> None:
    """Against the formula of Wang et al. 2003 in numpy, with cv2's window."""
    expected = []
    for channel in range(3):
        a, b = (image[0, channel].double().numpy() for image in pair)
        product = 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            if scale:
                a, b = (x[: x.shape[0] // 2 * 2, : x.shape[1] // 2 * 2] for x in (a, b))
                a, b = ((x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4 for x in (a, b))
            mean_a, mean_b = fidelity._window(a), fidelity._window(b)
            var_a, var_b = fidelity._window(a * a) - mean_a**2, fidelity._window(b * b) - mean_b**2
            contrast = (2 * (fidelity._window(a * b) - mean_a * mean_b) + 9e-4) / (var_a + var_b + 9e-4)
            luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
            product *= float((contrast if scale < 4 else contrast * luminance).mean()) ** weight
        expected.append(product)
    assert float(ms_ssim(*pair)) == pytest.approx(np.mean(expected), abs=1e-5)
    assert float(ms_ssim(*pair)) > float(ssim(*pair)), "blur is seen on the finest scale most"
    with pytest.raises(ValueError, match="MS-SSIM needs 176 x 176 pixels"):
        ms_ssim(pair[0][..., :175], pair[1][..., :175])


def test_ms_ssim_of_opposites_has_a_slope_that_is_finite(pair: tuple[Tensor, Tensor]) -> None:
    negative = (1 - pair[1]).requires_grad_()
    loss = losses.MultiScaleSSIM()(negative, pair[1])
    loss.backward()
    assert 0.9 < float(loss.detach()) < 1
    assert negative.grad is not None
    assert negative.grad.isfinite().all()


@pytest.mark.parametrize("name", PIXEL)
def test_every_pixel_loss_leads_to_the_original(name: str, pair: tuple[Tensor, Tensor]) -> None:
    blurred, real = pair
    distance = losses.PIXEL_TERMS[name]()
    made = blurred.clone().requires_grad_()
    optimizer = torch.optim.Adam([made], lr=3e-3)
    before = float(F.mse_loss(blurred, real))
    for _ in range(15):
        optimizer.zero_grad()
        distance(made, real).backward()
        optimizer.step()
    assert float(F.mse_loss(made.detach(), real)) < 0.7 * before
    assert float(distance(real, real)) == pytest.approx(1e-3 if name == "charbonnier" else 0, abs=1e-6)


# What VGG sees


def test_the_perceptual_loss_adds_up_its_layers(pair: tuple[Tensor, Tensor]) -> None:
    a, b = (image[..., :48, :48] for image in pair)
    weights = {"conv1_2": 0.1, "relu2_2": 2.0, "pool3": 1.0}
    network = seeded_vgg(19, *weights)
    # By hand: the convolutions of torchvision's `features`, counted from 0.
    ends = {"conv1_2": 3, "relu2_2": 9, "pool3": 19}
    normalised = [network.normalise(image) for image in (a, b)]
    parts = {name: [network.features[:end](image) for image in normalised] for name, end in ends.items()}
    for criterion, distance in (("l1", F.l1_loss), ("mse", F.mse_loss)):
        loss = Perceptual(network, weights, criterion=criterion)
        expected = sum(weight * float(distance(*parts[name])) for name, weight in weights.items())
        assert expected > 0
        assert float(loss(a, b)) == pytest.approx(expected, rel=1e-5)
        assert float(loss(b, b)) == 0


def test_the_perceptual_loss_teaches_the_picture_and_not_vgg(pair: tuple[Tensor, Tensor]) -> None:
    made = pair[0][..., :32, :32].clone().requires_grad_()
    loss = Perceptual(seeded_vgg(16, "relu3_3"), {"relu3_3": 1.0})
    loss(made, pair[1][..., :32, :32]).backward()
    assert made.grad is not None
    assert made.grad.abs().max() > 0
    assert all(value.grad is None for value in loss.parameters())


def test_the_layers_of_vgg_have_the_names_of_the_papers() -> None:
    assert len(layer_names(16)) == 31
    assert len(layer_names(19)) == 37
    assert layer_names(16)[8] == "relu2_2"
    assert layer_names(19)[34] == "conv5_4"
    with pytest.raises(ValueError, match="weights for"):
        Perceptual(seeded_vgg(16, "relu1_1"), {"relu1_2": 1.0})


# The game


def test_both_sides_of_the_game_are_their_formulas() -> None:
    made, real = torch.tensor([-1.5, 0.25, 2.0]), torch.tensor([0.5, 3.0, -0.75])
    ones, zeros, cross = torch.ones(3), torch.zeros(3), F.binary_cross_entropy_with_logits
    mean_made, mean_real = made.mean(), real.mean()
    expected: dict[Game, tuple[Tensor, Tensor]] = {
        "vanilla": (cross(made, ones), (cross(real, ones) + cross(made, zeros)) / 2),
        "lsgan": (F.mse_loss(made, ones), (F.mse_loss(real, ones) + F.mse_loss(made, zeros)) / 2),
        "relativistic": (
            (cross(made - mean_real, ones) + cross(real - mean_made, zeros)) / 2,
            (cross(real - mean_made, ones) + cross(made - mean_real, zeros)) / 2,
        ),
    }
    for game, (generator, discriminator) in expected.items():
        assert float(generator_loss(game, made, real)) == pytest.approx(float(generator))
        assert float(discriminator_loss(game, made, real)) == pytest.approx(float(discriminator))


@pytest.mark.parametrize("game", ["vanilla", "lsgan", "relativistic"])
def test_each_side_wins_where_the_other_loses(game: Game) -> None:
    high, low = torch.full((4,), 3.0), torch.full((4,), -3.0)
    assert generator_loss(game, high, low) < generator_loss(game, low, high)
    assert discriminator_loss(game, low, high) < discriminator_loss(game, high, low)
    made = torch.zeros(4, requires_grad=True)
    generator_loss(game, made, high).backward()
    assert made.grad is not None
    assert (made.grad < 0).all(), "the generator pushes its own logits up"


# Words


def test_a_weighted_sum_is_read_in_order() -> None:
    assert parse_terms("l1:1, perceptual : 0.5,gan:1e-3", TERMS, setting="loss") == {
        "l1": 1.0,
        "perceptual": 0.5,
        "gan": 1e-3,
    }
    assert parse_terms("mse", TERMS, setting="loss") == {"mse": 1.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("l1:1, percptual:1", "loss names 'percptual', which is no term of it. Did you mean 'perceptual'"),
        ("huber", "Known: l1, mse"),
        ("", "names ''"),
        ("l1:1,", "names ''"),
        ("l1:0", "'0', which is no number above 0. Example: l1:0.5"),
        ("l1:-1", "no number above 0"),
        ("l1:nan", "no number above 0"),
        ("l1:inf", "no number above 0"),
        ("l1:much", "'much', which is no number"),
        ("l1:1, l1:2", "names 'l1' twice"),
    ],
)
def test_a_wrong_sum_is_named_with_the_way_out(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_terms(text, TERMS, setting="loss")


def test_bf16_around_a_loss_does_not_reach_its_windows(pair: tuple[Tensor, Tensor]) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = float(losses.SSIM()(*pair))
    assert inside == float(losses.SSIM()(*pair))


def test_bf16_around_a_loss_does_not_reach_the_teacher(pair: tuple[Tensor, Tensor]) -> None:
    """Its pictures would be rounded to 1 of 256, and its pupil would learn that."""
    teachers = load_teachers("edsr-x2", 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = teachers(pair[0])
    assert torch.equal(inside, teachers(pair[0]))


@pytest.mark.parametrize("variant", ["edsr/x2", "rrdb/x4-tiny", "srresnet/x4", "span/x4-merged"])
def test_bf16_around_a_network_does_not_reach_what_draws_the_picture(variant: str, pair: tuple[Tensor, Tensor]) -> None:
    """An L1 loss pulls a rounded picture to a limit between two numbers, not to what is wanted."""
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        sr = zoo.find(variant).build()(pair[0][..., :24, :24])
    assert sr.dtype == torch.float32
    assert (sr != sr.bfloat16().float()).float().mean() > 0.9
