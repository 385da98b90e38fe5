"""Weights as tensors: what fits a network, which network they are of; safetensors read and written.

Owns what a file must be before `load_state_dict(strict=True)`: whole, with the network's keys and shapes, floating and
finite. Reads safetensors only, by content: what else carries the name is refused, and nothing is executed. Knows no
hash of files and no hub (`source.py`), no pickles (`pth.py`) and no ncnn (`ncnn.py`).
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from upscale_cli import zoo
from upscale_cli.errors import OutputError, UnknownNetworkError, WeightsError
from upscale_cli.weights.sniff import DESCRIPTIONS, sniff
from upscale_cli.zoo import Shapes, Variant

# The format allows 100 MB; the largest network here has under a thousand tensors, some 100 KB of header.
HEADER_LIMIT = 16 * 2**20
SHOWN = 5


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file, on the CPU, and the text metadata of its header.

    Raises WeightsError with the true cause (empty, cut off, another format under this name, ...) and never allocates
    more than the file holds.
    """
    _check_content(path)
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
            return state, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, RuntimeError, AttributeError) as error:
        # AttributeError: a dtype that the format knows and this torch does not.
        raise WeightsError(_damaged(path, error)) from error


def check_fits(state: Mapping[str, Tensor], expected: Shapes, *, name: str) -> None:
    """Raise WeightsError unless `state` has exactly the keys and shapes `expected`, floating and finite.

    `num_batches_tracked`, a counter that older checkpoints lack and inference ignores, may be missing. `name` is the
    network's, for the message.
    """
    found = state_shapes(state)
    wanted = _weights_only(expected)
    problems = [
        _listed("missing", [key for key in wanted if key not in found]),
        _listed("not in the network", [key for key in found if key not in wanted and key not in expected]),
        _listed(
            "of another shape",
            [
                f"{key} {list(found[key])} instead of {list(shape)}"
                for key, shape in expected.items()
                if key in found and found[key] != shape
            ],
        ),
    ]
    if any(problems):
        raise WeightsError(f"These weights do not fit {name}: {'; '.join(filter(None, problems))}.{_hint(found)}")
    _check_numbers(state, name=name)


def load_into(module: nn.Module, path: Path, *, name: str) -> dict[str, str]:
    """Read `path`, check it against `module` and load it strictly; returns the header metadata.

    Another published layout of the keys is translated. Raises WeightsError, naming the file, if anything is wrong; the
    module is then unchanged.
    """
    state, metadata = read_state(path)
    expected = shapes_of(module)
    state = in_keys_of(expected, state)
    try:
        check_fits(state, expected, name=name)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    module.load_state_dict(state, strict=True)
    return metadata


def shapes_of(module: nn.Module) -> dict[str, torch.Size]:
    """Key -> shape of everything the module keeps in its state dict."""
    return state_shapes(module.state_dict())


def state_shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """Key -> shape of a state dict."""
    return {key: value.shape for key, value in state.items()}


def expected_shapes(variant: Variant) -> dict[str, torch.Size]:
    """Key -> shape of a variant's state dict; built on the meta device, so nothing is allocated."""
    return dict(_expected(variant))


def keys_sha256(shapes: Shapes) -> str:
    """Hash of the sorted (key, shape) list without `num_batches_tracked`: equal for files that fit one network."""
    rows = sorted([key, list(shape)] for key, shape in _weights_only(shapes).items())
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def identify(shapes: Shapes) -> tuple[Variant, Mapping[str, str]]:
    """The network that tensors with these keys and shapes are of, and their keys -> its keys (those to drop left out).

    Raises UnknownNetworkError, listing the nearest, if no network fits, and WeightsError, listing all that fit, if
    nothing decides.
    """
    known = look_up(shapes)
    if known is not None:
        return known
    found = set(_weights_only(shapes).items())
    wanted = [(variant.name, set(_weights_only(_expected(variant)).items())) for variant in _as_large_as(shapes)]
    nearest = sorted((len(found ^ items), name, len(found & items)) for name, items in wanted)
    near = [f"{name} ({shared} of {len(found)} tensors)" for _, name, shared in nearest[:3] if shared]
    hint = f" Nearest: {', '.join(near)}." if near else ""
    raise UnknownNetworkError(f"No network here has exactly these {len(found)} tensors.{hint}")


