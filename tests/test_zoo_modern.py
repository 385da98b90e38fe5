"""SPAN, RealPLKSR and the networks of windows against others' code; how they are known; what windows see."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from oracle import oracle
from torch import Tensor, nn

from upscale_cli import zoo
from upscale_cli.zoo import drct, hat, realplksr, span, swinir
from upscale_cli.zoo.span import SPAN, Conv3XC
from upscale_cli.zoo.windows import SwinBlock, WindowAttention, cut, joined, mirrored, shift_of

FILES = (span, realplksr, swinir, hat, drct)
TABLE = tuple(variant for file in FILES for variant in file.VARIANTS)
TINY = tuple(variant for variant in TABLE if variant.name.endswith("-tiny"))
WINDOWS = {"img_size": 16, "embed_dim": 24, "depths": (2, 2), "num_heads": (4, 4), "window_size": 4, "mlp_ratio": 2.0}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "span/x4-48f-6b": ("SPAN", "SPAN", {"num_in_ch": 3, "num_out_ch": 3, "upscale": 4}),
    "span/x2-16f-6b-plain": (
        "SPAN",
        "SPAN",
        {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 16, "upscale": 2, "norm": False},
    ),
    "realplksr/x1-32f-2b-17k": ("PLKSR", "RealPLKSR", {"dim": 32, "n_blocks": 2, "upscaling_factor": 1}),
    "realplksr/x4-32f-1b-13k": (
        "PLKSR",
        "RealPLKSR",
        {"dim": 32, "n_blocks": 1, "upscaling_factor": 4, "kernel_size": 13, "use_ea": False},
    ),
    "realplksr/x4-32f-1b-17k-dysample": (
        "PLKSR",
        "RealPLKSR",
        {"dim": 32, "n_blocks": 1, "upscaling_factor": 4, "dysample": True},
    ),
    "realplksr/x3-32f-1b-17k-ln-dysample": (
        "PLKSR",
        "RealPLKSR",
        {"dim": 32, "n_blocks": 1, "upscaling_factor": 3, "dysample": True, "layer_norm": True},
    ),
    "realplksr/x1-32f-1b-17k-dysample": (
        "PLKSR",
        "RealPLKSR",
        {"dim": 32, "n_blocks": 1, "upscaling_factor": 1, "dysample": True},
    ),
    "swinir/x2-24f-2g-2b-w4-shuffle": ("SwinIR", "SwinIR", WINDOWS | {"upscale": 2, "upsampler": "pixelshuffle"}),
    "swinir/x3-24f-2g-2b-w4-direct": ("SwinIR", "SwinIR", WINDOWS | {"upscale": 3, "upsampler": "pixelshuffledirect"}),
    "swinir/x4-24f-2g-2b-w4-nearest": (
        "SwinIR",
        "SwinIR",
        WINDOWS | {"upscale": 4, "upsampler": "nearest+conv", "resi_connection": "3conv"},
    ),
    "swinir/x1-24f-2g-2b-w4-same": ("SwinIR", "SwinIR", WINDOWS | {"upscale": 1}),
    "swinir/x1-24f-2g-2b-w7-same": (  # against JPEG artifacts
        "SwinIR",
        "SwinIR",
        WINDOWS | {"upscale": 1, "window_size": 7, "img_size": 28, "img_range": 255.0},
    ),
    "hat/x4-24f-2g-2b-w4": ("HAT", "HAT", WINDOWS | {"upscale": 4, "squeeze_factor": 6}),
    "drct/x4-24f-2g-w4": ("DRCT", "DRCT", WINDOWS | {"upscale": 4, "upsampler": "pixelshuffle", "gc": 8}),
    "drct/x3-24f-2g-w4": ("DRCT", "DRCT", WINDOWS | {"upscale": 3, "upsampler": "pixelshuffle", "gc": 8}),
}
"""Name we find -> architecture and class of spandrel, its options."""


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in module.state_dict().items()}


def empty(variant: zoo.Variant) -> nn.Module:
    with torch.device("meta"):
        return variant.build()


@pytest.fixture
def picture(spices: np.ndarray) -> Callable[[int, int], Tensor]:
    """A cut of a photograph, 1 x 3 x H x W in [0, 1]."""

    def cut_out(height: int, width: int) -> Tensor:
        part = spices[200 : 200 + height, 300 : 300 + width].copy()
        return torch.from_numpy(part).permute(2, 0, 1)[None].float() / 255

    return cut_out


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:torch.meshgrid")  # theirs
def test_agrees_with_another_implementation(name: str, picture: Callable[[int, int], Tensor]) -> None:
    """Found by its keys, loaded strictly, the same picture as spandrel's class with the same random weights."""
    architecture, kind, options = CASES[name]
    torch.manual_seed(0)
    reference = getattr(oracle(f"spandrel.architectures.{architecture}"), kind)(**options).eval()
    with torch.no_grad():
        for value in reference.parameters():  # no tensor may stay zero or one, as biases and norms start
            value.add_(torch.randn_like(value) * 0.02)
    # spandrel's DRCT leaves it to its caller to fill up windows.
    lr = torch.cat((picture(16, 12),) * 2) if architecture == "DRCT" else picture(15, 10)
    with torch.inference_mode():
        expected = reference(lr)  # which also merges the convolutions of SPAN
    state = reference.state_dict()
    found = zoo.recognise({key: value.shape for key, value in state.items()})
    assert found is not None
    variant, names = found
    assert variant.name == ("span/x4" if name == "span/x4-48f-6b" else name)
    module = variant.build().eval()
    module.load_state_dict({names[key]: value for key, value in state.items() if key in names}, strict=True)
    with torch.inference_mode():
        difference = (module(lr) - expected).abs().max()
    assert difference <= 1e-5 * max(1, float(expected.abs().max()))


