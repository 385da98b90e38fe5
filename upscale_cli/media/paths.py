"""From words on the command line to picture files, and from pictures to the names of their outputs.

Owns what is a picture by its name, how folders are walked, file name templates, collisions, and how a name is shown.
Opens no picture and writes nothing.
"""

import glob
import hashlib
import os
import secrets
import stat
import string
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from upscale_cli.errors import UsageError
from upscale_cli.numbered import Log, Numbered

PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".tif", ".tiff", ".webp"}
    | {".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".jxl", ".jp2", ".exr", ".hdr"}
)
"""Files in a folder with these endings are taken for pictures; what they really are is decided by their content."""

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob", ".wmv", ".flv"}
    | {".3gp", ".3g2", ".ogv", ".mxf", ".nut", ".y4m", ".asf", ".f4v"}
)
"""The same for videos."""

RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef"}
    | {".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"}
)
"""The same for camera RAW."""

PLACEHOLDERS = ("stem", "model", "style", "scale", "width", "height")
NAME_BYTES = 255

CollisionRule = Literal["rename", "skip", "error"]


@dataclass(frozen=True, slots=True)
class Found:
    """A file taken for a picture, and the folder it stood in below the folder the user named (`.` for that itself)."""

    path: Path
    below: Path
    named: bool
    """The user named this very file, not a folder with it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Something the user named or a folder held that is no readable picture file."""

    path: Path
    reason: str
    failed: bool
    """Counts as a failure; False for what a folder merely happens to hold."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What the words of the command line stand for."""

    pictures: tuple[Found, ...]
    refused: tuple[Refused, ...]
    results: int
    """Pictures left out because an earlier run made them."""
    folders: int
    """Folders not entered for want of --recursive."""


def no_results(_folder: Path) -> Collection[Path]:
    """The answer of a folder that no run has written to."""
    return ()


def find_pictures(
    words: Sequence[str],
    *,
    recursive: bool = False,
    leave_out: Path | None = None,
    results_in: Callable[[Path], Collection[Path]] = no_results,
) -> Listing:
    """Expand files, folders and glob patterns, in the order given, names sorted; every file and folder once.

    Numbered pictures such as `shots/%06d.png` are one input, a film.

    Folders are entered one level deep, or to the bottom with `recursive`. Not entered: hidden files and folders,
    `leave_out` (the output folder) inside a named folder, and a folder already seen, so that a loop of symbolic links
    ends. `results_in(folder)` gives the files an earlier run wrote there; they are no input unless named.
    """
    walk = _Walk(recursive, leave_out, results_in)
    for word in words:
        if numbered := Numbered.of(Path(word)):
            walk.numbered(numbered)
            continue
        # The pattern may be absolute and cross folders, which Path.glob does not take.
        matches = [word] if os.path.lexists(word) else sorted(glob.glob(word, recursive=True))  # noqa: PTH207
        if not matches:
            pattern = glob.has_magic(word)
            reason = "no file matches this pattern" if pattern else "there is no such file or folder"
            walk.refused.append(Refused(Path(word), reason, failed=True))
        for match in matches:
            walk.add(Path(match))
    return Listing(tuple(walk.pictures), tuple(walk.refused), walk.results, walk.folders)


def picture_files(path: Path) -> list[Path]:
    """The picture files directly in a folder, sorted by name, or the one file given. Hidden files are left out."""
    return [found.path for found in find_pictures([os.fspath(path)]).pictures]