def look_up(shapes: Shapes) -> tuple[Variant, Mapping[str, str]] | None:
    """As `identify`, with None where no network fits. Builds few networks: the architectures are asked first."""
    known = zoo.recognise(shapes)
    if known is None:
        rows, found = _as_large_as(shapes), _weights_only(shapes)
    else:
        rows = [variant for variant in zoo.variants() if variant.parameters == known[0].parameters]
        found = _weights_only(_expected(known[0]))
    exact = [variant for variant in rows if _weights_only(_expected(variant)) == found]
    # An architecture decides between its own rows, but where the input is enlarged first no tensor shows the scale.
    if len(exact) > 1 and (known is None or len({variant.scale for variant in exact}) > 1):
        several = ", ".join(variant.name for variant in exact)
        way_out = "Import them with `upscale models import FILE --variant NAME`."
        raise WeightsError(f"The tensors fit several networks: {several}. {way_out}")
    return known or ((exact[0], {key: key for key in shapes}) if exact else None)


def in_keys_of(expected: Shapes, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the expected keys if theirs are another published layout, else as they are."""
    shapes = state_shapes(state)
    known = None if _weights_only(shapes).keys() == _weights_only(expected).keys() else zoo.recognise(shapes)
    return dict(state) if known is None else renamed(state, known[1])


def renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors under the keys that `names` gives theirs; those without one are left out."""
    return {names[key]: value for key, value in state.items() if key in names}


def save(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file with header metadata; it appears under its name complete or not at all.

    Raises WeightsError for NaN or infinite values, OutputError if the folder cannot be written.
    """
    _check_numbers(state, name=path.name)
    # Own memory for each tensor: the format refuses views that share storage.
    tensors = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in state.items()}
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        save_file(tensors, temporary, metadata=dict(metadata))
        with Path(temporary).open("rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes the file private; weights are as public as any other output.
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except (OSError, SafetensorError) as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written: {error}. Free some space or choose another folder.") from error


def _as_large_as(shapes: Shapes) -> list[Variant]:
    """The rows worth building to compare: buffers (statistics, constants) nowhere outweigh the parameters."""
    numbers = sum(shape.numel() for shape in shapes.values())
    return [variant for variant in zoo.variants() if 0 < variant.parameters <= 2 * numbers <= 4 * variant.parameters]


@cache
def _expected(variant: Variant) -> Shapes:
    with torch.device("meta"):
        return shapes_of(variant.build())


def _weights_only(shapes: Shapes) -> dict[str, torch.Size]:
    return {key: shape for key, shape in shapes.items() if not _is_counter(key)}


def _is_counter(key: str) -> bool:
    return key.rpartition(".")[2] == "num_batches_tracked"


def _check_numbers(state: Mapping[str, Tensor], *, name: str) -> None:
    weights = {key: value for key, value in state.items() if not _is_counter(key)}
    problems = [
        _listed("not floating point", [f"{k} ({v.dtype})" for k, v in weights.items() if not v.is_floating_point()]),
        # Through float: the 8-bit types have no isfinite of their own.
        _listed("with NaN or infinite values", [k for k, v in weights.items() if not v.float().isfinite().all()]),
    ]
    if any(problems):
        raise WeightsError(f"These weights for {name} cannot be used: {'; '.join(filter(None, problems))}.")


def _listed(what: str, items: list[str]) -> str:
    if not items:
        return ""
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return f"{len(items)} tensor{'s' if len(items) > 1 else ''} {what}: {', '.join(items[:SHOWN])}{more}"


def _hint(found: Shapes) -> str:
    """What the file is, if the zoo knows it: mostly the same network at another scale."""
    try:
        variant, _ = identify(found)
    except WeightsError as error:
        return f" {error}"
    return f" They are those of {variant.name} (scale {variant.scale})."


def _check_content(path: Path) -> None:
    """Refuse by content what is not safetensors, before a parser sees it."""
    content = sniff(path)
    if content != "safetensors":
        raise WeightsError(
            f"{path} is {DESCRIPTIONS[content]}, not safetensors. Convert it with `upscale models import`."
        )
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > HEADER_LIMIT:
        raise WeightsError(f"{path} is corrupt: its header claims {length:,} bytes. Get the file again.")


def _damaged(path: Path, error: Exception) -> str:
    """The reason in words: the parser says the same of a file cut off and of one with bytes added."""
    size = path.stat().st_size
    announced = _announced_bytes(path)
    if announced is not None and announced > size:
        reason = f"it is cut off: {size:,} of {announced:,} bytes"
    elif announced is not None and announced < size:
        reason = f"{size - announced:,} bytes follow after its end"
    else:
        reason = str(error).removeprefix("Error while deserializing header: ")
    return f"{path} is corrupt: {reason}. Get the file again."


def _announced_bytes(path: Path) -> int | None:
    """The file size that the header implies; None where the header itself is nonsense."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if 8 + length > path.stat().st_size:
            return 8 + length
        header = file.read(length)
    try:
        table: dict[str, Any] = json.loads(header)
        ends = [int(row["data_offsets"][1]) for key, row in table.items() if key != "__metadata__"]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return 8 + length + max(ends, default=0)
