"""The main verb: a plan carried out picture by picture, or what carrying it out would take.

Owns locks, the order of work, engines kept from one group of pictures to the next, and what is noted of each picture.
Decides nothing that `jobs` decides and prints nothing.
"""

import contextlib
import functools
import operator
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from upscale_cli import findings
from upscale_cli.engines import Engine, open_engine
from upscale_cli.errors import OutputError
from upscale_cli.jobs import Item, Plan, decide, without_name
from upscale_cli.jobs import plan as make_plan
from upscale_cli.journal import Journal, locked, remove_remains
from upscale_cli.media.encode import STREAMED
from upscale_cli.media.frame import Frame
from upscale_cli.networks import Combination, Network
from upscale_cli.pipeline import Event, Job, JobResult, PictureOptions, Upscaler, process
from upscale_cli.request import NetworkOptions, RunRequest

PROBE_PX = 96  # side of the picture whose time a forecast is made from: a blink for every network that ships


class Opener(Protocol):
    """What opens a network; `engines.open_engine`, or a fake in a test."""

    def __call__(
        self,
        model: Combination,
        scale: int | None = None,
        *,
        device: str,
        precision: str,
        backend: str,
        offline: bool,
    ) -> Engine: ...


@dataclass(frozen=True, slots=True)
class FileReport:
    """What became of one input."""

    source: Path
    target: Path | None
    state: Literal["made", "done", "skipped", "failed"]
    """`made` by this run, or `done` by an earlier one."""
    reason: str = ""
    """Why it was skipped, or failed."""
    notes: tuple[str, ...] = ()
    in_size: tuple[int, int] | None = None
    """Width and height."""
    out_size: tuple[int, int] | None = None
    frames: int = 0
    model: str = ""
    seconds: float = 0.0
    tile_px: int = 0
    precision: str = ""
    backend: str = ""
    """What ran the network: `torch`, `openvino`."""
    retries: int = 0

    @property
    def out_pixels(self) -> int:
        """Pixels written, over all frames."""
        return self.out_size[0] * self.out_size[1] * self.frames if self.out_size else 0


