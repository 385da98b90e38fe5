"""The list of models: what `-m` can name, where its weights lie, and what they are worth.

Owns the schema of `weights_manifest.json` and the choice of a row for a model and a scale. Refuses anything it does
not know: a key too many, a branch where a commit belongs, a missing hash or licence. Never opens weights or torch.
"""

import difflib
import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from upscale_cli.errors import UsageError, WeightsError

FILE_NAME = "weights_manifest.json"
SCHEMA = 1
USUAL_SCALE = 4
DEFAULT_MODEL = "improved"  # of what ships, the best of the pictures and far from the slowest

Status = Literal["published", "bundled", "untrained", "formula"]
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

    `source`, `size` (bytes), `sha256` and `license` are set exactly when the status is published or bundled.
    """

    name: str
    model: str
    variant: str
    task: str
    scale: int
    parameters: int
    status: Status
    summary: str
    source: Bundled | Hub | None = None
    size: int | None = None
    sha256: str | None = None
    keys_sha256: str | None = None
    license: License | None = None
    scores: tuple[Score, ...] = ()
    recipe: str | None = None

    @property
    def usable(self) -> bool:
        """Whether this row can make a picture: it has weights, or is a formula that needs none."""
        return self.status != "untrained"

    def score(self, dataset: str) -> Score | None:
        """The result on `dataset`, or None where nobody measured it."""
        return next((score for score in self.scores if score.dataset == dataset), None)


@dataclass(frozen=True, slots=True)
class Manifest:
    """All rows, in the order of the file."""

    entries: tuple[Entry, ...]

    def family(self, model: str) -> tuple[Entry, ...]:
        """The rows of one model, smallest native scale first; empty if there is no such model."""
        return tuple(sorted((e for e in self.entries if e.model == model), key=lambda e: e.scale))

    def find(self, model: str, scale: float | None = None) -> Entry:
        """The row named `model`, or of that family the smallest native scale that reaches `scale`, else the largest.

        Rows without weights are passed over while the family has one that works (`improved` at 3 is `improved-x4`,
        reduced afterwards). Without a scale the usual factor of 4 is meant. Raises UsageError, with the nearest
        name, for an unknown one.
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

    def _unknown(self, model: str) -> str:
        models = sorted({e.model for e in self.entries})
        near = difflib.get_close_matches(model, [*models, *(e.name for e in self.entries)], n=1)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        return f"There is no model {model!r}.{guess} Models: {', '.join(models)} (see `upscale models list`)."


def names_file(model: str | Path) -> bool:
    """Whether `--model` gives a weights file rather than a name: a path, or a name with a weights file's ending."""
    return isinstance(model, Path) or "/" in model or Path(model).suffix in (".safetensors", ".pth", ".pt", ".bin")


def load_manifest(path: Path | None = None) -> Manifest:
    """Read and check the manifest (the package's own without `path`), once per file and process.

    Raises WeightsError naming the row and the field for anything that is not exactly the schema.
    """
    return _load(path or _own_path())


def to_json(entry: Entry) -> dict[str, Any]:
    """The row as it stands in the file, without its name: `load_manifest` reads it back to an equal entry."""
    row = {key: value for key, value in asdict(entry).items() if value is not None and key != "name"}
    if entry.source is not None:
        row["source"] = {"kind": "hub" if isinstance(entry.source, Hub) else "bundled", **row["source"]}
    if entry.license is not None and entry.license.url is None:
        del row["license"]["url"]
    if entry.source is None:
        del row["scores"]
    return row


def _own_path() -> Path:
    # The wheel carries the file inside the package; in a source tree it stands beside the package.
    inside = Path(__file__).with_name(FILE_NAME)
    return inside if inside.is_file() else Path(__file__).parents[1] / FILE_NAME


@lru_cache
def _load(path: Path) -> Manifest:
    try:
        document = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}). Reinstall upscale.") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not valid JSON: {error}.") from error
    try:
        return _parse(document)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}.") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # json keeps the last of two equal keys: an edited row would silently vanish.
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [key for key, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} appears twice")
    return table


