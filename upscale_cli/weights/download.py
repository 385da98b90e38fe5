"""One pinned file from the hub to a local path: resumed, verified, atomic, once however many ask for it.

Addresses, credentials and the HTTP client (proxies, certificates) are huggingface_hub's. The transfer is our own,
because that client cannot resume a killed download and compares no hash. Refuses to leave anything but the pinned bytes
under the target's name, and to hide why it failed: the first cause is in the message.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from upscale_cli import __version__
from upscale_cli.errors import WeightsError
from upscale_cli.manifest import Hub

Progress = Callable[[int, int], None]  # bytes here, bytes in all

SPARE_BYTES = 16 * 2**20
PASSING = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a download bears with a bad connection. Attempts count from the last byte that came."""

    connect_seconds: float = 5
    read_seconds: float = 20
    attempts: int = 5
    unreachable_attempts: int = 2
    first_wait_seconds: float = 1
    longest_wait_seconds: float = 60
    lock_seconds: float = 60


@dataclass(frozen=True, slots=True)
class _Setback:
    """A request that failed in a way that may pass."""

    cause: str
    reached: bool = True
    wait_seconds: float = 0  # at least, as the server asked


def download(
    source: Hub,
    target: Path,
    *,
    size: int,
    sha256: str,
    progress: Progress | None = None,
    patience: Patience = Patience(),
) -> None:
    """Make `target` hold exactly the `size` bytes with this hash; returns at once if it does.

    A second process waits for the first. Raises WeightsError, with the cause, for everything that can go wrong.
    """
    url = _address(source)
    make_folder(target.parent)
    with only_one(target, patience):
        if target.is_file() and sha256_of(target) == sha256:
            return
        part = target.with_name(f"{target.name}.part")
        found = ""
        for _ in range(2):
            found = _transfer(url, part, size=size, progress=progress, patience=patience)
            if found == sha256:
                part.replace(target)
                return
            part.unlink()
        raise WeightsError(
            f"{source.path} from {source.repo_id} is not the pinned file: its sha256 is {found}, expected {sha256} "
            "(downloaded twice). The server or a proxy changes it: try again later, or check HF_ENDPOINT."
        )


def sha256_of(path: Path) -> str:
    """Hash of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Part:
    """The unfinished file and its running hash, always in step; what an earlier run left is kept and hashed first."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size, self.done, self.hash = path, size, 0, hashlib.sha256()
        try:
            # Unbuffered: what was hashed is what the disk took, also when it is full or the process is killed.
            self.file = path.open("ab+", buffering=0)
        except OSError as error:
            unwritable(path.parent, error)
        self.file.seek(0)
        while chunk := self.file.read(2**20):
            self.hash.update(chunk)
            self.done += len(chunk)
        if self.done > size:
            self.restart()

    def restart(self) -> None:
        self.file.truncate(0)
        self.done, self.hash = 0, hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        try:
            while chunk:
                taken = self.file.write(chunk)
                self.hash.update(chunk[:taken])
                self.done += taken
                chunk = chunk[taken:]
        except OSError as error:
            unwritable(self.path.parent, error)

    def finish(self) -> None:
        try:
            os.fsync(self.file.fileno())
        except OSError as error:
            unwritable(self.path.parent, error)


def _transfer(url: str, part_path: Path, *, size: int, progress: Progress | None, patience: Patience) -> str:
    """Fill the part file, resuming as often as it takes; returns the hash of what came."""
    part = _Part(part_path, size)
    try:
        check_space(part_path.parent, size - part.done)
        causes: list[str] = []
        failures = 0
        while part.done < size:
            before = part.done
            setback = _request(url, part, progress=progress, patience=patience)
            if setback is None:
                continue
            failures = 1 if part.done > before else failures + 1
            causes += [setback.cause] if setback.cause not in causes else []
            limit = patience.attempts if setback.reached else patience.unreachable_attempts
            if failures >= limit or setback.wait_seconds > patience.longest_wait_seconds:
                _give_up(url, part, causes, setback.wait_seconds)
            backoff = min(patience.first_wait_seconds * 2 ** (failures - 1), patience.longest_wait_seconds)
            time.sleep(max(backoff, setback.wait_seconds))
        part.finish()
        return part.hash.hexdigest()
    finally:
        part.file.close()
        if not part.done:
            part_path.unlink()  # nothing to resume from


def _request(url: str, part: _Part, *, progress: Progress | None, patience: Patience) -> _Setback | None:
    """One GET from where the part file ends. None if the body came to its end, a setback if it is worth another try."""
    # HTTPError: the base of the client's errors, whichever client (httpx, httpx2) this huggingface_hub brings.
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    headers = _headers()
    if part.done:
        headers["Range"] = f"bytes={part.done}-"
    reached = False
    try:
        timeout = (patience.connect_seconds, patience.read_seconds, patience.read_seconds, patience.connect_seconds)
        with _client().stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as response:
            reached = True
            if setback := _check_answer(response, url, part):
                return setback
            for chunk in response.iter_bytes():
                part.write(chunk[: part.size - part.done])
                if progress is not None:
                    progress(part.done, part.size)
    except HTTPError as error:
        what = f"the connection broke after {part.done:,} bytes" if reached else f"{_host(url)} cannot be reached"
        return _Setback(f"{what} ({_words(error)})", reached=reached)
    return None if part.done == part.size else _Setback(f"the answer ended after {part.done:,} bytes")


