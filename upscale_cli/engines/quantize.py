"""A graph whose convolutions run in 8-bit integers, and the file of ranges that this takes.

Owns where a graph is rounded, what values were seen there, and where ranges are kept. Weights are rounded a channel,
what enters a convolution as a whole, its channels made alike before; all else stays as it is, the ways past
convolutions too, so the picture that shines through is never rounded. Measures no picture: which convolutions bear it,
`upscale_cli.quantize` finds out.
"""

import functools
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from upscale_cli.engines.graph import library, operations
from upscale_cli.engines.tail import linear_end
from upscale_cli.errors import OutputError, WeightsError
from upscale_cli.manifest import models_path
from upscale_cli.weights import source

Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]
_Places = npt.NDArray[np.intp]

_STEPS = 255  # of 8 bits
_WEIGHT_LEVELS = 255  # -127 to 127, so that zero is one of them and both signs are alike
_NARROWEST = 16  # input channels: with fewer, as where the picture enters, integers are no faster
_SAMPLES = 1 << 12  # values of each tensor of each picture that are looked at for outliers
_CLIPS = np.linspace(0.3, 1, 8)
_LEAST = 1e-3  # of the largest channel: the least that one is taken to reach


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution, and the range of what enters it: low <= 0 <= high, or no range where it is not to be rounded."""

    name: str
    """For people."""
    shape: tuple[int, ...]
    """Of its weights."""
    low: float | None = None
    high: float | None = None
    scales: tuple[float, ...] = ()
    """What each channel of its input is divided by before it is rounded, and the weights that meet it multiplied by;
    nothing where channels are rounded as they are.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Every convolution of one network in the order of its graph, and what rounding them was seen to cost."""

    identity: str
    """Of the weights; see `Graph`."""
    layers: tuple[Layer, ...]
    loss_db: float
    """PSNR-Y against HR that is lost to fp32, the mean of the pictures measured on."""
    pictures: int

    def write(self, path: Path) -> None:
        """As JSON. OutputError if that cannot be."""
        layers = ",\n".join(f"    {json.dumps(_said(layer))}" for layer in self.layers)
        facts = f'"identity": {json.dumps(self.identity)}, "loss_db": {self.loss_db}, "pictures": {self.pictures}'
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f'{{{facts}, "layers": [\n{layers}\n]}}\n', encoding="utf-8")
        except OSError as error:
            raise OutputError(
                f"{path} cannot be written: {error.strerror}. Free some space, or choose another -o."
            ) from error

    @classmethod
    def read(cls, path: Path) -> "Ranges":
        """WeightsError for a file that holds none."""
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            layers = tuple(_layer(**layer) for layer in known.pop("layers"))
            return cls(**known, layers=layers)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise WeightsError(
                f"{path} holds no int8 ranges ({error}). Make them anew with `upscale models quantize`."
            ) from error


def _said(layer: Layer) -> dict[str, object]:
    known = asdict(layer)
    return known if layer.scales else {key: value for key, value in known.items() if key != "scales"}


def _layer(shape: Sequence[int], scales: Sequence[float] = (), **known: Any) -> Layer:
    return Layer(shape=tuple(shape), scales=tuple(scales), **known)


@dataclass(frozen=True, slots=True)
class Group:
    """Convolutions that read the same tensors, which are rounded once for all of them."""

    members: tuple[int, ...]
    """Positions among all convolutions."""
    scales: tuple[tuple[float, ...], ...]
    """Of each member; see `Layer`. The ranges are those of what they divide."""
    whole: tuple[float, float]
    """The range that was seen."""
    clipped: tuple[float, float]
    """The one within it that rounds with the least mean square error."""
    multiplications: int
    """For the pictures seen."""


def own_path(identity: str) -> Path:
    """Where the user's own ranges of these weights are kept."""
    return models_path() / "int8" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"


def find_ranges(identity: str, name: str) -> Ranges | None:
    """The user's own, else those that ship for the row `name`; None where there are none.

    WeightsError for a damaged file, and for ranges that are of other weights.
    """
    for path in (own_path(identity), source.BUNDLED / f"{name}.int8.json"):
        if path.is_file():
            ranges = Ranges.read(path)
            if ranges.identity != identity:
                raise WeightsError(
                    f"{path} belongs to other weights ({ranges.identity}, not {identity}). "
                    f"Run `upscale models quantize {name} --data FOLDER` with a folder of photographs."
                )
            return ranges
    return None


