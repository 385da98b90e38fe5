"""Every variant of the zoo keeps what its row promises. A new architecture is covered by standing in `_TABLES`."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from upscale_cli import zoo
from upscale_cli.errors import UsageError
from upscale_cli.model import DTYPES
from upscale_cli.zoo.blocks import DIV2K_MEAN
from upscale_cli.zoo.edsr import EDSR
from upscale_cli.zoo.srresnet import SRResNet

VARIANTS = zoo.variants()
LARGE = 5_000_000
SMALL = tuple(variant for variant in VARIANTS if variant.parameters < LARGE)
TINY = tuple(variant for variant in VARIANTS if variant.name.endswith("-tiny"))
FORMULAS = ("bicubic", "lanczos")
SIZES = ((3, 17), (1, 1), (5, 7), (32, 31))


def each(variants: tuple[zoo.Variant, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("variant", variants, ids=lambda variant: variant.name)


def build(variant: zoo.Variant) -> nn.Module:
    torch.manual_seed(0)
    return variant.build().eval()


def to_tensor(image: np.ndarray) -> Tensor:
    """H x W x 3 8-bit to 1 x 3 x H x W in [0, 1]."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255


def to_image(tensor: Tensor) -> np.ndarray:
    return tensor[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()


def test_every_large_network_has_a_small_one_of_its_kind() -> None:
    assert {row.architecture for row in VARIANTS} == {row.architecture for row in SMALL}


@each(VARIANTS)
def test_shapes_and_parameters_are_those_of_the_row(variant: zoo.Variant) -> None:
    with torch.device("meta"):  # shapes without arithmetic
        module = variant.build().eval()
        assert sum(parameter.numel() for parameter in module.parameters()) == variant.parameters
        # A shape takes as long as the network has layers, whatever the size; the small ones of its kind take them all.
        for height, width in SIZES[:1] if variant.parameters > LARGE else SIZES:
            lr = torch.empty(2, 3, height * variant.multiple_of, width * variant.multiple_of)
            expected = (2, 3, lr.shape[2] * variant.scale, lr.shape[3] * variant.scale)
            assert module(lr).shape == expected
    assert variant.name.startswith(f"{variant.architecture}/") or variant.name.startswith(f"{variant.architecture}-")
    assert f"/x{variant.scale}" in variant.name


@each(tuple(variant for variant in VARIANTS if variant.parameters))
def test_the_gradient_reaches_every_parameter(variant: zoo.Variant) -> None:
    module = build(variant)
    side = variant.multiple_of * (3 if variant.parameters > LARGE else 6)
    sr = module(torch.rand(1, 3, side, side))
    (sr * torch.rand_like(sr)).sum().backward()
    learning = {name: value.grad for name, value in module.named_parameters() if value.requires_grad}
    assert [name for name, grad in learning.items() if grad is None or not grad.abs().max() > 0] == []


@pytest.mark.parametrize(
    ("variant", "precision"),
    [(variant, precision) for variant in SMALL for precision in variant.dtypes],
    ids=lambda value: getattr(value, "name", value),
)
def test_each_declared_precision_is_finite(variant: zoo.Variant, precision: str, spices: np.ndarray) -> None:
    module = build(variant).to(DTYPES[precision])
    with torch.inference_mode():
        sr = module(to_tensor(spices[200:213, 300:311]).to(DTYPES[precision]))
    assert sr.dtype == DTYPES[precision]
    assert sr.isfinite().all()


def smallest_margin(module: nn.Module, variant: zoo.Variant, image: Tensor) -> int:
    """The least margin with which the middle of a tile equals the middle of the whole image to 1e-5."""
    step, scale, middle = variant.multiple_of, variant.scale, image.shape[-1] // 2
    with torch.inference_mode():
        whole = module(image)[..., middle * scale : (middle + step) * scale, middle * scale : (middle + step) * scale]
        for margin in range(0, middle, step):
            start = middle - margin
            tile = image[..., start : middle + step + margin, start : middle + step + margin]
            inner = slice(margin * scale, (margin + step) * scale)
            if (module(tile)[..., inner, inner] - whole).abs().max() <= 1e-5:
                return margin
    return middle


@each(tuple(variant for variant in SMALL if variant.exact))
def test_the_margin_of_an_exact_variant_is_enough(variant: zoo.Variant) -> None:
    module = build(variant)
    side = 2 * (variant.margin + 4) + variant.multiple_of
    with torch.no_grad():
        for value in module.parameters():  # wide enough that the rim of the receptive field is heard
            value.mul_(2)
    needed = smallest_margin(module, variant, torch.rand(1, 3, side, side))
    assert needed <= variant.margin, f"{variant.name} needs a margin of {needed}, its row says {variant.margin}"


@each(tuple(variant for variant in SMALL if variant.exact))
def test_nothing_beyond_the_margin_is_seen(variant: zoo.Variant) -> None:
    module = build(variant)
    inner, outer = variant.margin, 4
    side = 2 * (inner + outer) + variant.multiple_of
    seen = torch.zeros(1, 3, side, side, requires_grad=True)
    at = (inner + outer) * variant.scale
    patch = slice(at, at + variant.multiple_of * variant.scale)
    module(seen)[..., patch, patch].sum().backward()
    assert seen.grad is not None
    rim = seen.grad.clone()
    rim[..., outer:-outer, outer:-outer] = 0
    assert not rim.any()


@each(TINY)
def test_a_tiny_variant_learns_one_patch(variant: zoo.Variant, spices: np.ndarray) -> None:
    module = build(variant).train()
    hr = to_tensor(spices[200:232, 300:332])
    if variant.task == "enhance":
        lr = hr**1.5
        floor = F.mse_loss(lr, hr)
    else:
        lr = F.interpolate(hr, scale_factor=1 / variant.scale, mode="bicubic", antialias=True)
        floor = F.mse_loss(zoo.find(f"bicubic/x{variant.scale}").build()(lr), hr)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)

    def step() -> float:
        optimizer.zero_grad()
        loss = F.mse_loss(module(lr), hr)
        loss.backward()
        optimizer.step()
        return loss.item()

    assert any(step() < 0.5 * floor for _ in range(250))  # ends as soon as it is so