def _check_answer(response: Any, url: str, part: _Part) -> _Setback | None:
    """Whether the body that follows continues the part file; raises WeightsError for a refusal that will not pass."""
    status = response.status_code
    if status == 416 or (status == 206 and not _continues(response, part)):
        part.restart()
        return _Setback(f"the server cannot resume at that byte (HTTP {status})")
    if status not in (200, 206):
        answer = f"{_host(url)} answered HTTP {status} {response.reason_phrase}{_reason(response)}"
        if status in PASSING:
            retry_after = response.headers.get("Retry-After", "")
            return _Setback(answer, wait_seconds=float(retry_after) if retry_after.isdigit() else 0)
        raise WeightsError(f"{answer} for {url}. {_way_out(status)}")
    if status == 200:
        part.restart()
    announced = response.headers.get("Content-Length", "")
    encoded = "Content-Encoding" in response.headers  # then the length is of the encoded body
    if announced.isdigit() and not encoded and int(announced) + part.done != part.size:
        kind = response.headers.get("Content-Type", "unknown type")
        raise WeightsError(
            f"{url} holds {int(announced) + part.done:,} bytes ({kind}), the pinned file has {part.size:,}. "
            "A proxy or log-in page may answer in the hub's place: check HF_ENDPOINT and HTTPS_PROXY."
        )
    return None


def _continues(response: Any, part: _Part) -> bool:
    return response.headers.get("Content-Range", "") == f"bytes {part.done}-{part.size - 1}/{part.size}"


def _reason(response: Any) -> str:
    words = [response.headers.get(name) for name in ("X-Error-Code", "X-Error-Message")]
    return f" ({': '.join(filter(None, words))})" if any(words) else ""


def _way_out(status: int) -> str:
    if status in (401, 403):
        return "Accept the model's conditions on the hub and set HF_TOKEN to a valid token, or unset a wrong one."
    return "The file was moved or removed: update upscale, or give a local file with --model FILE.safetensors."


def _give_up(url: str, part: _Part, causes: list[str], wait_seconds: float) -> NoReturn:
    kept = f" {part.done:,} of {part.size:,} bytes are kept for the next try." if part.done else ""
    later = f"in {wait_seconds:.0f} seconds" if wait_seconds > 1 else "later"
    raise WeightsError(
        f"{url} could not be downloaded: {'; then '.join(causes)}.{kept} "
        f"Try again {later}; a mirror can be named with HF_ENDPOINT, a proxy with HTTPS_PROXY."
    )


def endpoint() -> str:
    """Where the hub is: HF_ENDPOINT, or huggingface_hub's own. WeightsError for what is no address."""
    from huggingface_hub import constants

    # Read now, not when the library was imported: the environment may have been set since.
    found = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    parts = urlsplit(found)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WeightsError(f"HF_ENDPOINT is {found!r}, which is no address. Set it to https://HOST, or unset it.")
    return found.rstrip("/")


def _address(source: Hub) -> str:
    from huggingface_hub import hf_hub_url

    return hf_hub_url(source.repo_id, source.path, revision=source.revision, endpoint=endpoint())


def _headers() -> dict[str, str]:
    from huggingface_hub import constants, get_token

    # Not build_hf_headers: it asks the hub for a list of agent names, to report the user's, before the first byte.
    headers = {"User-Agent": f"upscale/{__version__}"}
    headers["Accept-Encoding"] = "identity"  # ranges and sizes are of the file, not of a compressed body
    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    return headers | ({"Authorization": f"Bearer {token}"} if token else {})


def _client() -> Any:
    from huggingface_hub.utils import get_session

    try:
        return get_session()
    except (ValueError, ImportError, OSError) as error:
        raise WeightsError(
            f"The network settings cannot be used: {error}. Check HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE."
        ) from error


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


@contextmanager
def only_one(target: Path, patience: Patience) -> Iterator[None]:
    """Hold the target's lock; wait for another holder as long as its download grows."""
    from filelock import FileLock, Timeout

    lock = FileLock(target.with_name(f"{target.name}.lock"))
    part = target.with_name(f"{target.name}.part")
    seen = -1
    while not lock.is_locked:
        try:
            lock.acquire(timeout=patience.lock_seconds)
        except Timeout as error:
            size = part.stat().st_size if part.exists() else 0
            if size <= seen:
                raise WeightsError(
                    f"Another process holds {lock.lock_file} and its download stands still. End it, then try again."
                ) from error
            seen = size
        except OSError as error:
            unwritable(target.parent, error)
    try:
        yield
    finally:
        lock.release()


def make_folder(folder: Path) -> None:
    """Make a folder for downloads; WeightsError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        unwritable(folder, error)


def check_space(folder: Path, needed: int) -> None:
    """Raise WeightsError unless `folder` has room for `needed` bytes, and some to spare."""
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise WeightsError(
            f"{folder} has {free / 2**20:,.0f} MB free, the download needs {(needed + SPARE_BYTES) / 2**20:,.0f} MB. "
            "Free some space, or choose another folder with --cache-dir or UPSCALE_CACHE."
        )


def unwritable(folder: Path, error: OSError) -> NoReturn:
    """Say in a WeightsError why a folder for downloads cannot be written."""
    raise WeightsError(
        f"{folder} cannot be written: {error.strerror or error}. "
        "Choose another folder with --cache-dir or the variable UPSCALE_CACHE."
    ) from error
