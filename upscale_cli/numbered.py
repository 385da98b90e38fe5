"""Numbered pictures: many files under one name, such as `shots/%06d.png`, and how far a run came that makes them.

Counts files and opens no picture.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

_NUMBER = re.compile(r"%(0\d{1,2})?d")


@dataclass(frozen=True, slots=True)
class Numbered:
    """A name with a place for a number, as `printf` has it: `%06d` is 000001, `%d` is 1."""

    path: Path
    before: str
    digits: int
    after: str

    @classmethod
    def of(cls, path: Path) -> "Numbered | None":
        """None for any other name, and where a file has this very name."""
        found = list(_NUMBER.finditer(path.name))
        if len(found) != 1 or os.path.lexists(path):
            return None
        start, end = found[0].span()
        return cls(path, path.name[:start], int(found[0][1] or 1), path.name[end:])

    @property
    def title(self) -> str:
        """What the pictures are called together: their name without number and ending, or else their folder's."""
        rest = (self.before + Path(self.after).stem * bool(Path(self.after).suffix)).strip(" ._-")
        return rest or Path(os.path.realpath(self.path.parent)).name or "frames"

    def file(self, number: int) -> Path:
        return self.path.parent / f"{self.before}{number:0{self.digits}}{self.after}"

    def number(self, name: str) -> int | None:
        """Of the file with this name; None if it is none of these."""
        found = re.fullmatch(f"{re.escape(self.before)}([0-9]{{{self.digits},}}){re.escape(self.after)}", name)
        return int(found[1]) if found and self.file(int(found[1])).name == name else None

    def files(self) -> dict[int, Path]:
        """Those that are there, in the order of their numbers."""
        try:
            found = {
                number: path for path in self.path.parent.iterdir() if (number := self.number(path.name)) is not None
            }
        except OSError:
            return {}
        return dict(sorted(found.items()))

    def stamp(self) -> tuple[int, int]:
        """Bytes of all and the latest time of one, in ns. FileNotFoundError where there is none, or not all yet."""
        found = [path.stat() for path in self.files().values()]
        if not found or Log(self.path).unfinished:
            raise FileNotFoundError(2, "no such pictures", str(self.path))
        return sum(status.st_size for status in found), max(status.st_mtime_ns for status in found)


class Log:
    """The pictures of an output that is being made, a line each; a hidden file beside them, gone when all are there."""

    def __init__(self, target: Path, key: str = "") -> None:
        """`key` is what decides the pictures, in a word."""
        self._path = target.parent / f".{target.name}.made"
        self._numbered = Numbered.of(target)
        self._key = json.dumps(key)

    @property
    def unfinished(self) -> bool:
        return self._path.exists()

    def made(self) -> dict[int, tuple[int, ...]]:
        """The pictures from the first on that are there, made for this key: numbers, and what was noted of each."""
        return dict(self._whole())

    def prepare(self, keep: int) -> bool:
        """Begin, or go on after the first `keep`; True where another key left some. May raise OSError."""
        other = self.unfinished and self._lines()[:1] != [self._key]
        made = [[number, *mark] for number, mark in self.made().items()][:keep]
        with self._path.with_suffix(".new").open("w", encoding="ascii") as file:
            _write(file, "\n".join([self._key, *map(json.dumps, made)]) + "\n")
        self._path.with_suffix(".new").replace(self._path)
        return other

    def add(self, number: int, mark: tuple[int, ...]) -> None:
        """This picture has its name and is on the disk. May raise OSError."""
        with self._path.open("a", encoding="ascii") as file:
            _write(file, json.dumps([number, *mark]) + "\n")

    def finish(self) -> None:
        """All are there."""
        self._path.unlink(missing_ok=True)

    def _whole(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        lines = self._lines()
        if self._numbered is None or lines[:1] != [self._key]:
            return
        for line in lines[1:]:
            number, *mark = json.loads(line)
            if not self._numbered.file(number).exists():
                return
            yield number, tuple(mark)

    def _lines(self) -> list[str]:
        try:
            return self._path.read_text("ascii").rpartition("\n")[0].splitlines()  # a kill may have torn the last one
        except (OSError, UnicodeDecodeError):
            return []


def _write(file: TextIO, text: str) -> None:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