def convolutions(model: Any) -> list[Any]:
    """The nodes of `model` that can be rounded: convolutions with weights in the graph, in its order.

    Those of a linear end cannot: the one convolution that they are together costs little, and draws the picture.
    """
    tail = {node.get_friendly_name() for node in linear_end(model)}
    return [
        node
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Convolution" and _weights(node) is not None and node.get_friendly_name() not in tail
    ]


def layers_of(model: Any) -> tuple[Layer, ...]:
    """One for each of its convolutions, without ranges."""
    found = []
    for place, node in enumerate(convolutions(model)):
        # `__module.network.body.0/aten::_convolution/Convolution`; what the library fused is numbered anew each time.
        traced = node.get_friendly_name().partition("/aten::")
        name = traced[0].removeprefix("__module.").removeprefix("network").lstrip(".") if traced[1] else ""
        found.append(Layer(name or f"convolution {place}", tuple(node.input_value(1).get_shape())))
    return tuple(found)


def quantized(model: Any, ranges: Ranges) -> Any:
    """A copy of `model`, of any shape and layout, with the convolutions that have a range rounded to 8 bits.

    Any precision then computes what integers do, and OpenVINO compiles it to kernels of integers where the processor
    has them. WeightsError where the ranges are of another network.
    """
    model = model.clone()
    nodes = convolutions(model)
    if [layer.shape for layer in layers_of(model)] != [layer.shape for layer in ranges.layers]:
        raise WeightsError(
            f"The int8 ranges are those of another network than {ranges.identity}. Make them anew with "
            "`upscale models quantize`."
        )
    rounding = _Rounding()
    for node, layer in zip(nodes, ranges.layers, strict=True):
        if layer.low is not None and layer.high is not None:
            weights = _weights(node)
            assert weights is not None
            if layer.scales:
                weights = weights * np.asarray(layer.scales, np.float32).reshape(1, -1, 1, 1)
            values = rounding.of_values(node.input_value(0), *grid(layer.low, layer.high), layer.scales)
            node.input(0).replace_source_output(values)
            node.input(1).replace_source_output(rounding.of_weights(weights))
    return model


def grid(low: float, high: float) -> tuple[float, float]:
    """A range as wide or wider, of which zero, that pads pictures, is one of the 256 levels.

    Zero is the middle one where there are negative values: kernels have no other for signed integers, and where it lies
    elsewhere leave the matrix units of a processor idle (realesr-animevideo: 1.6 x the speed of bf16, and 0.7 x).
    """
    if low >= 0:
        return 0.0, high
    step = max(-low / 128, high / 127)
    return -128 * step, 127 * step


def observe(model: Any, pictures: Sequence[Pixels]) -> tuple[Group, ...]:
    """What enters the convolutions that are worth rounding, for H x W x 3 pictures of one size, in fp32.

    `model` takes N x 3 x H x W in [0, 1].
    """
    model = model.clone()
    height, width = pictures[0].shape[:2]
    model.reshape([1, 3, height, width])
    nodes = convolutions(model)
    groups = _groups(nodes)
    watched = [tensor for group in groups for tensor in group.tensors]
    extended = library().Model([operations().result(tensor) for tensor in watched], model.get_parameters())
    run = library().Core().compile_model(extended, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    seen = {tensor: _Seen([], []) for tensor in watched}
    for picture in pictures:
        for tensor, values in zip(watched, run(planes(picture)).values(), strict=True):
            seen[tensor].note(values.reshape(values.shape[1], -1))
    return tuple(_group(group, nodes, [seen[tensor] for tensor in group.tensors]) for group in groups)


def planes(picture: Pixels) -> Values:
    """H x W x 3 of 8 bits to 1 x 3 x H x W in [0, 1]."""
    return np.divide(picture.transpose(2, 0, 1)[None], np.float32(255), dtype=np.float32)


@functools.cache
def saturates() -> bool:
    """Whether this processor adds two products in 16 bits, as x86 without VNNI does, where 2 x 255 x 127 has no room.

    Weights of 7 bits have. Tried on one convolution: what a processor can do is told in other words by every system.
    """
    core, ops = library().Core(), operations()
    if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):  # such have VNNI
        return False
    shape = (1, _NARROWEST, 4, 4)
    most = np.float32(127)
    weights = ops.constant(np.full((_NARROWEST, _NARROWEST, 1, 1), most))
    entering = ops.parameter(shape, np.float32)
    rounded = _fake(entering, np.float32(0), np.float32(255), _STEPS + 1), _fake(weights, -most, most, _WEIGHT_LEVELS)
    conv = ops.convolution(*rounded, [1, 1], [0, 0], [0, 0], [1, 1])
    run = core.compile_model(library().Model([ops.result(conv)], [entering]), "CPU")
    return bool(run(np.full(shape, 255, np.float32))[0].max() < 0.9 * 255 * 127 * _NARROWEST)


