"""Architectures that are not ours: what spandrel recognises, with the extra of that name, runs like a network of ours.

Owns the way from a descriptor of spandrel (MIT, github.com/chaiNNer-org/spandrel) to a Variant and a module that keep
the zoo's promises. The file is read by our own guarded readers and spandrel sees tensors only, so that nothing in it is
executed. Refuses what does not make an RGB picture of one: inpainting, faces cut out beforehand, single channels.
"""

import copy
import importlib
import importlib.util
import textwrap
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.errors import UnknownNetworkError, WeightsError
from upscale_cli.weights import formats, pth
from upscale_cli.weights.sniff import DESCRIPTIONS, sniff
from upscale_cli.zoo import Precision, Variant
from upscale_cli.zoo.blocks import narrowed
from upscale_cli.zoo.variant import Task

MARGIN = 32  # an estimate: nobody states the receptive field of these networks
SHOWN = 5
INSTALL = "Install upscale-cli[spandrel] to try 40+ further architectures: `pip install 'upscale-cli[spandrel]'`."

_PATCH = (17, 23)
_TASKS: Mapping[str, Task] = {"SR": "upscale", "Restoration": "restore"}


class Adapted(nn.Module):
    """A network of spandrel's: N x 3 x H x W -> N x 3 x sH x sW, [0, 1], any H and W, float32 in and out."""

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.network: nn.Module = descriptor.model
        self.scale: int = descriptor.scale
        self._sizes = descriptor.size_requirements
        # Not the descriptor itself: it clamps, which would hide an overflow, and allows neither gradients nor export.
        self._call: Callable[[nn.Module, Tensor], Tensor] = descriptor._call_fn

    def forward(self, lr: Tensor) -> Tensor:
        height, width = lr.shape[-2:]
        sr = self._call(self.network, self._padded(narrowed(lr, self)))
        return sr[..., : height * self.scale, : width * self.scale].to(lr.dtype)

    def _padded(self, image: Tensor) -> Tensor:
        """Mirrored as far as there are pixels, then repeated, as spandrel does it."""
        height, width = image.shape[-2:]
        right, bottom = self._sizes.get_padding(width, height)
        mirrored = min(right, width - 1), min(bottom, height - 1)
        if any(mirrored):
            image = F.pad(image, (0, mirrored[0], 0, mirrored[1]), mode="reflect")
        rest = right - mirrored[0], bottom - mirrored[1]
        return F.pad(image, (0, rest[0], 0, rest[1]), mode="replicate") if any(rest) else image

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Adapted":
        # Their code takes views that only the order N x C x H x W allows: what is flat has no channels to put last.
        super()._apply(lambda tensor: fn(tensor.flatten()).reshape(tensor.shape), recurse)
        return self


def installed() -> bool:
    """Whether the extra is there; imports nothing."""
    return importlib.util.find_spec("spandrel") is not None


def read(path: Path) -> tuple[Variant, nn.Module, tuple[str, ...]]:
    """A safetensors or PyTorch file as a network that spandrel knows, in eval mode, and what to know about it.

    Raises UnknownNetworkError for an architecture that it does not know either, else WeightsError, naming the file and
    the cause: no spandrel, a damaged file, a network that does not turn RGB into RGB.
    """
    state, notes = _tensors(path)
    try:
        descriptor = _described(state)
        return *_adapted(descriptor, state), (f"known to spandrel as {descriptor.architecture.name}", *notes)
    except WeightsError as error:
        raise type(error)(f"{path}: {error}") from error


