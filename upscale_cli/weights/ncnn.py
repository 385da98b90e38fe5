"""ncnn models: a text graph (.param) and the numbers of its layers (.bin), the form Upscayl and realesrgan-ncnn use.

Owns the two file formats. What network a graph is, `graph.py` says; ncnn itself is not needed. Refuses quantised
numbers, graphs larger than any network here, and files that do not end where the last layer does.
"""

import mmap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from upscale_cli.errors import WeightsError
from upscale_cli.weights.graph import Layer, Option, trace

GRAPH_LIMIT_BYTES = 4 * 2**20  # the largest network here has 120 KB
LIMIT_BYTES = 2 * 2**30
SHOWN = 5

_MAGIC = "7767517"
_ARRAY_KEY = -23300
_FLOAT16, _FLOAT32 = 0x01306B47, 0
_REFUSED_TAGS = {0x000D4B38: "8-bit integers", 0x0002C056: "float32 with a scale of its own"}


def read(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The state dict of an ncnn model under the published keys of its network, and notes on what was left out.

    `path` is the .param or the .bin; the other lies beside it. Raises WeightsError, naming the file and the cause.
    """
    param, weights = path.with_suffix(".param"), path.with_suffix(".bin")
    for file, holds in ((param, "network"), (weights, "weights")):
        if not file.is_file():
            raise WeightsError(f"{path} is half an ncnn model: {file.name}, its {holds}, must lie beside it.")
    layers = read_param(param)
    try:
        traced = trace(layers)
    except WeightsError as error:
        raise WeightsError(f"{param}: {error}") from error
    return {**traced.constants, **read_bin(weights, traced.shapes)}, traced.notes


def read_param(path: Path) -> tuple[Layer, ...]:
    """The layers of a .param in the order of its lines. Raises WeightsError unless every line means what it says."""
    if path.stat().st_size > GRAPH_LIMIT_BYTES:
        raise WeightsError(f"{path} has {path.stat().st_size:,} bytes, more than a graph of any network here.")
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    lines = [line.strip() for line in lines if line.strip()]
    if len(lines) < 2 or lines[0] != _MAGIC:
        raise WeightsError(f"{path} is no ncnn graph: its first line is not {_MAGIC}. Get the file again.")
    counts = lines[1].split()
    if len(counts) != 2 or counts[0] != str(len(lines) - 2):
        raise WeightsError(
            f"{path} is corrupt: it announces {counts[0][:20]} layers and has {len(lines) - 2:,}. Get the file again."
        )
    layers = []
    for number, line in enumerate(lines[2:], 3):
        try:
            layers.append(_layer(line))
        except (ValueError, IndexError) as error:
            raise WeightsError(f"{path} is corrupt: line {number} is no layer. Get the file again.") from error
    blobs = [blob for layer in layers for blob in layer.outputs]
    if counts[1] != str(len(blobs)) or len(blobs) != len(set(blobs)):
        raise WeightsError(f"{path} is corrupt: its blobs are not those it announces. Get the file again.")
    return tuple(layers)


def _layer(line: str) -> Layer:
    """type, name, n, m, n inputs, m outputs, then key=value. ValueError or IndexError for anything else."""
    kind, _, inputs, outputs, *words = line.split()
    first, last = int(inputs), int(inputs) + int(outputs)
    if not 0 <= first <= last <= len(words):
        raise ValueError(line)
    options: dict[int, Option] = {}
    for word in words[last:]:
        text, _, value = word.partition("=")
        key = int(text)
        if key > _ARRAY_KEY:
            options[key] = float(value)
            continue
        length, *items = value.split(",")
        if int(length) != len(items):
            raise ValueError(line)
        options[_ARRAY_KEY - key] = tuple(float(item) for item in items)
    return Layer(kind, tuple(words[:first]), tuple(words[first:last]), options)


def read_bin(path: Path, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The tensors of a .bin, which are `shapes` in the order of execution: the network's own, or a graph's.

    Weights of convolutions (four dimensions) come as stored, float16 or float32; all else is float32. Raises
    WeightsError unless the file ends with the last tensor and every number is finite.
    """
    size = path.stat().st_size
    if not 0 < size <= LIMIT_BYTES:
        raise WeightsError(f"{path} has {size:,} bytes, which no network here has. Get the file again.")
    state: dict[str, Tensor] = {}
    at = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as body:
        for key, shape in shapes.items():
            dtype = "<f4"
            if len(shape) == 4:
                dtype = _dtype(body[at : at + 4], path, key)
                at += 4
            end = at + shape.numel() * np.dtype(dtype).itemsize
            if end > size:
                raise WeightsError(f"{path} is cut off, or of another network: it ends within {key}.")
            numbers = np.frombuffer(body[at:end], dtype).astype(dtype[1:])  # a copy, in this machine's byte order
            state[key] = torch.from_numpy(numbers).reshape(shape)
            at = -(-end // 4) * 4
    if at != size:
        raise WeightsError(f"{path} is of another network: {size - at:,} bytes follow after its last layer.")
    broken = [key for key, value in state.items() if not value.isfinite().all()]
    if broken:
        raise WeightsError(f"{path} has NaN or infinite values in {', '.join(broken[:SHOWN])}. Get the file again.")
    return state


def _dtype(tag: bytes, path: Path, key: str) -> str:
    """How the next numbers are stored."""
    number = int.from_bytes(tag, "little")
    if number == _FLOAT16:
        return "<f2"
    if number == _FLOAT32 and len(tag) == 4:
        return "<f4"
    if len(tag) < 4:
        raise WeightsError(f"{path} is cut off, or of another network: it ends before {key}.")
    stored = _REFUSED_TAGS.get(number, f"a table of 256 values (tag {number:#010x}), or the file is of another network")
    raise WeightsError(f"{path} holds {key} as {stored}: only float16 and float32 are read. Get the unquantised model.")
