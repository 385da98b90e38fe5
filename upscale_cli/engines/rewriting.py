"""All that is changed in a graph before it is compiled for tiles of one size, and what it then holds in memory.

The picture stays: each change is an identity, in fewer products, copies or bytes.
"""

import math
from pathlib import Path
from typing import Any

from upscale_cli.engines.bands import BY_PIXEL, end_by_bands, enlarged
from upscale_cli.engines.graph import library
from upscale_cli.engines.joining import part_joined
from upscale_cli.engines.tail import shorten_tail
from upscale_cli.engines.upsampling import fold_upsampling

_SIDE_PX = 64
_LARGE_PX = 512  # where rims are nothing


def rewrite(model: Any, shape: tuple[int, int, int], value_bytes: int, *, rounded: bool = False) -> None:
    """For N tiles of H x W pixels, in place, with features of `value_bytes` each (of 0, no bands are cut); `rounded` is
    one with int8 ranges, whose convolutions stay as they were when these were found.
    """
    count, height, width = shape
    if not rounded:
        fold_upsampling(model)
        part_joined(model)
    shorten_tail(model, min(height, width))
    model.reshape([count, 3, height, width])
    end_by_bands(model, value_bytes)


def operations(xml: Path) -> float:
    """Multiplications and additions of convolutions and matrix products, for a pixel."""
    model = library().Core().read_model(xml)
    rewrite(model, (1, _LARGE_PX, _LARGE_PX), 0)
    products = 0
    for node in model.get_ordered_ops():
        kind, made = node.get_type_name(), math.prod(node.output(0).get_shape())
        if kind == "Convolution":
            products += made * math.prod(node.input_value(1).get_shape()[1:])
        elif kind == "GroupConvolution":
            products += made * math.prod(node.input_value(1).get_shape()[2:])
        elif kind == "ConvolutionBackpropData":
            products += math.prod(node.input_value(0).get_shape()) * math.prod(node.input_value(1).get_shape()[1:])
        elif kind == "MatMul":
            given, said = node.input_value(0).get_shape(), node.get_attributes()
            products += made * given[-2 if said["transpose_a"] else -1]
    return 2 * products / _LARGE_PX**2


def live_values(xml: Path) -> tuple[float, float]:
    """Values alive at once at the worst moment, for a pixel; and of the largest features of what is computed by bands,
    which are not counted in the first.
    """
    model = library().Core().read_model(xml)
    rewrite(model, (1, _SIDE_PX, _SIDE_PX), 0)
    end = enlarged(model)
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() not in ("Constant", "Result")]
    sizes = {node.get_name(): math.prod(node.output(0).get_shape()) for node in nodes}
    last = {value.get_node().get_name(): place for place, node in enumerate(nodes) for value in node.input_values()}
    alive: dict[str, int] = {}
    most = 0
    for place, node in enumerate(nodes):
        own = 0 if node.get_name() in end else sizes[node.get_name()]
        read = {value.get_node().get_name() for value in node.input_values()} & alive.keys()
        done = {name for name in read if last[name] == place}
        in_place = node.get_type_name() in BY_PIXEL and any(alive[name] == own for name in done)
        most = max(most, sum(alive.values()) + own * (not in_place))
        for name in done:
            del alive[name]
        alive[node.get_name()] = own
    return most / _SIDE_PX**2, max((sizes[name] for name in end), default=0) / _SIDE_PX**2
