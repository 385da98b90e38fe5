"""Pictures laid out to be read without decoding: bytes in .npy files, mapped into memory, and an index in JSON.

A folder holds `hr-000.npy`, `hr-001.npy`, ... (one-dimensional uint8: the pictures one after the other, rows of RGB),
`lr-000.npy`, ... where there is a low resolution, and `index.json`: for each picture its name, the file it is of, and
[file, offset, height, width] of each. A folder under its final name is whole.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from upscale_cli.errors import OutputError, UsageError
from upscale_cli.evaluate import Pixels
from upscale_cli.media.paths import shown
from upscale_cli.train.data.pictures import Picture

INDEX = "index.json"
VERSION = 1
FILE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class About:
    """What a folder of shards says of itself."""

    fingerprint: str
    """Of the files it was made of and of how they were cut."""
    factor: int
    """HR to LR; 0 where there is no LR."""
    sharpened: bool = False
    paired: bool = False
    """LR are pictures of their own, not made of HR."""


@dataclass(frozen=True, slots=True)
class Shards:
    """A folder of shards, opened: its pixels are read as they are touched."""

    about: About
    pictures: tuple[Picture, ...]
    files: tuple[str, ...]
    """What each picture is a part of."""


def fingerprint(files: Iterable[Path], *settings: object) -> str:
    """Changes when a file changes, is renamed, or is cut in another way; reads no pixel."""
    digest = hashlib.sha256(repr((VERSION, settings)).encode())
    for path in files:
        status = path.stat()
        digest.update(repr((path.name, status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()[:32]


class ShardWriter:
    """A folder of shards in the making, under a temporary name until all went well."""

    def __init__(self, folder: Path, about: About) -> None:
        self._folder, self._about = folder, about
        self._temporary = folder.with_name(f".{folder.name}.part")
        self._tracks = {name: _Track(self._temporary, name) for name in ("hr", "lr")}
        self._pictures: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        if not replaceable(self._folder):
            raise UsageError(f"{shown(self._folder)} exists and holds no shards. Choose another -o.")
        shutil.rmtree(self._temporary, ignore_errors=True)
        try:
            self._temporary.mkdir(parents=True)
        except OSError as error:
            raise OutputError(f"{shown(self._folder)} cannot be written: {error.strerror}.") from error
        return self

    def add(self, picture: Picture, file: str) -> None:
        """`file` is what the picture is a part of."""
        try:
            places = {"hr": self._tracks["hr"].add(picture.hr)}
            if picture.lr is not None:
                places["lr"] = self._tracks["lr"].add(picture.lr)
        except OSError as error:
            raise OutputError(f"{shown(self._folder)} cannot be written: {error.strerror}.") from error
        self._pictures.append({"name": picture.name, "file": file, **places})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for track in self._tracks.values():
            track.close()
        if kind is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            return
        about = {"upscale_shards": VERSION, **{name: getattr(self._about, name) for name in About.__slots__}}
        head = json.dumps(about)[1:-1]
        rows = ",\n".join(json.dumps(row) for row in self._pictures)  # a line each, for people and their tools
        (self._temporary / INDEX).write_text(f'{{{head}, "pictures": [\n{rows}\n]}}\n', "utf-8")
        if self._folder.exists():
            shutil.rmtree(self._folder)
        self._temporary.replace(self._folder)


class _Track:
    """The .npy files of one resolution; a new one is begun where the last is full."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._file: IO[bytes] | None = None
        self._number, self._bytes = -1, 0

    def add(self, image: Pixels) -> list[int]:
        if self._file is None or self._bytes + image.size > FILE_BYTES:
            self.close()
            self._number, self._bytes = self._number + 1, 0
            self._file = (self._folder / f"{self._name}-{self._number:03}.npy").open("wb")
            self._write_header()
        at = self._bytes
        self._file.write(np.ascontiguousarray(image).data)
        self._bytes += image.size
        return [self._number, at, *image.shape[:2]]

    def close(self) -> None:
        if self._file is None:
            return
        with self._file as file:
            file.seek(0)
            self._write_header()
        self._file = None

    def _write_header(self) -> None:
        # numpy leaves room for the length to grow, so that the header of the whole fits over that of nothing.
        assert self._file is not None
        header = {"descr": "|u1", "fortran_order": False, "shape": (self._bytes,)}
        np.lib.format.write_array_header_1_0(self._file, header)


