"""What network an ncnn graph computes: RRDBNet, SRVGGNetCompact or SPAN, found by following the blobs.

Owns the proof: the network's own computation is repeated on the graph, layer by layer; each must be there with these
inputs and constants, and none may be left over. The names of layers and blobs mean nothing, nor does their order. Knows
no file.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NoReturn

import torch

from upscale_cli.errors import WeightsError

Option = float | tuple[float, ...]

SLOPE = 0.2  # of RRDBNet's leaky ReLU
RESIDUAL_SCALE = 0.2
WIDEST = 4096

# ncnn's numbers for what a layer does.
_LEAKY_RELU = 2
_ADD, _SUBTRACT, _MULTIPLY = {}, {0: 1.0}, {0: 2.0}
_NEAREST = 1
# What every convolution here says, zeros aside: its side, with bias; dilation and stride of 1 may be said.
_CONV = {5: 1.0}
_CONV_MAY_SAY = {2: 1.0, 3: 1.0, 12: 1.0, 13: 1.0}
_INT8 = 8


@dataclass(frozen=True, slots=True)
class Layer:
    """One line of a .param: what is computed of which blobs. `options` by ncnn's number, an array k by k as well."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: Mapping[int, Option]


@dataclass(frozen=True, slots=True)
class Traced:
    """A graph as a network: the shapes of its tensors under the published keys, in the order of the .bin."""

    shapes: dict[str, torch.Size]
    constants: dict[str, torch.Tensor]
    """Tensors of the network that the .bin does not hold, as the graph says what is in them."""
    notes: tuple[str, ...]


def trace(layers: Sequence[Layer]) -> Traced:
    """Follow the graph from its input. Raises WeightsError, with the place, where it is none of these networks."""
    walk = _Walk(layers)
    constants: dict[str, torch.Tensor] = {}
    if "Swish" in walk.kinds:
        output, constants = _span(walk)
    else:
        output = _srvgg(walk) if "PixelShuffle" in walk.kinds else _rrdb(walk)
    notes = walk.resized(output)
    walk.finish()
    return Traced(walk.shapes(), constants, notes)


def _rrdb(walk: "_Walk") -> str:
    first = features = walk.conv("conv_first", walk.source)
    for block in count():
        if not walk.is_activated(features):
            break
        start = features
        for dense in (1, 2, 3):
            seen = [features]
            for number in (1, 2, 3, 4):
                seen.append(walk.conv(f"body.{block}.rdb{dense}.conv{number}", walk.joined(seen), activated=True))
            features = walk.residual(walk.conv(f"body.{block}.rdb{dense}.conv5", walk.joined(seen)), features)
        features = walk.residual(features, start)
    features = walk.added(walk.conv("conv_body", features), first)
    for number in count(1):
        if walk.find("Interp", features) is None:
            break
        features = walk.conv(f"conv_up{number}", walk.enlarged(features, 2), activated=True)
    return walk.conv("conv_last", walk.conv("conv_hr", features, activated=True))


def _srvgg(walk: "_Walk") -> str:
    features = walk.source
    for number in count(0, 2):
        features = walk.conv(f"body.{number}", features)
        if walk.find("PReLU", features) is None:
            break
        features = walk.prelu(f"body.{number + 1}", features)
    output, factor = walk.shuffled(features)
    return walk.added(output, walk.enlarged(walk.source, factor))


def _span(walk: "_Walk") -> tuple[str, dict[str, torch.Tensor]]:
    """With its convolutions merged; the mean of colours that it takes off is one of its tensors."""
    image, constants = walk.source, {}
    if walk.find("MemoryData"):
        image = walk.combined(image, walk.colours("mean"), _SUBTRACT)
    else:
        constants["mean"] = torch.zeros(3, 1, 1)
    if walk.find("BinaryOp", image):
        image = walk.by_constant(image, _MULTIPLY, 255)
    else:
        constants["no_norm"] = torch.zeros(1)
    shallow = features = walk.conv("conv_1", image)
    outputs: list[tuple[str, str]] = []
    for block in count(1):
        conv = walk.find("Convolution", features)
        if conv is None or walk.find("Swish", *conv.outputs) is None:
            break
        first = walk.swish(walk.conv(f"block_{block}.c1_r", features))
        last = walk.conv(f"block_{block}.c3_r", walk.swish(walk.conv(f"block_{block}.c2_r", first)))
        sigmoid = walk.take("Sigmoid", last)
        attention = walk.by_constant(sigmoid.outputs[0], _SUBTRACT, 0.5)
        features = walk.combined(walk.combined(last, features, _ADD), attention, _MULTIPLY)
        outputs.append((features, first))
    if not outputs:
        walk.refuse("none of its convolutions ends in a Swish")
    (early, _), (_, inner) = outputs[0], outputs[-1]
    features = walk.conv("conv_cat", walk.joined((shallow, walk.conv("conv_2", features), early, inner)), side=1)
    return walk.shuffled(walk.conv("upsampler.0", features))[0], constants


