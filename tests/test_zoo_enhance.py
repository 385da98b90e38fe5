"""Networks that enhance: tables of colours against plain arithmetic and published weights; residuals by their count."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from upscale_cli import zoo
from upscale_cli.errors import WeightsError
from upscale_cli.weights.importing import check, read_weights
from upscale_cli.zoo.enhance_residual import EnhanceResidual
from upscale_cli.zoo.lut3d import Lut3D, Table, identity, look_up, shrink_factor

Array = npt.NDArray[np.float64]
PUBLISHED = {
    "lut3d/x1": ("image-adaptive-3dlut/classifier.pth", 26.45, "img_002_image-adaptive-3dlut.png"),
    "lut3d/x1-adaint": ("ailut/AiLUT-FiveK-sRGB.pth", 25.79, "img_002_ailut.png"),
}


def tensor(path: Path) -> Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1)[None].float() / 255


def published(name: str, oracles: Path) -> nn.Module:
    weights = read_weights(oracles / PUBLISHED[name][0])
    assert weights.variant is zoo.find(name)
    module = weights.variant.build().eval()
    module.load_state_dict(weights.state, strict=True)
    return module


def convolved(image: Array, weight: Array, bias: Array, *, stride: int, pad: int) -> Array:
    """C x H x W by plain sums."""
    size = weight.shape[-1]
    wide = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(wide, (size, size), (1, 2))[:, ::stride, ::stride]
    return np.tensordot(weight, windows, ((1, 2, 3), (0, 3, 4))) + bias[:, None, None]


def viewed(image: Array, side: int = 256) -> Array:
    """C x H x W to C x side x side: two neighbours of each axis at the middles of the pixels."""
    for axis in (1, 2):
        length = image.shape[axis]
        place = np.clip((np.arange(side) + 0.5) * length / side - 0.5, 0, length - 1)
        low = np.minimum(place.astype(int), length - 2)
        share = (place - low).reshape(-1, 1) if axis == 1 else place - low
        image = (1 - share) * image.take(low, axis) + share * image.take(low + 1, axis)
    return image


def interpolated(colors: Array, vertices: Array, image: Array) -> Array:
    """Trilinear by its definition: 3 x D x D x D [out][b][g][r], 3 x D, 3 x H x W."""
    low, share = [], []
    for channel, axis in zip(image, vertices, strict=True):
        at = np.clip(np.searchsorted(axis, channel, side="right") - 1, 0, len(axis) - 2)
        low.append(at)
        share.append((channel - axis[at]) / (axis[at + 1] - axis[at]))
    result = np.zeros_like(image)
    for corner in np.ndindex(2, 2, 2):
        r, g, b = (at + step for at, step in zip(low, corner, strict=True))
        weight = np.prod([s if step else 1 - s for s, step in zip(share, corner, strict=True)], axis=0)
        result += weight * colors[:, b, g, r]
    return result


def reference(state: Mapping[str, Array], image: Array) -> Array:
    """Every 25th pixel of either network by numpy alone, in 64 bits, from the tensors under our keys."""
    features = viewed(image)
    for block in range(5):
        name = f"backbone.{block}"
        features = convolved(features, state[f"{name}.0.weight"], state[f"{name}.0.bias"], stride=2, pad=1)
        features = np.where(features < 0, 0.2 * features, features)
        if block < 4:
            mean, spread = features.mean((1, 2), keepdims=True), features.var((1, 2), keepdims=True)
            scale, shift = (state[f"{name}.2.{kind}"][:, None, None] for kind in ("weight", "bias"))
            features = (features - mean) / np.sqrt(spread + 1e-5) * scale + shift
    image = image[:, ::5, ::5]
    weight, bias = (state[f"lut_generator.weights_generator.{kind}"] for kind in ("weight", "bias"))
    if "adaint.intervals_generator.weight" not in state:
        shares = convolved(features, weight, bias, stride=1, pad=0).ravel()
        colors = sum(share * state[f"lut_generator.basis_luts.{n}"] for n, share in enumerate(shares))
        return interpolated(np.asarray(colors), np.tile(np.linspace(0, 1, 33), (3, 1)), image)
    features = features.reshape(128, 2, 4, 2, 4).mean((2, 4)).ravel()
    colors = (state["lut_generator.basis_luts_bank.weight"] @ (weight @ features + bias)).reshape(3, 33, 33, 33)
    raw = (state["adaint.intervals_generator.weight"] @ features + state["adaint.intervals_generator.bias"]).reshape(
        3, 32
    )
    widths = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
    return interpolated(colors, np.pad(widths.cumsum(1), ((0, 0), (1, 0))), image)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_score_as_they_did_and_equal_plain_arithmetic(name: str, oracles: Path, fivek: Path) -> None:
    module = published(name, oracles)
    state = {key: value.double().numpy() for key, value in module.state_dict().items()}
    scores = []
    for path in sorted(fivek.glob("*_input.png")):
        image, expert = tensor(path), tensor(path.with_name(path.name.replace("input", "expertC")))
        with torch.inference_mode():
            made = module(image)
        if not scores or "a4714" in path.name:
            plain = reference(state, image[0].double().numpy())
            assert made[0, :, ::5, ::5].numpy() == pytest.approx(plain, abs=1e-5)
        rounded = made.clamp(0, 1).mul(255).round() / 255
        scores.append(-10 * float((rounded - expert).square().mean().log10()))
    assert len(scores) == 6
    assert fmean(scores) == pytest.approx(PUBLISHED[name][1], abs=0.05)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_give_the_published_picture(name: str, oracles: Path, set5: Path) -> None:
    module = published(name, oracles)
    source = next(path for path in set5.rglob("img_002*") if "LR" not in path.name)
    with torch.inference_mode():
        made = module(tensor(source)).clamp(0, 1).mul(255).round()
    assert (made - 255 * tensor(oracles / "reference" / PUBLISHED[name][2])).abs().max() <= 1


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_photograph_enlarged_gets_the_colours_of_the_small_one(name: str, oracles: Path, fivek: Path) -> None:
    """A view by every tenth pixel would see other noise than the network was trained on."""
    module = published(name, oracles)
    image = tensor(fivek / "a4714_input.png")
    large = nn.functional.interpolate(image, scale_factor=5, mode="nearest")
    assert shrink_factor(*large.shape[-2:]) > 1
    with torch.inference_mode():
        apart = (module(large)[..., ::5, ::5] - module(image)).abs()
    assert apart.mean() < 1.5 / 255


def test_either_half_of_a_network_in_two_files_brings_the_other(oracles: Path, tmp_path: Path) -> None:
    folder = oracles / "image-adaptive-3dlut"
    for one, other in (("LUTs.pth", "classifier.pth"), ("classifier.pth", "LUTs.pth")):
        weights = read_weights(folder / one)
        check(weights.variant, weights.state)
        assert weights.notes == (f"{other} read with it",)
        shutil.copy(folder / one, tmp_path / one)
        with pytest.raises(WeightsError, match=rf"{one} is half of an adaptive LUT.*{other}"):
            read_weights(tmp_path / one)
        (tmp_path / one).unlink()


def test_the_identity_changes_nothing_whatever_the_vertices() -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 3, 9, 11)
    image[:, :, 0, :2] = torch.tensor([0.0, 1.0])
    table = Table(identity(33).expand(2, -1, -1, -1, -1))
    assert look_up(table, image).numpy() == pytest.approx(image.numpy(), abs=1e-6)
    for module in (Lut3D(), Lut3D(learned_vertices=True)):
        with torch.inference_mode():
            made = module.eval().table(image)
        assert made.colors.shape == (2, 3, 33, 33, 33)
        assert (made.vertices is None) or (made.vertices.diff().min() > 0 and made.vertices.shape == (2, 3, 33))


def test_learned_vertices_stretch_their_axis_alone() -> None:
    """Red at half the way to its only inner vertex, which stands at 0.2: half of the first step."""
    vertices = torch.tensor([[[0, 0.2, 1], [0, 0.5, 1], [0, 0.5, 1]]])
    image = torch.tensor([0.1, 0.5, 1.0]).reshape(1, 3, 1, 1)
    made = look_up(Table(identity(3)[None], vertices), image)
    assert made.flatten().tolist() == pytest.approx([0.25, 0.5, 1.0], abs=1e-6)


def test_a_vertex_upon_another_divides_by_nothing() -> None:
    vertices = torch.tensor([[[0, 0, 1.0]] * 3])
    made = look_up(Table(identity(3)[None], vertices), torch.rand(1, 3, 4, 4))
    assert made.isfinite().all()
    assert made.min() >= 0.5


def test_the_residual_network_holds_as_many_values_as_its_paper_counts() -> None:
    module = EnhanceResidual()
    values = {key: value for key, value in module.state_dict().items() if "num_batches_tracked" not in key}
    assert sum(value.numel() for value in values.values()) == 598_467
    assert sum(value.numel() for key, value in values.items() if "running" in key) == 2_048


def test_a_residual_network_that_draws_nothing_leaves_the_photograph(spices: np.ndarray) -> None:
    module = EnhanceResidual().eval()
    nn.init.zeros_(module.tail.weight)
    nn.init.zeros_(module.tail.bias)  # pyright: ignore[reportArgumentType]
    image = torch.from_numpy(spices[:40, :50].copy()).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        assert torch.equal(module(image), image)
        assert torch.equal(module.bfloat16()(image), image)