@dataclass(frozen=True, slots=True)
class RunReport:
    """What became of every input, in the order of the plan."""

    files: tuple[FileReport, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 when nothing failed, else 1."""
        return int(any(file.state == "failed" for file in self.files))


@dataclass(frozen=True, slots=True)
class News:
    """Something to show while it runs: a picture under way or finished, a network to load, another run to wait for."""

    source: Path | None = None
    fraction: float = 0.0
    """Of `source`, 0 to 1."""
    finished: FileReport | None = None
    waiting_for: Path | None = None
    opening: str = ""
    """The network that is being loaded."""
    picked: str = ""
    """What runs it, where and in which precision."""
    remark: str = ""
    """Why not something faster."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one picture would take, about."""

    tiles: int
    tile_px: int
    seconds: float
    bytes: int
    """Memory at the worst moment."""


def silently(_news: News) -> None:
    """For who does not want to hear."""


def run(work: RunRequest | Plan, *, opener: Opener = open_engine, tell: Callable[[News], None] = silently) -> RunReport:
    """Do what is asked, or planned already. One failed picture is a line of the report; the others go on.

    Waits for another run on the same output folder, then asks again what is left to do. Every picture is in the
    journal before the next one is told. Raises OutputError if the output folder cannot be written, and what planning
    and `opener` raise; on KeyboardInterrupt what was finished stays, and nothing half-made does.
    """
    started = time.perf_counter()
    plan = work if isinstance(work, Plan) else make_plan(work)
    reports: dict[Path, FileReport] = {}

    def report(file: FileReport) -> None:
        reports[file.source] = file
        tell(News(finished=file))

    with contextlib.ExitStack() as held:
        plan = _prepare(plan, held, tell)
        journals = plan.journals()
        for item in plan.items:
            if item.state == "done" and item.job:
                journals[item.folder].confirm(item.job.target)
            if item.state != "todo":
                report(_decided(item))
        networks = _Networks(plan.request.network, opener)
        groups = []
        for stages, items in _groups(plan):  # all are opened first: what is wrong with one ends the run at once
            tell(News(opening=" + ".join(stage.name for stage in stages)))
            groups.append((networks.upscaler(stages), items))
            tell(News(picked=networks.label(stages), remark=networks.remark(stages)))
        for upscaler, items in groups:
            # Closed here, whatever `tell` may raise: the pipeline's threads end before the locks are given up.
            with contextlib.closing(_make(items, networks, upscaler, journals, plan.request.picture, tell)) as files:
                for file in files:
                    report(file)
    return RunReport(tuple(reports[item.source] for item in plan.items), time.perf_counter() - started)


def forecast(plan: Plan, *, opener: Opener = open_engine) -> dict[Path, Forecast]:
    """What every picture still to be made would take: by what `upscale bench` found of these networks on this machine,
    else by the journals, else by a short trial. Downloads and writes nothing; raises what `opener` raises.
    """
    network = replace(plan.request.network, offline=True)
    networks, journals = _Networks(network, opener), plan.journals()
    found: dict[Path, Forecast] = {}
    for stages, items in _groups(plan):
        upscaler, trial = networks.upscaler(stages), None
        bench = functools.cache(networks.seconds_per_pixel)  # asked once for a tile size
        for item in items:
            if not item.info:
                continue
            streamed = item.job is not None and item.job.format in STREAMED and not item.info.animated
            cost = upscaler.cost(item.info.height, item.info.width, streamed=streamed)
            rates = [rate for stage in stages if (rate := bench(stage, cost.tile_px))]
            if len(rates) == len(stages):
                seconds = sum(map(operator.mul, rates, cost.network_pixels))
            else:
                rate = journals[item.folder].seconds_per_pixel(networks.label(stages)) or trial
                rate = trial = rate or _trial(upscaler)
                seconds = rate * item.info.height * item.info.width
            frames = item.info.frames
            found[item.source] = Forecast(cost.tiles * frames, cost.tile_px, seconds * frames, cost.bytes)
    return found


class _Networks:
    """Engines by what opened them, so that each is loaded once."""

    def __init__(self, options: NetworkOptions, opener: Opener) -> None:
        self.options = options
        self.opener = opener
        self._engines: dict[Network, Engine] = {}

    def upscaler(self, stages: Sequence[Network]) -> Upscaler:
        return Upscaler(
            [self._engine(stage) for stage in stages],
            tile_px=self.options.tile_px,
            overlap_px=self.options.overlap_px,
            strength=self.options.strength,
        )

    def label(self, stages: Sequence[Network]) -> str:
        """What ran where, in which precision and by what."""
        engines = [self._engine(stage) for stage in stages]
        first, names = engines[0], " + ".join(engine.name for engine in engines)
        return f"{names} on {first.device} in {first.precision} by {first.backend}"

    def seconds_per_pixel(self, network: Network, tile_px: int) -> float | None:
        """How long a pixel of a tile takes by what `upscale bench` found here, if it did."""
        engine = self._engine(network)
        return findings.seconds_per_pixel(
            engine.name, engine.device, backend=engine.backend, precision=engine.precision, tile_px=tile_px
        )

    def remark(self, stages: Sequence[Network]) -> str:
        """Why not by something faster; empty mostly."""
        return " ".join(dict.fromkeys(filter(None, (self._engine(stage).remark for stage in stages))))

    def _engine(self, network: Network) -> Engine:
        if network not in self._engines:
            options = self.options
            self._engines[network] = self.opener(
                network.combination,
                network.scale,
                device=options.device,
                precision=options.precision,
                backend=options.backend,
                offline=options.offline,
            )
        return self._engines[network]


def _prepare(plan: Plan, held: contextlib.ExitStack, tell: Callable[[News], None]) -> Plan:
    """Lock and make the folders, decide again what is left to do there, clear what a killed run left half-made."""
    faults: dict[Path, str] = {}
    # By their real names and in one order: two runs that want the same two folders must not each hold one.
    folders = {item.folder.resolve(): item.folder for item in plan.having("todo")}
    for real, folder in sorted(folders.items()):
        try:
            held.enter_context(locked(real, plan.share, waiting=lambda _, at=folder: tell(News(waiting_for=at))))
        except OutputError as error:
            if plan.request.output is not None:
                raise
            faults[real] = str(error)
    plan = decide(plan)
    for item in plan.having("todo"):
        target = item.job.target if item.job else item.source
        if item.folder.resolve() in faults:
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            faults[target] = f"{target.parent} cannot be written: {(error.strerror or str(error)).lower()}."
    plan = replace(plan, items=tuple(_with_fault(item, faults) for item in plan.items))
    remove_remains(item.job.target for item in plan.having("todo") if item.job)
    return plan


def _with_fault(item: Item, faults: dict[Path, str]) -> Item:
    if item.state != "todo" or not item.job:
        return item
    fault = faults.get(item.job.target) or faults.get(item.folder.resolve())
    return replace(item, state="failed", reason=fault) if fault else item


def _groups(plan: Plan) -> list[tuple[tuple[Network, ...], list[Item]]]:
    """Pictures that go through the same networks, each group in the order of the plan."""
    groups: dict[tuple[Network, ...], list[Item]] = {}
    for item in plan.having("todo"):
        groups.setdefault(item.stages, []).append(item)
    return list(groups.items())


def _make(
    items: Sequence[Item],
    networks: _Networks,
    upscaler: Upscaler,
    journals: dict[Path, Journal],
    options: PictureOptions,
    tell: Callable[[News], None],
) -> Generator[FileReport]:
    """One group through the pipeline; every result is in its journal before it is told."""
    unnoted: dict[Path, str] = {}

    def jobs() -> Iterator[Job]:
        for item in items:
            assert item.job
            assert item.info
            try:
                journals[item.folder].begin(
                    item.source, item.job.target, item.settings, height=item.job.height, width=item.job.width
                )
            except OSError as error:  # the input is gone, which reading it will tell, or the disk is full
                unnoted[item.source] = (error.strerror or str(error)).lower()
            yield item.job

    def listen(event: Event) -> None:
        tell(News(source=items[event.job_index].source, fraction=event.fraction))

    model = " + ".join(stage.name for stage in items[0].stages)
    engine = networks.label(items[0].stages)
    with contextlib.closing(process(jobs(), upscaler, options, progress=listen)) as results:
        for item, result in zip(items, results, strict=True):
            file = _reported(item, result, model)
            if result.error is None:
                trouble = unnoted.get(item.source) or _note(journals[item.folder], item, result, engine)
                note = (f"the next run will make it again: {trouble}",) if trouble else ()
                file = replace(file, notes=file.notes + note)
            yield file


def _note(journal: Journal, item: Item, result: JobResult, engine: str) -> str | None:
    """Into the journal; why not, if not."""
    try:
        noted = journal.finish(
            result.source, result.target, engine=engine, seconds=result.seconds, pixels=result.in_pixels
        )
    except OSError as error:
        return f"the journal cannot be written ({(error.strerror or str(error)).lower()})"
    return None if noted else "the picture was changed while it was read"


def _reported(item: Item, result: JobResult, model: str) -> FileReport:
    """What the pipeline says of a picture, and what the plan knew."""
    info = item.info
    return FileReport(
        source=item.source,
        target=result.target if result.error is None else None,
        state="made" if result.error is None else "failed",
        reason="" if result.error is None else without_name(result.error, item.source),
        notes=tuple(dict.fromkeys((*item.notes, *result.notes))),
        in_size=(info.width, info.height) if info else None,
        out_size=(item.job.width, item.job.height) if item.job else None,
        frames=result.frames,
        model=model if result.tile_px else "",
        seconds=result.seconds,
        tile_px=result.tile_px,
        precision=result.precision,
        backend=result.backend,
        retries=result.retries,
    )


def _decided(item: Item) -> FileReport:
    """What the plan had settled already."""
    state = "done" if item.state == "done" else "skipped" if item.state == "skipped" else "failed"
    target = item.job.target if item.job and state == "done" else None
    size = (item.info.width, item.info.height) if item.info else None
    return FileReport(item.source, target, state, item.reason, item.notes, in_size=size)


def _trial(upscaler: Upscaler) -> float:
    """Seconds an input pixel takes here: the best of a few small pictures, of which the first warms up."""
    ramp = np.linspace(0, 255, PROBE_PX * PROBE_PX * 3).astype(np.uint8)
    frame = Frame(ramp.reshape(PROBE_PX, PROBE_PX, 3))
    side = PROBE_PX * upscaler.scale
    upscaler.enlarge(frame, side, side)
    times: list[float] = []
    while len(times) < 3 and sum(times) < 1:  # what else runs on the machine only ever makes it slower
        started = time.perf_counter()
        upscaler.enlarge(frame, side, side)
        times.append(time.perf_counter() - started)
    return min(times) / PROBE_PX**2