class _Rounding:
    """FakeQuantize in front of convolutions: each tensor is rounded once, however many read it."""

    def __init__(self) -> None:
        self._done: dict[tuple[Any, float, float, tuple[float, ...]], Any] = {}

    def of_weights(self, weights: Values) -> Any:
        """-127 to 127, or -63 to 63, times a step of each output channel."""
        most = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
        most[most == 0] = 1  # a channel of nothing but zeros
        if saturates():
            most *= np.float32(127 / 63)
        return _fake(operations().constant(weights), -most, most, _WEIGHT_LEVELS)

    def of_values(self, tensor: Any, low: float, high: float, scales: tuple[float, ...]) -> Any:
        """`scales` has one number for each channel of `tensor`, or none."""
        key = (tensor, low, high, scales)
        if key not in self._done:
            self._done[key] = self._made(*key)
        return self._done[key]

    def _made(self, tensor: Any, low: float, high: float, scales: tuple[float, ...]) -> Any:
        parts = _parts(tensor)
        if not parts:
            if scales:
                inverse = operations().constant(1 / np.asarray(scales, np.float32).reshape(1, -1, 1, 1))
                tensor = operations().multiply(tensor, inverse).output(0)
            return _fake(tensor, np.float32(low), np.float32(high), _STEPS + 1)
        # Before values are put together or repeated there are fewer of them, and the rest moves a byte each.
        node = tensor.get_node()
        rest = iter(scales)
        own = [tuple(islice(rest, _channels(part))) for part in parts] if scales else [()] * len(parts)
        rounded = [self.of_values(part, low, high, part_scales) for part, part_scales in zip(parts, own, strict=True)]
        if node.get_type_name() == "Concat":
            return operations().concat(rounded, **node.get_attributes()).output(0)
        if node.get_type_name() == "DepthToSpace":
            return operations().depth_to_space(*rounded, **node.get_attributes()).output(0)
        where, *axes = node.input_values()[1:]
        return (
            operations().interpolate(*rounded, where, axes=axes[0] if axes else None, **node.get_attributes()).output(0)
        )


def _fake(values: Any, low: Values | np.float32, high: Values | np.float32, levels: int) -> Any:
    ends = (operations().constant(np.asarray(low, np.float32)), operations().constant(np.asarray(high, np.float32)))
    return operations().fake_quantize(values, *ends, *ends, levels).output(0)


@dataclass(slots=True)
class _Readers:
    """Convolutions, and the tensors they read between them."""

    members: tuple[int, ...]
    tensors: tuple[Any, ...]


def _groups(nodes: Sequence[Any]) -> list[_Readers]:
    groups: list[_Readers] = []
    for place, node in enumerate(nodes):
        if node.input_value(1).get_shape()[1] < _NARROWEST:
            continue
        tensors = tuple(_sources(node.input_value(0)))
        shared = [group for group in groups if set(group.tensors) & set(tensors)]
        members = (*(member for group in shared for member in group.members), place)
        tensors = tuple(dict.fromkeys((*(tensor for group in shared for tensor in group.tensors), *tensors)))
        groups = [*(group for group in groups if group not in shared), _Readers(members, tensors)]
    return groups


@dataclass(frozen=True, slots=True)
class _Seen:
    """Of one tensor: some values of each picture, channels x N, and the ends of every channel, channels x 2."""

    few: list[Values]
    ends: list[Values]

    def note(self, values: Values) -> None:
        step = values.size // _SAMPLES | 1  # odd, or only some columns are seen
        self.few.append(values[:, ::step].copy())
        self.ends.append(np.stack((values.min(1), values.max(1)), 1))

    def reached(self) -> Values:
        """The largest number of either sign, a channel."""
        return np.abs(self.ends).max((0, 2))


