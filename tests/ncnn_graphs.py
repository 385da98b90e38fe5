"""ncnn models: those that Python packages carry, and small networks written as the converters write them."""

import struct
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor

from upscale_cli import zoo

TAG16, TAG32 = struct.pack("<I", 0x01306B47), bytes(4)


def carried(package: str) -> Path:
    """The models that a Python package carries; it is found, not imported, for it wants Vulkan."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed: its weights cannot be compared")
    return Path(spec.submodule_search_locations[0]) / "models"


def compact_graph() -> list[str]:
    """srvgg/x2-tiny."""
    conv = {"first": "0=8 1=3 4=1 5=1 6=216", "inner": "0=8 1=3 4=1 5=1 6=576", "last": "0=12 1=3 4=1 5=1 6=864"}
    return [
        "Input in 0 1 data",
        "Split s 1 2 data data_0 data_1",
        f"Convolution c0 1 1 data_1 a {conv['first']}",
        "PReLU p1 1 1 a b 0=8",
        f"Convolution c2 1 1 b c {conv['inner']}",
        "PReLU p3 1 1 c d 0=8",
        f"Convolution c4 1 1 d e {conv['last']}",
        "PixelShuffle ps 1 1 e f 0=2",
        "Interp up 1 1 data_0 g 0=1 1=2.000000e+00 2=2.000000e+00",
        "BinaryOp add 2 1 f g output",
    ]


def rrdb_graph(*, fused: bool) -> list[str]:
    """rrdb/x4-tiny; with activations inside convolutions and sums with coefficients, or each a layer of its own."""
    lines = ["Input in 0 1 data"]

    def conv(name: str, source: str, inputs: int, outputs: int, *, activated: bool = False) -> str:
        inside = " 9=2 -23310=1,2.000000e-01" if activated and fused else ""
        numbers = f"0={outputs} 1=3 11=3 2=1 12=1 3=1 13=1 4=1 14=1 15=1 16=1 5=1 6={inputs * outputs * 9}{inside}"
        lines.append(f"Convolution conv_{name} 1 1 {source} {name} {numbers}")
        if not activated or fused:
            return name
        lines.append(f"ReLU relu_{name} 1 1 {name} {name}_r 0=2.000000e-01")
        return f"{name}_r"

    def residual(name: str, branch: str, base: str) -> str:
        if fused:
            lines.append(f"Eltwise add_{name} 2 1 {base} {branch} {name} 0=1 -23301=2,1.000000e+00,2.000000e-01")
        else:
            lines.append(f"BinaryOp mul_{name} 1 1 {branch} {name}_m 0=2 1=1 2=2.000000e-01")
            lines.append(f"BinaryOp add_{name} 2 1 {name}_m {base} {name} 0=0")
        return name

    first = features = conv("first", "data", 3, 8)
    for block in (1, 2):
        before = features
        for dense in (f"{block}1", f"{block}2", f"{block}3"):
            seen = [features]
            for number in (1, 2, 3, 4, 5):
                joined = seen[0]
                if len(seen) > 1:
                    joined = f"cat{dense}{number}"
                    lines.append(f"Concat {joined} {len(seen)} 1 {' '.join(seen)} {joined}")
                last = number == 5
                outputs = 8 if last else 4
                seen.append(conv(f"d{dense}c{number}", joined, 8 + 4 * (number - 1), outputs, activated=not last))
            features = residual(f"dense{dense}", seen[-1], features)
        features = residual(f"block{block}", features, before)
    features = conv("body", features, 8, 8)
    lines.append(f"BinaryOp trunk 2 1 {first} {features} sum")
    features = "sum"
    for number in (1, 2):
        lines.append(f"Interp up{number} 1 1 {features} up{number} 0=1 1=2.0 2=2.0")
        features = conv(f"conv_up{number}", f"up{number}", 8, 8, activated=True)
    conv("last", conv("hr", features, 8, 8, activated=True), 8, 3)
    return lines


def span_graph(*, mean: bool, norm: bool) -> list[str]:
    """SPAN x2 of two blocks of 8 channels, with a mean or without, counting to 255 or to 1."""
    lines, image = ["Input in 0 1 data"], "data"

    def layer(text: str) -> str:
        name = f"b{len(lines)}"
        kind, inputs, options = [*text.split("|"), ""][:3]
        lines.append(f"{kind} {name} {len(inputs.split())} 1 {inputs} {name} {options}")
        return name

    def conv(source: str, inputs: int, outputs: int, side: int = 3) -> str:
        edge = " 4=1" if side == 3 else ""
        return layer(f"Convolution|{source}|0={outputs} 1={side}{edge} 5=1 6={inputs * outputs * side**2}")

    if mean:
        colours = layer("MemoryData||0=1 1=1 2=3")
        image = layer(f"BinaryOp|{image} {colours}|0=1")
    if norm:
        image = layer(f"BinaryOp|{image}|0=2 1=1 2=2.550000e+02")
    shallow = features = conv(image, 3, 8)
    outputs, first = [], ""
    for _ in range(2):
        first = layer(f"Swish|{conv(features, 8, 8)}")
        last = conv(layer(f"Swish|{conv(first, 8, 8)}"), 8, 8)
        weight = layer(f"BinaryOp|{layer(f'Sigmoid|{last}')}|0=1 1=1 2=5.000000e-01")
        added = layer(f"BinaryOp|{features} {last}|0=0")
        features = layer(f"BinaryOp|{weight} {added}|0=2")
        outputs.append(features)
    joined = layer(f"Concat|{shallow} {conv(features, 8, 8)} {outputs[0]} {first}")
    layer(f"PixelShuffle|{conv(conv(joined, 32, 8, 1), 8, 12)}|0=2")
    return lines


def write_param(path: Path, lines: list[str]) -> Path:
    blobs = sum(int(line.split()[3]) for line in lines)
    path.write_text("\n".join(["7767517", f"{len(lines)} {blobs}", *lines]) + "\n")
    return path


def write_bin(path: Path, state: Mapping[str, Tensor], *, half: bool = False) -> Path:
    body = b""
    for value in state.values():
        tagged = value.dim() == 4
        body += (TAG16 if half else TAG32) if tagged else b""
        numbers = value.numpy().astype("<f2" if half and tagged else "<f4").tobytes()
        body += numbers + bytes(-len(numbers) % 4)
    path.write_bytes(body)
    return path


def model(folder: Path, lines: list[str], variant: str, *, half: bool = False) -> tuple[Path, Mapping[str, Tensor]]:
    torch.manual_seed(1)
    state = zoo.find(variant).build().state_dict()
    write_bin(folder / "net.bin", state, half=half)
    return write_param(folder / "net.param", lines), state
