"""The enlarged end of a network band by band: what is large is then never in memory for a whole tile.

Real-ESRGAN x4 makes 64 features for each of sixteen pixels of one, three times over, from 64 at low resolution; from
there on a row sees few others. So what comes behind the last features at low resolution is computed for some rows of
them at a time, and some around, which are done twice. Owns finding that end in a graph, how far its rows see, and how
many are computed at a time.
"""

import importlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from upscale_cli.engines.graph import library, operations

BAND_BYTES = 64 << 20
"""Of the largest enlarged features of a band."""
LEAST_ROWS = 8
BY_PIXEL = frozenset(
    ("Add", "Subtract", "Multiply", "Divide", "Relu", "PRelu", "Clamp", "Sigmoid", "Tanh", "Convert", "FakeQuantize")
)
"""Operations on each value by itself."""


@dataclass(frozen=True, slots=True)
class _End:
    """All that is computed above low resolution."""

    raw: Any
    """What it makes."""
    nodes: tuple[Any, ...]
    """In the order of the graph."""
    sources: tuple[Any, ...]
    """What it reads, at low resolution."""
    rows: int
    """Of the sources."""


def end_by_bands(model: Any, value_bytes: int) -> None:
    """Compute it so, in place, in an `openvino.Model` of fixed shape whose features have `value_bytes` each."""
    end = _end(model)
    if end is None or not value_bytes:
        return
    opset, factor = operations(), end.raw.get_shape()[2] // end.rows
    most = max(map(_size, end.nodes)) * value_bytes / end.rows
    height = max(LEAST_ROWS, int(BAND_BYTES / most))
    if height >= end.rows:
        return
    height = math.ceil(end.rows / math.ceil(end.rows / height))
    parts = [(top, min(top + height, end.rows)) for top in range(0, end.rows, height)]
    seen = [_seen(end, top * factor, bottom * factor) for top, bottom in parts]
    behind = list(end.raw.get_target_inputs())
    alone = _taken_out(end)
    made = []
    for (top, bottom), (first, stop) in zip(parts, seen, strict=True):
        sources = [_rows(source, first, stop) for source in end.sources]
        made.append(_rows(_copy(alone, sources, top), (top - first) * factor, (bottom - first) * factor))
    whole = opset.concat(made, 2).output(0)
    for port in behind:
        port.replace_source_output(whole)


def enlarged(model: Any) -> frozenset[str]:
    """The names of the nodes of such an end; none where a network has none that can be cut."""
    end = _end(model)
    return frozenset(node.get_name() for node in end.nodes) if end else frozenset()


def _end(model: Any) -> _End | None:
    """None where there is none, or one of whose rows it is not known what they see."""
    passes = importlib.import_module(f"{library().__name__}.passes")
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(model)
    raw = model.output(0).get_node().input_value(0).get_node().input_value(0)  # before it is clamped
    while raw.get_node().get_type_name() in ("Slice", "StridedSlice") and _keeps_size(raw.get_node()):
        raw = raw.get_node().input_value(0)
    pictures = [node for node in model.get_ordered_ops() if _is_picture(node)]
    rows = min((_rows_of(node) for node in pictures if _rows_of(node) > 1), default=0)
    names, behind = set[str](), [raw.get_node()]
    while behind:
        node = behind.pop()
        if _is_picture(node) and _rows_of(node) > rows and node.get_name() not in names:
            names.add(node.get_name())
            behind += [value.get_node() for value in node.input_values()]
    for node in reversed(pictures):
        if node.get_name() not in names:
            names |= _making_more(node, names)
    nodes = tuple(node for node in pictures if node.get_name() in names)
    if not nodes or nodes[-1].get_name() != raw.get_node().get_name() or not all(map(_is_known, nodes)):
        return None
    if max(map(_size, nodes)) <= max((_size(node) for node in pictures if node.get_name() not in names), default=0):
        return None
    read = [value for node in nodes for value in node.input_values() if value.get_node().get_name() not in names]
    sources = {(value.get_node().get_name(), value.get_index()): value for value in read if not _is_constant(value)}
    if any(len(value.get_shape()) != 4 or value.get_shape()[2] != rows for value in sources.values()):
        return None
    return _End(raw, nodes, tuple(sources.values()), rows)


def _is_picture(node: Any) -> bool:
    """Whether it makes N x C x H x W."""
    made = node.output(0)
    return node.get_type_name() not in ("Parameter", "Result") and len(made.get_shape()) == 4 and not _is_constant(made)


def _rows_of(node: Any) -> int:
    return node.output(0).get_shape()[2]


def _making_more(node: Any, names: set[str]) -> set[str]:
    """The names of a convolution that makes more than it reads, and what is done to each value; for these alone."""
    chain: set[str] = set()
    while _readers(node) <= names | chain and node.get_type_name() in BY_PIXEL:
        chain.add(node.get_name())
        node = node.input_value(0).get_node()
    more = node.get_type_name() == "Convolution" and _size(node) > _size(node.input_value(0).get_node())
    return {*chain, node.get_name()} if more and _readers(node) <= names | chain else set()


