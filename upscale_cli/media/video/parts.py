"""The parts of a video in the making: packets on the disk, whole or not there, so that a killed run goes on after them.

A hidden folder beside the output. A part is two files: its packets one behind the other, and an index, which takes its
name last and once everything is on the disk. Knows no codec.
"""

import json
import os
import shutil
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from upscale_cli.media.job import Reached
from upscale_cli.media.paths import shorten

_KEY = "key"
_PART_PIXELS = 500_000_000  # seconds of work where a network makes them, and some keyframes more than a whole film has
_FEWEST, _MOST = 24, 250


@dataclass(frozen=True, slots=True)
class Part:
    """The index of one part; times in the time base of the video."""

    number: int
    headers: str
    """Of the encoder, hexadecimal: those of parts that belong together are the same."""
    end: int
    """When its last frame ends."""
    times: list[int]
    """When each packet is shown, in the order of decoding; one packet a frame."""
    sizes: list[int]
    """Bytes of each packet."""
    keys: list[int]
    """Which packets can be begun with."""
    mark: list[int] = field(default_factory=list)
    """Of its last frame, as the source gave it."""


class Parts:
    """What there is of one output so far, made for one `key`: all that decides its packets, in a word."""

    def __init__(self, target: Path, key: str) -> None:
        self.folder = folder_of(target)
        self.key = f"{key} {version('av')}"  # other encoders make other packets

    def reached(self) -> Reached:
        """The frames in the parts that are whole, from the beginning on."""
        frames, mark = 0, ()
        for part in self.whole():
            frames, mark = frames + len(part.times), tuple(part.mark)
        return Reached(frames, mark)

    def size(self) -> int:
        """Of the packets."""
        return sum(sum(part.sizes) for part in self.whole())

    def whole(self) -> Iterator[Part]:
        """The parts in order, up to the first that is not whole."""
        if not self.ours():
            return
        number = 0
        while (index := self._index(number)).exists():
            try:
                part = Part(**json.loads(index.read_bytes()))
                if self._packets(number).stat().st_size != sum(part.sizes):
                    return
            except (OSError, ValueError, TypeError):
                return  # not as it was written: made again
            yield part
            number += 1

    def ours(self) -> bool:
        """Whether what lies there was made for this key."""
        try:
            return (self.folder / _KEY).read_text("ascii") == self.key
        except (OSError, UnicodeDecodeError):
            return False

    def prepare(self) -> bool:
        """Make the folder, without what was made for another key; True where there was such. May raise OSError."""
        other = self.folder.exists() and not self.ours()
        if other:
            shutil.rmtree(self.folder)
        if not self.folder.exists():
            self.folder.mkdir()
            (self.folder / _KEY).write_text(self.key, "ascii")
        return other

    def packets(self, part: Part) -> Iterator[bytes]:
        """The packets of a part. EOFError where some are gone."""
        with self._packets(part.number).open("rb") as file:
            for size in part.sizes:
                packet = file.read(size)
                if len(packet) != size:
                    raise EOFError(f"{self._packets(part.number)} is too short")
                yield packet

    def remove(self) -> None:
        """All of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _index(self, number: int) -> Path:
        return self.folder / f"{number:06}.json"

    def _packets(self, number: int) -> Path:
        return self.folder / f"{number:06}.packets"


class PartWriter:
    """A part in the making; what was not closed by `finish` is no part."""

    def __init__(self, parts: Parts, number: int) -> None:
        self.number = number
        self.bytes = 0
        self._parts = parts
        self._times, self._sizes, self._keys = array("q"), array("q"), array("b")
        self._file = parts._packets(number).open("wb")

    def add(self, packet: bytes, *, time: int, key: bool) -> None:
        """The next packet in the order of decoding. May raise OSError."""
        self._file.write(packet)
        self.bytes += len(packet)
        self._times.append(time)
        self._sizes.append(len(packet))
        self._keys.append(key)

    def finish(self, headers: bytes, end: int, mark: tuple[int, ...]) -> None:
        """From here on it is there, whatever happens to this process. May raise OSError."""
        _to_disk(self._file)
        part = Part(self.number, headers.hex(), end, list(self._times), list(self._sizes), list(self._keys), list(mark))
        index = self._parts._index(self.number)
        with index.with_suffix(".new").open("w", encoding="ascii") as file:
            json.dump(asdict(part), file)
            _to_disk(file)
        index.with_suffix(".new").replace(index)

    def abandon(self) -> None:
        """Let go of what is not whole."""
        self._file.close()


def frames_a_part(height: int, width: int, asked: int | None) -> int:
    """Frames of a part of a film of this size, unless another number is asked for."""
    return asked or min(_MOST, max(_FEWEST, _PART_PIXELS // (height * width)))


def folder_of(target: Path) -> Path:
    """Where the parts of an output lie."""
    return target.parent / shorten(f".{target.name}", ".parts")


def decoding_times(times: Sequence[int], *, strict: bool) -> list[int]:
    """For every packet when it is decoded: rising, and never after it is shown.

    As many packets are decoded ahead as the order of `times` takes; those before the first time count down from it, or,
    where a container allows equal times (not `strict`) and no negative ones, wait at it.
    """
    shown = sorted(times)
    place = {time: index for index, time in enumerate(shown)}
    ahead = max((index - place[time] for index, time in enumerate(times)), default=0)
    step = shown[1] - shown[0] if len(shown) > 1 else 1
    first = [shown[0] - (ahead - index) * step if strict else shown[0] for index in range(min(ahead, len(shown)))]
    return first + shown[: len(shown) - len(first)]


def _to_disk(file) -> None:  # type: ignore[no-untyped-def]
    file.flush()
    os.fsync(file.fileno())
    file.close()
