"""PyTorch checkpoints (.pth, .pt, .bin, .ckpt): their tensors, and nothing else they ask for.

Owns the guards around `torch.load(weights_only=True)` and the way from a training program's wrappers to one state dict.
Refuses what would run code, what unpacks to more than it may, what is damaged (torch itself compares no checksum), and
tensors that claim more numbers than the file holds.
"""

import io
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NoReturn

import torch
from torch import Tensor

from upscale_cli.errors import WeightsError

LIMIT_BYTES = 2 * 2**30
PICKLE_LIMIT_BYTES = 16 * 2**20  # of the objects around the tensors; the largest network here needs some 200 KB
RATIO_LIMIT = 10  # torch stores tensors uncompressed, and trained numbers hardly compress
DEEPEST = 4
SHOWN = 8

# What training programs call the network they would have you use, best first.
_WRAPPERS = (
    "params_ema",
    "params",
    "ema_state_dict",
    "state_dict",
    "model_state_dict",
    "model",
    "generator",
    "net_g",
    "netG",
    "G",
    "weights",
    "net",
)
_START_OF_ARCHIVE, _END_OF_ARCHIVE = b"PK\x03\x04", b"PK\x05\x06"


def read(path: Path, *, limit_bytes: int = LIMIT_BYTES) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The state dict in a checkpoint, on the CPU, as stored, and notes on what was chosen among several.

    Raises WeightsError, naming the cause; nothing in the file is ever called.
    """
    loaded = _load_archive(path, limit_bytes) if zipfile.is_zipfile(path) else _load_pickle(path, limit_bytes)
    state, notes = _unwrap(loaded, path)
    _check_tensors(state, path, limit_bytes)
    return {key: value.detach() for key, value in state.items()}, notes


def _load_archive(path: Path, limit_bytes: int) -> object:
    """What torch has saved since 1.6: a zip with the objects in `data.pkl` and a member for each tensor."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_archive(archive, path, limit_bytes)
            damaged = archive.testzip()
    except WeightsError:
        raise
    except Exception as error:  # as with pickles: damage makes the reader raise anything (no text, no such method, ...)
        raise WeightsError(f"{path} is corrupt: {error}. Get the file again.") from error
    if damaged is not None:
        raise WeightsError(f"{path} is corrupt: the checksum of its part {damaged} is wrong. Get the file again.")
    with path.open("rb") as file:  # given the name, torch would go by its ending
        return _load(file, path)


def _check_archive(archive: zipfile.ZipFile, path: Path, limit_bytes: int) -> None:
    """Refuse an archive that is no checkpoint, or a bomb, by its table of contents."""
    members = archive.infolist()
    names = {PurePosixPath(member.filename).name for member in members}
    if "constants.pkl" in names:
        raise WeightsError(f"{path} is a TorchScript program, which is code. Ask its author for the state dict.")
    if "data.pkl" not in names:
        raise WeightsError(f"{path} is a zip archive without a checkpoint. Unpack it and name the weights file in it.")
    size = path.stat().st_size
    unpacked = sum(member.file_size for member in members)
    if unpacked > limit_bytes:
        raise WeightsError(f"{path} holds {unpacked:,} bytes, more than the {limit_bytes:,} that are read.")
    if unpacked > RATIO_LIMIT * size:
        raise WeightsError(
            f"{path} would unpack from {size:,} to {unpacked:,} bytes, refused. "
            "No checkpoint does that: ask its author for safetensors."
        )
    if any(m.file_size > PICKLE_LIMIT_BYTES for m in members if PurePosixPath(m.filename).suffix == ".pkl"):
        raise WeightsError(f"{path} holds far more objects than weights need, refused. Ask its author for safetensors.")
    with path.open("rb") as file:
        file.seek(max(0, size - 22 - len(archive.comment)))
        if file.read(4) != _END_OF_ARCHIVE:
            raise WeightsError(f"{path} is corrupt: bytes follow after its end. Get the file again.")


