"""What enlarges in a graph, in fewer steps.

A pixel shuffle (Shi et al. 2016, arXiv:1609.05158) is traced as three operations and the numbers they take; it is one.
An activation behind it acts on the same values before, as part of the convolution that makes them.
Nearest-neighbour upsampling by 2 and the 3 x 3 convolution behind it are one transposed convolution: each pixel of a
picture so enlarged sees four different ones through nine weights. Summed beforehand, these are 4 products for 9, and
the enlarged picture is never written. Odena et al., Deconvolution and Checkerboard Artifacts, Distill 2016, tell how
the two are one. Owns finding both in a graph, and the sums.
"""

from typing import Any

import numpy as np

from upscale_cli.engines.graph import holds, operations

# Row k of a transposed kernel of 4 (stride 2, padding 1) is the sum of these rows of the kernel of 3.
_SUMS = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], np.float32)
_SHUFFLE = [0, 1, 4, 2, 5, 3]  # of N x C x s x s x H x W, which are then put together


def merge_shuffles(model: Any) -> None:
    """Have each be one operation of the `openvino.Model`, in place."""
    opset = operations()
    for put in model.get_ordered_ops():
        nodes = [put]
        while nodes[-1].get_input_size() and len(nodes) < 3:
            nodes.append(nodes[-1].input_value(0).get_node())
        if [node.get_type_name() for node in nodes] != ["Reshape", "Transpose", "Reshape"]:
            continue
        _, turned, parted = nodes
        order, factors = turned.input_value(1).get_node(), list(parted.output(0).get_partial_shape())[2:4]
        if order.get_type_name() != "Constant" or order.data.tolist() != _SHUFFLE:
            continue
        if not all(factor.is_static for factor in factors) or factors[0] != factors[1]:
            continue
        one = opset.depth_to_space(parted.input_value(0), "depth_first", factors[0].get_length())
        one.set_friendly_name(put.get_friendly_name())
        for port in put.output(0).get_target_inputs():
            port.replace_source_output(one.output(0))


def activate_first(model: Any) -> None:
    """Have a ReLU, or one with known slopes, act before the pixel shuffle it is behind, in place."""
    opset = operations()
    for shuffle in model.get_ordered_ops():
        behind = [port.get_node() for port in shuffle.output(0).get_target_inputs()]
        if shuffle.get_type_name() != "DepthToSpace" or len(behind) != 1:
            continue
        (active,), source = behind, shuffle.input_value(0)
        said = shuffle.get_attributes()
        if active.get_type_name() == "Relu":
            acted = opset.relu(source)
        elif active.get_type_name() == "PRelu" and said["mode"] == "depth_first" and holds(active):
            slope = active.input_value(1).get_node().data.reshape(-1)
            every = slope if slope.size == 1 else np.repeat(slope, said["block_size"] ** 2)
            acted = opset.prelu(source, opset.constant(every))
        else:
            continue
        acted.set_friendly_name(active.get_friendly_name())
        shuffle.input(0).replace_source_output(acted.output(0))
        for port in active.output(0).get_target_inputs():
            port.replace_source_output(shuffle.output(0))


def fold_upsampling(model: Any) -> None:
    """Put them together wherever the `openvino.Model` has both, in place."""
    opset = operations()
    for upsampling in model.get_ordered_ops():
        if not _doubles(upsampling):
            continue
        behind = [port.get_node() for port in upsampling.output(0).get_target_inputs()]
        for conv in behind:
            if not _is_plain(conv):
                continue
            kernel = conv.input_value(1).get_node().data
            weights = np.einsum("ka,lb,oiab->iokl", _SUMS, _SUMS, kernel, optimize=True)
            one = opset.convolution_backprop_data(
                upsampling.input_value(0), opset.constant(weights), [2, 2], None, [1, 1], [1, 1], [1, 1]
            )
            one.set_friendly_name(conv.get_friendly_name())
            for port in conv.output(0).get_target_inputs():
                port.replace_source_output(one.output(0))


def _doubles(node: Any) -> bool:
    """Whether it repeats every row and column once."""
    if node.get_type_name() != "Interpolate":
        return False
    said = node.get_attributes()
    scales, axes = (node.input_value(index).get_node() for index in (1, 2))
    return (
        (said["mode"], said["shape_calculation_mode"], said["nearest_mode"]) == ("nearest", "scales", "floor")
        and said["coordinate_transformation_mode"] == "asymmetric"
        and all(each.get_type_name() == "Constant" for each in (scales, axes))
        and scales.data.tolist() == [2, 2]
        and axes.data.tolist() == [2, 3]
    )


def _is_plain(node: Any) -> bool:
    """A convolution of 3 x 3 with known weights that keeps the size."""
    if node.get_type_name() != "Convolution" or not holds(node):
        return False
    said = node.get_attributes()
    return (
        list(node.input(1).get_shape())[2:] == [3, 3]
        and (said["strides"], said["dilations"]) == ([1, 1], [1, 1])
        and (said["pads_begin"], said["pads_end"]) == ([1, 1], [1, 1])
    )
