"""From a manifest row to a verified local file, wherever the weights come from.

Owns the cache folder, the search order (package, own cache, huggingface_hub's cache, hub) and the memory of what was
verified, so that a file is hashed once and not on every run. Refuses to hand out a path whose content is not the pinned
one, and to open a socket for a file that is here. Imports no torch.
"""

import contextlib
import json
import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from upscale_cli.errors import WeightsError
from upscale_cli.manifest import Bundled, Entry, Hub
from upscale_cli.weights.download import Progress, download, sha256_of

BUNDLED = Path(__file__).with_name("bundled")


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What re-hashing a row's file found: `found` is its sha256, or None where there is no file."""

    name: str
    state: Literal["ok", "corrupt", "absent"]
    path: Path | None
    size: int | None
    expected: str | None
    found: str | None
    bundled: bool

    def complaint(self) -> str | None:
        """What is wrong, with both hashes, and the way out; None if the file is the pinned one."""
        if self.state == "absent":
            if self.bundled:
                return "missing from the installation. Reinstall upscale."
            return f"not on this machine. Fetch it with `upscale models fetch {self.name}`."
        if self.state == "corrupt":
            way_out = "Reinstall upscale." if self.bundled else f"Replace it with `upscale models fetch {self.name}`."
            return (
                f"{self.path} is not the pinned file: {self.size:,} bytes with sha256 {self.found}, "
                f"expected {self.expected}. {way_out}"
            )
        return None


def cache_path() -> Path:
    """Where downloaded weights are kept: UPSCALE_CACHE, else `upscale` in the user's cache folder (XDG_CACHE_HOME)."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("UPSCALE_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("upscale", appauthor=False)


def locate(
    entry: Entry, *, offline: bool = False, cache_dir: Path | None = None, progress: Progress | None = None
) -> Path:
    """A local safetensors file with exactly the row's bytes. Fetches hub files unless offline.

    Raises WeightsError: the row has no weights, the file is corrupt and cannot be replaced, or it cannot be had.
    """
    if entry.source is None:
        raise WeightsError(_no_weights(entry))
    path = local(entry, cache_dir=cache_dir)
    if path is not None and _is_pinned(path, entry, cache_dir):
        return path
    switch = _offline_switch(offline)
    if isinstance(entry.source, Bundled) or (path is not None and switch):
        raise WeightsError(f"{entry.name}: {verify(entry, cache_dir=cache_dir).complaint()}")
    if switch:
        raise WeightsError(
            f"{entry.name} is not on this machine and {switch} forbids to fetch it "
            f"({entry.source.path} from {entry.source.repo_id}, {megabytes(entry.size)}). "
            f"Once online, run `upscale models fetch {entry.name}`."
        )
    return fetch(entry, cache_dir=cache_dir, progress=progress)


def local(entry: Entry, *, cache_dir: Path | None = None) -> Path | None:
    """The file a row has on this machine, unverified, or None. Never touches the network."""
    match entry.source:
        case Bundled(name):
            path = BUNDLED / name
        case Hub():
            path = _cached(entry, cache_dir)
            if not path.is_file():
                return _hub_cached(entry.source)
        case None:
            return None
    return path if path.is_file() else None


def fetch(entry: Entry, *, cache_dir: Path | None = None, progress: Progress | None = None) -> Path:
    """Download a hub row into the cache, whatever is there; returns the verified file."""
    if not isinstance(entry.source, Hub) or entry.size is None or entry.sha256 is None:
        raise WeightsError(f"{entry.name} is not on the hub. `upscale models info {entry.name}` says where it is from.")
    target = _cached(entry, cache_dir)
    download(entry.source, target, size=entry.size, sha256=entry.sha256, progress=progress)
    _remember(target, entry.sha256, cache_dir)
    return target


def verify(entry: Entry, *, cache_dir: Path | None = None) -> VerifyResult:
    """Hash a row's local file again, whatever is remembered of it. Raises WeightsError for a row without weights."""
    if entry.source is None:
        raise WeightsError(_no_weights(entry))
    bundled = isinstance(entry.source, Bundled)
    path = local(entry, cache_dir=cache_dir)
    if path is None:
        return VerifyResult(entry.name, "absent", None, None, entry.sha256, None, bundled)
    found = _hash(path)
    size = path.stat().st_size
    if found != entry.sha256 or size != entry.size:
        with contextlib.suppress(OSError):  # in a read-only cache the note stays; the finding is the same
            _memory(path, cache_dir).unlink(missing_ok=True)
        return VerifyResult(entry.name, "corrupt", path, size, entry.sha256, found, bundled)
    _remember(path, found, cache_dir)
    return VerifyResult(entry.name, "ok", path, size, entry.sha256, found, bundled)


def megabytes(size: int | None) -> str:
    """A file size for people: `6.1 MB`."""
    return "-" if size is None else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _cached(entry: Entry, cache_dir: Path | None) -> Path:
    # The name is the hash: no path of the manifest reaches the disk, and equal files are kept once.
    return (cache_dir or cache_path()) / f"{entry.sha256}.safetensors"


def _hub_cached(source: Hub) -> Path | None:
    """What another program already fetched through huggingface_hub. Read only: the folder is not ours."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source.repo_id, source.path, revision=source.revision)
    return Path(found) if isinstance(found, str) else None


def _is_pinned(path: Path, entry: Entry, cache_dir: Path | None) -> bool:
    if path.stat().st_size != entry.size:
        return False
    if _remembered(path, cache_dir) == _stamp(path, entry.sha256):
        return True
    if _hash(path) != entry.sha256:
        return False
    _remember(path, entry.sha256, cache_dir)
    return True


def _hash(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}. Check its permissions.") from error


def _stamp(path: Path, digest: str | None) -> list[str | int | None]:
    stat = path.stat()
    return [digest, stat.st_size, stat.st_mtime_ns, stat.st_ino]


def _memory(path: Path, cache_dir: Path | None) -> Path:
    # One small file for each verified one: two processes never rewrite each other's.
    key = sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    return (cache_dir or cache_path()) / "verified" / f"{key}.json"


def _remembered(path: Path, cache_dir: Path | None) -> object:
    try:
        return json.loads(_memory(path, cache_dir).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # not verified yet, or the note is damaged: hash again


def _remember(path: Path, digest: str | None, cache_dir: Path | None) -> None:
    note = _memory(path, cache_dir)
    temporary = note.with_name(f"{note.name}.{os.getpid()}")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(_stamp(path, digest)), encoding="utf-8")
        temporary.replace(note)
    except OSError:
        return  # a cache that cannot be written costs a hash on the next run, nothing else


def _offline_switch(offline: bool) -> str | None:
    """What forbids the network, as the user wrote it."""
    if offline:
        return "--offline"
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        value = os.environ.get(name, "")
        if value.upper() in ("1", "ON", "YES", "TRUE"):
            return f"{name}={value}"
    return None


def _no_weights(entry: Entry) -> str:
    if entry.status == "formula":
        return f"{entry.name} is a formula and has no weights."
    recipe = f"Train them with `upscale train {entry.recipe}`, or choose" if entry.recipe else "Choose"
    return f"Nobody has trained weights for {entry.name} yet. {recipe} another model (`upscale models list`)."
