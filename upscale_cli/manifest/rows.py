"""One row of the list of models: what it may say.

Owns the schema of `weights_manifest.json` and of an imported model's row. Refuses anything it does not know: a key too
many, a branch where a commit belongs, a missing hash or licence. Never opens files or torch.
"""

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Literal, cast
from urllib.parse import urlsplit

SCHEMA = 1

Status = Literal["published", "bundled", "imported", "untrained", "formula"]
Fields = Mapping[str, Callable[[Any], Any]]  # name of a JSON field -> its check, which returns the value to keep


@dataclass(frozen=True, slots=True)
class Bundled:
    """A file that travels inside the package, by its name in `upscale_cli/weights/bundled/`."""

    path: str


@dataclass(frozen=True, slots=True)
class Hub:
    """A file on the hub: `repo_id` is `owner/name`, `revision` a 40-hex commit (never a branch)."""

    repo_id: str
    revision: str
    path: str


@dataclass(frozen=True, slots=True)
class Wheel:
    """A file inside a Python package of exactly this version: safetensors, or the `.bin` of an ncnn model."""

    package: str
    version: str
    path: str


@dataclass(frozen=True, slots=True)
class Imported:
    """A file in the folder of imported models, and which file of the user's it was made from."""

    path: str
    origin: str
    origin_sha256: str
    notes: tuple[str, ...]


Source = Bundled | Hub | Wheel | Imported


@dataclass(frozen=True, slots=True)
class License:
    """What the weights may be used for, and whose work they hold."""

    spdx: str
    attribution: str
    commercial: bool
    trained_on: tuple[str, ...]
    url: str | None


