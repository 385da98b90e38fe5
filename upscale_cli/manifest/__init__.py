"""The list of models: what `-m` can name, where its weights lie, and what they are worth.

Owns the choice of a row for a model and a scale, out of `weights_manifest.json` and of what the user imported. What a
row may say is `rows.py`'s. Never opens weights or torch.
"""

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from upscale_cli.errors import UsageError, WeightsError
from upscale_cli.manifest.rows import (
    Bundled,
    Entry,
    Hub,
    Imported,
    License,
    Score,
    Source,
    Status,
    Wheel,
    is_name,
    read_document,
    read_row,
    to_json,
)

__all__ = [
    "DEFAULT_MODEL",
    "LIGHT_MODEL",
    "Bundled",
    "Entry",
    "Hub",
    "Imported",
    "License",
    "Manifest",
    "Score",
    "Source",
    "Status",
    "Wheel",
    "is_name",
    "load_manifest",
    "models_path",
    "names_file",
    "shipped_manifest",
    "to_json",
]

FILE_NAME = "weights_manifest.json"
USUAL_SCALE = 4
DEFAULT_MODEL = "span"  # best of what ships on photographs, drawings and films, and faster than all near it
LIGHT_MODEL = "lightweight"  # and the fastest, which others are asked beside on keyframes of films


@dataclass(frozen=True, slots=True)
class Manifest:
    """All rows: those that ship in the order of the file, then those imported."""

    entries: tuple[Entry, ...]
    """What makes pictures."""
    encoders: tuple[Entry, ...] = ()
    """Parts of other networks and of metrics: fetched and verified like models, named by no `-m`."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Imported models whose row cannot be read, by name, and why."""

    @property
    def names(self) -> frozenset[str]:
        """What models, rows and encoders are called."""
        return frozenset(name for entry in (*self.entries, *self.encoders) for name in (entry.name, entry.model))

    def family(self, model: str) -> tuple[Entry, ...]:
        """The rows of one model, smallest native scale first; empty if there is no such model."""
        return tuple(sorted((e for e in self.entries if e.model == model), key=lambda e: e.scale))

    def rows(self, name: str) -> tuple[Entry, ...]:
        """The rows of a model, or the one row or encoder called `name`. UsageError, with the nearest name, for none."""
        family = self.family(name)
        rows = family or tuple(e for e in (*self.entries, *self.encoders) if e.name == name)
        if not rows:
            raise UsageError(self._unknown(name))
        return rows

    def find(self, model: str, scale: float | None = None) -> Entry:
        """The row named `model`, or of that family the smallest native scale that reaches `scale`, else the largest.

        Rows without weights are passed over while the family has one that works (`improved` at 3 is `improved-x4`,
        reduced afterwards). Without a scale the usual factor of 4 is meant. Raises UsageError for an encoder and,
        with the nearest name, for an unknown one.
        """
        named = next((e for e in self.entries if e.name == model), None)
        if named is not None:
            return named
        family = self.family(model)
        if not family:
            raise UsageError(self._unknown(model))
        rows = [e for e in family if e.usable] or family
        wanted = USUAL_SCALE if scale is None else scale
        return next((e for e in rows if e.scale >= wanted), rows[-1])

    def encoder(self, name: str) -> Entry:
        """The encoder called `name`; UsageError, with all there are, for any other name."""
        found = next((e for e in self.encoders if e.name == name), None)
        if found is None:
            known = ", ".join(e.name for e in self.encoders)
            raise UsageError(f"There is no encoder {name!r}. Encoders: {known}; or give a weights file.")
        return found

    def _unknown(self, model: str) -> str:
        if model in self.problems:
            return self.problems[model]
        if any(e.name == model for e in self.encoders):
            return f"{model} is an encoder, a part of training and metrics: it makes no pictures. Choose a model."
        models = sorted({e.model for e in self.entries if e.usable})
        near = difflib.get_close_matches(model, self.names, n=1)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        return f"There is no model {model!r}.{guess} Models: {', '.join(models)} (see `upscale models list`)."


WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".tar", ".bin", ".param")


def names_file(model: str | Path) -> bool:
    """Whether `--model` gives a weights file rather than a name: a path, or a name with a weights file's ending."""
    return isinstance(model, Path) or "/" in model or Path(model).suffix in WEIGHTS_SUFFIXES


def load_manifest(path: Path | None = None) -> Manifest:
    """Read and check the list: the file `path` alone, else the package's own and what the user imported.

    Raises WeightsError naming the row and the field for anything that is not exactly the schema; an imported model
    whose row is damaged hides no other, and is named in `problems`.
    """
    return _load(path) if path is not None else _with_imported(shipped_manifest())


def shipped_manifest() -> Manifest:
    """The package's own list, without what the user imported. Raises WeightsError as `load_manifest` does."""
    return _load(_own_path())


def models_path() -> Path:
    """Where imported models are: UPSCALE_MODELS, else `upscale/models` in the user's data folder (XDG_DATA_HOME)."""
    from platformdirs import user_data_path

    chosen = os.environ.get("UPSCALE_MODELS")
    return Path(chosen).expanduser() if chosen else user_data_path("upscale", appauthor=False) / "models"


def _own_path() -> Path:
    # The wheel carries the file inside the package; in a source tree it stands beside the package.
    package = Path(__file__).parents[1]
    inside = package / FILE_NAME
    return inside if inside.is_file() else package.with_name(FILE_NAME)


@lru_cache
def _load(path: Path) -> Manifest:
    try:
        entries = read_document(_read(path))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}). Reinstall upscale.") from error
    except ValueError as error:
        raise WeightsError(f"{path}: {error}.") from error
    encoders = tuple(entry for entry in entries if entry.task == "encoder")
    return Manifest(tuple(entry for entry in entries if entry.task != "encoder"), encoders)


def _with_imported(shipped: Manifest) -> Manifest:
    entries: list[Entry] = []
    problems: dict[str, str] = {}
    for path in sorted(models_path().glob("*.json")):
        name = path.stem
        try:
            if name in shipped.names:
                raise ValueError(f"upscale itself has a model called {name} now")
            entries.append(read_row(name, _read(path), imported=True))
        except (OSError, ValueError) as error:
            problems[name] = f"{path} is not used: {error}. Import the model again, or delete the file."
    return replace(shipped, entries=(*shipped.entries, *entries), problems=problems)


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not valid JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # json keeps the last of two equal keys: an edited row would silently vanish.
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [key for key, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} appears twice")
    return table