@pytest.mark.parametrize("variant", TABLE, ids=lambda variant: variant.name)
def test_every_row_is_known_by_its_tensors(variant: zoo.Variant) -> None:
    found = zoo.recognise(shapes(empty(variant)))
    assert found is not None
    assert found[0] is variant


def damaged(shape: torch.Size, kind: int) -> torch.Size | None:
    """Missing, a number, empty, larger, or larger than any machine holds."""
    changes = [(0, 0), (0, 2), (0, 10**9), (-1, 0), (-1, 3), (-1, 10**9)]
    if kind >= len(changes):
        return torch.Size(()) if kind == len(changes) else None
    axis, factor = changes[kind]
    sizes = list(shape)
    sizes[axis] *= factor
    return torch.Size(sizes)


@pytest.mark.parametrize("variant", TINY, ids=lambda variant: variant.name)
def test_damaged_tensors_are_of_no_network(variant: zoo.Variant) -> None:
    """Nothing is built from a stranger's numbers beyond bounds, nothing raised. Each tensor in one of eight ways."""
    whole = shapes(empty(variant))
    for number, (key, shape) in enumerate(whole.items()):
        other = damaged(shape, number % 8)
        rest = {name: value for name, value in whole.items() if name != key}
        assert zoo.recognise(rest if other is None else rest | {key: other}) is None, (key, other)


def test_a_network_of_many_blocks_is_not_built() -> None:
    whole = shapes(empty(zoo.find("swinir/x2-tiny")))
    first = {key: shape for key, shape in whole.items() if key.startswith("layers.0.")}
    many = {key.replace("layers.0.", f"layers.{n}."): shape for n in range(300) for key, shape in first.items()}
    assert zoo.recognise(whole | many) is None


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    """No tensor but the table of biases shows how many heads there are."""
    for name, ending in (("swinir/x2-tiny", ""), ("hat/x2-tiny", ""), ("drct/x2-tiny", "swin1")):
        whole = shapes(empty(zoo.find(name)))
        tables = [key for key in whole if key.endswith("position_bias_table") and ending in key]
        assert tables
        assert zoo.recognise(whole | {key: torch.Size((whole[key][0], 3)) for key in tables}) is None


def test_span_merges_to_the_convolution_that_is_trained() -> None:
    torch.manual_seed(0)
    chain, features = Conv3XC(5, 7), torch.rand(2, 5, 6, 4)
    with torch.inference_mode():
        trained = chain.conv(nn.functional.pad(features, (1, 1, 1, 1))) + chain.sk(features)
        assert chain(features).numpy() == pytest.approx(trained.numpy(), abs=1e-6)


@pytest.mark.parametrize(("channels", "scale", "published"), [(52, 2, 481), (52, 4, 498), (48, 2, 411), (48, 4, 426)])
def test_span_has_the_published_parameters_when_merged(channels: int, scale: int, published: int) -> None:
    module = SPAN(scale=scale, channels=channels)
    chains = [chain for chain in module.modules() if isinstance(chain, Conv3XC)]
    trained = sum(value.numel() for chain in chains for value in chain.parameters())
    merged = sum(value.numel() for chain in chains for value in chain.merged())
    parameters = sum(value.numel() for value in module.parameters()) - trained + merged
    assert round(parameters / 1000) == published


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (5, 4), (7, 13)])
def test_any_size_is_mirrored_to_whole_windows(size: tuple[int, int], picture: Callable[[int, int], Tensor]) -> None:
    lr = picture(*size)
    bottom, right = (-side % 8 for side in size)
    expected = np.pad(lr[0].numpy(), ((0, 0), (0, bottom), (0, right)), mode="reflect")
    assert np.array_equal(mirrored(lr, 8)[0].numpy(), expected)


