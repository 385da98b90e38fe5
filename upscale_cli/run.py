"""The main verb: a plan carried out picture by picture, or what carrying it out would take.

Owns locks, the order of work, the choice between this process and several, and what is noted of each picture. Decides
nothing that `jobs` decides and prints nothing.
"""

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from upscale_cli.device import several
from upscale_cli.engines import open_engine
from upscale_cli.engines.lut import LutEngine
from upscale_cli.errors import DeviceLostError, OutputError
from upscale_cli.jobs import Item, Plan, decide
from upscale_cli.jobs import plan as make_plan
from upscale_cli.journal import Journal, locked, remove_remains
from upscale_cli.media.formats import STREAMED
from upscale_cli.media.frame import Frame
from upscale_cli.media.paths import without_name
from upscale_cli.pipeline import Event, JobResult, Upscaler
from upscale_cli.request import RunRequest
from upscale_cli.worker import Networks, Opened, Opener, Orders, Task, Worker
from upscale_cli.workers import Ended, make_on

PROBE_PX = 96  # side of the picture whose time a forecast is made from: a blink for every network that ships
TABLE_PROBE_PX = 1024  # and for tables of colours, which take most of their time per picture, not per pixel


@dataclass(frozen=True, slots=True)
class FileReport:
    """What became of one input."""

    source: Path
    target: Path | None
    state: Literal["made", "done", "skipped", "failed", "left"]
    """`made` by this run, or `done` by an earlier one; `left` where no device was, to begin it."""
    reason: str = ""
    """Why it was skipped or left, or failed."""
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
    missing: str = ""
    """What the source promised and did not hold; the output has what there was."""

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
        """0 when nothing failed, nothing was left and nothing was missing, else 1."""
        return int(any(file.state in ("failed", "left") or file.missing for file in self.files))


@dataclass(frozen=True, slots=True)
class News:
    """Something to show while it runs: a picture under way or finished, a network to load, another run to wait for."""

    source: Path | None = None
    fraction: float = 0.0
    """Of `source`, 0 to 1."""
    frames: int = 0
    """Of `source`, where it is a video, made so far."""
    bytes: int = 0
    """Written of it so far."""
    finished: FileReport | None = None
    waiting_for: Path | None = None
    opening: str = ""
    """The networks that are being loaded."""
    picked: str = ""
    """What runs them, where and in which precision."""
    remark: str = ""
    """Why not something faster."""
    trouble: str = ""
    """One of several devices is gone; the others go on."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one picture would take, about."""

    tiles: int
    tile_px: int
    seconds: float
    """Of the run: where several devices share the work, a part of what one of them takes."""
    bytes: int
    """Memory at the worst moment."""


def silently(_news: News) -> None:
    """For who does not want to hear."""


def run(work: RunRequest | Plan, *, opener: Opener = open_engine, tell: Callable[[News], None] = silently) -> RunReport:
    """Do what is asked, or planned already. One failed picture is a line of the report; the others go on.

    Waits for another run on the same output folder, then asks again what is left to do. Every picture is in the
    journal before the next one is told. Raises OutputError if the output folder cannot be written, and what planning
    and `opener` raise; on KeyboardInterrupt what was finished stays, and nothing half-made does.

    Several devices get a process each, so `opener` must then be a function that can be imported, and a script that
    calls this needs `if __name__ == "__main__":`, as always with multiprocessing.
    """
    plan = work if isinstance(work, Plan) else make_plan(work)
    devices = several(plan.request.network.device)
    reports: dict[Path, FileReport] = {}

    def report(file: FileReport) -> None:
        reports[file.source] = file
        tell(News(finished=file))

    with contextlib.ExitStack() as held:
        plan = _prepare(plan, held, tell)
        started = time.perf_counter()  # of its own work: it may have waited for hours
        journals = plan.journals()
        for item in plan.items:
            if item.state == "done" and item.job:
                journals[item.folder].confirm(item.job.target)
            if item.state != "todo":
                report(_decided(item))
        try:
            # Closed here, whatever `tell` may raise: threads and processes end before the locks are given up.
            with contextlib.closing(_make(plan, journals, devices, opener, tell)) as files:
                for file in files:
                    report(file)
        except DeviceLostError as error:
            reason = f"not begun: {error}. The same command goes on from here."
            for item in plan.having("todo"):
                if item.source not in reports:
                    report(FileReport(item.source, None, "left", reason, item.notes))
        return RunReport(tuple(reports[item.source] for item in plan.items), time.perf_counter() - started)


