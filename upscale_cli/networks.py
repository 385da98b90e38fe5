"""Which networks a picture goes through: what the user's words stand for, and which native scales reach a size.

Knows the list of models and the header of a weights file; loads no network.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from pathlib import Path

from upscale_cli.errors import UsageError
from upscale_cli.manifest import DEFAULT_MODEL, load_manifest, names_file


@dataclass(frozen=True, slots=True)
class Combination:
    """What makes one picture: one model, several whose pictures are averaged, or two whose weights are mixed.

    UsageError for what can be neither. As text it is what the user wrote: `a`, `a,b`, `a:b:0.7`, `a (tta)`.
    """

    models: tuple[str | Path, ...]
    """Each a family, a row of the manifest, or a weights file."""
    share: float | None = None
    """Of the second of two models, from 0 to 1; None where nothing is mixed."""
    tta: bool = False
    """The picture is the mean of those made of all eight flips and turns of the source."""

    def __post_init__(self) -> None:
        if not self.models or not all(map(str, self.models)):
            raise UsageError("Every model needs a name. See `upscale models list`.")
        if self.share is not None and (len(self.models) != 2 or not 0 <= self.share <= 1):
            raise UsageError("Mixing takes two models and the second one's share from 0 to 1: --interpolate a:b:0.7")

    def __str__(self) -> str:
        words = [str(model) for model in self.models]
        together = ",".join(words) if self.share is None else ":".join((*words, str(self.share)))
        return together + " (tta)" * self.tta

    @property
    def file_name(self) -> str:
        """As a part of a file's name: `edsr`, `lightweight+improved`, `a+b-0.7`, `edsr-tta`."""
        words = [Path(model).stem if names_file(model) else str(model) for model in self.models]
        share = "" if self.share is None else f"-{self.share}"
        return "+".join(words) + share + "-tta" * self.tta

    @classmethod
    def of(cls, model: "str | Path | Combination") -> "Combination":
        """A name alone is one model."""
        return model if isinstance(model, Combination) else cls((model,))


@dataclass(frozen=True, slots=True)
class Network:
    """A combination of one native scale: what `open_engine` takes, and what tells it from any other."""

    combination: Combination
    """Of rows and weights files; a family is one of its rows here."""
    scale: int
    identity: str

    @property
    def name(self) -> str:
        """For people."""
        return str(self.combination)


@dataclass(frozen=True, slots=True)
class Chain:
    """The networks that an input goes through."""

    stages: tuple[Network, ...] = ()
    """One after another; none where it is only resized or styled."""
    keys: tuple[Network, ...] = ()
    """Stronger ones that keyframes of a film go through as well, as `keyframes` tells."""

    def __str__(self) -> str:
        keys = " + ".join(network.name for network in self.keys)
        return " + ".join(network.name for network in self.stages) + f", {keys} on keyframes" * bool(keys)


def combine(
    model: str | None = None,
    *,
    ensemble: str | None = None,
    interpolate: str | None = None,
    tta: bool = False,
    usual: str = DEFAULT_MODEL,
) -> Combination:
    """What --model, `usual` unless given, --ensemble (`a,b`), --interpolate (`a:b:0.7`) and --tta mean together;
    UsageError for nothing.
    """
    options = {"--model": model, "--ensemble": ensemble, "--interpolate": interpolate}
    given = [option for option, value in options.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} each say what makes the pictures. Choose one.")
    if ensemble is not None:
        models = tuple(word.strip() for word in ensemble.split(","))
        if len(models) < 2:
            raise UsageError(f"--ensemble {ensemble} is no ensemble. Name two models or more: --ensemble a,b")
        return Combination(models, tta=tta)
    if interpolate is not None:
        first, second, share = _mixture(interpolate)
        return Combination((first, second), share=share, tta=tta)
    return Combination((usual if model is None else model,), tta=tta)


def _mixture(words: str) -> tuple[str, str, float]:
    try:
        first, second, share = (word.strip() for word in words.split(":"))
        return first, second, float(share)
    except ValueError as error:
        raise UsageError(
            f"--interpolate {words} means nothing. Name two models and the second one's share: --interpolate a:b:0.7"
        ) from error


def compete(words: str, *, tta: bool = False) -> tuple[Combination, ...]:
    """What --models means: `a,b,c`, each a model, a file, an ensemble `a+b` or a mixture `a:b:0.7`."""
    return tuple(_competitor(word.strip(), tta=tta) for word in words.split(","))


def _competitor(word: str, *, tta: bool) -> Combination:
    if ":" in word and not Path(word).exists():
        return combine(interpolate=word, tta=tta)
    return Combination((word,) if Path(word).exists() else tuple(word.split("+")), tta=tta)


def plan_stages(wanted: float, natives: Collection[int]) -> tuple[int, ...]:
    """The native scales to run in a row so that their product reaches `wanted`: the least work, then the least excess.

    Work is counted in pixels that enter a network, so small scales come first. UsageError where none enlarges.
    """
    enough = wanted * (1 - 1e-9)  # a square root of megapixels may come out a rounding above a native scale
    if enough <= 1:
        return (min(natives),)
    scales = sorted({scale for scale in natives if scale > 1})
    if not scales:
        raise UsageError(
            f"This model keeps a picture's size and cannot make it {wanted:.4g} times larger. Use --scale 1, and then "
            "another model on the result (`upscale models list`)."
        )
    longest = 1
    while scales[0] ** longest < enough:
        longest += 1
    chains = (chain for count in range(1, longest + 1) for chain in combinations_with_replacement(scales, count))
    return min(
        (chain for chain in chains if math.prod(chain) >= enough), key=lambda chain: (_work(chain), math.prod(chain))
    )


def _work(chain: Sequence[int]) -> int:
    return sum(math.prod(chain[:place]) ** 2 for place in range(len(chain)))


def find_networks(model: str | Path | Combination) -> tuple[Network, ...]:
    """The networks that the user's choice stands for, one for each native scale that all its models have.

    UsageError for a name nobody knows and for models without a common scale, WeightsError for a file that is no
    network's weights.
    """
    wanted = Combination.of(model)
    members = [_natives(each) for each in wanted.models]
    common = sorted(set(members[0]).intersection(*members))
    if not common:
        has = " and ".join(
            f"{name} has {', '.join(f'x{scale}' for scale in sorted(natives))}"
            for name, natives in zip(wanted.models, members, strict=True)
        )
        raise UsageError(f"{has}: no scale in common. Choose models of one scale.")
    return tuple(
        Network(
            replace(wanted, models=tuple(natives[scale].name for natives in members)),
            scale,
            str(replace(wanted, models=tuple(natives[scale].identity for natives in members))),
        )
        for scale in common
    )


@dataclass(frozen=True, slots=True)
class _Weights:
    """One row or file, and what tells its weights from any others."""

    name: str | Path
    identity: str


def _natives(model: str | Path) -> dict[int, _Weights]:
    """By native scale: a family's rows, one row, or a file."""
    manifest = load_manifest()
    rows = [entry for entry in manifest.entries if entry.name == model] or manifest.family(str(model))
    if rows:
        rows = [entry for entry in rows if entry.usable] or rows  # without any, opening one says what is missing
        return {entry.scale: _Weights(entry.name, entry.sha256 or entry.variant) for entry in rows}
    if not names_file(model):
        manifest.find(str(model))  # raises, with the nearest name
    # Imports torch, which a name of the manifest does not need at this point.
    from upscale_cli.weights.download import sha256_of
    from upscale_cli.weights.loading import variant_of_file

    return {variant_of_file(Path(model)).scale: _Weights(model, sha256_of(Path(model)))}
