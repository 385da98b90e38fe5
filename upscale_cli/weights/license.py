"""Licences that forbid commercial use: the user agrees once for each model and licence, and that is remembered.

Owns the memory of it and the words; asking is the command line's. A licence that allows everything needs no question.
"""

import json
import os
from hashlib import sha256
from pathlib import Path

from upscale_cli.errors import WeightsError
from upscale_cli.manifest import Entry
from upscale_cli.weights.download import make_folder, unwritable

VARIABLE = "UPSCALE_ACCEPT_LICENSE"
ON = ("1", "ON", "YES", "TRUE")


def is_open(entry: Entry, folder: Path) -> bool:
    """Whether the row may be used: its licence allows commercial use, or the user has agreed to what it says."""
    if entry.license is None or entry.license.commercial:
        return True
    return os.environ.get(VARIABLE, "").upper() in ON or _note(entry, folder).is_file()


def accept(entry: Entry, folder: Path) -> None:
    """Remember in the cache `folder` that the user agrees. Raises WeightsError if it cannot be written."""
    note = _note(entry, folder)
    make_folder(note.parent)
    try:
        note.write_text(json.dumps({"model": entry.name, "license": entry.license and entry.license.spdx}))
    except OSError as error:
        unwritable(note.parent, error)


def check(entry: Entry, folder: Path) -> None:
    """Raise WeightsError, with the way to agree, unless the row may be used."""
    if not is_open(entry, folder):
        raise WeightsError(
            f"{terms(entry)} Agree once with `upscale models fetch {entry.name} --accept-license`, or set {VARIABLE}=1."
        )


def terms(entry: Entry) -> str:
    """What there is to agree to, in one sentence."""
    assert entry.license is not None
    where = f" ({entry.license.url})" if entry.license.url else ""
    return f"{entry.name} by {entry.license.attribution} is {entry.license.spdx}{where}: no commercial use."


def _note(entry: Entry, folder: Path) -> Path:
    # The name is a hash: no text of the list reaches the disk as a path.
    spdx = entry.license.spdx if entry.license else ""
    return folder / "accepted" / f"{sha256(f'{entry.name} {spdx}'.encode()).hexdigest()[:32]}.json"
