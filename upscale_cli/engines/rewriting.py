"""All that is changed in a graph before it is compiled for tiles of one size, and what it then holds in memory.

The picture stays: each change is an identity, in fewer products, copies or bytes.
"""

import math
from pathlib import Path
from typing import Any

from upscale_cli.engines.graph import library
from upscale_cli.engines.joining import part_joined
from upscale_cli.engines.strips import BY_PIXEL, end_by_strips, enlarged
from upscale_cli.engines.tail import shorten_tail
from upscale_cli.engines.upsampling import fold_upsampling

_SIDE_PX = 64


def rewrite(model: Any, shape: tuple[int, int, int], value_bytes: int, *, rounded: bool = False) -> None:
    """For N tiles of H x W pixels, in place, with features of `value_bytes` each; `rounded` is one with int8 ranges,
    whose convolutions stay as they were when these were found.
    """
    count, height, width = shape
    if not rounded:
        fold_upsampling(model)
        part_joined(model)
    shorten_tail(model, min(height, width))
    model.reshape([count, 3, height, width])
    end_by_strips(model, value_bytes)


def live_values(xml: Path) -> tuple[float, float]:
    """Values alive at once at the worst moment, for a pixel; and of the largest features of what is computed by strips,
    which are not counted in the first.
    """
    model = library().Core().read_model(xml)
    rewrite(model, (1, _SIDE_PX, _SIDE_PX), 1)
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