class _Walk:
    """One expansion: what was found, and what was seen already."""

    def __init__(self, recursive: bool, leave_out: Path | None, results_in: Callable[[Path], Collection[Path]]) -> None:
        self.recursive = recursive
        self.leave_out = os.path.realpath(leave_out) if leave_out is not None else None
        self.results_in = results_in
        self.pictures: list[Found] = []
        self.refused: list[Refused] = []
        self.results = 0
        self.folders = 0
        self._files: set[str] = set()
        self._entered: set[tuple[int, int]] = set()
        self._made: set[str] = set()

    def add(self, path: Path) -> None:
        """Something named by the user."""
        if _is_folder(path):
            self._folder(path, Path())
        else:
            self._file(Found(path, Path(), named=True))

    def numbered(self, pictures: Numbered) -> None:
        """Numbered pictures, which are one input."""
        reason = "no picture has such a name" if not pictures.files() else ""
        if Log(pictures.path).unfinished:
            reason = "not all of them are made yet. The command that makes them goes on with that"
        if reason:
            self.refused.append(Refused(pictures.path, reason, failed=True))
        else:
            self.pictures.append(Found(pictures.path, Path(), named=True))

    def _folder(self, folder: Path, below: Path) -> None:
        try:
            status = folder.stat()
            visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        except OSError as error:
            self.refused.append(Refused(folder, _words(error), failed=True))
            return
        if (status.st_dev, status.st_ino) in self._entered:
            return
        self._entered.add((status.st_dev, status.st_ino))
        made = [name for path in self.results_in(folder) for name in (path, compared(path))]
        self._made.update(map(os.path.realpath, made))
        folders = [path for path in visible if _is_folder(path)]
        for path in sorted(set(visible).difference(folders)):
            self._file(Found(path, below, named=False))
        # Real folders before links to folders: what both reach keeps the name of the real one.
        for path in sorted(folders, key=Path.is_symlink):
            self._subfolder(path, below / path.name)

    def _subfolder(self, folder: Path, below: Path) -> None:
        if os.path.realpath(folder) == self.leave_out:
            return
        if self.recursive:
            self._folder(folder, below)
        elif folder.suffix.lower() in PICTURE_SUFFIXES:
            self.refused.append(Refused(folder, "a folder, not a file (-r enters it)", failed=False))
        else:
            self.folders += 1

    def _file(self, found: Found) -> None:
        suffix = found.path.suffix.lower()
        # Not resolved: a link is a picture under its own name.
        absolute = os.path.abspath(found.path)  # noqa: PTH100
        if absolute in self._files or not (found.named or suffix in PICTURE_SUFFIXES | VIDEO_SUFFIXES | RAW_SUFFIXES):
            return
        if not found.named and self._made and os.path.realpath(found.path) in self._made:
            self.results += 1
            return
        self._files.add(absolute)
        reason = _no_picture(found.path)
        if reason:
            self.refused.append(Refused(found.path, reason, failed=found.named))
        else:
            self.pictures.append(found)


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError:  # whatever is wrong with it is said when it is taken for a file
        return False


