"""What the cache holds that can go: files no model needs any more, downloads that stopped half-way.

Owns deciding and deleting. Refuses to touch what it did not put there (a name that is no hash), what another process is
fetching now, the user's imported models, and what other programs keep.
"""

import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from upscale_cli.errors import OutputError
from upscale_cli.weights.source import forget

GRAPHS = "graphs"
"""The folder of networks as graphs, one folder each; `engines.graph` keeps them."""
_OURS = re.compile(r"([0-9a-f]{64})\.(safetensors|bin)(\.part)?")


@dataclass(frozen=True, slots=True)
class Leftover:
    """One file, or the folder of an unfinished download, and why it can go."""

    path: Path
    reason: str
    bytes: int


def leftovers(folder: Path, pinned: Collection[str], *, everything: bool = False) -> tuple[Leftover, ...]:
    """What can be deleted in the cache `folder`: all but the files whose sha256 is in `pinned`, with `everything` those
    too, and the networks traced. Deletes nothing.
    """
    return tuple(_leftovers(folder, pinned, everything))


def delete(leftover: Leftover, folder: Path) -> None:
    """Delete it, and the memory that it was verified. OutputError if that is not allowed."""
    path = leftover.path
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            forget(path, folder)
            path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be deleted: {error.strerror}. Check its folder's permissions.") from error


def _leftovers(folder: Path, pinned: Collection[str], everything: bool) -> Iterator[Leftover]:
    for path in sorted(folder.glob("*")):
        ours = _OURS.fullmatch(path.name)
        if ours is None or path.is_symlink():
            continue
        sha256, _, unfinished = ours.groups()
        if unfinished:
            if not _busy(path.with_suffix("")):
                yield Leftover(path, "unfinished download", _size(path))
        elif sha256 not in pinned:
            yield Leftover(path, "no model needs it", _size(path))
        elif everything:
            yield Leftover(path, "downloaded", _size(path))
    for path in sorted((folder / GRAPHS).glob("*")):
        if everything:
            yield Leftover(path, "traced; made again when it is needed", _size(path))


def _busy(target: Path) -> bool:
    """Whether a process is fetching `target` now."""
    lock = target.with_name(f"{target.name}.lock")
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except (Timeout, OSError):
        return True


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())