def _tensors(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    match sniff(path):
        case "safetensors":
            return formats.read_state(path)[0], ()
        case "archive" | "pickle":
            return pth.read(path)
        case content:
            raise WeightsError(f"{path} is {DESCRIPTIONS[content]}, which spandrel does not read. Give it a .pth file.")


def _described(state: dict[str, Tensor]) -> Any:
    """spandrel's descriptor of the network in these tensors, weights loaded; on the CPU, whatever device is set."""
    spandrel = _library()
    try:
        with warnings.catch_warnings(), torch.device("cpu"):
            warnings.simplefilter("ignore")  # theirs, of functions that torch will drop
            return spandrel.MAIN_REGISTRY.load(dict(state))  # a copy: it takes out what it does not need
    except spandrel.UnsupportedModelError as error:
        raise UnknownNetworkError("spandrel does not know the network of these weights.") from error
    except Exception as error:  # it takes the file at its word, and stumbles over what is missing
        raise WeightsError(f"spandrel cannot build the network of these weights ({_reason(error)}).") from error


def _library() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("spandrel")
    except ModuleNotFoundError as error:
        raise WeightsError(f"spandrel cannot be imported: {error.name} is not installed. {INSTALL}") from error
    except (ImportError, RuntimeError) as error:
        # A torchvision that was compiled for another torch: "operator torchvision::nms does not exist".
        raise WeightsError(
            f"spandrel cannot be imported: its torchvision does not fit torch {torch.__version__} ({error}). "
            "Install torch and torchvision together, from one index."
        ) from error


def _adapted(descriptor: Any, state: dict[str, Tensor]) -> tuple[Variant, Adapted]:
    architecture = descriptor.architecture
    channels = (descriptor.input_channels, descriptor.output_channels)
    if descriptor.purpose not in _TASKS:
        what = {"FaceSR": "faces cut out beforehand", "Inpainting": "pictures with holes"}[descriptor.purpose]
        raise WeightsError(f"{architecture.name} is a network for {what}. Choose one that takes whole pictures.")
    if channels != (3, 3):
        raise WeightsError(
            f"{architecture.name} turns {channels[0]} into {channels[1]} channels here; pictures have 3. "
            "Look for its colour version."
        )
    module = Adapted(descriptor).eval()
    variant = Variant(
        f"spandrel/{architecture.id.lower()}-x{descriptor.scale}",
        "spandrel",
        partial(_build, state),
        scale=descriptor.scale,
        margin=MARGIN,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        task=_TASKS[descriptor.purpose],
        tileable=_tileable(descriptor),
    )
    _check(variant, module)
    return replace(variant, dtypes=_sound(descriptor, module)), module


def _build(state: dict[str, Tensor]) -> Adapted:
    # Built on the CPU first: constructors compute numbers, of which the meta device has none.
    return Adapted(_described(state)).eval().to(torch.get_default_device())


def _tileable(descriptor: Any) -> bool:
    """Networks that enlarge look nearby, whatever is advised; those that relight look at the whole picture."""
    return descriptor.tiling.name == "SUPPORTED" or (
        descriptor.tiling.name == "DISCOURAGED" and descriptor.purpose == "SR"
    )


def _check(variant: Variant, module: Adapted) -> None:
    """WeightsError unless all numbers are finite, and a small picture comes out at the scale that is claimed."""
    floating = {key: value for key, value in module.network.state_dict().items() if value.is_floating_point()}
    broken = [key for key, value in floating.items() if not value.isfinite().all()]
    if broken:
        more = f" and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        raise WeightsError(f"These weights cannot be used: NaN or infinity in {', '.join(broken[:SHOWN])}{more}.")
    try:
        sr = _tried(module)
    except Exception as error:  # hyperparameters that go together in no published network
        raise WeightsError(f"{variant.name} does not run with these weights ({_reason(error)}).") from error
    expected = (1, 3, *(side * variant.scale for side in _PATCH))
    if sr.shape != expected or not sr.isfinite().all():
        raise WeightsError(f"{variant.name} gives no picture of {variant.scale} times the size with these weights.")


def _sound(descriptor: Any, module: Adapted) -> tuple[Precision, ...]:
    """The precisions that are declared, of 16 bits only where a patch comes out: not every declaration was tried."""
    narrow: dict[Precision, bool] = {"bf16": descriptor.supports_bfloat16, "fp16": descriptor.supports_half}
    declared: tuple[Precision, ...] = tuple(precision for precision, sound in narrow.items() if sound)
    try:
        # In bf16 for both, which every processor has: what fails is a tensor that stays in fp32.
        finite = bool(_tried(copy.deepcopy(module).bfloat16()).isfinite().all())
    except RuntimeError:
        finite = False
    return ("fp32", *declared) if finite else ("fp32",)


def _tried(module: Adapted) -> Tensor:
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return module(torch.linspace(0, 1, 3 * _PATCH[0] * _PATCH[1]).reshape(1, 3, *_PATCH))


def _reason(error: Exception) -> str:
    return textwrap.shorten(str(error), 200, placeholder=" ...").rstrip(".") or type(error).__name__
