"""`upscale bench`: how fast this machine runs the networks, by which engine, and where the time goes.

Owns what is measured against what. Engines take turns, so that whatever else the machine does slows all of them.
Fetches no weights; remembers through `findings`.
"""

import contextlib
import functools
import itertools
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image

from upscale_cli import device as devices
from upscale_cli import findings, seams
from upscale_cli.engines import BACKENDS, open_engine
from upscale_cli.errors import UpscaleError, UsageError
from upscale_cli.evaluate import read_rgb8
from upscale_cli.findings import Finding
from upscale_cli.manifest import DEFAULT_MODEL, load_manifest, names_file
from upscale_cli.media.made import made_picture
from upscale_cli.media.paths import picture_files
from upscale_cli.metrics.fidelity import psnr
from upscale_cli.trial import Pixels, Setting, Stages, Trial
from upscale_cli.weights.loading import load_module
from upscale_cli.yardstick import Rate, Yardstick
from upscale_cli.zoo.cost import operations_per_pixel

USUAL_SCALE = 2  # as of the main command
TURNS = 3
SECONDS = 3.0
MOST_PHOTOS = 8
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
STAGES = tuple(field.name for field in fields(Stages))
ORIGINAL = ("torch", "fp32", 0)
"""Backend, precision and tile of the picture that others are compared with."""
_LEAST_HEIGHT, _MOST_HEIGHT = 320, 1080  # of the picture; it is half as wide again
_USUAL_SHARE = 0.15  # of the rate, by a plain engine: nothing but the picture's size hangs on it

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    """What to measure. UsageError for settings that cannot mean anything."""

    models: tuple[str, ...] = ()
    """Empty is the default model."""
    scale: float | None = None
    """None is twice, where a model has that; rows and files have their own."""
    backends: tuple[str, ...] = ()
    """Of `engines.BACKENDS`; empty is every one."""
    precisions: tuple[str, ...] = ()
    """Empty is fp32 and what is faster on the device."""
    tiles: tuple[int, ...] = (0,)
    """Most pixels a side has; 0 is automatic."""
    device: str = "auto"
    photos: Path | None = None
    """A photograph or a folder of them, of which the middle is used; None is a made picture."""
    seconds: float = SECONDS
    """To measure one network by one engine, once it is warm; one that takes longer for a single picture takes it."""

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise UsageError(f"--seconds {self.seconds:g} measures nothing. Use more than 0.")
        if any(tile < 0 for tile in self.tiles):
            raise UsageError(f"--tile {min(self.tiles)} means nothing. Use 0 or more.")
        for option, names, known in (
            ("engine", self.backends, BACKENDS),
            ("precision", self.precisions, PRECISIONS),
        ):
            for name in names:
                if name not in known:
                    raise UsageError(f"--{option} {name} cannot be measured. Choose of {', '.join(known)}.")