def forecast(plan: Plan, *, opener: Opener = open_engine) -> dict[Path, Forecast]:
    """What every picture still to be made would take: by what `upscale bench` found of these networks on this machine,
    else by the journals, else by a short trial. Downloads and writes nothing; raises what `opener` raises.
    """
    devices = several(plan.request.network.device)
    network = replace(plan.request.network, offline=True, device=devices[0])
    networks, journals = Networks(network, opener), plan.journals()
    found: dict[Path, Forecast] = {}
    for chain, items in itertools.groupby(_ordered(plan), key=lambda item: item.chain):
        engine, trial = _engine(networks.label(chain), devices), None
        # Every network, and how many of the frames go through it.
        parts = [(chain.stages, networks.upscaler(chain.stages), 1.0)]
        if chain.keys:
            often = 1 / (plan.request.picture.video.keyframe_every or 1)
            parts.append((chain.keys, networks.upscaler(chain.keys), often))
        side = TABLE_PROBE_PX if isinstance(networks.style(), LutEngine) and not chain.stages else PROBE_PX
        bench = functools.cache(networks.seconds_per_pixel)  # asked once for a tile size
        for item in items:
            if not item.info:
                continue
            streamed = item.job is not None and item.job.format in STREAMED and not item.info.animated
            height, width, frames = item.info.height, item.info.width, item.info.frames
            costs = [upscaler.cost(height, width, streamed=streamed) for _, upscaler, _ in parts]
            known = [
                (bench(stage, cost.tile_px), pixels * often)
                for (stages, _, often), cost in zip(parts, costs, strict=True)
                for stage, pixels in zip(stages, cost.network_pixels, strict=True)
            ]
            if all(rate for rate, _ in known) and plan.request.network.style is None:
                seconds = sum((rate or 0) * pixels for rate, pixels in known)
            else:
                rate = journals[item.folder].seconds_per_pixel(engine) or trial
                rate = trial = rate or sum(_trial(upscaler, side) * often for _, upscaler, often in parts)
                seconds = rate * height * width
            found[item.source] = Forecast(
                tiles=round(sum(cost.tiles * often for cost, (_, _, often) in zip(costs, parts, strict=True)) * frames),
                tile_px=costs[0].tile_px,
                seconds=seconds * frames / len(devices),
                bytes=sum(cost.bytes for cost in costs),
            )
    return found


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


def _ordered(plan: Plan) -> list[Item]:
    """What is to be made: pictures that go through the same networks together, else as in the plan."""
    todo = plan.having("todo")
    chains = list(dict.fromkeys(item.chain for item in todo))
    return sorted(todo, key=lambda item: chains.index(item.chain))


def _make(
    plan: Plan, journals: dict[Path, Journal], devices: Sequence[str], opener: Opener, tell: Callable[[News], None]
) -> Generator[FileReport]:
    """Every picture by the devices there are; every result is in its journal before it is told."""
    items = _ordered(plan)
    if not items:
        return
    unnoted: dict[Path, str] = {}
    chains = tuple(dict.fromkeys(item.chain for item in items))
    network = replace(plan.request.network, device=devices[0])
    orders = Orders(network, plan.request.picture, chains, opener)
    tasks = [Task(index, chains.index(item.chain), item.job) for index, item in enumerate(items) if item.job]

    def begin(task: Task) -> None:
        item, job = items[task.index], task.job
        try:
            journals[item.folder].begin(item.source, job.target, item.settings, height=job.height, width=job.width)
        except OSError as error:  # the input is gone, which reading it will tell, or the disk is full
            unnoted[item.source] = (error.strerror or str(error)).lower()

    def begun() -> Iterator[Task]:
        for task in tasks:
            begin(task)
            yield task

    opened: set[Opened] = set()

    def hear(message: Event | Opened | Ended) -> None:
        match message:
            case Event():
                source = items[message.job_index].source
                tell(News(source, message.fraction, message.frames, message.bytes))
            case Opened() if message not in opened:
                opened.add(message)
                tell(News(picked=message.engine, remark=message.remark))
            case Ended():
                tell(News(trouble=message.reason))

    tell(News(opening=", ".join(dict.fromkeys(item.through for item in items))))
    if len(devices) == 1:
        making = Worker(orders, hear).make(begun())
    else:
        making = make_on(devices, orders, tasks, begin=begin, hear=hear)
    with contextlib.closing(making) as results:
        for made in results:
            item = items[made.index]
            file = _reported(item, made.result)
            if made.result.error is None:
                engine = _engine(made.engine, devices)
                trouble = unnoted.get(item.source) or _note(journals[item.folder], item, made.result, engine)
                note = (f"the next run will make it again: {trouble}",) if trouble else ()
                file = replace(file, notes=file.notes + note)
            yield file


def _engine(label: str, devices: Sequence[str]) -> str:
    """What made a picture, for the journal: what shares a machine is slower than what has it alone."""
    return label if len(devices) == 1 else f"{label}, {len(devices)} at once"


def _note(journal: Journal, item: Item, result: JobResult, engine: str) -> str | None:
    """Into the journal; why not, if not."""
    try:
        noted = journal.finish(
            result.source,
            result.target,
            engine=engine,
            seconds=result.seconds,
            pixels=result.in_pixels,
            missing=result.missing,
        )
    except OSError as error:
        return f"the journal cannot be written ({(error.strerror or str(error)).lower()})"
    return None if noted else "the picture was changed while it was read"


def _reported(item: Item, result: JobResult) -> FileReport:
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
        model=item.through if result.backend else "",
        seconds=result.seconds,
        tile_px=result.tile_px,
        precision=result.precision,
        backend=result.backend,
        retries=result.retries,
        missing=result.missing,
    )


def _decided(item: Item) -> FileReport:
    """What the plan had settled already."""
    state = "done" if item.state == "done" else "skipped" if item.state == "skipped" else "failed"
    target = item.job.target if item.job and state == "done" else None
    size = (item.info.width, item.info.height) if item.info else None
    return FileReport(item.source, target, state, item.reason, item.notes, in_size=size, missing=item.missing)


def _trial(upscaler: Upscaler, probe_px: int) -> float:
    """Seconds an input pixel takes here: the best of a few small pictures, of which the first warms up."""
    ramp = np.linspace(0, 255, probe_px * probe_px * 3).astype(np.uint8)
    frame = Frame(ramp.reshape(probe_px, probe_px, 3))
    side = probe_px * upscaler.scale
    upscaler.enlarge(frame, side, side)
    times: list[float] = []
    while len(times) < 3 and sum(times) < 1:  # what else runs on the machine only ever makes it slower
        started = time.perf_counter()
        upscaler.enlarge(frame, side, side)
        times.append(time.perf_counter() - started)
    return min(times) / probe_px**2
