"""What a run has finished, so that the next one goes on where it stopped.

A hidden file in the output folder: one JSON line a finished picture, on the disk before the next is noted, so that a
killed run loses no more than what it was at. Runs that share the work write a file each and read all of them. Owns
these files, the locks that keep two runs apart, and the question whether an output is what given settings make of an
input. Knows no network and decodes no picture.
"""

import contextlib
import hashlib
import json
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from upscale_cli.errors import OutputError
from upscale_cli.numbered import Numbered

FILE_NAME = ".upscale-journal.jsonl"
LOCK_NAME = ".upscale-journal.lock"
_SHARE = re.compile(r"\.upscale-journal(?:-\d+-of-(\d+))?\.(?:jsonl|lock)")
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.part", re.DOTALL)

State = Literal["absent", "done", "changed input", "other settings", "unknown"]
"""Of an output: it is not there; it is what these settings make of this input; it was made from an earlier state of
the input; it was made with other settings; nothing here knows it as it is now."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """How a file is recognised without reading it."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        """Of numbered pictures, of all together. OSError if there is no such file, or not all of them yet."""
        if numbered := Numbered.of(path):
            return cls(*numbered.stamp())
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns)


NOTHING = Stamp(-1, -1)


@dataclass(frozen=True, slots=True)
class Record:
    """One picture, noted when it is begun and again when it is finished; names are relative to the journal's folder."""

    source: str
    source_size: int
    source_mtime_ns: int
    source_sha256: str
    target: str
    target_size: int
    """Of the output; in a note of the beginning, of what stood there before (-1 for nothing). So is the time."""
    target_mtime_ns: int
    settings: str
    """Fingerprint of all that decides the output, besides the input."""
    height: int
    """Of the output in pixels."""
    width: int
    engine: str = ""
    """What made it and where, for the next forecast; empty in a note of the beginning."""
    seconds: float = 0.0
    pixels: int = 0
    """Of the input, over all frames."""
    missing: str = ""
    """What the input promised and did not hold."""
    noted_ns: int = 0
    """When, so that of two journals the later one counts."""

    def made(self, path: Path) -> bool:
        """Whether the file at `path` is the output, untouched. OSError if there is none."""
        return Stamp.of(path) == Stamp(self.target_size, self.target_mtime_ns)