@dataclass(frozen=True, slots=True)
class Row:
    """One network by one engine in one precision; medians over turns."""

    model: str
    scale: int
    backend: str
    precision: str
    tile_px: int
    """Longer side of the tiles used."""
    stages: Stages
    in_megapixels_per_second: float
    """From file to file."""
    out_megapixels_per_second: float
    images_per_second: float
    """Of the report's picture."""
    frames_720p: float
    """Frames of 1280 x 720 through the network and joined, a second."""
    frames_1080p: float
    turns: int
    spread: float
    """(fastest - slowest) / median of the turns."""
    first_seconds: float
    """From opening the engine to the first picture: loading, compiling, warming up."""
    memory_bytes: int | None
    """What memory grew by meanwhile."""
    operations_per_second: float
    """Of the network as the engine computes it, tiles that overlap counted as often as they were done."""
    share: float | None
    """Of the rate that convolutions reached in this precision between the turns; None where that is not known."""
    psnr: float | None
    """dB to the picture that torch makes in fp32; infinite for an equal one, None where that cannot be made."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was asked for and could not be measured."""

    setting: Setting
    reason: str


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What was measured, the fastest first within a model, and what on."""

    machine: str
    pictures: dict[str, str]
    """By model, what was enlarged, for people."""
    operations_per_pixel: dict[str, float]
    """By model, as it is defined."""
    rates: tuple[Rate, ...]
    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    interrupted: bool


@dataclass(frozen=True, slots=True)
class SeamsReport:
    """How far pictures made of tiles are from those made whole."""

    pictures: dict[str, str]
    margins: dict[str, int]
    """By model, what it declares to need."""
    seams: dict[str, tuple[seams.Seam, ...]]


def silently(_news: str) -> None:
    """For who does not want to hear."""


def bench(request: BenchRequest, *, tell: Tell = silently) -> BenchReport:
    """Measure every network asked for by every engine; `tell` hears what is under way.

    What cannot be run (an engine that is not there, a precision it has not, weights to be fetched) is told with its
    reason, and the rest goes on. Ctrl-C ends it with what was found. Raises UsageError for names that nobody knows,
    InputError for photographs that cannot be read.
    """
    models = _models(request)
    work = _Bench(request, tell)
    try:
        work.yardstick.measure()
        for model in models:
            work.measure(model)
    except KeyboardInterrupt:
        return work.report(interrupted=True)
    return work.report(interrupted=False)


def measure_seams(request: BenchRequest, *, overlaps: Sequence[int] = (), tell: Tell = silently) -> SeamsReport:
    """What tiles do to the picture by what they share: `overlaps` pixels, or some around what the network needs.

    By torch in fp32 unless the request says otherwise. UsageError for a network that is never cut into tiles, and for
    photographs that are too small; what else `bench` raises, and WeightsError.
    """
    pictures: dict[str, str] = {}
    margins: dict[str, int] = {}
    found: dict[str, tuple[seams.Seam, ...]] = {}
    for model in _models(request):
        engine = open_engine(
            model,
            device=request.device,
            precision=(request.precisions or ("fp32",))[0],
            backend=(request.backends or ("torch",))[0],
            offline=True,
        )
        if not engine.tileable:
            raise UsageError(f"{engine.name} must see the whole picture: it is never cut into tiles and has no seams.")
        wanted = sorted({max(0, overlap - seams.RAMP_PX) // 2 for overlap in overlaps})
        wanted = wanted or seams.margins_for(engine.margin, exact=engine.exact)
        side = max(seams.side_of(margin)[1] for margin in wanted)
        (photo, *_), pictures[engine.name] = _pictures(request.photos, side, side)
        if min(photo.shape[:2]) < side:
            raise UsageError(f"To show seams {engine.name} needs a photograph of {side} x {side} pixels.")
        margins[engine.name] = engine.margin
        measured: list[seams.Seam] = []
        for margin in wanted:
            tell(f"{engine.name}, tiles that share {seams.overlap_of(margin)} px")
            measured += seams.measure(engine, photo, [margin])
        found[engine.name] = tuple(measured)
    return SeamsReport(pictures, margins, found)


class _Bench:
    """What was found so far."""

    def __init__(self, request: BenchRequest, tell: Tell) -> None:
        self.request = request
        self.tell = tell
        self.device = devices.pick(request.device)
        fastest = devices.fastest_precision(self.device)
        self.precisions = request.precisions or tuple(dict.fromkeys(("fp32", fastest)))
        self.backends = request.backends or BACKENDS
        self.yardstick = Yardstick(self.device, self.precisions)
        self.pictures: dict[str, str] = {}
        self.operations: dict[str, float] = {}
        self.rows: list[Row] = []
        self.skipped: list[Skipped] = []
        self.notes: list[str] = []

    def measure(self, model: str) -> None:
        """Every row of one model."""
        request = self.request
        settings = [Setting(model, *each) for each in itertools.product(self.backends, self.precisions, request.tiles)]
        try:
            name, variant, _ = load_module(model, None, offline=True)
        except UpscaleError as error:
            self.skipped += [Skipped(setting, str(error)) for setting in settings]
            return
        self.operations[name] = operations_per_pixel(variant)
        height = self._height(self.operations[name])
        pictures, self.pictures[name] = _pictures(request.photos, height, height * 3 // 2)
        trials: list[Trial] = []
        original: Pixels | None = None
        with tempfile.TemporaryDirectory(prefix="upscale-bench-") as scratch:
            files = [Path(scratch, f"photo-{index}.jpg") for index in range(len(pictures))]
            for file, picture in zip(files, pictures, strict=True):
                Image.fromarray(picture).save(file, quality=95)
            try:
                for setting in settings:
                    with self._settled(setting, "first picture"):
                        trials.append(Trial(setting, self.device, pictures[0]))
                original = self._original(model, trials, pictures[0])
                self._take_turns(trials, files, Path(scratch))
                self.yardstick.measure()
            finally:  # whatever ends it, what was found counts
                self._conclude(name, [trial for trial in trials if trial.turns], original)

    def report(self, *, interrupted: bool) -> BenchReport:
        """What was found so far."""
        places = {name: place for place, name in enumerate(self.operations)}
        rows = sorted(self.rows, key=lambda row: (places[row.model], -row.in_megapixels_per_second))
        return BenchReport(
            machine=findings.machine(str(self.device)),
            pictures=self.pictures,
            operations_per_pixel=self.operations,
            rates=tuple(self.yardstick.rates.values()),
            rows=tuple(rows),
            skipped=tuple(self.skipped),
            notes=tuple(dict.fromkeys(self.notes)),
            interrupted=interrupted,
        )

    def _height(self, operations: float) -> int:
        """Of a picture that takes a plain engine about a turn's time, and that the largest tile fits into."""
        slowest = min((rate.per_second for rate in self.yardstick.rates.values()), default=1e11)
        pixels = self.request.seconds / TURNS * slowest * _USUAL_SHARE / max(operations, 1.0)
        height = int(math.sqrt(pixels / 1.5)) // 16 * 16
        return max(_LEAST_HEIGHT, min(_MOST_HEIGHT, height), *self.request.tiles)

    def _original(self, model: str, trials: Sequence[Trial], picture: Pixels) -> Pixels | None:
        """What torch makes of the picture in fp32, by one of the trials or, where that is none, by itself."""
        setting = Setting(model, *ORIGINAL)
        known = next((trial.picture for trial in trials if trial.setting == setting), None)
        if known is None and trials:
            with self._settled(setting, "to compare with"):
                return Trial(setting, self.device, picture).picture
        return known

    def _take_turns(self, trials: list[Trial], files: Sequence[Path], scratch: Path) -> None:
        for turn in range(TURNS):
            for trial in tuple(trials):
                if trial.seconds > 2 * self.request.seconds:  # one of its pictures takes longer than all was to take
                    continue
                with self._settled(trial.setting, f"turn {turn + 1} of {TURNS}"):
                    rate = functools.partial(self.yardstick.now, trial.setting.precision)
                    trial.turn(files, scratch, seconds=self.request.seconds / TURNS, rate=rate)
                    continue
                trials.remove(trial)

    @contextlib.contextmanager
    def _settled(self, setting: Setting, doing: str) -> Iterator[None]:
        """Say what is under way; a failure of this setting is its own, and the others go on."""
        self.tell(f"{setting.model} by {setting.backend} in {setting.precision}: {doing}")
        try:
            yield
        except UpscaleError as error:
            self.skipped.append(Skipped(setting, str(error)))

    def _conclude(self, name: str, trials: Sequence[Trial], original: Pixels | None) -> None:
        """Rows of what was measured, and remember it."""
        self.rows += [_row(name, trial, original) for trial in trials]
        here, today = findings.machine(str(self.device)), date.today().isoformat()
        found = [
            Finding(
                machine=here,
                model=name,
                backend=trial.setting.backend,
                precision=trial.setting.precision,
                tile_px=trial.tile_px,
                seconds_per_pixel=trial.middle(lambda turn: 1 / turn.network_pixels_per_second),
                first_seconds=trial.first_seconds,
                bytes=trial.memory_bytes,
                date=today,
            )
            for trial in trials
            if not names_file(trial.setting.model)  # its name may be that of another file tomorrow
        ]
        try:
            findings.remember(found)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            self.notes.append(f"{findings.path()} cannot be written ({reason}): estimates will not know of this.")


