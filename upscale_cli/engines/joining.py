"""A convolution of features that were joined step by step, as a sum of two.

Each layer of a dense block joins what the last one made to all from before, and copies it all again: in Real-ESRGAN a
twelfth of the time. A convolution is linear: that of the first join, which every layer of the block can share, and that
of what came since make the same when added, which the library does while it computes the second. Owns finding such
joins, and which weights belong to which half.
"""

from typing import Any

import numpy as np

from upscale_cli.engines.graph import holds, operations


def part_joined(model: Any) -> None:
    """Part every such convolution of the `openvino.Model`, in place."""
    opset = operations()
    for conv in model.get_ordered_ops():
        if not _sees_around(conv):
            continue
        first, since = _unfolded(conv.input_value(0))
        if not since:
            continue
        kernel, said = conv.input_value(1).get_node().data, conv.get_attributes()
        border = first.get_partial_shape()[1].get_length()
        halves = (first, kernel[:, :border]), (_joined(opset, since), kernel[:, border:])
        how = said["strides"], said["pads_begin"], said["pads_end"], said["dilations"]
        one, other = (opset.convolution(part, opset.constant(np.ascontiguousarray(own)), *how) for part, own in halves)
        total = opset.add(one, other)
        for port in conv.output(0).get_target_inputs():
            port.replace_source_output(total.output(0))


def _sees_around(node: Any) -> bool:
    """A convolution with known weights, of more than single pixels: one of 1 x 1 takes no longer than copying does."""
    return node.get_type_name() == "Convolution" and holds(node) and max(list(node.input(1).get_shape())[2:]) > 1


def _unfolded(features: Any) -> tuple[Any, list[Any]]:
    """The first join, or what is none, and what was joined to it since, in order."""
    node, since = features.get_node(), []
    while _joins(node) and _joins(node.input_value(0).get_node()):
        since = [node.input_value(index) for index in range(1, node.get_input_size())] + since
        features = node.input_value(0)
        node = features.get_node()
    return features, since


def _joins(node: Any) -> bool:
    """Whether it puts channels, whose number is known, behind each other."""
    return (
        node.get_type_name() == "Concat"
        and node.get_attributes()["axis"] == 1
        and node.output(0).get_partial_shape()[1].is_static
    )


def _joined(opset: Any, parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else opset.concat(parts, 1)