class _Walk:
    """A graph by what its layers take in, so that a computation can be looked up in it step by step."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.kinds = Counter(layer.kind for layer in layers if layer.kind not in ("Input", "Split"))
        self._layers = layers
        self._keys: dict[str, str] = {}  # a layer's blob -> the published key of its tensors
        self._left: dict[tuple[str, ...], Layer] = {}  # by kind and inputs
        same: dict[str, str] = {}  # Split only gives a blob more names
        sources: list[str] = []
        for layer in layers:
            inputs = tuple(same.get(blob, blob) for blob in layer.inputs)
            if layer.kind == "Split" and len(inputs) == 1:
                same.update(dict.fromkeys(layer.outputs, inputs[0]))
            elif len(layer.outputs) != 1 or (layer.kind, *inputs) in self._left:
                self.refuse(f"{layer.kind} of {' and '.join(layer.inputs) or 'nothing'} has no place in them")
            elif layer.kind == "Input":
                sources += layer.outputs
            else:
                self._left[(layer.kind, *inputs)] = layer
        if len(sources) != 1:
            self.refuse(f"it has {len(sources)} inputs")
        self.source = sources[0]

    def find(self, kind: str, *inputs: str) -> Layer | None:
        """The layer that takes in exactly these blobs, unless it was taken."""
        return self._left.get((kind, *inputs))

    def take(self, kind: str, *inputs: str) -> Layer:
        """As `find`, once."""
        layer = self._left.pop((kind, *inputs), None)
        return layer or self.refuse(f"no {kind} follows on {' and '.join(inputs)}")

    def expect(self, layer: Layer, options: Mapping[int, Option]) -> None:
        """Refuse the layer unless it says just this; zero is the default of every option not named."""
        said = {key: value for key, value in layer.options.items() if value != 0}
        if said.keys() != options.keys() or not all(_equal(value, options[key]) for key, value in said.items()):
            self.refuse(f"{layer.kind} at {layer.outputs[0]} has other settings ({_words(layer.options)})")

    def is_activated(self, blob: str) -> bool:
        """Whether a convolution of this blob comes next and ends in an activation, within it or as a layer."""
        conv = self.find("Convolution", blob)
        return conv is not None and (bool(conv.options.get(9)) or self.find("ReLU", *conv.outputs) is not None)

    def conv(self, key: str, blob: str, *, side: int = 3, activated: bool = False) -> str:
        """Take the convolution of this blob, with leaky ReLU 0.2 where that belongs to it."""
        layer = self.take("Convolution", blob)
        if layer.options.get(_INT8):
            raise WeightsError("its weights are 8-bit integers: only float16 and float32 are read.")
        edge = float(side // 2)
        may_say = _CONV_MAY_SAY | {11: float(side), 14: edge, 15: edge, 16: edge}
        said = {key: value for key, value in layer.options.items() if value and may_say.get(key) != value}
        wanted = _CONV | {1: float(side)} | {key: said.get(key, 0.0) for key in (0, 6)} | ({4: edge} if edge else {})
        output = layer.outputs[0]
        if activated and 9 in said:
            wanted |= {9: float(_LEAKY_RELU), 10: (SLOPE,)}
        elif activated:
            relu = self.take("ReLU", output)
            self.expect(relu, {0: SLOPE})
            output = relu.outputs[0]
        self.expect(Layer(layer.kind, layer.inputs, layer.outputs, said), wanted)
        self._keys[layer.outputs[0]] = key
        return output

    def prelu(self, key: str, blob: str) -> str:
        layer = self.take("PReLU", blob)
        self._keys[layer.outputs[0]] = key
        return layer.outputs[0]

    def swish(self, blob: str) -> str:
        layer = self.take("Swish", blob)
        self.expect(layer, {})
        return layer.outputs[0]

    def colours(self, key: str) -> str:
        """Take the three numbers, one a colour, that the graph holds."""
        layer = self.take("MemoryData")
        self.expect(layer, {0: 1.0, 1: 1.0, 2: 3.0})
        self._keys[layer.outputs[0]] = key
        return layer.outputs[0]

    def by_constant(self, blob: str, operation: Mapping[int, Option], number: float) -> str:
        """A number added to the blob, taken off it or multiplied with it."""
        layer = self.take("BinaryOp", blob)
        self.expect(layer, {**operation, 1: 1.0, 2: number})
        return layer.outputs[0]

    def combined(self, one: str, other: str, operation: Mapping[int, Option]) -> str:
        """one + other or one x other, in either order, or one - other."""
        turned = operation != _SUBTRACT and self.find("BinaryOp", other, one) is not None
        layer = self.take("BinaryOp", *((other, one) if turned else (one, other)))
        self.expect(layer, operation)
        return layer.outputs[0]

    def shuffled(self, blob: str) -> tuple[str, Option]:
        """The pixel shuffle of this blob, and its factor."""
        layer = self.take("PixelShuffle", blob)
        factor = layer.options.get(0, 1)
        self.expect(layer, {0: factor})
        return layer.outputs[0], factor

    def joined(self, blobs: Sequence[str]) -> str:
        if len(blobs) == 1:
            return blobs[0]
        layer = self.take("Concat", *blobs)
        self.expect(layer, {})
        return layer.outputs[0]

    def added(self, one: str, other: str) -> str:
        """one + other, in either order, as BinaryOp or Eltwise."""
        for inputs in ((one, other), (other, one)):
            if self.find("Eltwise", *inputs):
                layer = self.take("Eltwise", *inputs)
                self.expect(layer, {0: 1.0, 1: (1.0, 1.0)} if 1 in layer.options else {0: 1.0})
                return layer.outputs[0]
        return self.combined(one, other, _ADD)

    def residual(self, branch: str, base: str) -> str:
        """0.2 x branch + base, in either order: one Eltwise with coefficients, or a product and a sum."""
        for inputs, factors in (((branch, base), (RESIDUAL_SCALE, 1.0)), ((base, branch), (1.0, RESIDUAL_SCALE))):
            if self.find("Eltwise", *inputs):
                layer = self.take("Eltwise", *inputs)
                self.expect(layer, {0: 1.0, 1: factors})
                return layer.outputs[0]
        return self.added(self.by_constant(branch, _MULTIPLY, RESIDUAL_SCALE), base)

    def enlarged(self, blob: str, factor: Option) -> str:
        """By nearest neighbour."""
        if factor == 1 and self.find("Interp", blob) is None:
            return blob
        layer = self.take("Interp", blob)
        self.expect(layer, {0: _NEAREST, 1: factor, 2: factor})
        return layer.outputs[0]

    def resized(self, blob: str) -> tuple[str, ...]:
        """A resize of the finished picture is not the network's: it is taken, and said."""
        if self.find("Interp", blob) is None:
            return ()
        factor = self.take("Interp", blob).options.get(1)
        return (f"the graph ends in a resize by {factor}, which is no part of the network: -s chooses the scale",)

    def finish(self) -> None:
        """Refuse what no part of the network accounts for."""
        for layer in self._left.values():
            self.refuse(f"{layer.kind} at {layer.outputs[0]} has no place in them")

    def shapes(self) -> dict[str, torch.Size]:
        """Of all tensors, in the order of the lines, as the .bin has them."""
        found: dict[str, torch.Size] = {}
        for layer in self._layers:
            key = self._keys.get(layer.outputs[0])
            if key is None:
                continue
            if layer.kind == "MemoryData":
                found[key] = torch.Size([3, 1, 1])
                continue
            outputs = self._size(layer.options.get(0), layer)
            if layer.kind == "PReLU":
                found[f"{key}.weight"] = torch.Size([outputs])
                continue
            weights, side = layer.options.get(6, 0.0), layer.options[1]  # as `conv` has seen
            assert isinstance(weights, float)
            assert isinstance(side, float)
            inputs = self._size(weights / (outputs * side**2), layer)
            found[f"{key}.weight"] = torch.Size([outputs, inputs, int(side), int(side)])
            found[f"{key}.bias"] = torch.Size([outputs])
        return found

    def _size(self, number: Option | None, layer: Layer) -> int:
        """A number of channels, from a text that may say anything."""
        if isinstance(number, float) and number.is_integer() and 1 <= number <= WIDEST:
            return int(number)
        self.refuse(f"{layer.kind} at {layer.outputs[0]} has no sound number of channels")

    def refuse(self, reason: str) -> NoReturn:
        layers = ", ".join(f"{number} {kind}" for kind, number in self.kinds.most_common(6))
        raise WeightsError(
            "its graph is not RRDBNet, SRVGGNetCompact or SPAN, the networks that are read from ncnn: "
            f"{reason}. Its layers: {layers}. Look for the model as safetensors or .pth."
        )


def _equal(said: Option, expected: Option) -> bool:
    """Constants are written with seven digits."""
    if isinstance(said, tuple) and isinstance(expected, tuple):
        return len(said) == len(expected) and all(map(_equal, said, expected))
    return (
        not isinstance(said, tuple) and not isinstance(expected, tuple) and math.isclose(said, expected, rel_tol=1e-6)
    )


def _words(options: Mapping[int, Option]) -> str:
    return " ".join(f"{key}={value}" for key, value in options.items())
