"""Data that comes packed: .zip and .tar archives, opened once into a folder. Nothing is written outside of it.

Names that lead elsewhere, links and devices are refused, and the whole archive with them: whoever packed one of those
meant harm or made a mistake.
"""

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from upscale_cli.errors import OutputError, UsageError
from upscale_cli.media.paths import shown
from upscale_cli.train.data.shards import fingerprint

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError)
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class _Member:
    """One entry; folders are made as files need them."""

    name: str
    size: int
    plain: bool
    """A file or a folder, no link and no device."""
    folder: bool
    key: "zipfile.ZipInfo | tarfile.TarInfo"


def is_archive(path: Path) -> bool:
    """By its name."""
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def unpack(archive: Path, cache: Path) -> Path:
    """The folder with what is in the archive, unpacked now or by an earlier run.

    UsageError for an archive that is damaged or not to be trusted: nothing of it is left then.
    """
    folder = cache / f"{archive.name}-{fingerprint([archive])}"
    if not folder.is_dir():
        temporary = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            _write(archive, temporary)
            temporary.replace(folder)
        except _DAMAGED as error:
            raise UsageError(f"{shown(archive)} is no whole archive ({error}). Get it again.") from error
        except OSError as error:
            raise OutputError(f"{shown(archive)} cannot be unpacked: {error.strerror or error}.") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    inside = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _write(archive: Path, folder: Path) -> None:
    with _open(archive) as opened:
        members = list(_members(opened))
        for member in members:
            _check(member, archive)
        folder.mkdir(parents=True)
        need, free = sum(member.size for member in members), shutil.disk_usage(folder).free
        if need > free:
            raise UsageError(f"{shown(archive)} unpacks to {need / 1e9:.1f} GB; {free / 1e9:.1f} GB are free.")
        for member in members:
            if not member.folder:
                target = folder / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                with _content(opened, member) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, _BLOCK)


def _open(archive: Path) -> zipfile.ZipFile | tarfile.TarFile:
    return zipfile.ZipFile(archive) if archive.suffix.lower() == ".zip" else tarfile.open(archive)


def _members(opened: zipfile.ZipFile | tarfile.TarFile) -> Iterator[_Member]:
    if isinstance(opened, zipfile.ZipFile):
        for info in opened.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where it was packed on Windows
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            yield _Member(info.filename, info.file_size, plain, info.is_dir(), info)
    else:
        for entry in opened.getmembers():
            yield _Member(entry.name, entry.size, entry.isfile() or entry.isdir(), entry.isdir(), entry)


def _check(member: _Member, archive: Path) -> None:
    paths = (PurePosixPath(member.name), PureWindowsPath(member.name))
    leaves = any(path.is_absolute() or path.drive or ".." in path.parts for path in paths)
    if leaves or not member.plain:
        what = "leads out of the folder it is unpacked into" if leaves else "is a link or a device"
        raise UsageError(f"{shown(archive)} is not unpacked: {shown(member.name)} in it {what}.")


def _content(opened: zipfile.ZipFile | tarfile.TarFile, member: _Member) -> IO[bytes]:
    if isinstance(opened, zipfile.ZipFile):
        assert isinstance(member.key, zipfile.ZipInfo)
        return opened.open(member.key)
    assert isinstance(member.key, tarfile.TarInfo)
    content = opened.extractfile(member.key)
    assert content is not None, "files alone come here"
    return content