def _group(readers: _Readers, nodes: Sequence[Any], seen: Sequence[_Seen]) -> Group:
    first = dict(zip(readers.tensors, accumulate(map(_channels, readers.tensors), initial=0), strict=False))
    places = [_places(nodes[member].input_value(0), first) for member in readers.members]
    scales = _alike(np.concatenate([each.reached() for each in seen]), [nodes[m] for m in readers.members], places)
    parts = np.split(scales[:, None], list(first.values())[1:])
    ends = np.concatenate([np.concatenate(each.ends, 1) / part for each, part in zip(seen, parts, strict=True)])
    values = np.concatenate([(few / part).ravel() for each, part in zip(seen, parts, strict=True) for few in each.few])
    low, high = _rounded(min(ends.min(), 0)), _rounded(max(ends.max(), 1e-6))
    values = np.append(values, (low, high)).astype(np.float32)
    tried = [(_rounded(low * below), _rounded(high * above)) for above in _CLIPS for below in (_CLIPS if low else (1,))]
    best = min(tried, key=lambda ends: _rounding_error(values, *ends))
    own = tuple(() if (scales == 1).all() else tuple(scales[place].tolist()) for place in places)
    multiplications = 0
    for node in (nodes[place] for place in readers.members):
        channels, *size = list(node.get_output_shape(0))[1:]
        # Kernels compute sixteen output channels at a time.
        multiplications += math.prod(node.input_value(1).get_shape()[1:]) * max(channels, 16) * math.prod(size)
    return Group(readers.members, own, (low, high), best, multiplications)


def _places(tensor: Any, first: Mapping[Any, int]) -> _Places:
    """Which channel each of `tensor` is, counted through all sources; -1 where a pixel shuffle makes one of several."""
    parts = _parts(tensor)
    if not parts:
        return first[tensor] + np.arange(_channels(tensor))
    if tensor.get_node().get_type_name() == "DepthToSpace":
        return np.full(_channels(tensor), -1)
    return np.concatenate([_places(part, first) for part in parts])


def _alike(reached: Values, nodes: Sequence[Any], places: Sequence[_Places]) -> npt.NDArray[np.float64]:
    """Scales that leave every channel and the weights it meets the same way to go, each half of what they differ.

    Else the channel that reaches farthest says how finely all are rounded. Xiao et al., SmoothQuant, arXiv:2211.10438,
    with a strength of one half. All 1 where a pixel shuffle is on the way.
    """
    if any((place < 0).any() for place in places):
        return np.ones(len(reached))
    met = np.zeros_like(reached)
    for node, place in zip(nodes, places, strict=True):
        weights = _weights(node)
        assert weights is not None
        np.maximum.at(met, place, np.abs(weights).max((0, 2, 3)))
    reached, met = (np.maximum(each, _LEAST * max(each.max(), 1e-6)) for each in (reached, met))
    scales = np.sqrt(reached / met)
    scales /= np.exp(np.log(scales).mean())
    return np.array([float(f"{scale:.3g}") for scale in scales])


def _channels(tensor: Any) -> int:
    return tensor.get_partial_shape()[1].get_length()


def _rounded(value: float) -> float:
    """To what a file of ranges need say."""
    return float(f"{value:.5g}")


def _rounding_error(values: Values, low: float, high: float) -> float:
    low, high = grid(low, high)
    step = (high - low) / _STEPS
    return float(np.square(np.clip(np.rint(values / step) * step, low, high) - values).mean())


def _sources(tensor: Any) -> Iterator[Any]:
    parts = _parts(tensor)
    for part in parts:
        yield from _sources(part)
    if not parts:
        yield tensor


def _parts(tensor: Any) -> list[Any]:
    """The tensors whose values this one holds and no other, moved, as by a pixel shuffle or a nearest neighbour."""
    node = tensor.get_node()
    kind = node.get_type_name()
    if kind in ("Concat", "DepthToSpace"):
        return node.input_values()
    if kind == "Interpolate" and node.get_attributes()["mode"] == "nearest":
        return node.input_values()[:1]
    return []


def _weights(convolution: Any) -> Values | None:
    node = convolution.input_value(1).get_node()
    while node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    return np.asarray(node.get_data(), np.float32) if node.get_type_name() == "Constant" else None