@each(SMALL)
def test_export_equals_eager(variant: zoo.Variant) -> None:
    module = build(variant)
    lr = torch.rand(1, 3, 9 * variant.multiple_of, 8 * variant.multiple_of)
    with torch.no_grad():
        exported = torch.export.export(module, (lr,)).module()
        assert exported(lr).numpy() == pytest.approx(module(lr).numpy(), abs=1e-6)


@each(tuple(variant for variant in SMALL if variant.architecture in FORMULAS))
def test_a_formula_keeps_a_constant_and_mirrors(variant: zoo.Variant) -> None:
    module = build(variant)
    assert module(torch.full((1, 3, 1, 5), 0.3)).numpy() == pytest.approx(0.3, abs=1e-6)
    lr = torch.rand(1, 3, 6, 7)
    assert module(lr.flip(-1)).flip(-1).numpy() == pytest.approx(module(lr).numpy(), abs=1e-5)


def test_find_suggests_the_nearest_name() -> None:
    assert zoo.find("edsr/x4").scale == 4
    with pytest.raises(UsageError, match=r"'edsr/4'.*edsr/x4"):
        zoo.find("edsr/4")


def test_edsr_reads_the_range_of_a_checkpoint_from_its_mean() -> None:
    """A checkpoint that works on [0, 255] gives the picture of the same one rescaled to [0, 1]."""
    torch.manual_seed(0)
    unit = EDSR(scale=2, blocks=2, channels=8)
    state = unit.state_dict()
    # ReLU and convolutions scale with their input, biases must be scaled along.
    byte_state = {
        key: value * 255 if key.endswith("bias") else value for key, value in state.items() if "mean" not in key
    }
    mean = 255 * torch.tensor(DIV2K_MEAN)
    eye = torch.eye(3).reshape(3, 3, 1, 1)
    byte_state |= {"sub_mean.weight": eye, "sub_mean.bias": -mean, "add_mean.weight": eye, "add_mean.bias": mean}
    published = EDSR(scale=2, blocks=2, channels=8)
    published.load_state_dict(byte_state, strict=True)
    lr = torch.rand(1, 3, 12, 13)
    with torch.no_grad():
        assert published(lr).numpy() == pytest.approx(unit(lr).numpy(), abs=1e-5)
    published.load_state_dict(state, strict=True)  # and back
    with torch.no_grad():
        assert torch.equal(published(lr), unit(lr))


@pytest.mark.parametrize("scale", [2, 4])
def test_srresnet_gives_the_published_picture(scale: int, oracles: Path) -> None:
    """leftthomas/SRGAN, loaded strictly."""
    path = oracles / "srgan-leftthomas" / f"netG_epoch_{scale}_100.pth"
    state = torch.load(path, map_location="cpu", weights_only=True)
    module = SRResNet(scale=scale, blocks=5, signed_input=False).eval()
    module.load_state_dict(state, strict=True)
    reference = oracles / "reference"
    with torch.inference_mode():
        sr = to_image(module(to_tensor(_read(reference / f"img_003_lr_x{scale}.png"))))
    expected = _read(reference / f"img_003_srgan-leftthomas-x{scale}.png")
    assert np.abs(sr.astype(int) - expected.astype(int)).max() <= 1


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
