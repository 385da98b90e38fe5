"""From what the user named to what a training sees: everything read and checked before the first step."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from upscale_cli.device import free_memory_bytes
from upscale_cli.errors import InputError, OutputError, UsageError
from upscale_cli.evaluate import Pair
from upscale_cli.media.files import probe
from upscale_cli.media.job import PictureOptions
from upscale_cli.media.paths import shown
from upscale_cli.train.config import TrainConfig
from upscale_cli.train.data import hub
from upscale_cli.train.data.archives import is_archive, unpack
from upscale_cli.train.data.layouts import Item, Layout, Wish, recognise, split
from upscale_cli.train.data.patches import DomainSampler, PatchSampler, Sampler
from upscale_cli.train.data.pictures import Making, Picture, read_pair, read_pictures
from upscale_cli.train.data.shards import About, Cut, Shards, fingerprint, is_shards, open_shards, write_shards
from upscale_cli.train.teachers import load_teachers, retouch_by

T = TypeVar("T")

HELD_BACK = "test.csv"
NAMED = 20  # faults that are named; more are counted
_THREADS = 4
_AT_ONCE = 16  # pictures decoded and not yet taken
_OTHER_STREAM = 0x5EED  # keeps the places drawn of the second domain apart from those of the first


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a training sees."""

    sampler: Sampler
    valid: list[Pair]
    """Whole pictures; empty where two domains without pairs have none to compare with."""
    test: tuple[Item, ...] = ()
    """Held back where pictures were split: neither trained nor validated on."""
    notes: tuple[str, ...] = ()
    """What was recognised, and what was left out and why: for the screen."""


def load_data(
    data: Sequence[str],
    valid: Sequence[str],
    config: TrainConfig,
    *,
    scale: int,
    cache: Path,
    rank: int = 0,
    world: int = 1,
) -> TrainingData:
    """What --data and --valid name, for a network of `scale`. UsageError if nothing is left to train on.

    Without `valid`, what the layout keeps for it is taken, or a seeded 15 %. `cache` is a folder for what must be
    unpacked, fetched, or does not fit into memory; it is made when needed. Process `rank` of `world` gets its share of
    every batch.
    """
    return _Loader(config, scale, cache, (rank, world)).load(data, valid)


