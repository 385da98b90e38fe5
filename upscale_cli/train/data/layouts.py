"""What --data names: recognised by what is there, and listed as files. Decodes no picture.

DIV2K with its tracks, a folder of high resolution, two folders of pairs, a CSV of either, FiveK with its experts, and
two domains without pairs. What pairs belong together is said by their names.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from upscale_cli.errors import UsageError
from upscale_cli.evaluate import by_role, is_table, pair_by_name, read_table
from upscale_cli.media.paths import find_pictures, picture_files, shown

T = TypeVar("T")
Kind = Literal["folder", "div2k", "paired", "fivek", "csv", "unpaired"]
Part = Literal["train", "valid"]

_LOW = ("lr", "low", "low_res", "low_resolution", "lq", "input", "inputs", "source", "raw")
_HIGH = ("hr", "high", "high_res", "high_resolution", "gt", "target", "targets", "groundtruth", "ground_truth")
_EXPERT = re.compile(r"(?:expert[ _-]?)?([a-e])", re.IGNORECASE)
_SHARES = (0.7, 0.15)


@dataclass(frozen=True, slots=True)
class Item:
    """A picture to learn from, with the file of its low resolution where there is one."""

    hr: Path
    lr: Path | None = None

    def absolute(self) -> "Item":
        """The same, wherever it is looked for from."""
        return Item(self.hr.absolute(), self.lr and self.lr.absolute())


@dataclass(frozen=True, slots=True)
class Layout:
    """What was recognised."""

    kind: Kind
    description: str
    items: tuple[Item, ...]
    sources: tuple[Path, ...] = ()
    """Of two domains without pairs: the pictures to be turned into such as `items`."""
    valid: tuple[Item, ...] = ()
    """What the layout itself keeps for validation."""
    faults: tuple[str, ...] = ()
    """Pictures that cannot be used, a line each: the name and why."""
    splits: bool = False
    """Whether the items are to be split where nothing is given to validate on."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What of a layout with several tracks is wanted."""

    scale: int
    """HR to LR; 0 where only HR is wanted."""
    track: str = "bicubic"
    """Of DIV2K: the end of `DIV2K_train_LR_bicubic`."""
    expert: str = "C"
    part: Part = "train"


def recognise(words: Sequence[str], wish: Wish) -> Layout:
    """The layout of one folder or file, or of two folders of pairs. UsageError if it is none."""
    paths = [Path(word) for word in words]
    for path in paths:
        if not path.exists():
            raise UsageError(f"--data {shown(path)} does not exist.")
    if len(paths) == 2:
        return _paired(paths[0], paths[1], wish)
    if len(paths) != 1:
        raise UsageError(f"--data names {len(paths)} places. Give one, or two folders of pairs: low, then high.")
    (path,) = paths
    if is_table(path):
        return _csv(path, wish)
    folders = {entry.name: entry for entry in sorted(path.iterdir()) if entry.is_dir()} if path.is_dir() else {}
    for attempt in (_div2k, _unpaired, _fivek_folders, _low_and_high):
        if found := attempt(path, folders, wish):
            return found
    return _fivek_files(path, wish) or _folder(path)


def split(items: Sequence[T], seed: int) -> tuple[list[T], list[T], list[T]]:
    """70 % to train on, 15 % to validate on, 15 % that neither sees; drawn by `seed`, in the order of the items."""
    if len(items) < 3:
        raise UsageError(
            f"{len(items)} picture{'s' * (len(items) > 1)} cannot be split in three. Give --valid other pictures."
        )
    order = np.random.default_rng(seed).permutation(len(items))
    train = max(1, min(round(_SHARES[0] * len(items)), len(items) - 2))
    valid = max(1, round(_SHARES[1] * len(items)))
    parts = (order[:train], order[train : train + valid], order[train + valid :])
    first, second, third = ([items[index] for index in sorted(part)] for part in parts)
    return first, second, third


def _folder(path: Path) -> Layout:
    files = picture_files(path) or [found.path for found in find_pictures([str(path)], recursive=True).pictures]
    if not files:
        raise UsageError(f"{shown(path)} holds no photographs.")
    return Layout("folder", f"{len(files)} photographs of {shown(path)}", _alone(files), splits=True)


def _alone(files: Sequence[Path]) -> tuple[Item, ...]:
    return tuple(Item(file) for file in files)


def _paired(low: Path, high: Path, wish: Wish) -> Layout:
    items, faults = _pairs(low, high, wish.scale)
    return Layout("paired", f"{len(items)} pairs of {shown(low)} and {shown(high)}", items, faults=faults, splits=True)


def _div2k(path: Path, folders: Mapping[str, Path], wish: Wish) -> Layout | None:
    if "DIV2K_train_HR" not in folders and "DIV2K_valid_HR" not in folders:
        return None
    high = folders.get(f"DIV2K_{wish.part}_HR")
    if high is None:
        raise UsageError(f"{shown(path)} has no DIV2K_{wish.part}_HR.")
    low = path / f"DIV2K_{wish.part}_LR_{wish.track}" / f"X{wish.scale}"
    if low.is_dir():
        items, faults = _pairs(low, high, wish.scale)
        with_what = f"{low.parent.name}/{low.name}"
    else:
        items, faults = _alone(picture_files(high)), ()
        with_what = f"LR made of it: there is no {low.parent.name}/{low.name}"
    valid = ()
    if wish.part == "train" and "DIV2K_valid_HR" in folders:
        valid = recognise([str(path)], replace(wish, part="valid")).items
    return Layout("div2k", f"DIV2K, {len(items)} of {high.name} with {with_what}", items, valid=valid, faults=faults)


