"""`upscale models quantize` and int8: rounded where it says, to what it says, and no more lost than it says."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from upscale_cli import quantize as quantizing
from upscale_cli.cli.models import app
from upscale_cli.engines import open_engine
from upscale_cli.engines.graph import Graph, library, open_graph
from upscale_cli.engines.quantize import (
    Group,
    Layer,
    Ranges,
    find_ranges,
    grid,
    layers_of,
    observe,
    own_path,
    planes,
    quantized,
    saturates,
)
from upscale_cli.errors import OutputError, UsageError, WeightsError
from upscale_cli.evaluate import make_pair, read_rgb8
from upscale_cli.manifest import Bundled, load_manifest
from upscale_cli.metrics.fidelity import psnr
from upscale_cli.metrics.protocol import luma
from upscale_cli.networks import Combination
from upscale_cli.quantize import QuantizeRequest, _Trials, quantize
from upscale_cli.weights.source import BUNDLED

SHIPPED = sorted(path.name.removesuffix(".int8.json") for path in BUNDLED.glob("*.int8.json"))


@pytest.fixture(scope="module")
def lightweight() -> Graph:
    return open_graph(Combination.of("lightweight-x2"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PICTURES", 2), ("SIDE_PX", 32), ("_SECONDS", 0.0)):
        monkeypatch.setattr(quantizing, name, value)


def read(graph: Graph) -> Any:
    return library().Core().read_model(graph.xml)


def run(model: Any, lr: np.ndarray, precision: str = "f32") -> np.ndarray:
    return library().Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})(lr)[0]


def rounders(model: Any) -> list[Any]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() == "FakeQuantize"]


def made_model(weights: np.ndarray) -> Any:
    """16 channels, ReLU, one convolution, and the way past it."""
    import openvino.opset13 as ops

    values = ops.parameter([1, 16, 6, 5], np.float32)
    entering = ops.relu(values)
    conv = ops.convolution(entering, ops.constant(weights), [1, 1], [1, 1], [1, 1], [1, 1])
    return library().Model([ops.result(ops.add(conv, entering))], [values])


def ranges_of(model: Any, low: float, high: float) -> Ranges:
    layers = tuple(replace(layer, low=low, high=high) for layer in layers_of(model))
    return Ranges(identity="made:0", layers=layers, loss_db=0.0, pictures=1)


def test_a_made_convolution_is_rounded_to_the_levels_it_should(lightweight: Graph) -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((16, 16, 3, 3)).astype(np.float32)
    weights[3] *= 100  # of no consequence for the others: every output channel has its own step
    weights[5] = 0
    model = made_model(weights)
    rounded = quantized(model, ranges_of(model, 0, 2.55))
    assert not rounders(model), "the model given is left as it is"
    entering, of_weights = sorted(rounders(rounded), key=lambda node: -node.get_attributes()["levels"])
    assert [entering.get_attributes()["levels"], of_weights.get_attributes()["levels"]] == [256, 255]
    ends = [entering.input_value(place).get_node().get_data().item() for place in range(1, 5)]
    np.testing.assert_allclose(ends, [0, 2.55, 0, 2.55], rtol=1e-6)
    most = of_weights.input_value(2).get_node().get_data()
    assert most.shape == (16, 1, 1, 1)
    reach = np.float32(127 / 63 if saturates() else 1)  # 7 bits where 16 cannot hold a sum of two products
    np.testing.assert_array_equal(np.delete(most.ravel(), 5), np.delete(np.abs(weights).max((1, 2, 3)) * reach, 5))

    values = rng.uniform(-1, 3, (1, 16, 6, 5)).astype(np.float32)
    step = most / 127
    known = made_model((np.rint(weights / step) * step).astype(np.float32))
    positive = values.clip(0)
    levels = np.rint(positive.clip(0, 2.55) / 0.01).astype(np.float32) * np.float32(0.01)
    expected = run(known, levels) - levels + positive  # what goes past the convolution is not rounded
    np.testing.assert_allclose(run(rounded, values), expected, atol=2e-3 * np.abs(expected).max())


@given(st.floats(-1e3, 0), st.floats(1e-6, 1e3))
def test_zero_is_a_level_and_nothing_of_the_range_is_lost(low: float, high: float) -> None:
    first, last = grid(low, high)
    step = (last - first) / 255
    assert first <= low + step / 2
    assert last >= high - step / 2
    assert first / step == pytest.approx(0 if low == 0 else -128)


def test_lightweight_runs_in_integers_and_loses_no_more_than_it_says(lightweight: Graph, spices: np.ndarray) -> None:
    ranges = find_ranges(lightweight.identity, "lightweight-x2")
    assert ranges is not None
    pair = make_pair("spices", np.ascontiguousarray(spices[100:292, 200:392]), 2)
    model = read(lightweight)
    model.reshape([1, 3, *pair.lr.shape[:2]])
    before, after = (
        np.rint(run(each, planes(pair.lr))[0].transpose(1, 2, 0).clip(0, 1) * 255).astype(np.uint8)
        for each in (model, quantized(model, ranges))
    )
    assert psnr(luma(before), luma(pair.hr)) - psnr(luma(after), luma(pair.hr)) < 0.1
    assert 45 < psnr(after, before) < 70

    compiled = library().Core().compile_model(quantized(model, ranges), "CPU", {"PERF_COUNT": True})
    request = compiled.create_infer_request()
    request.infer({0: planes(pair.lr)})
    kernels = [node.exec_type for node in request.profiling_info if node.node_type == "Convolution"]
    assert len(kernels) == 6
    assert sum(kernel.upper().endswith(("I8", "U8")) for kernel in kernels) == 5


def dense_model() -> Any:
    """Two convolutions on the picture and on what the first made, joined; one on that at twice the size, and another
    behind a pixel shuffle.
    """
    import openvino.opset13 as ops

    rng = np.random.default_rng(0)

    def conv(values: Any, out: int) -> Any:
        weights = rng.standard_normal((out, values.get_output_shape(0)[1], 3, 3)).astype(np.float32)
        return ops.convolution(values, ops.constant(weights), [1, 1], [1, 1], [1, 1], [1, 1])

    lr = ops.parameter([1, 3, 8, 8], np.float32)
    first = conv(lr, 16)
    both = ops.concat([first, conv(first, 8)], 1)
    wide = conv(both, 16)
    large = ops.interpolate(
        wide, np.array([2, 2], np.float32), "nearest", "scales", axes=np.array([2, 3]), nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )  # fmt: skip
    larger = ops.depth_to_space(conv(large, 64), "depth_first", 2)
    return library().Model([ops.result(conv(larger, 3))], [lr])


def test_what_is_joined_repeated_or_shuffled_is_rounded_before() -> None:
    model = dense_model()
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    groups = observe(model, [picture])
    # The first sees the three channels of a picture: integers would be no faster.
    assert [group.members for group in groups] == [(1, 2), (3,), (4,)]
    low, high = groups[0].whole
    rounded = quantized(model, ranges_of(model, low, high))
    of_values = [node for node in rounders(rounded) if node.get_attributes()["levels"] == 256]
    # The picture; what the first two convolutions made, each once for both that read it; what is repeated, shuffled.
    assert sorted(node.input_value(0).get_node().get_type_name() for node in of_values) == ["Convolution"] * 4 + [
        "Parameter"
    ]
    assert sorted(node.input_value(0).get_shape()[2] for node in of_values) == [8, 8, 8, 8, 16]
    assert rounded.output(0).get_shape() == model.output(0).get_shape()


def uneven_model() -> Any:
    """A convolution that makes channels of which some reach 10,000 times as far as others, one on these, and one on
    both joined; to the picture all channels matter alike.
    """
    import openvino.opset13 as ops

    rng = np.random.default_rng(0)
    gains = np.logspace(-2, 2, 16, dtype=np.float32).reshape(1, -1, 1, 1)

    def conv(values: Any, out: int, given: np.ndarray) -> Any:
        weights = rng.standard_normal((out, given.shape[1], 3, 3)) / given
        return ops.convolution(values, ops.constant(weights.astype(np.float32)), [1, 1], [1, 1], [1, 1], [1, 1])

    lr = ops.parameter([1, 3, 24, 24], np.float32)
    first = ops.relu(ops.multiply(conv(lr, 16, np.ones((1, 3, 1, 1))), ops.constant(gains)))
    both = ops.concat([first, conv(first, 8, gains)], 1)
    return library().Model(
        [ops.result(conv(both, 3, np.concatenate((gains, np.ones((1, 8, 1, 1))), 1)))], [lr], "uneven"
    )


def test_a_channel_that_reaches_far_does_not_coarsen_the_others(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = uneven_model()
    picture = np.ascontiguousarray(read_rgb8(photos[0])[100:124, 100:124])
    exact = run(model, planes(picture))
    layers = layers_of(model)

    def error(group: Group, file: Path) -> float:
        low, high = group.whole
        own = [
            replace(layers[place], low=low, high=high, scales=scales)
            for place, scales in zip(group.members, group.scales, strict=True)
        ]
        ranges = Ranges(identity="made:0", layers=(layers[0], *own), loss_db=0, pictures=1)
        ranges.write(file)
        assert Ranges.read(file) == ranges
        return float(np.abs(run(quantized(model, ranges), planes(picture)) - exact).max() / np.abs(exact).max())

    (alike,) = observe(model, [picture])
    assert alike.members == (1, 2)
    assert [len(scales) for scales in alike.scales] == [16, 24]
    assert alike.scales[1][:16] == alike.scales[0], "a tensor is rounded once for all that read it"
    assert alike.scales[0][15] / alike.scales[0][0] == pytest.approx(1e4, rel=0.9)
    monkeypatch.setattr("upscale_cli.engines.quantize._alike", lambda reached, *_: np.ones_like(reached))
    (as_it_is,) = observe(model, [picture])
    assert as_it_is.scales == ((), ())
    assert error(alike, tmp_path / "alike.json") < 0.02
    assert error(as_it_is, tmp_path / "as-it-is.json") > 0.2
    assert "scales" not in (tmp_path / "as-it-is.json").read_text()


def test_ranges_of_other_weights_are_refused(
    lightweight: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_ranges("mine:0", "mine") is None
    with pytest.raises(WeightsError, match=r"belongs to other weights .*upscale models quantize lightweight-x2 --data"):
        find_ranges("lightweight-x2:0", "lightweight-x2")
    other = find_ranges(open_graph(Combination.of("lightweight-x4")).identity, "lightweight-x4")
    assert other is not None
    with pytest.raises(WeightsError, match="another network than lightweight-x4:"):
        quantized(read(lightweight), other)

    monkeypatch.setenv("UPSCALE_MODELS", str(tmp_path))
    for text in ("", "[]", '{"layers": [{}]}', '{"identity": "mine:0", "layers": [], "more": 1}'):
        own_path("mine:0").parent.mkdir(exist_ok=True)
        own_path("mine:0").write_text(text)
        with pytest.raises(WeightsError, match="holds no int8 ranges"):
            find_ranges("mine:0", "mine")
    layers = (Layer("a", (1, 2, 3, 3), -1.0, 2.0), Layer("b", (3, 1, 3, 3)))
    mine = Ranges(identity="mine:0", layers=layers, loss_db=0.01, pictures=3)
    mine.write(own_path("mine:0"))
    assert find_ranges("mine:0", "mine") == mine
    with pytest.raises(OutputError, match="cannot be written"):
        mine.write(own_path("mine:0") / "in-a-file.json")


@pytest.mark.parametrize("name", SHIPPED)
def test_the_ranges_that_ship_are_of_the_weights_that_ship(name: str) -> None:
    entry = load_manifest().find(name)
    ranges = find_ranges(f"{name}:{entry.sha256}", name)
    assert ranges is not None
    assert ranges.loss_db <= quantizing.MAX_LOSS_DB
    bearable = 13 if entry.model == "span" else len(ranges.layers) - 3
    assert sum(layer.low is not None for layer in ranges.layers) >= bearable
    numbers = sum(len(layer.scales) for layer in ranges.layers)
    assert (BUNDLED / f"{name}.int8.json").stat().st_size < 140 * len(ranges.layers) + 8 * numbers


def test_every_network_that_ships_and_enlarges_has_ranges() -> None:
    enlarging = [entry for entry in load_manifest().entries if isinstance(entry.source, Bundled) and entry.scale > 1]
    bundled = {entry.name for entry in enlarging}
    assert bundled
    assert bundled <= set(SHIPPED)


@pytest.mark.usefixtures("quick")
def test_it_measures_on_photographs_and_keeps_what_it_found(
    lightweight: Graph, photos: list[Path], tmp_path: Path
) -> None:
    request = QuantizeRequest(model="lightweight-x2", data=photos[0].parent, output=tmp_path / "ranges.json")
    report = quantize(request)
    assert (report.model, report.scale, report.file) == ("lightweight-x2", 2, request.output)
    ranges = Ranges.read(tmp_path / "ranges.json")
    assert (ranges.identity, ranges.layers, ranges.loss_db) == (lightweight.identity, report.layers, report.loss_db)
    assert (ranges.pictures, report.pictures) == (2, 2)
    assert [layer.name for layer in report.layers] == ["head", *(f"body.{place}" for place in range(4)), "tail"]
    assert {layer.name for layer in report.layers if layer.low is None} == {"head"}
    assert all(-1 < layer.low < 0 < layer.high < 2 for layer in report.layers if layer.low and layer.high)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("bearable", [1, 2, 3, 4, 5])
def test_the_least_is_left_out_and_what_costs_most(
    bearable: int, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = {2: 5.0, 5: 4.0, 1: 3.0, 4: 2.0, 3: 1.0}  # of the third convolution, the last, ...
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(
        _Trials, "error", lambda _, chosen: costs[next(iter(chosen)).members[0]] * next(iter(chosen)).multiplications
    )
    monkeypatch.setattr(_Trials, "loss", lambda _, chosen: 0.1 * len(chosen))
    request = QuantizeRequest(model="lightweight-x2", data=photos[0].parent, output=tmp_path / "ranges.json")
    bearing = replace(request, max_loss=0.1 * bearable + 0.01)
    report = quantize(bearing, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 5) for done in range(6) if bearable < 5], "each alone, unless all together are borne"
    left_out = {place for place, layer in enumerate(report.layers) if layer.low is None}
    assert left_out == {0, *list(costs)[: 5 - bearable]}
    assert report.loss_db == pytest.approx(0.1 * bearable)
    with pytest.raises(UsageError, match=r"lightweight-x2 loses more than 0\.05 dB whatever is rounded"):
        quantize(replace(request, max_loss=0.05))


@pytest.mark.usefixtures("quick")
def test_ranges_of_ones_own_come_first(lightweight: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSCALE_MODELS", str(tmp_path))
    shipped = find_ranges(lightweight.identity, "lightweight-x2")
    assert shipped is not None
    mine = replace(shipped, loss_db=0.0123)
    mine.write(own_path(lightweight.identity))
    done = CliRunner().invoke(app, ["quantize", "lightweight", "-s", "2"])
    assert done.exit_code == 0, done.output
    assert "head    " in done.output
    assert "lightweight-x2: 5 of 6 convolutions in int8, 0.012 dB lost to fp32 on 16 photographs" in done.output
    done = CliRunner().invoke(app, ["quantize", "lightweight", "-s", "2", "--json"])
    assert json.loads(done.output)["file"] is None


@pytest.mark.usefixtures("quick")
def test_without_photographs_nothing_is_guessed(tmp_path: Path, photos: list[Path]) -> None:
    with pytest.raises(UsageError, match="holds no photograph of 64 x 64 pixels"):
        quantize(QuantizeRequest(model="lightweight-x2", data=tmp_path))
    weights = tmp_path / "mine.safetensors"
    weights.write_bytes((BUNDLED / "lightweight-x2.safetensors").read_bytes())
    with pytest.raises(UsageError, match=r"mine has no int8 ranges yet\. Give --data"):
        quantize(QuantizeRequest(model=str(weights)))


def test_the_engine_runs_it(spices: np.ndarray) -> None:
    tiles = spices[None, 100:164, 200:264]
    made = {each: open_engine("lightweight-x2", device="cpu", precision=each).infer(tiles) for each in ("fp32", "int8")}
    assert 45 < psnr(made["int8"], made["fp32"], peak=1.0) < 65
    engine = open_engine("lightweight-x2", device="cpu", precision="int8")
    assert (engine.backend, engine.precision) == ("openvino", "int8")
    assert engine.coarse, "pictures of 16 bits are computed in another"


def test_without_ranges_int8_says_how_to_get_them(tmp_path: Path) -> None:
    weights = tmp_path / "mine.safetensors"
    weights.write_bytes((BUNDLED / "lightweight-x2.safetensors").read_bytes())
    with pytest.raises(UsageError, match=r"mine has no int8 ranges yet\. .*upscale models quantize NAME --data FOLDER"):
        open_engine(weights, device="cpu", precision="int8")
    with pytest.raises(UsageError, match="int8 runs on CPUs by OpenVINO"):
        open_engine("lightweight-x2", device="cpu", precision="int8", backend="torch")
    with pytest.raises(UsageError, match="bicubic-x2 is a formula"):
        open_engine("bicubic-x2", device="cpu", precision="int8")