def replaceable(folder: Path) -> bool:
    """Whether nothing but shards is lost where `folder` is written."""
    return not folder.exists() or (folder.is_dir() and (is_shards(folder) or not any(folder.iterdir())))


def is_shards(path: Path) -> bool:
    """Whether a folder was written by `upscale train prepare`."""
    return (path / INDEX).is_file() and (path / "hr-000.npy").is_file()


def open_shards(folder: Path) -> Shards:
    """UsageError where something is missing or cut short; no pixel is read."""
    try:
        index = json.loads((folder / INDEX).read_text("utf-8"))
        if index["upscale_shards"] != VERSION:
            raise ValueError(f"version {index['upscale_shards']}")
        about = About(**{name: index[name] for name in About.__slots__})
        mapped: dict[str, Pixels] = {}
        pictures = tuple(_picture(row, folder, mapped) for row in index["pictures"])
        return Shards(about, pictures, tuple(row["file"] for row in index["pictures"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{shown(folder)} is no whole folder of shards ({error}). Make it again with `upscale train prepare`."
        ) from error


def _picture(row: dict[str, Any], folder: Path, mapped: dict[str, Pixels]) -> Picture:
    def pixels(track: str) -> Pixels:
        number, at, height, width = row[track]
        name = f"{track}-{number:03}.npy"
        if name not in mapped:
            mapped[name] = np.asarray(np.load(folder / name, mmap_mode="r"))
        return mapped[name][at : at + height * width * 3].reshape(height, width, 3)

    return Picture(row["name"], pixels("hr"), pixels("lr") if "lr" in row else None)


@dataclass(frozen=True, slots=True)
class Cut:
    """How pictures become sub-images, in HR pixels; `side_px` 0 leaves them whole."""

    side_px: int = 480
    step_px: int = 240

    def parts(self, picture: Picture, factor: int) -> Iterable[Picture]:
        """Sub-images from corner to corner, the last of a row flush with the edge; places are multiples of factor."""
        side, step = self.side_px // factor, max(1, self.step_px // factor)
        height, width = (length // factor for length in picture.hr.shape[:2])
        for top in _starts(height, side, step):
            for left in _starts(width, side, step):
                rows, columns = (slice(at, at + side if side else None) for at in (top, left))
                name = f"{picture.name}@{left * factor},{top * factor}" if side else picture.name
                lr = None if picture.lr is None else picture.lr[rows, columns]
                yield Picture(name, _scaled(picture.hr, rows, columns, factor), lr)


def _scaled(image: Pixels, rows: slice, columns: slice, factor: int) -> Pixels:
    rows, columns = (
        slice(each.start * factor, None if each.stop is None else each.stop * factor) for each in (rows, columns)
    )
    return image[rows, columns]


def _starts(length: int, side: int, step: int) -> list[int]:
    if not side or length <= side:
        return [0]
    starts = list(range(0, length - side + 1, step))
    return starts if starts[-1] + side == length else [*starts, length - side]


def write_shards(
    folder: Path, pictures: Iterable[Picture], about: About, cut: Cut, tell: Callable[[str], None] = lambda _: None
) -> int:
    """Cut and write; how many sub-images there are. `tell` hears the name of each picture that is done."""
    count = 0
    with ShardWriter(folder, about) as writer:
        for picture in pictures:
            for part in cut.parts(picture, max(1, about.factor)):
                writer.add(part, picture.name)
                count += 1
            tell(picture.name)
    return count
