"""The user's own models: a weights file read once, checked, and kept as safetensors under a name for `-m`.

Owns the folder of imported models (`manifest.models_path`): `NAME.safetensors` and its row, `NAME.json`, both complete
or not there. Refuses a name that a shipped model has. Imports torch only to add one.
"""

import json
import os
import re
import shutil
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from upscale_cli.errors import OutputError, UsageError, WeightsError
from upscale_cli.manifest import (
    Entry,
    Imported,
    is_name,
    load_manifest,
    models_path,
    names_file,
    shipped_manifest,
    to_json,
)
from upscale_cli.weights.download import sha256_of


@dataclass(frozen=True, slots=True)
class Removal:
    """The files of an imported model."""

    name: str
    files: tuple[Path, ...]
    bytes: int


def add(path: Path, *, name: str | None = None, variant: str | None = None, force: bool = False) -> Entry:
    """Import the weights file `path` as a model called `name`, by default after the file; returns its row.

    `variant` says which network it is (`simplecnn/x4`) where the tensors fit several.

    The tensors keep their precision. Raises UsageError for a name that is none or is taken (that of an imported model
    may be taken over with `force`), WeightsError for a file that is no known network's sound weights, OutputError if
    the folder cannot be written. Nothing is changed then.
    """
    chosen = _free_name(path, name, force=force)
    # These need torch, which a wrong name must not wait for.
    from upscale_cli import zoo
    from upscale_cli.weights.formats import expected_shapes, keys_sha256, save
    from upscale_cli.weights.importing import check, read_weights

    weights = read_weights(path, variant=variant)
    network = weights.variant
    check(network, weights.state)
    known = network.name in {each.name for each in zoo.variants()}  # another is known again by its tensors
    folder = models_path()
    part = folder / f".{chosen}.part"
    shutil.rmtree(part, ignore_errors=True)  # what a killed import left
    try:
        staged = part / f"{chosen}.safetensors"
        save(staged, weights.state, {"variant": network.name} if known else {})
        entry = Entry(
            name=chosen,
            model=chosen,
            variant=network.name,
            task=network.task,
            scale=network.scale,
            parameters=network.parameters,
            status="imported",
            summary=f"Imported from {path.name}",
            source=Imported(staged.name, path.name, sha256_of(path), weights.notes),
            size=staged.stat().st_size,
            sha256=sha256_of(staged),
            keys_sha256=keys_sha256(expected_shapes(network)),
        )
        _write(staged.with_suffix(".json"), json.dumps(to_json(entry), indent=2))
        for suffix in (".safetensors", ".json"):
            staged.with_suffix(suffix).replace(folder / f"{chosen}{suffix}")
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{folder} cannot be written: {reason}. Free some space, or set UPSCALE_MODELS.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return entry


def removal(name: str) -> Removal:
    """What `remove` would delete. UsageError unless `name` is an imported model, sound or damaged."""
    folder = models_path()
    paths = [folder / f"{name}{suffix}" for suffix in (".json", ".safetensors")] if is_name(name) else []
    files = tuple(path for path in paths if path.is_file())
    if not files:
        load_manifest().rows(name)  # raises for an unknown name
        raise UsageError(f"{name} comes with upscale. Only imported models can be removed; see `upscale models prune`.")
    return Removal(name, files, sum(path.stat().st_size for path in files))


def remove(wanted: Removal) -> None:
    """Delete it: the row first, so that no row is left without its weights. OutputError if that is not allowed."""
    for path in wanted.files:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{path} cannot be deleted: {error.strerror}. Check its folder's permissions.") from error


def slug(text: str) -> str:
    """`4xNomos2_hq` -> `4xnomos2-hq`: what of `text` a model may be called, perhaps nothing."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _free_name(path: Path, name: str | None, *, force: bool) -> str:
    """The name to import under: a valid and free one, or a UsageError."""
    if not path.is_file():
        fault = "is not a file" if path.exists() else "does not exist"
        raise WeightsError(f"{path} {fault}. Name the weights to import.")
    chosen = slug(path.stem) if name is None else name
    if not chosen:
        raise UsageError(f"{path.name} gives no name for a model. Choose one with --name.")
    if not is_name(chosen) or names_file(chosen):
        raise UsageError(
            f"{chosen!r} cannot be a model's name: lower-case letters and digits, joined by dots or dashes, without a "
            f"file's ending. Use --name {slug(Path(chosen).stem) or 'my-model'}."
        )
    if chosen in shipped_manifest().names:
        raise UsageError(f"upscale itself has a model called {chosen}. Choose another --name, such as my-{chosen}.")
    if not force and (models_path() / f"{chosen}.json").exists():
        raise UsageError(f"There is a model {chosen} already. Choose another --name, or replace it with --force.")
    return chosen


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