class Journal:
    """The journal of one output folder; of several lines about one output the last counts.

    `share` names the share of the work that notes here, such as `2-of-8`; what the others noted is known too.
    """

    def __init__(self, folder: Path, share: str = "") -> None:
        self.folder = Path(os.path.realpath(folder))
        self.path = self.folder / _of_share(FILE_NAME, share)
        self.records = _read(self.folder)
        self._begun: dict[str, Record] = {}

    def state(self, source: Path, target: Path, settings: str, *, height: int, width: int) -> State:
        """What there is at `target`; `height` and `width` are those of the source as it is.

        Where the output replaces the input, a picture that no run has made is `absent`.
        """
        if not os.path.lexists(target) and _stamp_or_nothing(target) == NOTHING:
            return "absent"
        in_place = source == target
        record = self.records.get(self._name(target))
        try:
            known = record is not None and record.source == self._name(source) and record.made(target)
            if record is None or not known:
                return "absent" if in_place else "unknown"
            if in_place and not record.engine and (record.height, record.width) != (height, width):
                return "absent"  # a run was killed at it before it was replaced, and somebody edited it since
            if record.settings != settings:
                return "other settings"
            return "done" if in_place or _unchanged(source, record) else "changed input"
        except OSError:
            return "unknown"

    def missing(self, target: Path) -> str:
        """What the input of a finished output promised and did not hold."""
        return self.records[self._name(target)].missing

    def begin(self, source: Path, target: Path, settings: str, *, height: int, width: int) -> None:
        """Note that `target` is about to be made, so that a run killed before `finish` is no puzzle. May raise OSError.

        An output appears at once and whole; what stands there after a kill, and was not there before, is finished.
        """
        stamp, before = Stamp.of(source), _stamp_or_nothing(target)
        record = Record(
            source=self._name(source),
            source_size=stamp.size,
            source_mtime_ns=stamp.mtime_ns,
            source_sha256=_sha256(source),
            target=self._name(target),
            target_size=before.size,
            target_mtime_ns=before.mtime_ns,
            settings=settings,
            height=height,
            width=width,
        )
        self._append(record)
        self._begun[record.target] = record

    def finish(
        self, source: Path, target: Path, *, engine: str, seconds: float, pixels: int, missing: str = ""
    ) -> bool:
        """Note that what was begun is there; False, and no note, if the input has changed meanwhile. May raise OSError.

        Returns when the line is on the disk.
        """
        begun = self._begun.pop(self._name(target))
        if source != target and Stamp.of(source) != Stamp(begun.source_size, begun.source_mtime_ns):
            return False
        after = Stamp.of(target)
        record = replace(
            begun,
            target_size=after.size,
            target_mtime_ns=after.mtime_ns,
            engine=engine,
            seconds=round(seconds, 3),
            pixels=pixels,
            missing=missing,
        )
        self._append(record)
        self.records[record.target] = record
        return True

    def confirm(self, target: Path) -> None:
        """Note what a killed run finished and could not note any more. A journal that cannot be written stays as it is.

        From here on a change by somebody else can be told from the output as it was made.
        """
        record = self.records[self._name(target)]
        if not record.engine:
            with contextlib.suppress(OSError):
                self._append(replace(record, engine="unknown"))

    def seconds_per_pixel(self, engine: str) -> float | None:
        """How fast `engine` was here, if it ever ran."""
        known = [record for record in self.records.values() if record.engine == engine and record.pixels > 0]
        pixels = sum(record.pixels for record in known)
        return sum(record.seconds for record in known) / pixels if pixels else None

    def _append(self, record: Record) -> None:
        # ASCII with escapes, so that names that are no UTF-8 come back as they were. One write: two threads note here.
        line = json.dumps(asdict(replace(record, noted_ns=time.time_ns()))).encode("ascii") + b"\n"
        with self.path.open("ab") as file:
            if file.tell() and not _ends_line(self.path):
                line = b"\n" + line  # a killed run tore its last line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _name(self, path: Path) -> str:
        place = Path(os.path.realpath(path.parent)) / path.name
        try:
            return os.path.relpath(place, self.folder)
        except ValueError:  # another drive
            return str(place)


def results_in(folder: Path) -> list[Path]:
    """The outputs the journals of `folder` list that are still there as they were made; none if it has no journal."""
    results: dict[Path, None] = {}
    for _ in range(2):  # what another run replaced while we looked is what the journal says when it is read again
        records = [record for record in _read(folder).values() if record.source != record.target]
        gone = len(records)
        for record in records:
            with contextlib.suppress(OSError):  # removed since: no result any more
                target = folder / record.target
                if record.made(target):
                    numbered = Numbered.of(target)
                    results |= dict.fromkeys(numbered.files().values() if numbered else [target])
                    gone -= 1
        if not gone:
            break
    return list(results)


def remove_remains(targets: Iterable[Path]) -> None:
    """Remove the temporaries that killed runs left beside these outputs. Only for who holds the folder's lock.

    Other files, and the temporaries of outputs that are not asked for, stay. A folder that cannot be read is passed
    over: writing into it will tell.
    """
    stems: dict[Path, set[str]] = defaultdict(set)
    several: dict[Path, list[Numbered]] = defaultdict(list)
    for target in targets:
        stems[target.parent].add(target.name[:59])  # as ImageSink cuts them
        several[target.parent] += filter(None, [Numbered.of(target)])
    for folder, names in stems.items():
        with contextlib.suppress(OSError):
            for path in list(folder.iterdir()):
                found = _TEMPORARY.fullmatch(path.name)
                if found and (found[1] in names or any(one.number(found[1]) is not None for one in several[folder])):
                    path.unlink()


