"""The end of a network in fewer products: its last convolution before the pixels are shuffled, or all as one.

Without an activation the end is one convolution (see `kernels`), but at the rim. Where there is one the last
convolution alone moves before the shuffle, which then puts pixels in their places and not features. Owns finding such
ends in a graph, and the rim.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from upscale_cli.engines.graph import holds, operations
from upscale_cli.kernels import RIM_PX, Layer, Values, lifted, product


@dataclass(frozen=True, slots=True)
class _Layer(Layer):
    """One of the graph."""

    conv: Any
    biased: Any
    """It, or what adds its bias."""


def shorten_tail(model: Any, least_side: int) -> None:
    """Do either, if the `openvino.Model` has such an end, in place; its tiles have sides of `least_side` or more."""
    if least_side >= RIM_PX:
        _fold(model)
    move_last(model)


def move_last(model: Any) -> None:
    """Put its last convolution before the shuffle, if that takes no more products."""
    layer = _last(model)
    if layer is None or not (shuffled := _unshuffled(layer.conv.input_value(0))):
        return
    source, factor = shuffled
    kernel = lifted(layer.kernel[:, None, None], factor)
    kernel = kernel.reshape(-1, *kernel.shape[3:]).astype(np.float32)
    if _products(kernel) > _products(layer.kernel) * factor**2:
        return
    whole = _convolved(source, kernel, np.repeat(layer.bias, factor**2), factor, name=layer.conv.get_friendly_name())
    for port in layer.biased.output(0).get_target_inputs():
        port.replace_source_output(whole.output(0))


def _products(kernel: Values) -> int:
    """For a pixel; kernels compute sixteen channels at a time."""
    return kernel[0].size * -(-kernel.shape[0] // 16) * 16


def _fold(model: Any) -> None:
    """All of a linear end."""
    layers = _layers(model)
    if not layers:
        return
    features, scale = layers[0].conv.input_value(0), math.prod(layer.factor for layer in layers)
    every, between = slice(None), slice(scale, -scale)
    inner = _cut(_convolved(features, *product(layers), scale), between, between)
    rim = []
    for near, kept in ((slice(RIM_PX), slice(scale)), (slice(-RIM_PX, None), slice(-scale, None))):
        across, down = (_as_they_are(_cut(features, *sides), layers) for sides in ((near, every), (every, near)))
        rim += [_cut(across, kept, every), _cut(down, between, kept)]
    top, left, bottom, right = rim
    opset = operations()
    whole = opset.concat([top, opset.concat([left, inner, right], 3), bottom], 2)
    for port in layers[-1].biased.output(0).get_target_inputs():
        port.replace_source_output(whole.output(0))


def linear_end(model: Any) -> list[Any]:
    """The convolutions that are put together where all of the end is linear."""
    return [layer.conv for layer in _layers(model)]


def _layers(model: Any) -> list[_Layer]:
    """The longest linear end, from the features on; empty where there is none with a shuffle in it."""
    last = _last(model)
    layers = [last] if last else []
    while layers and (shuffled := _unshuffled(layers[0].conv.input_value(0))) and (layer := _layer(*shuffled)):
        layers.insert(0, layer)
    return layers if len(layers) > 1 else []


def _last(model: Any) -> _Layer | None:
    """The last convolution that sees more than single pixels."""
    found = (_layer(node, 1) for node in reversed(model.get_ordered_ops()))
    return next((layer for layer in found if layer and layer.kernel.shape[-1] > 1), None)


def _layer(node: Any, factor: int) -> _Layer | None:
    """The convolution with known weights whose bias is added by, or which is, `node`, if it keeps the size."""
    biased, bias = node, None
    if node.get_type_name() == "Add" and holds(node):
        bias, node = node.input_value(1).get_node().data, node.input_value(0).get_node()
    if node.get_type_name() != "Convolution" or not holds(node):
        return None
    kernel, said = node.input_value(1).get_node().data, node.get_attributes()
    around = [kernel.shape[-1] // 2] * 2
    if (
        bias is None
        or bias.size != kernel.shape[0]
        or kernel.shape[2] != kernel.shape[3]
        or kernel.shape[3] % 2 == 0
        or (said["strides"], said["dilations"]) != ([1, 1], [1, 1])
        or (said["pads_begin"], said["pads_end"]) != (around, around)
        or len(node.output(0).get_target_inputs()) > 1
    ):
        return None
    return _Layer(kernel, bias.reshape(-1), factor, node, biased)


def _unshuffled(features: Any) -> tuple[Any, int] | None:
    """What a pixel shuffle was made of, and its factor; None for what is none, or read by others too."""
    node = features.get_node()
    if node.get_type_name() != "DepthToSpace" or not _alone(node) or not _alone(node.input_value(0).get_node()):
        return None
    said = node.get_attributes()
    return (node.input_value(0).get_node(), said["block_size"]) if said["mode"] == "depth_first" else None


def _alone(node: Any) -> bool:
    """Whether its values have one reader; that of their shape is none."""
    readers = [port.get_node().get_type_name() for port in node.output(0).get_target_inputs()]
    return len([reader for reader in readers if reader != "ShapeOf"]) == 1


def _as_they_are(features: Any, layers: list[_Layer]) -> Any:
    for layer in layers:
        features = _convolved(features, layer.kernel, layer.bias, layer.factor)
    return features


def _convolved(features: Any, kernel: Values, bias: Values, factor: int, *, name: str = "") -> Any:
    opset, around = operations(), [kernel.shape[-1] // 2] * 2
    weights = opset.constant(np.ascontiguousarray(kernel))
    made = opset.convolution(features, weights, [1, 1], around, around, [1, 1])
    if name:
        made.set_friendly_name(name)
    made = opset.add(made, opset.constant(bias.reshape(1, -1, 1, 1)))
    return made if factor == 1 else opset.depth_to_space(made, "depth_first", factor)


def _cut(picture: Any, rows: slice, columns: slice) -> Any:
    """Of N x C x H x W."""
    opset = operations()
    for axis, wanted in ((2, rows), (3, columns)):
        if wanted != slice(None):
            stop = np.iinfo(np.int32).max if wanted.stop is None else wanted.stop
            ends = ([wanted.start or 0], [stop], [1], [axis])
            picture = opset.slice(picture, *(opset.constant(np.array(end, np.int32)) for end in ends))
    return picture
