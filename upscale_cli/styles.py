"""What `--style` means: rows of the list of models, weights files, mixtures of them, or a .cube file.

Owns the words and which of them go together. Reads the list and the header of a weights file; loads no network.
"""

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from upscale_cli.errors import InputError, UsageError
from upscale_cli.manifest import Entry, load_manifest, names_file
from upscale_cli.networks import Combination

NETWORKS = ("lut3d", "enhance-residual")
"""Architectures that learn styles, the usual one first."""
_TABLES = "lut3d"

Kind = Literal["tables", "network", "cube"]


@dataclass(frozen=True, slots=True)
class Style:
    """A look to give to pictures."""

    members: tuple[str | Path, ...]
    """Rows of the manifest or weights files of one kind, or one .cube file."""
    shares: tuple[float, ...]
    """Of each, together 1."""
    kind: Kind
    """A network that gives a table of colours, one that gives the picture, or a table that is fixed."""
    name: str
    """As the user wrote it."""
    identity: str
    """What tells it from any other."""
    strength: float = 1.0
    """1 is the style alone, 0 the source."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise UsageError(f"--strength {self.strength:g} means nothing. Choose a number from 0 (as it is) to 1.")

    @property
    def combination(self) -> Combination:
        """Of the kind `network`, as what `open_engine` takes."""
        if len(self.members) == 1:
            return Combination(self.members)
        return Combination(self.members, share=self.shares[1])

    @property
    def file_name(self) -> str:
        """As a part of a file's name: `expert-c`, `expert-a-0.3+expert-c-0.7`, `my` of `my.safetensors`."""
        words = [_split(word) for word in self.name.split(",")]
        stems = [Path(name).stem if names_file(name) or self.kind == "cube" else name for name, _ in words]
        if len(words) == 1:
            return stems[0]
        return "+".join(f"{stem}-{share:.4g}" for stem, share in zip(stems, self.shares, strict=True))


@dataclass(frozen=True, slots=True)
class _Member:
    name: str | Path
    architecture: str
    identity: str


def find_style(words: str, *, network: str = NETWORKS[0], strength: float = 1.0) -> Style:
    """`expert-c`, `expert-a:0.3,expert-c:0.7`, `my.safetensors`: whatever stands for weights of one network.

    `network` says whose `expert-c` is meant. Shares are taken in proportion. UsageError for a style that nobody knows,
    that has no weights yet, or that cannot be mixed with the others; WeightsError for a file that is no network's.
    """
    if network not in NETWORKS:
        raise UsageError(f"--network {network!r} learns no styles. Choose {' or '.join(NETWORKS)}.")
    parts = [_split(word.strip()) for word in words.split(",")]
    members = [_member(name, network) for name, _ in parts]
    architectures = sorted({member.architecture for member in members})
    if len(architectures) > 1:
        raise UsageError(f"--style {words}: {' and '.join(architectures)} are different networks and cannot be mixed.")
    kind: Kind = "tables" if architectures == [_TABLES] else "network"
    shares = _shares(words, [share for _, share in parts])
    if kind == "network" and len(members) > 2:
        raise UsageError(f"--style {words}: of {architectures[0]}, two are mixed at most. Use --network lut3d.")
    identity = " ".join(f"{member.identity}:{share:.6g}" for member, share in zip(members, shares, strict=True))
    return Style(tuple(member.name for member in members), shares, kind, words, identity, strength)


def cube_style(path: Path, *, strength: float = 1.0) -> Style:
    """The colours of a .cube file. InputError if it cannot be read; what is in it is said when it is opened."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}.") from error
    return Style((path,), (1.0,), "cube", str(path), digest, strength)


def styles() -> tuple[Entry, ...]:
    """The rows that are styles, those of one name together."""
    rows = [entry for entry in load_manifest().entries if entry.style]
    return tuple(sorted(rows, key=lambda entry: (entry.style or "", NETWORKS.index(_architecture(entry)))))


def way_to_train(entry: Entry) -> str:
    """The command that makes weights for a style that has none, of the photographs of FiveK."""
    style = entry.style or entry.name
    expert = style.removeprefix("expert-").upper()
    return f"upscale train {_architecture(entry)} --data FIVEK --set expert={expert} -o {style}"


def _split(word: str) -> tuple[str, float | None]:
    """A name and its share, where it has one: a file's name may have a colon of its own."""
    name, colon, share = word.rpartition(":")
    try:
        return (name, float(share)) if colon and name else (word, None)
    except ValueError:
        return word, None


def _shares(words: str, given: list[float | None]) -> tuple[float, ...]:
    if len(given) == 1:
        if given != [None]:
            raise UsageError(f"--style {words} mixes nothing. Name a second style, or use --strength {given[0]:g}.")
        return (1.0,)
    shares = [1.0 if share is None else share for share in given]
    if None in given and given.count(None) < len(given):
        raise UsageError(f"--style {words}: give every style its share, or none: expert-a:0.3,expert-c:0.7")
    if not all(0 <= share < float("inf") for share in shares) or not sum(shares):
        raise UsageError(f"--style {words}: shares are numbers above 0: expert-a:0.3,expert-c:0.7")
    return tuple(share / sum(shares) for share in shares)


def _member(name: str, network: str) -> _Member:
    manifest = load_manifest()
    of_style = {_architecture(entry): entry for entry in manifest.entries if entry.style == name}
    rows = [of_style[network]] if network in of_style else list(of_style.values())
    rows = rows or [entry for entry in manifest.entries if name in (entry.name, entry.model)]
    if rows:
        return _of_row(rows[0], [entry for entry in of_style.values() if entry.usable])
    if not names_file(name):
        known = list(dict.fromkeys(entry.style for entry in styles() if entry.style))
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"There is no style {name!r}.{hint} Styles: {', '.join(known)}; or give a weights file.")
    # Imports torch, which a name of the manifest does not need at this point.
    from upscale_cli.weights.download import sha256_of
    from upscale_cli.weights.loading import variant_of_file

    variant = variant_of_file(Path(name))
    if variant.scale != 1:
        raise UsageError(f"{name} enlarges {variant.scale} times and is no style. Use it with --model.")
    return _Member(Path(name), variant.architecture, sha256_of(Path(name)))


def _of_row(entry: Entry, trained: list[Entry]) -> _Member:
    if entry.scale != 1:
        raise UsageError(f"{entry.name} enlarges {entry.scale} times and is no style. Use it with --model.")
    if not entry.usable:
        other = f" Or use --network {_architecture(trained[0])}, which has it." if trained else ""
        raise UsageError(
            f"The style {entry.style or entry.name} of {_architecture(entry)} is untrained: it has no weights. "
            f"Train it (`{way_to_train(entry)}`) and give --style the file.{other}"
        )
    return _Member(entry.name, _architecture(entry), entry.sha256 or entry.name)


def _architecture(entry: Entry) -> str:
    return entry.variant.partition("/")[0]