@contextlib.contextmanager
def locked(folder: Path, share: str = "", *, waiting: Callable[[Path], None]) -> Iterator[None]:
    """Hold `folder`, which is made if need be, against other runs; while one has it, say so by `waiting` and wait.

    Other shares of the same work (`2-of-8` beside `3-of-8`) may hold it at the same time, since none wants what another
    makes. OutputError if the folder cannot be made or written.
    """
    own = folder / _of_share(LOCK_NAME, share)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            lock = _acquired(own, waiting)
            # Looked at only while our own is held: of two runs that come at once each sees the other.
            rival = next((path for path in _rivals(folder, own) if not _free(path)), None)
            if rival is None:
                break
            _give_up(lock, own)
            _give_up(_acquired(rival, waiting), rival)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"{folder} cannot be written: {reason}. Choose another output folder with -o.") from error
    try:
        yield
    finally:
        _give_up(lock, own)


def _acquired(path: Path, waiting: Callable[[Path], None]) -> FileLock:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting(path.parent)
        lock.acquire()
    return lock


def _give_up(lock: FileLock, path: Path) -> None:
    # Removed while it is held: who opened it meanwhile finds it gone and opens the new one. Elsewhere than on POSIX an
    # open file cannot be removed; it stays, hidden and empty.
    with contextlib.suppress(OSError):
        path.unlink()
    lock.release()


def _rivals(folder: Path, own: Path) -> Iterator[Path]:
    """The locks of runs that may want the same outputs: all but those of the other shares of the same work."""
    ours = _SHARE.fullmatch(own.name)
    for path in folder.glob(".upscale-journal*.lock"):
        theirs = _SHARE.fullmatch(path.name)
        if ours and theirs and path != own and (ours[1] is None or ours[1] != theirs[1]):
            yield path


def _free(path: Path) -> bool:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    _give_up(lock, path)
    return True


def _of_share(name: str, share: str) -> str:
    stem, ending = name.rsplit(".", 1)
    return f"{stem}-{share}.{ending}" if share else name


def _read(folder: Path) -> dict[str, Record]:
    """The finished outputs by name, those included that a killed run finished and could not note any more."""
    finished: dict[str, Record] = {}
    begun: dict[str, Record] = {}
    for record in _lines(folder):
        if record.engine:
            finished[record.target] = record
            begun.pop(record.target, None)
        else:
            begun[record.target] = record
    for name, record in begun.items():
        after, before = _stamp_or_nothing(folder / name), Stamp(record.target_size, record.target_mtime_ns)
        if after not in (before, NOTHING):
            finished[name] = replace(record, target_size=after.size, target_mtime_ns=after.mtime_ns)
    return finished


def _lines(folder: Path) -> list[Record]:
    """Of all journals in the folder, as they were noted."""
    records: list[Record] = []
    names = [field.name for field in fields(Record)]
    for path in folder.glob(".upscale-journal*.jsonl"):
        if not _SHARE.fullmatch(path.name):
            continue
        try:
            lines = path.read_bytes().splitlines()
        except OSError:  # none we may read: nothing is known
            continue
        latest = 0  # within a file its order counts, whatever became of the clock
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # torn by a kill, or from another version
                row = json.loads(line)
                record = Record(**{name: row[name] for name in names if name in row})
                latest = max(latest, record.noted_ns)
                records.append(replace(record, noted_ns=latest))
    return sorted(records, key=lambda record: record.noted_ns)


def _stamp_or_nothing(path: Path) -> Stamp:
    try:
        return Stamp.of(path)
    except (FileNotFoundError, NotADirectoryError):
        return NOTHING


def _unchanged(source: Path, record: Record) -> bool:
    """By size and time; where only the time is another, by content (it was copied, or checked out again)."""
    stamp = Stamp.of(source)
    if stamp.size != record.source_size:
        return False
    return stamp.mtime_ns == record.source_mtime_ns or _sha256(source) == record.source_sha256


def _sha256(path: Path) -> str:
    if numbered := Numbered.of(path):  # to read all of them would take as long as decoding them
        return hashlib.sha256(repr(numbered.stamp()).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