class _Loader:
    """One reading of everything, with the notes on it."""

    def __init__(self, config: TrainConfig, scale: int, cache: Path, share: tuple[int, int]) -> None:
        self.config, self.scale, self.cache, self.share = config, scale, cache, share
        self.making = Making.of(config, scale)
        if self.making.teacher:
            self.making = replace(self.making, retouch=retouch_by(load_teachers(self.making.teacher, scale)))
        self.wish = Wish(self.making.factor, self.making.degradation, config.expert)
        self.notes: list[str] = []
        self.test: tuple[Item, ...] = ()

    def load(self, data: Sequence[str], valid: Sequence[str]) -> TrainingData:
        """Training pictures and validation pairs."""
        data, valid = located(data, self.cache), located(valid, self.cache)
        shards = _shards(data)
        sampler, held = self._from_shards(shards, bool(valid)) if shards else self._from_files(data, bool(valid))
        if valid:
            held = self._validation(valid)
        return TrainingData(sampler, held, self.test, tuple(self.notes))

    def _from_files(self, data: Sequence[str], valid: bool) -> tuple[Sampler, list[Pair]]:
        layout = recognise(data, self.wish)
        self.notes.append(f"data: {layout.description}")
        if layout.kind == "unpaired":
            return self._domains(layout), [] if valid else self._pairs(layout, layout.valid)
        train, held = layout.items, layout.valid
        if not valid and not held and layout.splits:
            train, held, rest = split(layout.items, self.config.seed)
            self._hold_back(train, held, [item.absolute() for item in self._wanted(layout, rest)])
        return self._sampler(self._pictures(layout, train)), [] if valid else self._pairs(layout, held)

    def _from_shards(self, shards: Shards, valid: bool) -> tuple[Sampler, list[Pair]]:
        files = sorted(set(shards.files))
        self.notes.append(f"data: shards, {len(shards.pictures)} sub-images of {len(files)} pictures")
        pictures = usable(shards, self.making)
        train, held = files, list[str]()
        if not valid:
            train, held, rest = split(files, self.config.seed)
            self._hold_back(train, held, [Item(Path(file)) for file in rest])
        least = self.making.patch_px * self.scale
        of = list(zip(pictures, shards.files, strict=True))
        wanted, unseen = set(train), set(held)
        large = [each for each, file in of if file in wanted and min(each.hr.shape[:2]) >= least]
        if not large:
            raise UsageError(f"No sub-image is {least} x {least}, which a patch needs. Choose a smaller patch_px.")
        pairs = [self.making.pair(each, number) for number, (each, file) in enumerate(of) if file in unseen]
        return self._sampler(large), pairs

    def _validation(self, words: Sequence[str]) -> list[Pair]:
        if shards := _shards(words):
            pictures = usable(shards, replace(self.making, sharpen=shards.about.sharpened))
            return [self.making.pair(picture, number) for number, picture in enumerate(pictures)]
        layout = recognise(words, replace(self.wish, part="valid"))
        return self._pairs(layout, layout.items, layout.faults)

    def _sampler(self, pictures: Sequence[Picture]) -> PatchSampler:
        rank, world = self.share
        return PatchSampler(pictures, self.config, scale=self.scale, rank=rank, world=world)

    def _domains(self, layout: Layout) -> DomainSampler:
        """Pictures of either domain as they are; those of the second `scale` times as large."""
        samplers = []
        for files, config in (
            (layout.sources, self.config),
            (
                [item.hr for item in layout.items],
                replace(self.config, patch_px=self.config.patch_px * self.scale, seed=self.config.seed ^ _OTHER_STREAM),
            ),
        ):
            domain = _Loader(replace(config, preupsample=1), 1, self.cache, self.share)
            items = [Item(file, file) for file in files]
            samplers.append(domain._sampler(domain._pictures(layout, items)))
            self.notes += domain.notes
        return DomainSampler(*samplers)

    def _pictures(self, layout: Layout, items: Sequence[Item]) -> Sequence[Picture]:
        """In memory where half of what is free holds them, and else mapped from the cache."""
        making = replace(self.making, matched=layout.kind == "fivek")
        items, faults = self._wanted(layout, items), list(layout.faults)
        found = decoded(enumerate(items), lambda one: read_pictures(one[1], making, one[0]), faults)
        stream = (picture for pictures in found for picture in pictures)
        if _bytes(items, making) <= free_memory_bytes() // 2:
            pictures: Sequence[Picture] = list(stream)
        else:
            files = [file for item in items for file in (item.hr, item.lr) if file]
            folder = self.cache / f"pictures-{fingerprint(files, making)}"
            with FileLock(_made(self.cache) / ".lock"):
                if not is_shards(folder):
                    write_shards(folder, stream, About("", 0, making.sharpen), Cut(0, 0))
            pictures = open_shards(folder).pictures if is_shards(folder) else ()
            self.notes.append(f"more pictures than fit into memory: unpacked into {shown(folder)}")
        self._note_faults(faults, "train on")
        if not pictures:
            raise UsageError(f"Nothing is left to train on: {self.notes[-1]}")
        return pictures

    def _pairs(self, layout: Layout, items: Sequence[Item], known: Sequence[str] = ()) -> list[Pair]:
        making, faults = replace(self.making, matched=layout.kind == "fivek"), list(known)
        numbered = enumerate(self._wanted(layout, items))
        pairs = list(decoded(numbered, lambda one: read_pair(one[1], making, one[0]), faults))
        self._note_faults(faults, "validate on")
        if items and not pairs:
            raise UsageError(f"Nothing is left to validate on: {self.notes[-1]}")
        return pairs

    def _wanted(self, layout: Layout, items: Sequence[Item]) -> list[Item]:
        """Without their LR files, where the settings ask for another degradation."""
        if self.config.degradation != "auto" and layout.kind not in ("div2k", "unpaired"):
            items = [Item(item.hr) for item in items]
        if any(item.lr is None for item in items):
            self.making.check()
        return list(items)

    def _hold_back(self, train: Sequence[object], held: Sequence[object], rest: Sequence[Item]) -> None:
        self.test = tuple(rest)
        counts = f"{len(train)} to train on, {len(held)} to validate on, {len(rest)} held back"
        self.notes.append(f"{counts}, by seed; {HELD_BACK} names those held back")

    def _note_faults(self, faults: Sequence[str], purpose: str) -> None:
        if faults:
            self.notes.append(
                f"cannot be used to {purpose} and left out: {len(faults)} "
                f"picture{'s' * (len(faults) > 1)}{fault_lines(faults)}"
            )


