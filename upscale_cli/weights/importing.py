"""Weights that somebody else made, as a network of the zoo: any format that is read, any layout that is known.

Owns the way from a file to tensors under our keys and the network they belong to, and the proof that they run. Executes
nothing that it reads and writes nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from upscale_cli import zoo
from upscale_cli.errors import WeightsError
from upscale_cli.weights import formats, ncnn, pth
from upscale_cli.weights.sniff import sniff

# Where training programs keep the network beside others (losses, a discriminator) in one state dict.
_PREFIXES = ("generator.", "net_g.", "netG.", "netG_A.", "model.", "net.", "network.")
_PATCH_PX = 32


@dataclass(frozen=True, slots=True)
class ForeignWeights:
    """A weights file understood: it fits `variant` exactly and all its numbers are finite."""

    state: dict[str, Tensor]
    """Under our keys, on the CPU, in the precision of the file."""
    variant: zoo.Variant
    metadata: dict[str, str]
    """The header's text, of safetensors only."""
    notes: tuple[str, ...]
    """What was chosen or left out on the way, a sentence's part each."""


def read_weights(path: Path, *, variant: str | None = None) -> ForeignWeights:
    """Read safetensors, a PyTorch checkpoint or ncnn's .param and .bin; of two files either is named, both are read.

    The network is `variant`, else the one the header names, else the one that the keys and shapes belong to. Raises
    WeightsError, naming the file and the cause (UnknownNetworkError if that is all), and UsageError if no network is
    called `variant`.
    """
    state, metadata, notes = read_tensors(path)
    try:
        return _understood(state, metadata, notes, variant=variant)
    except WeightsError as error:
        raise type(error)(f"{path}: {error}") from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str], tuple[str, ...]]:
    """The tensors of a file in any format that is read, whatever they are of; its header's text, and notes."""
    match sniff(path):
        case "safetensors":
            return *formats.read_state(path), ()
        case "archive" | "pickle":
            state, notes = _both_halves(path, *pth.read(path))
        case "ncnn graph" | "ncnn weights":
            state, notes = ncnn.read(path)
    return state, {}, notes


def _both_halves(
    path: Path, state: dict[str, Tensor], notes: tuple[str, ...]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Of a network that is published as two files, either of which is named, the other lies beside it.

    Zeng's adaptive LUTs are: tables of colours in `LUTs.pth`, and what chooses among them in `classifier.pth`.
    """
    parts = {"LUTs": "0.LUT", "classifier": "model.16.weight"}
    found = [part for part, key in parts.items() if key in state]
    if len(found) != 1 or not all(re.fullmatch(r"\d\.LUT|model\.\d+\.(weight|bias)", key) for key in state):
        return state, notes
    (other,) = parts.keys() - set(found)
    beside = path.with_name(path.name.replace(found[0], other))
    if beside == path or not beside.is_file():
        raise WeightsError(
            f"{path} is half of an adaptive LUT. Put the other half, {other}.pth, beside it, named alike: LUTs.pth and "
            "classifier.pth."
        )
    rest, _ = pth.read(beside)
    return {**state, **rest}, (*notes, f"{beside.name} read with it")


def check(variant: zoo.Variant, state: Mapping[str, Tensor]) -> None:
    """Load the weights and enlarge one small picture. WeightsError unless a picture with some contrast comes out."""
    formats.check_fits(state, formats.expected_shapes(variant), name=variant.name)
    module = variant.build().eval()
    module.load_state_dict(dict(state), strict=True)
    side = -(-_PATCH_PX // variant.multiple_of) * variant.multiple_of
    with torch.inference_mode():
        sr = module(patch(side, side))
    if not sr.isfinite().all():
        raise WeightsError(
            f"With these weights {variant.name} gives NaN or infinity. They are damaged, or for another."
        )
    if sr.clamp(0, 1).flatten(2).std(-1).max() < 1 / 255:
        raise WeightsError(
            f"With these weights {variant.name} gives a picture of one colour. They are damaged, untrained, or for a "
            "network that counts in another range."
        )


def _understood(
    state: dict[str, Tensor], metadata: dict[str, str], notes: tuple[str, ...], *, variant: str | None
) -> ForeignWeights:
    named = variant or metadata.get("variant")
    if variant is not None or named in {row.name for row in zoo.variants()}:
        network = zoo.find(str(named))
        state = formats.in_keys_of(formats.expected_shapes(network), state)
    else:
        network, state, more = _recognised(state)
        notes += more
        if named not in (None, network.name):
            notes += (f"the header names {named}, which is no network here: by its tensors it is {network.name}",)
    formats.check_fits(state, formats.expected_shapes(network), name=network.name)
    return ForeignWeights(state, network, metadata, notes)


def _recognised(state: dict[str, Tensor]) -> tuple[zoo.Variant, dict[str, Tensor], tuple[str, ...]]:
    """The network the tensors belong to, and they under its keys; looks into sub-networks if the whole is unknown."""
    try:
        variant, names = formats.identify(formats.state_shapes(state))
        return variant, formats.renamed(state, names), ()
    except WeightsError:
        for prefix in _PREFIXES:
            part = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            known = formats.look_up(formats.state_shapes(part)) if part else None
            if known is not None:
                return known[0], formats.renamed(part, known[1]), (f"{prefix}* taken of {len(state)} tensors",)
        raise


def patch(height: int, width: int) -> Tensor:
    """1 x 3 x height x width, smooth shapes with some texture, as photographs have; the same on every machine.

    Noise alone is nothing that networks were trained on: published ones (SPAN) make numbers in the hundreds of it,
    which no two orders of adding agree on.
    """
    noise = torch.Generator().manual_seed(0)
    shapes = F.interpolate(torch.rand(1, 3, 4, 4, generator=noise), size=(height, width), mode="bicubic")
    return (shapes + 0.1 * torch.rand(1, 3, height, width, generator=noise)).clamp(0, 1)