def _readers(node: Any) -> set[str]:
    return {port.get_node().get_name() for port in node.output(0).get_target_inputs()}


def _size(node: Any) -> int:
    return math.prod(node.output(0).get_shape())


def _keeps_size(node: Any) -> bool:
    return node.input_value(0).get_shape() == node.output(0).get_shape()


def _is_constant(value: Any) -> bool:
    """Weights, as they are or rounded."""
    node = value.get_node()
    kind = node.get_type_name()
    return kind == "Constant" or (kind in ("FakeQuantize", "Convert") and _is_constant(node.input_value(0)))


def _is_known(node: Any) -> bool:
    """Whether `_read` says what it reads."""
    kind, said = node.get_type_name(), node.get_attributes()
    if kind in BY_PIXEL:
        constants = [value.get_shape() for value in node.input_values() if _is_constant(value)]
        return all(len(shape) < 4 or shape[2] == 1 for shape in constants)
    if kind == "Concat":
        return said["axis"] == 1
    factor = _rows_of(node) / node.input_value(0).get_shape()[2]
    if kind == "Convolution":
        return factor == 1 and (said["strides"], said["dilations"]) == ([1, 1], [1, 1])
    if kind == "ConvolutionBackpropData":
        return factor == said["strides"][0] and said["dilations"] == [1, 1] and node.get_input_size() == 2
    if kind == "Interpolate":
        whole = all(each == int(each) for each in _factors(node))
        said = (said["mode"], said["shape_calculation_mode"], said["nearest_mode"])
        return whole and said == ("nearest", "scales", "floor")
    return kind == "DepthToSpace"


def _factors(node: Any) -> list[float]:
    return node.input_value(1).get_node().data.tolist() if _is_constant(node.input_value(1)) else [0.5]


def _read(node: Any, first: int, stop: int) -> tuple[int, int]:
    """The rows of its input, some of them beyond the border, that these of its output are made of."""
    kind, said = node.get_type_name(), node.get_attributes()
    if kind in ("Convolution", "ConvolutionBackpropData"):
        size, before = node.input_value(1).get_shape()[2], said["pads_begin"][0]
        if kind == "Convolution":
            return first - before, stop - before + size - 1
        step = said["strides"][0]
        return -((size - 1 - before - first) // step), (stop - 1 + before) // step + 1
    if kind in BY_PIXEL or kind == "Concat":
        return first, stop
    factor = _rows_of(node) // node.input_value(0).get_shape()[2]
    return first // factor, -(-stop // factor)


def _seen(end: _End, first: int, stop: int) -> tuple[int, int]:
    """The rows of the sources that these of the picture are made of."""
    read = {end.raw.get_node().get_name(): (first, stop)}
    seen = (end.rows, 0)
    for node in reversed(end.nodes):
        rows = node.output(0).get_shape()[2]
        first, stop = read[node.get_name()]
        first, stop = _read(node, max(first, 0), min(stop, rows))
        for value in node.input_values():
            name = value.get_node().get_name()
            if not _is_constant(value):
                before = read.get(name, (first, stop))
                read[name] = min(first, before[0]), max(stop, before[1])
    for source in end.sources:
        first, stop = read[source.get_node().get_name()]
        seen = min(seen[0], max(first, 0)), max(seen[1], min(stop, end.rows))
    return seen


def _rows(picture: Any, first: int, stop: int) -> Any:
    ends = (operations().constant(np.array([end], np.int32)) for end in (first, stop, 1, 2))
    return operations().slice(picture, *ends).output(0)


def _taken_out(end: _End) -> Any:
    """The end as an `openvino.Model` of any number of rows; the graph it was in lacks it."""
    names, given = {node.get_name() for node in end.nodes}, []
    for source in end.sources:
        batch, channels, _rows, width = source.get_shape()
        shape = library().PartialShape([batch, channels, -1, width])
        given.append(operations().parameter(shape, source.get_element_type()))
        for port in source.get_target_inputs():
            if port.get_node().get_name() in names:
                port.replace_source_output(given[-1].output(0))
    return library().Model([operations().result(end.raw)], given)


def _copy(alone: Any, sources: list[Any], place: int) -> Any:
    """What the end makes of these rows of its sources."""
    copy = alone.clone()
    copy.reshape({port: list(source.get_shape()) for port, source in zip(copy.inputs, sources, strict=True)})
    for node in copy.get_ops():
        node.set_friendly_name(f"{node.get_friendly_name()}/{place}")
    for parameter, source in zip(copy.get_parameters(), sources, strict=True):
        for port in parameter.output(0).get_target_inputs():
            port.replace_source_output(source)
    return copy.get_results()[0].input_value(0)
