"""Datasets of the hub by their id, read by the `datasets` client and kept as picture files. Knows no network itself."""

import re
import shutil
from pathlib import Path
from typing import Any

from upscale_cli.errors import OutputError, UsageError
from upscale_cli.media.paths import PICTURE_SUFFIXES, shown

PREFIX = "hub:"
_ID = re.compile(r"(?P<name>[^:@]+)(?:@(?P<revision>[\w.-]+))?(?::(?P<split>[\w.-]+))?")


def fetch(word: str, cache: Path) -> Path:
    """`hub:owner/name`, `hub:owner/name@revision:split` to a folder of its pictures; several columns, a folder each.

    UsageError without the client, or where it cannot read the dataset. What was fetched once is not fetched again.
    """
    found = _ID.fullmatch(word.removeprefix(PREFIX))
    if found is None:
        raise UsageError(f"--data {word} names no dataset. Write hub:owner/name, or hub:owner/name@revision:split.")
    name, revision, split = found["name"], found["revision"], found["split"] or "train"
    folder = cache / re.sub(r"[^\w.-]+", "-", f"hub-{name}-{revision or 'main'}-{split}")
    if not folder.is_dir():
        temporary = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            _write(_load(name, revision, split), temporary, word)
            temporary.replace(folder)
        except OSError as error:
            raise OutputError(f"{shown(folder)} cannot be written: {error.strerror or error}.") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _load(name: str, revision: str | None, split: str) -> Any:
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UsageError(
            "Datasets of the hub need the `datasets` client: pip install 'upscale-cli[datasets]'."
        ) from error
    try:
        return datasets.load_dataset(name, split=split, revision=revision)
    except Exception as error:  # the client has no one class for all that may be wrong with a dataset
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UsageError(
            f"hub:{name} cannot be read as a dataset of split {split!r}: {reason}. "
            "Datasets that need a program to be read are refused; download those and give the folder."
        ) from error


def _write(dataset: Any, folder: Path, word: str) -> None:
    """Every picture under the number of its row, in the bytes it was stored in."""
    import datasets  # pyright: ignore[reportMissingImports]

    columns = [name for name, kind in dataset.features.items() if isinstance(kind, datasets.Image)]
    if not columns:
        raise UsageError(f"{word} has no column of pictures; it has {', '.join(dataset.features)}.")
    for column in columns:
        dataset = dataset.cast_column(column, datasets.Image(decode=False))
    places = {column: folder / column if len(columns) > 1 else folder for column in columns}
    for place in places.values():
        place.mkdir(parents=True)
    for number, row in enumerate(dataset):
        for column, place in places.items():
            if picture := row[column]:
                _keep(picture, place / f"{number:06}")


def _keep(picture: dict[str, Any], target: Path) -> None:
    suffix = Path(picture["path"] or "").suffix.lower()
    content = picture["bytes"] if picture["bytes"] is not None else Path(picture["path"]).read_bytes()
    # What a file holds is known by its content; the name only has to be that of a picture.
    target.with_suffix(suffix if suffix in PICTURE_SUFFIXES else ".png").write_bytes(content)