@dataclass(frozen=True, slots=True)
class Score:
    """A result at the row's scale: PSNR in dB, SSIM in [0, 1]; `protocol` says channel, border and rounding."""

    dataset: str
    psnr_y: float
    ssim_y: float
    psnr_rgb: float
    protocol: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: `name` is its key ("edsr-x4"), `model` what `-m` names ("edsr"), `variant` the zoo name ("edsr/x4").

    `source`, `size` (bytes) and `sha256` are set exactly when the status is published, bundled or imported; `license`
    when it is one of the first two.
    """

    name: str
    model: str
    variant: str
    task: str
    scale: int
    parameters: int
    status: Status
    summary: str
    source: Source | None = None
    size: int | None = None
    sha256: str | None = None
    keys_sha256: str | None = None
    license: License | None = None
    scores: tuple[Score, ...] = ()
    recipe: str | None = None
    style: str | None = None
    """What `upscale enhance --style` calls it ("expert-c"), of any of the networks that learned this style."""

    @property
    def usable(self) -> bool:
        """Whether this row can make a picture: it has weights, or is a formula that needs none."""
        return self.status != "untrained"

    def score(self, dataset: str) -> Score | None:
        """The result on `dataset`, or None where nobody measured it."""
        return next((score for score in self.scores if score.dataset == dataset), None)


def to_json(entry: Entry) -> dict[str, Any]:
    """The row as it stands in the file, without its name: it is read back to an equal entry."""
    row = {key: value for key, value in asdict(entry).items() if value is not None and key != "name"}
    if entry.source is not None:
        kind = next(kind for kind, (cls, _) in _SOURCES.items() if isinstance(entry.source, cls))
        row["source"] = {"kind": kind, **row["source"]}
    if entry.license is None:
        del row["scores"]
    elif entry.license.url is None:
        del row["license"]["url"]
    return row


def read_document(document: object) -> tuple[Entry, ...]:
    """The rows of a whole manifest, as JSON has read it. ValueError, naming row and field, for what does not belong."""
    top = _take(document, "the manifest", {"schema": _count, "models": _table})
    if top["schema"] != SCHEMA:
        raise ValueError(f"schema is {top['schema']}, this version of upscale reads {SCHEMA}")
    entries = tuple(read_row(name, row) for name, row in top["models"].items())
    seen: dict[tuple[str, int], str] = {}
    for entry in entries:
        twin = seen.setdefault((entry.model, entry.scale), entry.name)
        if twin != entry.name:
            raise ValueError(f"{twin} and {entry.name} are both {entry.model} at scale {entry.scale}")
    return entries


def read_row(name: str, row: object, *, imported: bool = False) -> Entry:
    """One row as JSON has read it: of the manifest, or of an imported model, which has a status of its own.

    Raises ValueError naming the row, the field and the reason.
    """
    if not is_name(name):
        raise ValueError(f"{name!r} is not a model name (lower-case letters, digits, dots, dashes)")
    statuses = ("imported",) if imported else tuple(status for status in _OF_STATUS if status != "imported")
    status = _take(row, name, {"status": partial(_choice, statuses)}, others=True)["status"]
    fields, kinds = _OF_STATUS[status]
    values = _take(row, name, {"status": _text, **fields}, optional=_OPTIONAL)
    if "source" in values and not isinstance(values["source"], kinds):
        raise ValueError(f"{name}.source: a {status} row cannot have it")
    if imported and values["model"] != name:
        raise ValueError(f"{name}.model: must be {name!r}, not {values['model']!r}")
    return Entry(name=name, **values)


def is_name(text: str) -> bool:
    """Whether a model or a row may be called so."""
    return re.fullmatch(_NAME, text) is not None


def _take(
    value: object,
    where: str,
    fields: Fields,
    *,
    optional: Collection[str] = (),
    others: bool = False,
) -> dict[str, Any]:
    """Every field of the JSON object `value`, checked; a ValueError names the place and the reason."""
    table = _table(value, where)
    unknown, missing = table.keys() - fields.keys(), fields.keys() - table.keys() - set(optional)
    if unknown and not others:
        raise ValueError(f"{where}.{min(unknown)}: unknown field")
    if missing:
        raise ValueError(f"{where}.{min(missing)}: missing")
    taken = {}
    for key in fields.keys() & table.keys():
        try:
            taken[key] = fields[key](table[key])
        except ValueError as error:
            raise ValueError(f"{where}.{key}: {error}") from error
    return taken


def _table(value: object, where: str = "the value") -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a JSON object, not {json.dumps(value)[:40]}")
    return cast(dict[str, Any], value)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must be text, not {value!r}")
    return value


def _matching(pattern: str, meaning: str, value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise ValueError(f"must be {meaning}, not {value!r}")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ValueError(f"must be a whole number above 0, not {value!r}")
    return value


def _parameters(value: object) -> int:
    return 0 if value == 0 and value is not False else _count(value)


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"must be a finite number, not {value!r}")
    return float(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {value!r}")
    return value


def _list(item: Callable[[Any], Any], value: object) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError(f"must be a list, not {value!r}")
    return tuple(item(element) for element in value)


def _choice(options: tuple[str, ...], value: object) -> str:
    if value not in options:
        raise ValueError(f"must be one of {', '.join(options)}, not {value!r}")
    return cast(str, value)


def _https(value: object) -> str:
    if not isinstance(value, str) or urlsplit(value).scheme != "https" or not urlsplit(value).netloc:
        raise ValueError(f"must be an https address, not {value!r}")
    return value


def _inner_path(place: str, suffixes: tuple[str, ...], value: object) -> str:
    text = _text(value)
    path = PurePosixPath(text)
    if path.is_absolute() or {"..", "."} & set(text.split("/")) or re.search(r"[\\:?#%]", text):
        raise ValueError(f"must be a plain path inside the {place}, not {text!r}")
    if path.suffix not in suffixes:
        raise ValueError(f"must be a {' or '.join(suffixes)} file, not {text!r}")
    return text


def _source(value: object) -> Source:
    kind = _take(value, "source", {"kind": partial(_choice, tuple(_SOURCES))}, others=True)["kind"]
    cls, checks = _SOURCES[kind]
    fields = _take(value, kind, {"kind": _text, **checks})
    del fields["kind"]
    return cls(**fields)


def _license(value: object) -> License:
    return License(**{"url": None, **_take(value, "license", _LICENSE, optional=("url",))})


def _score(value: object) -> Score:
    return Score(**_take(value, "score", _SCORE))


_NAME = r"[a-z0-9]+(?:[.-][a-z0-9]+)*"
_SHA256 = partial(_matching, r"[0-9a-f]{64}", "a sha256 (64 lower-case hex digits)")

_ROW: Fields = {
    "model": partial(_matching, _NAME, "a model name"),
    "variant": partial(_matching, r"[a-z0-9-]+/[a-z0-9-]+", "a zoo name such as edsr/x4"),
    "task": partial(_choice, ("upscale", "enhance", "restore", "encoder")),
    "scale": _count,
    "parameters": _parameters,
    "summary": _text,
}
_KEYS: Fields = {"keys_sha256": _SHA256}
_FILE: Fields = {"source": _source, "size": _count, "sha256": _SHA256}
_WORTH: Fields = {"license": _license, "scores": partial(_list, _score)}
_OPTIONAL: Fields = {"recipe": _text, "style": partial(_matching, _NAME, "the name of a style")}
_LICENSE: Fields = {
    "spdx": _text,
    "attribution": _text,
    "commercial": _flag,
    "trained_on": partial(_list, _text),
    "url": _https,
}
_SCORE: Fields = {
    "dataset": _text,
    "psnr_y": _number,
    "ssim_y": _number,
    "psnr_rgb": _number,
    "protocol": _text,
}
_PLAIN_FILE = partial(_matching, r"[a-z0-9][a-z0-9._-]*\.safetensors", "the plain name of a .safetensors file")
_SOURCES: Mapping[str, tuple[type[Source], Fields]] = {
    "bundled": (Bundled, {"path": _PLAIN_FILE}),
    "hub": (
        Hub,
        {
            "repo_id": partial(
                _matching, r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*", "owner/name on the hub"
            ),
            "revision": partial(_matching, r"[0-9a-f]{40}", "a 40-hex commit, never a branch"),
            "path": partial(_inner_path, "repository", (".safetensors",)),
        },
    ),
    "wheel": (
        Wheel,
        {
            "package": partial(_matching, r"[A-Za-z0-9]+(?:[._-]+[A-Za-z0-9]+)*", "the name of a Python package"),
            "version": partial(_matching, r"[0-9][0-9A-Za-z.+!]*", "one exact version"),
            "path": partial(_inner_path, "package", (".safetensors", ".bin")),
        },
    ),
    "imported": (
        Imported,
        {"path": _PLAIN_FILE, "origin": _text, "origin_sha256": _SHA256, "notes": partial(_list, _text)},
    ),
}
_OF_STATUS: Mapping[str, tuple[Fields, tuple[type[Source], ...]]] = {  # its fields, and the sources it may have
    "published": ({**_ROW, **_KEYS, **_FILE, **_WORTH, **_OPTIONAL}, (Hub, Wheel)),
    "bundled": ({**_ROW, **_KEYS, **_FILE, **_WORTH, **_OPTIONAL}, (Bundled,)),
    "untrained": ({**_ROW, **_KEYS, **_OPTIONAL}, ()),
    "formula": ({**_ROW, **_OPTIONAL}, ()),
    "imported": ({**_ROW, **_KEYS, **_FILE}, (Imported,)),
}