def _row(name: str, trial: Trial, original: Pixels | None) -> Row:
    through = trial.middle(lambda turn: turn.stages.infer + turn.stages.blend) / 1e6
    speed = trial.middle(lambda turn: turn.pixels_per_second)
    speeds = [turn.pixels_per_second for turn in trial.turns]
    return Row(
        model=name,
        scale=trial.upscaler.scale,
        backend=trial.setting.backend,
        precision=trial.setting.precision,
        tile_px=trial.tile_px,
        stages=Stages(*(trial.middle(lambda turn, part=part: getattr(turn.stages, part)) for part in STAGES)),
        in_megapixels_per_second=speed / 1e6,
        out_megapixels_per_second=speed / 1e6 * trial.upscaler.scale**2,
        images_per_second=trial.middle(lambda turn: turn.images / turn.seconds),
        frames_720p=1 / through / (1280 * 720),
        frames_1080p=1 / through / (1920 * 1080),
        turns=len(speeds),
        spread=(max(speeds) - min(speeds)) / speed,
        first_seconds=trial.first_seconds,
        memory_bytes=trial.memory_bytes,
        operations_per_second=trial.operations * trial.middle(lambda turn: turn.network_pixels_per_second),
        share=trial.share,
        psnr=None if original is None else psnr(trial.picture, original),
        notes=trial.notes,
    )


def _models(request: BenchRequest) -> list[str]:
    """Rows of the manifest, or files. UsageError for a name that nobody knows."""
    manifest, scale = load_manifest(), request.scale or USUAL_SCALE
    names = request.models or (DEFAULT_MODEL,)
    return list(dict.fromkeys(name if names_file(name) else manifest.find(name, scale).name for name in names))


def _pictures(photos: Path | None, height: int, width: int) -> tuple[list[Pixels], str]:
    """The middle of each photograph, at most this large, or a made picture; and what they are, for people."""
    if photos is None:
        made = np.rint(made_picture(height, width) * 255).astype(np.uint8)
        return [made], f"a made picture of {width} x {height}"
    files = picture_files(photos)[:MOST_PHOTOS]
    if not files:
        raise UsageError(f"{photos} holds no picture. Give --photos a photograph, or a folder of them.")
    found = [seams.centre(read_rgb8(path), height, width) for path in files]
    many = f"{len(found)} photographs" if len(found) > 1 else "a photograph"
    return found, f"the middle of {many}, at most {width} x {height}"