def _unpaired(path: Path, folders: Mapping[str, Path], wish: Wish) -> Layout | None:
    """trainA and trainB; testA and testB validate where they hold the same names."""
    if not {"trainA", "trainB"} <= folders.keys():
        return None
    first, second = (picture_files(folders[f"train{domain}"]) for domain in "AB")
    if not first or not second:
        raise UsageError(f"{shown(path)}: trainA or trainB holds no photographs.")
    valid = ()
    if {"testA", "testB"} <= folders.keys():
        tests = [{file.stem: file for file in picture_files(folders[f"test{domain}"])} for domain in "AB"]
        valid = tuple(Item(tests[1][stem], file) for stem, file in tests[0].items() if stem in tests[1])
    if wish.part == "valid":
        return Layout("paired", f"{len(valid)} pairs of testA and testB", valid)
    description = f"two domains, {len(first)} of trainA and {len(second)} of trainB"
    return Layout("unpaired", description, _alone(second), tuple(first), valid)


def _fivek_folders(path: Path, folders: Mapping[str, Path], wish: Wish) -> Layout | None:
    experts = {match[1].upper(): folder for name, folder in folders.items() if (match := _EXPERT.fullmatch(name))}
    source = next((folder for name, folder in folders.items() if name.lower() in _LOW), None)
    if not experts or source is None:
        return None
    if wish.expert not in experts:
        raise UsageError(f"{shown(path)} has no expert {wish.expert}; there are {', '.join(sorted(experts))}.")
    items, faults = _pairs(source, experts[wish.expert], 1)
    description = f"FiveK, {len(items)} pairs of {source.name} and expert {wish.expert}"
    return Layout("fivek", description, items, faults=faults, splits=True)


def _fivek_files(path: Path, wish: Wish) -> Layout | None:
    """One folder of `a0001_input.png` beside `a0001_expertC.png`."""
    files = picture_files(path)
    sources = [file for file in files if file.stem.endswith("_input")]
    if not sources:
        return None
    items = tuple(Item(target, source) for target, source in by_role(files, wish.expert).items() if source)
    if not items:
        raise UsageError(f"{shown(path)} has no pictures of expert {wish.expert} beside those named *_input.")
    taken = {item.lr for item in items}
    faults = tuple(f"{file.name}: no expert {wish.expert}" for file in sources if file not in taken)
    description = f"FiveK, {len(items)} pairs of input and expert {wish.expert}"
    return Layout("fivek", description, items, faults=faults, splits=True)


def _low_and_high(path: Path, folders: Mapping[str, Path], wish: Wish) -> Layout | None:
    low, high = (
        next((folder for name, folder in folders.items() if _plain(name) in names), None) for names in (_LOW, _HIGH)
    )
    if low is None or high is None:
        return None
    if (track := low / f"X{wish.scale}").is_dir():
        low = track
    return _paired(low, high, wish)


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_")


def _pairs(low: Path, high: Path, scale: int) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    """Each HR file with the LR file of its name, and those that have no partner."""
    _check_scale(scale)
    partners = pair_by_name(picture_files(high), low, scale)
    items = [Item(file, partner) for file, partner in partners.items() if partner]
    taken = {item.lr for item in items}
    faults = [f"{file.name}: no partner in {shown(low)}" for file, partner in partners.items() if not partner]
    faults += [f"{file.name}: no partner in {shown(high)}" for file in picture_files(low) if file not in taken]
    if not items:
        raise UsageError(
            f"No picture of {shown(high)} has a partner in {shown(low)}. Partners have the same name, "
            f"or the scale behind it: 0801.png and 0801x{scale}.png."
        )
    return tuple(items), tuple(faults)


def _check_scale(scale: int) -> None:
    if not scale:
        raise UsageError("These are pairs: say by --scale how many times larger HR is than LR, such as --scale 4.")


def _csv(path: Path, wish: Wish) -> Layout:
    """Columns low_res and high_res, or high_res alone; see `evaluate.listing`."""
    rows = read_table(path)
    if any(row.paired for row in rows.values()):
        _check_scale(wish.scale)
    items, faults = [], []
    for row in rows.values():
        missing = next((file for file in (row.lr, row.hr) if file and not file.is_file()), None)
        if missing:
            faults.append(f"{missing.name}: no such file beside {path.name}")
        else:
            items.append(Item(row.hr, row.lr))
    if not items:
        raise UsageError(f"No file that {shown(path)} names exists beside it, such as {next(iter(rows))}.")
    what = "pairs" if items[0].lr else "photographs"
    return Layout("csv", f"{len(items)} {what} of {path.name}", tuple(items), faults=tuple(faults), splits=True)
