"""Which model `auto` is for an input: the best at hand whose time is in proportion to it, by what was measured here.

Best is by BSD100 at the usual scale, of those whose weights travel in the package: others would have to be fetched, or
are trained to undo damage, which only who looks at a picture can wish for. Opens no network.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from upscale_cli import device as devices
from upscale_cli import findings
from upscale_cli.drafts import Draft
from upscale_cli.errors import UsageError
from upscale_cli.manifest import LIGHT_MODEL, USUAL_SCALE, Entry, load_manifest
from upscale_cli.networks import Chain, Combination, Network, find_networks, plan_stages
from upscale_cli.weights.source import local

AUTO = "auto"
PICTURE_SECONDS = 120
"""The most one picture may take."""
FILM_LENGTHS = 20
"""The most a film may take, of its own length."""
_RANKED_BY = "BSD100"
_CORE_OPERATIONS = 60e9  # a second, as processors do that multiply in 16 bits; others a third of it
_CARD_OPERATIONS = 10e12


@dataclass(frozen=True, slots=True)
class Choice:
    """The model for an input."""

    model: Combination | None
    """None where nothing is to be enlarged."""
    networks: tuple[Network, ...]
    seconds: float = 0.0
    """What it will take, about."""
    passed_over: str = ""
    """A better model, and what it would take, in words; empty where there is none."""
    keys: tuple[Network, ...] = ()
    """The stronger model for keyframes of films."""

    @property
    def file_name(self) -> str:
        """As output names say it."""
        return self.model.file_name if self.model else ""

    def chain(self, factor: float, *, film: bool) -> Chain:
        """What reaches this factor. UsageError as from `plan_stages`."""
        try:
            keys = _in_a_row(factor, self.keys) if film else ()
        except UsageError as error:
            raise UsageError(f"--keyframe-model: {error}") from error
        return Chain(_in_a_row(factor, self.networks), keys)


class Chooser:
    """Chooses for the inputs of a run; one that is not `auto` is chosen already."""

    def __init__(self, model: Combination | None, device: str, keyframe_model: Combination | None = None) -> None:
        """None is for pictures that keep their size. Raises as `find_networks` and `devices.several`; UsageError where
        no model is at hand, and for a `keyframe_model` that is nothing beside the other.
        """
        self.auto = model is not None and str(replace(model, tta=False)) == AUTO
        self._device = device
        self._families: dict[str, tuple[Network, ...]] = {}
        self._chosen: list[tuple[Draft, Choice]] = []
        if model is None:
            self._fixed = Choice(None, ())
            return
        if not self.auto:
            found = find_networks(model)
            keys = _for_keyframes(keyframe_model, found) if keyframe_model else ()
            self._fixed = Choice(found[0].combination if len(found) == 1 else model, found, keys=keys)
            return
        if keyframe_model:
            raise UsageError(
                f"--model auto does not choose what {keyframe_model} is to stand beside. Name it: -m {LIGHT_MODEL}"
            )
        names = devices.several(device)
        self._share = len(names)
        self._device = "cpu" if devices.is_cpu(names[0]) else str(devices.pick(names[0]))
        entries = load_manifest().entries
        self._rows: Mapping[str, Entry] = {entry.name: entry for entry in entries}
        for name in _ranked(entries):
            self._families[name] = find_networks(replace(model, models=(name,)))
        if not self._families:
            raise UsageError("No model that --model auto could choose is on this machine. Name one with --model.")

    @property
    def usual_scale(self) -> float:
        """What an input is multiplied by unless a size is asked for."""
        return 2 if self.auto else min(2, max((network.scale for network in self._fixed.networks), default=1))

    def choose(self, draft: Draft) -> Choice:
        """The model for this input."""
        if not self.auto:
            return self._fixed
        limit, passed_over, choices = _limit(draft), "", []
        for name, networks in self._families.items():
            model = replace(networks[0].combination, models=(name,))
            choice = Choice(model, networks, self._seconds(draft, networks), passed_over)
            choices.append(choice)
            if choice.seconds <= limit:
                break
            passed_over = passed_over or f"{name} would take {_minutes(choice.seconds)}"
        else:
            choice = min(choices, key=lambda each: each.seconds)
        self._chosen.append((draft, choice))
        return choice

    def reasons(self) -> Iterator[str]:
        """One line on what was chosen and why, where anything was."""
        groups: dict[tuple[str, bool], list[Choice]] = {}
        for draft, choice in self._chosen:
            groups.setdefault((str(choice.model), draft.info.counted), []).append(choice)
        if groups:
            yield "--model auto: " + "; ".join(self._reason(*group, found) for group, found in groups.items()) + "."

    def _reason(self, model: str, picture: bool, found: Sequence[Choice]) -> str:
        most = max(found, key=lambda choice: choice.seconds)
        what = f"{len(found)} {'picture' if picture else 'video'}{'s' * (len(found) > 1)}"
        measured = any(findings.known(str(network.combination.models[0]), self._device) for network in most.networks)
        source = "by `upscale bench`" if measured else "a guess without `upscale bench`"
        time = f"{'at most ' * (len(found) > 1)}about {_minutes(most.seconds)}{' each' * (len(found) > 1)}"
        limit = f"{PICTURE_SECONDS} s a picture" if picture else f"{FILM_LENGTHS} times a film's length"
        why = f"{most.passed_over}, more than {limit}" if most.passed_over else "the best that is here"
        return f"{model} for {what}, {why}; {time} on {self._device}, {source}"

    def _seconds(self, draft: Draft, networks: Sequence[Network]) -> float:
        pixels, seconds = float(draft.info.height * draft.info.width * draft.info.frames), 0.0
        for network in _in_a_row(draft.factor, networks):
            seconds += pixels * self._rate(self._rows[str(network.combination.models[0])])
            pixels *= network.scale**2
        return seconds * (8 if networks[0].combination.tta else 1) / self._share

    def _rate(self, row: Entry) -> float:
        """Seconds a pixel: as measured, or by the operations that so many parameters take."""
        found = [each for each in findings.known(row.name, self._device) if each.precision != "int8"]
        if found:
            return found[0].seconds_per_pixel
        power = _CORE_OPERATIONS * devices.threads() if self._device == "cpu" else _CARD_OPERATIONS
        return 2 * row.parameters / power


def _for_keyframes(model: Combination, others: Sequence[Network]) -> tuple[Network, ...]:
    """The networks of --keyframe-model; UsageError where they add nothing to the others."""
    if AUTO in model.models:
        raise UsageError("--keyframe-model takes the name of a model, such as span; auto is for --model.")
    found = find_networks(model)
    formulas = {entry.name for entry in load_manifest().entries if entry.status == "formula"}
    if formulas.intersection(name for network in found for name in network.combination.models):
        raise UsageError(f"--keyframe-model {model} is a formula, and adds nothing to a network. Name a network.")
    if {network.identity for network in found} & {network.identity for network in others}:
        raise UsageError(
            f"--keyframe-model {model} is what every frame goes through already. "
            f"Name a lighter model for those with -m, such as -m {LIGHT_MODEL}, or leave out --keyframe-model."
        )
    return found


def _in_a_row(factor: float, networks: Sequence[Network]) -> tuple[Network, ...]:
    natives = {network.scale: network for network in networks}
    return tuple(natives[scale] for scale in plan_stages(factor, natives)) if natives else ()


def _ranked(entries: Sequence[Entry]) -> list[str]:
    """Families, best first; none below the light one: what ships to compare with takes longer for less."""
    here = [entry for entry in entries if entry.status == "bundled" and local(entry) is not None]
    scores = {
        entry.model: score.psnr_y
        for entry in here
        if entry.scale == USUAL_SCALE and (score := entry.score(_RANKED_BY)) is not None
    }
    floor = scores.get(LIGHT_MODEL, 0)
    return sorted((name for name in scores if scores[name] >= floor), key=lambda name: -scores[name])


def _limit(draft: Draft) -> float:
    if draft.info.counted:
        return PICTURE_SECONDS
    from upscale_cli.media.video.container import VideoInfo

    assert isinstance(draft.info, VideoInfo)
    return FILM_LENGTHS * float(draft.info.frames / draft.info.rate)


def _minutes(seconds: float) -> str:
    """As precise as a guess is."""
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.0f} h"
    )