def located(words: Sequence[str], cache: Path) -> list[str]:
    """The words with datasets of the hub fetched and archives unpacked into `cache`."""
    if not any(word.startswith(hub.PREFIX) or is_archive(Path(word)) for word in words):
        return list(words)
    with FileLock(_made(cache) / ".lock"):
        return [str(_located(word, cache)) for word in words]


def _located(word: str, cache: Path) -> str | Path:
    if word.startswith(hub.PREFIX):
        return hub.fetch(word, cache)
    return unpack(Path(word), cache) if is_archive(Path(word)) else word


def fault_lines(faults: Sequence[str]) -> str:
    """A line each for the first of them, and how many more there are."""
    more = f"\n  and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
    return "".join(f"\n  {fault}" for fault in faults[:NAMED]) + more


def _shards(words: Sequence[str]) -> Shards | None:
    return open_shards(Path(words[0])) if len(words) == 1 and is_shards(Path(words[0])) else None


def usable(shards: Shards, making: Making) -> list[Picture]:
    """Pictures with LR where it is what `making` asks for. UsageError where no LR can be made to be that."""
    about = shards.about
    if about.sharpened != making.sharpen:
        raise UsageError("Shards are sharpened or not: prepare them with --sharpen exactly where the recipe sharpens.")
    if about.paired and making.factor != about.factor:
        raise UsageError(
            f"The shards hold pairs of x{about.factor}; this network and its settings want x{making.factor}."
        )
    if about.paired or (about.factor == making.factor and making.fixed and making.preupsample == 1):
        return list(shards.pictures)
    making.check()
    if making.degradation == "unprocessed":
        raise UsageError("Shards hold parts of photographs, of which nobody tells the light. Give the photographs.")
    return [replace(picture, lr=None, hr=making.trimmed(picture.hr)) for picture in shards.pictures]


def decoded(items: Iterable[T], read: Callable[[T], "Decoded"], faults: list[str]) -> "Iterator[Decoded]":
    """read(item) of each in order, in threads, no more than a few ahead; those that raise InputError go to `faults`."""
    items = iter(items)
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting = deque(pool.submit(read, item) for item in islice(items, _AT_ONCE))
        while waiting:
            done = waiting.popleft()
            waiting.extend(pool.submit(read, item) for item in islice(items, 1))
            try:
                yield done.result()
            except InputError as error:
                faults.append(str(error))


Decoded = TypeVar("Decoded")


def _bytes(items: Sequence[Item], making: Making) -> int:
    """What pictures take in memory, by their headers."""
    total = 0
    for path in (file for item in items for file in (item.hr, item.lr) if file):
        try:
            info = probe(path, PictureOptions())
            shrunk = min(1.0, making.photo_px / max(info.width, info.height)) if making.photo_px else 1.0
            total += int(info.width * info.height * 3 * shrunk**2)
        except InputError:
            continue
    if making.degradation == "unprocessed":
        return total * 2 * making.draws
    return total * 5 // 4  # LR that is made of them


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{shown(folder)} cannot be written to: {error.strerror}. Choose another -o.") from error
    return folder