def _load_pickle(path: Path, limit_bytes: int) -> object:
    """What torch saved before 1.6: pickles in a row, then the numbers of each tensor."""
    size = path.stat().st_size
    if size > limit_bytes:
        raise WeightsError(f"{path} holds {size:,} bytes, more than the {limit_bytes:,} that are read.")
    # From memory: only so does torch leave the position where the last tensor ends.
    file = io.BytesIO(path.read_bytes())
    if file.getvalue().startswith(_START_OF_ARCHIVE):
        raise WeightsError(f"{path} is corrupt: the archive is cut off. Get the file again.")
    loaded = _load(file, path)
    if rest := len(file.read()):
        raise WeightsError(f"{path} is corrupt: {rest:,} bytes follow after its end. Get the file again.")
    return loaded


def _load(file: BinaryIO, path: Path) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of storage classes that only old files name
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged pickle makes the unpickler raise anything
            _refuse(path, error)


def _refuse(path: Path, error: Exception) -> NoReturn:
    asked = re.search(r"GLOBAL (\S+)", str(error))
    if asked:
        raise WeightsError(
            f"{path} asks to run code ({asked[1]}), refused. Ask its author for safetensors, or the state dict alone."
        ) from error
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    reason = next((line for line in lines if "WeightsUnpickler error" in line), lines[0]).strip()
    raise WeightsError(
        f"{path} is corrupt or no checkpoint ({reason.rstrip('.')}). Get the file again, or one in safetensors."
    ) from error


def _unwrap(loaded: object, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The one state dict in what a training program saved: tables in tables, of which only the wanted is entered."""
    notes: list[str] = []
    table = loaded
    for _ in range(DEEPEST):
        inner = [key for key in _WRAPPERS if isinstance(table, Mapping) and isinstance(table.get(key), Mapping)]
        if not inner:
            break
        assert isinstance(table, Mapping)
        table = table[inner[0]]
        notes.append(f"{inner[0]} taken" + (f", {', '.join(inner[1:])} ignored" if inner[1:] else ""))
    tensors = _named_tensors(table if isinstance(table, Mapping) else {})
    tensors.pop("n_averaged", None)  # the counter of torch's AveragedModel
    if not tensors:
        raise WeightsError(f"{path} holds no weights of a network: {_contents(loaded)}. Look for another file.")
    plain = {re.sub(r"^(module\.|_orig_mod\.)+", "", key): value for key, value in tensors.items()}
    return plain if len(plain) == len(tensors) else tensors, tuple(notes)


def _named_tensors(table: Mapping[object, object]) -> dict[str, Tensor]:
    """The tensors of a table; where there are none, those of state dicts in it, as `name.key`."""
    tensors = {key: value for key, value in table.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors:
        return tensors
    inner = {key: value for key, value in table.items() if isinstance(key, str) and isinstance(value, Mapping)}
    return {
        f"{name}.{key}": value
        for name, state in inner.items()
        for key, value in state.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }


def _contents(loaded: object) -> str:
    if not isinstance(loaded, Mapping):
        return f"it is a {type(loaded).__name__}"
    keys = [str(key) for key in loaded]
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return f"its top-level entries are {', '.join(keys[:SHOWN])}{more}" if keys else "it is an empty table"


def _check_tensors(state: Mapping[str, Tensor], path: Path, limit_bytes: int) -> None:
    """Refuse what is no plain array of numbers before anything looks at the numbers."""
    for key, value in state.items():
        if value.is_quantized:
            raise WeightsError(
                f"{path}: {key} is quantised ({value.dtype}). Ask its author for floating-point weights."
            )
        if value.layout != torch.strided or value.device.type != "cpu":
            raise WeightsError(f"{path}: {key} is no plain tensor ({value.layout} on {value.device}), refused.")
        # A stride of zero lets a few bytes stand for terabytes.
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise WeightsError(f"{path}: {key} claims {value.numel():,} numbers, more than the file holds, refused.")
    claimed = sum(value.numel() * value.element_size() for value in state.values())
    if claimed > limit_bytes:
        raise WeightsError(f"{path} claims {claimed:,} bytes of weights, more than the {limit_bytes:,} that are read.")
