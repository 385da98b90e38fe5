"""What `upscale bench` measured on this machine, so that estimates and the choice of an engine need not guess.

One JSON file in the cache folder, the newest measurement of each network, backend, precision and tile size. A
measurement counts only while processor, device and the versions of what ran are those it was taken with. Owns that
file; refuses to measure, to choose and to import torch for a processor.
"""

import contextlib
import functools
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from upscale_cli import __version__
from upscale_cli import device as devices
from upscale_cli.weights.source import cache_path

FILE_NAME = "findings.json"
_SCHEMA = 1
_MOST = 2000  # of the oldest, machines and versions that are no more go first
_RUNNERS = ("torch", "openvino", "onnxruntime", "tensorrt")
_PATIENCE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """How fast one network ran on one machine."""

    machine: str
    """As `machine` names it."""
    model: str
    """The engine's name: `edsr-x4`."""
    backend: str
    precision: str
    tile_px: int
    """Longer side of the tiles."""
    seconds_per_pixel: float
    """In the network and joining its tiles; what tiles share goes in more than once."""
    first_seconds: float
    """From opening the engine to its first picture: loading, compiling, warming up."""
    bytes: int | None
    """What memory grew by meanwhile, on the device where it has its own; None where nobody can say."""
    date: str
    """Of the measurement, `2026-05-01`."""

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What tells one measurement from another; a later one of the same key replaces it."""
        return self.machine, self.model, self.backend, self.precision, self.tile_px


def path() -> Path:
    """The file, whether it is there or not."""
    return cache_path() / FILE_NAME


def machine(device: str) -> str:
    """This machine as far as it decides speed: processor, cores, the device, and the versions of what runs networks."""
    hardware = dict.fromkeys((devices.hardware(device), devices.hardware("cpu")))
    return f"{', '.join(hardware)}, {devices.threads()} cores; {_versions()}"


def known(model: str, device: str) -> tuple[Finding, ...]:
    """What was measured of a network on this machine as it is now, fastest first; empty where nothing is known."""
    if not path().is_file():  # most runs: then the machine need not be asked what it is
        return ()
    here = machine(device)
    found = (each for each in _read() if (each.machine, each.model) == (here, model))
    return tuple(sorted(found, key=lambda each: each.seconds_per_pixel))


def seconds_per_pixel(model: str, device: str, *, backend: str, precision: str, tile_px: int) -> float | None:
    """How long a pixel of a tile took here, by the measurement with the most similar tiles; None without one."""
    fit = [each for each in known(model, device) if (each.backend, each.precision) == (backend, precision)]
    if not fit:
        return None
    return min(fit, key=lambda each: abs(math.log(each.tile_px / tile_px))).seconds_per_pixel


def remember(found: Iterable[Finding]) -> None:
    """Add measurements, each in place of what was known of the same. OSError if the file cannot be written."""
    target = path()
    target.parent.mkdir(parents=True, exist_ok=True)
    with _held(target):
        rows = {each.key: each for each in _read()}
        for each in found:
            rows.pop(each.key, None)  # the newest stand last
            rows[each.key] = each
        document = {"schema": _SCHEMA, "findings": [asdict(each) for each in list(rows.values())[-_MOST:]]}
        temporary = target.with_name(f"{FILE_NAME}.{os.getpid()}")
        temporary.write_text(json.dumps(document, indent=1), encoding="ascii")
        temporary.replace(target)


def forget() -> int:
    """Remove the file; how many measurements it held. OSError if it cannot be removed."""
    count = len(_read())
    path().unlink(missing_ok=True)
    return count


@functools.cache
def _versions() -> str:
    found = [f"upscale {__version__}"]
    for package in _RUNNERS:
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return ", ".join(found)


@contextlib.contextmanager
def _held(target: Path) -> Iterator[None]:
    """Two benches at a time must not lose each other's findings. OSError where the other one does not end."""
    lock = FileLock(target.with_suffix(".lock"))
    try:
        lock.acquire(timeout=_PATIENCE_SECONDS)
    except Timeout as error:
        raise TimeoutError("another program holds it") from error
    try:
        yield
    finally:
        lock.release()


def _read() -> list[Finding]:
    try:
        document = json.loads(path().read_bytes())
        rows = list(document["findings"]) if document["schema"] == _SCHEMA else []
    except (OSError, ValueError, KeyError, TypeError):  # none yet, damaged, or another version's: nothing is known
        return []
    return [found for row in rows if (found := _finding(row)) is not None]


def _finding(row: Any) -> Finding | None:
    """A row that is whole; None for any other."""
    try:
        found = Finding(**{field.name: row[field.name] for field in fields(Finding)})
        words = (found.machine, found.model, found.backend, found.precision, found.date)
        sound = (
            all(isinstance(word, str) for word in words)
            and found.tile_px >= 1
            and 0 < found.seconds_per_pixel < math.inf
            and 0 <= found.first_seconds < math.inf
            and (found.bytes is None or found.bytes >= 0)
        )
    except (KeyError, TypeError):
        return None
    return found if sound else None
