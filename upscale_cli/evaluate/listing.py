"""What --data of an evaluation names: the pictures of a folder, or the rows of a CSV. Decodes none.

A CSV has the columns low_res and high_res, or high_res alone: paths, absolute or beside the file. It is what pairs are
trained on, and how a training names the pictures that it held back.
"""

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from upscale_cli.errors import OutputError, UsageError
from upscale_cli.evaluate.pairs import Files, pair_by_name
from upscale_cli.media.paths import picture_files, shown

_COLUMNS = (("low_res", "high_res"), ("lr", "hr"), ("input", "target"))


def pictures(data: Path, lr: Path | None, scale: int) -> dict[str, Files]:
    """By name, what is to be scored on; `lr` holds the low resolution of the same names. UsageError for a bad CSV."""
    if is_table(data):
        if lr:
            raise UsageError(f"{shown(data)} says itself what belongs together. Leave --lr out.")
        return read_table(data)
    files = picture_files(data)
    partners = pair_by_name(files, lr, scale) if lr else {}
    return {path.name: Files(path, partners.get(path), paired=lr is not None) for path in files}


def is_table(path: Path) -> bool:
    """Whether it is a CSV, by its name."""
    return path.suffix.lower() == ".csv" and path.is_file()


def read_table(path: Path) -> dict[str, Files]:
    """The rows by what they call HR, or LR where that repeats; files need not exist. UsageError for another table."""
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, csv.Error) as error:
        raise UsageError(f"{shown(path)} cannot be read as CSV: {error}.") from error
    there = set(rows[0]) if rows else set()
    low, high = next((pair for pair in _COLUMNS if set(pair) <= there), ("", _COLUMNS[0][1]))
    if high not in there:
        raise UsageError(f"{shown(path)} has no rows with the columns low_res and high_res.")
    often = Counter(row[high] for row in rows)
    found: dict[str, Files] = {}
    for number, row in enumerate(rows, start=2):
        words = [row[column] for column in (low, high) if column]
        if not all(words):
            raise UsageError(f"{shown(path)}, row {number}: a name is missing.")
        if "\0" in "".join(words):
            raise UsageError(f"{shown(path)}, row {number}: no file can have this name.")
        name = words[0] if often[words[-1]] > 1 else words[-1]
        lr = _beside(path, words[0], low) if low else None
        found[name] = Files(_beside(path, words[-1], high), lr, paired=bool(low))
    return found


def write_table(path: Path, pairs: Iterable[tuple[Path | None, Path]]) -> None:
    """LR, where there is one, and HR, as a CSV that `read_table` reads. OutputError where it cannot be written."""
    rows = [[file for file in pair if file] for pair in pairs]
    columns = _COLUMNS[0][-max(map(len, rows)) :]
    try:
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            csv.writer(file).writerows([columns, *rows])
    except OSError as error:
        raise OutputError(f"{shown(path)} cannot be written: {error.strerror}.") from error


def _beside(table: Path, name: str, column: str) -> Path:
    """Where it is, or else where it should be: beside the table or in a folder called as the column."""
    places = [table.parent / folder / name for folder in ("", column, column.replace("_", " "), column.upper())]
    return next((place for place in places if place.is_file()), places[0])