def _no_picture(path: Path) -> str | None:
    """Why a file cannot be a picture this program reads, without opening it: opening a FIFO would wait for ever."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return _words(error)
    if not stat.S_ISREG(mode):
        kinds = ((stat.S_ISFIFO, "FIFO"), (stat.S_ISSOCK, "socket"), (stat.S_ISDIR, "folder"))
        return f"a {next((kind for test, kind in kinds if test(mode)), 'device')}, not a file"
    return None


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def check_template(template: str) -> None:
    """UsageError unless `template` makes file names from PLACEHOLDERS, such as `{stem}_x{scale}`."""
    known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
        unknown = next((field for field in fields if field not in PLACEHOLDERS), None)
        if unknown is not None:
            raise UsageError(f"--name has the placeholder {{{unknown}}}, which is not known. Use {known}.")
        sample = fill_template(template, stem="a", model="a", style="a", scale=2, width=1, height=1)
    except ValueError as error:
        raise UsageError(f"--name {template!r} is not a template: {error}. Use {known}.") from error
    if not sample.strip(". ") or "/" in sample or os.sep in sample or "\0" in sample:
        raise UsageError(f"--name {template!r} does not make a file name. Folders are chosen with -o.")
    if Path(template).suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES:
        raise UsageError(f"--name {template!r} ends in a format. Leave it out, and choose the format with -f.")


def fill_template(
    template: str, *, stem: str, model: str, scale: float, width: int, height: int, style: str = ""
) -> str:
    """The name, without its ending. ValueError for a broken template."""
    return template.format(stem=stem, model=model, style=style, scale=f"{scale:.4g}", width=width, height=height)


def shorten(stem: str, suffix: str, *, limit: int = NAME_BYTES) -> str:
    """`stem + suffix`, or where that is over `limit` bytes the start of the stem, a hash of it all, and the suffix."""
    if len(os.fsencode(stem + suffix)) <= limit:
        return stem + suffix
    mark = "~" + hashlib.sha256(os.fsencode(stem)).hexdigest()[:8] + suffix
    while len(os.fsencode(stem + mark)) > limit:
        stem = stem[:-1]
    return stem + mark


def compared(target: Path) -> Path:
    """Where a result is beside its source: a picture of both, which is a result too."""
    return target.with_name(shorten(f"{target.stem}_compare", ".jpg"))


def temporary(target: Path) -> Path:
    """A hidden name beside the target for what is not whole yet; journal.py knows such names."""
    # 59 characters are at most 236 bytes, so the name stays below the 255 that file systems allow
    return target.parent / f".{target.name[:59]}.{secrets.token_hex(4)}.part"


def choose_targets(
    sources: Sequence[Path], target: Callable[[int, str], Path], *, rule: CollisionRule = "rename"
) -> list[Path | None]:
    """An output for every source such that no two fall together, not even where upper and lower case are one.

    `target(index, addition)` is the wanted output with `addition` behind the source's stem. Where several sources
    want one output, `rename` adds their own endings (`a_jpg`, `a_png`) or a number, `skip` keeps the first and gives
    None for the others, `error` raises a UsageError that names two of them.
    """
    wanted = [target(index, "") for index in range(len(sources))]
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    parent = _Parents()
    for index, path in enumerate(wanted):
        groups[parent.key(path)].append(index)
    taken = {key for key, members in groups.items() if len(members) == 1}
    chosen: list[Path | None] = list(wanted)
    for members in (members for members in groups.values() if len(members) > 1):
        if rule == "error":
            first, second = (shown(sources[index]) for index in members[:2])
            raise UsageError(
                f"{first} and {second} would both become {shown(wanted[members[0]])}. "
                "Use --on-collision rename or skip, another --name, or another -f."
            )
        for place, index in enumerate(members):
            if rule == "skip":
                chosen[index] = wanted[index] if place == 0 else None
                continue
            additions = _additions([sources[member] for member in members], place)
            paths = (target(index, addition) for addition in additions)
            chosen[index] = path = next(path for path in paths if parent.key(path) not in taken)
            taken.add(parent.key(path))
    return chosen


def _additions(sources: Sequence[Path], place: int) -> Iterator[str]:
    """What may go behind the stem, best first; endings only where they tell the sources apart."""
    ending = "_" + sources[place].suffix[1:].lower()
    if len({source.suffix.lower() for source in sources}) == len(sources):
        yield ending
    else:
        yield ""
    number = 2
    while True:
        yield f"_{number}"
        number += 1


class _Parents:
    """Keys under which two outputs are one file; folders are resolved once."""

    def __init__(self) -> None:
        self._real: dict[Path, str] = {}

    def key(self, path: Path) -> tuple[str, str]:
        if path.parent not in self._real:
            self._real[path.parent] = os.path.realpath(path.parent)
        return self._real[path.parent], unicodedata.normalize("NFC", path.name).casefold()


def cannot_write(folder: Path) -> str | None:
    """Why `folder` cannot be made or written, as far as can be told without trying."""
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return f"{shown(folder)} cannot be made: {shown(place)} is not a folder"
    if not os.access(place, os.W_OK | os.X_OK):
        return f"{shown(folder)} cannot be written: no permission for {shown(place)}"
    return None


def shown(path: Path | str) -> str:
    """A name as one printable line: control characters, line breaks and bytes that are no UTF-8 become escapes."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def without_name(message: str, path: Path) -> str:
    """A message about one file, for a place where its name already stands."""
    return message.removeprefix(f"{shown(path)}: ")