@pytest.mark.parametrize("variant", TINY, ids=lambda variant: variant.name)
def test_pictures_of_a_batch_do_not_meet(variant: zoo.Variant, picture: Callable[[int, int], Tensor]) -> None:
    torch.manual_seed(0)
    module = variant.build().eval()
    first, second = picture(9, 6), picture(9, 6).flip(-1)
    with torch.inference_mode():
        together = module(torch.cat((first, second)))
        assert together[:1].numpy() == pytest.approx(module(first).numpy(), abs=1e-5)
        assert together[1:].numpy() == pytest.approx(module(second).numpy(), abs=1e-5)


@pytest.mark.parametrize("variant", TINY, ids=lambda variant: variant.name)
def test_bf16_weights_give_a_wide_picture(variant: zoo.Variant, picture: Callable[[int, int], Tensor]) -> None:
    """In float32, and near that of fp32 weights: one in a hundred of its spread."""
    torch.manual_seed(0)
    module, lr = variant.build().eval(), picture(9, 12)
    with torch.inference_mode():
        expected = module(lr)
        sr = module.to(torch.bfloat16)(lr)
    assert sr.dtype == torch.float32
    assert (sr - expected).abs().max() <= 0.01 * (expected.max() - expected.min())


def test_windows_are_cut_row_by_row_and_joined() -> None:
    features = torch.arange(2 * 8 * 12 * 3).reshape(2, 8, 12, 3)
    windows = cut(features, 4)
    assert windows.shape == (2, 6, 16, 3)
    assert torch.equal(windows[1, 4], features[1, 4:8, 4:8].reshape(16, 3))
    assert torch.equal(joined(windows, 4, 8, 12), features)


def seen_from(height: int, width: int, *, shifted: bool) -> np.ndarray:
    """Which pixels of H x W features a pixel at row 1, column 2 looks at, through one block with windows of 4."""
    torch.manual_seed(0)
    block, features = SwinBlock(8, heads=2, window=4), torch.rand(1, 12, 8, 8, requires_grad=True)
    block(features, shift_of(features, 4) if shifted else None)[0, height, width].square().sum().backward()
    assert features.grad is not None
    return features.grad[0].abs().sum(-1).numpy() > 1e-9


def test_a_window_sees_itself_and_a_shifted_one_never_the_opposite_edge() -> None:
    expected = np.zeros((12, 8), dtype=bool)
    expected[:4, :4] = True
    assert np.array_equal(seen_from(1, 2, shifted=False), expected)
    expected[:] = False
    expected[:2, 2:6] = True  # windows begin at 2: above it a rest of two rows
    assert np.array_equal(seen_from(1, 2, shifted=True), expected)
    expected[:] = False
    expected[10:, 6:] = True
    assert np.array_equal(seen_from(11, 7, shifted=True), expected)


def test_attention_is_softmax_of_products_and_biases() -> None:
    """One window, by the formula of the paper."""
    torch.manual_seed(0)
    layer, features = WindowAttention(6, heads=2, window=3), torch.rand(1, 3, 3, 6)
    nn.init.normal_(layer.relative_position_bias_table)
    with torch.inference_mode():
        query, key, value = layer.qkv(features.reshape(9, 6)).reshape(9, 3, 2, 3).permute(1, 2, 0, 3)
        bias = torch.empty(2, 9, 9)
        for here in range(9):
            for there in range(9):
                row, column = here // 3 - there // 3 + 2, here % 3 - there % 3 + 2
                bias[:, here, there] = layer.relative_position_bias_table[row * 5 + column]
        weights = torch.softmax(query @ key.transpose(1, 2) / 3**0.5 + bias, -1)
        expected = layer.proj((weights @ value).transpose(0, 1).reshape(9, 6)).reshape(1, 3, 3, 6)
        assert layer(features).numpy() == pytest.approx(expected.numpy(), abs=1e-6)


def test_published_constants_are_left_out() -> None:
    """Masks and indices that files hold are made here."""
    whole = shapes(empty(zoo.find("swinir/x2-tiny")))
    block = "layers.0.residual_group.blocks.1."
    published = whole | {
        f"{block}attn_mask": torch.Size((256, 16, 16)),
        f"{block}attn.relative_position_index": torch.Size((16, 16)),
    }
    found = zoo.recognise(published)
    assert found is not None
    assert found[0].name == "swinir/x2-tiny"
    assert set(found[1]) == set(whole)


def test_only_a_network_that_normalises_pixels_alone_may_be_cut() -> None:
    cuttable = {variant.name: variant.tileable for variant in realplksr.VARIANTS}
    assert all(tileable == name.endswith(("-ln", "-tiny")) for name, tileable in cuttable.items())