def _parse(document: object) -> Manifest:
    top = _take(document, "the manifest", {"schema": _count, "models": _table})
    if top["schema"] != SCHEMA:
        raise ValueError(f"schema is {top['schema']}, this version of upscale reads {SCHEMA}")
    entries = tuple(_entry(name, row) for name, row in top["models"].items())
    seen: dict[tuple[str, int], str] = {}
    for entry in entries:
        twin = seen.setdefault((entry.model, entry.scale), entry.name)
        if twin != entry.name:
            raise ValueError(f"{twin} and {entry.name} are both {entry.model} at scale {entry.scale}")
    return Manifest(entries)


def _entry(name: str, row: object) -> Entry:
    if not re.fullmatch(_NAME, name):
        raise ValueError(f"{name!r} is not a model name (lower-case letters, digits, dots, dashes)")
    status = _take(row, name, {"status": _STATUS}, others=True)["status"]
    fields = {**_ROW, **_KEYS, **_WEIGHTS, **_RECIPE} if status in _SHIPPED else {**_ROW, **_RECIPE}
    if status == "untrained":
        fields |= _KEYS
    values = _take(row, name, fields, optional=_RECIPE)
    if "source" in values and isinstance(values["source"], Hub) != (status == "published"):
        raise ValueError(f"{name}.source: a {status} row cannot have it")
    return Entry(name=name, **values)


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


def _hub_path(value: object) -> str:
    text = _text(value)
    path = PurePosixPath(text)
    if path.is_absolute() or {"..", "."} & set(text.split("/")) or re.search(r"[\\:?#%]", text):
        raise ValueError(f"must be a plain path inside the repository, not {text!r}")
    if path.suffix != ".safetensors":
        raise ValueError(f"must be a .safetensors file, not {text!r}")
    return text


def _source(value: object) -> Bundled | Hub:
    kind = _take(value, "source", {"kind": partial(_choice, ("bundled", "hub"))}, others=True)["kind"]
    fields = _take(value, kind, _SOURCES[kind])
    del fields["kind"]
    return Hub(**fields) if kind == "hub" else Bundled(**fields)


def _license(value: object) -> License:
    return License(**{"url": None, **_take(value, "license", _LICENSE, optional=("url",))})


def _score(value: object) -> Score:
    return Score(**_take(value, "score", _SCORE))


_NAME = r"[a-z0-9]+(?:[.-][a-z0-9]+)*"
_SHIPPED = ("published", "bundled")
_STATUS = partial(_choice, ("published", "bundled", "untrained", "formula"))
_SHA256 = partial(_matching, r"[0-9a-f]{64}", "a sha256 (64 lower-case hex digits)")

_ROW: Fields = {
    "model": partial(_matching, _NAME, "a model name"),
    "variant": partial(_matching, r"[a-z0-9-]+/[a-z0-9-]+", "a zoo name such as edsr/x4"),
    "task": partial(_choice, ("upscale", "enhance", "restore")),
    "scale": _count,
    "parameters": _parameters,
    "status": _STATUS,
    "summary": _text,
}
_KEYS: Fields = {"keys_sha256": _SHA256}
_WEIGHTS: Fields = {
    "source": _source,
    "size": _count,
    "sha256": _SHA256,
    "license": _license,
    "scores": partial(_list, _score),
}
_RECIPE: Fields = {"recipe": _text}
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
_SOURCES: Mapping[str, Fields] = {
    "bundled": {
        "kind": _text,
        "path": partial(_matching, r"[a-z0-9][a-z0-9._-]*\.safetensors", "the plain name of a .safetensors file"),
    },
    "hub": {
        "kind": _text,
        "repo_id": partial(
            _matching, r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*", "owner/name on the hub"
        ),
        "revision": partial(_matching, r"[0-9a-f]{40}", "a 40-hex commit, never a branch"),
        "path": _hub_path,
    },
}
