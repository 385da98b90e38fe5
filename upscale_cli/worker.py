"""A worker: the networks of a run open on one device, and pictures through them.

What it is told (Orders, Tasks) and what it answers (Opened, Event, Made) can be pickled, and nothing else reaches it:
it works in the process of the run, in one of several, or anywhere else. Refuses journals, locks and printing.
"""

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from upscale_cli import findings
from upscale_cli.engines import Engine
from upscale_cli.engines.lut import LutEngine, open_tables
from upscale_cli.errors import DeviceLostError
from upscale_cli.networks import Chain, Combination, Network
from upscale_cli.pipeline import Event, Job, JobResult, PictureOptions, Upscaler, process
from upscale_cli.request import NetworkOptions

AGAIN = "The same command tries it again."


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
class Orders:
    """What a worker is told before its tasks."""

    network: NetworkOptions
    picture: PictureOptions
    chains: tuple[Chain, ...]
    opener: Opener


@dataclass(frozen=True, slots=True)
class Task:
    """One picture to make."""

    index: int
    """In the run."""
    chain: int
    """In the orders."""
    job: Job


@dataclass(frozen=True, slots=True)
class Made:
    """What became of a task."""

    index: int
    result: JobResult
    engine: str
    """What made it, where and how; a forecast goes by it."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What was found to run networks in a row."""

    engine: str
    remark: str
    """Why not something faster; empty mostly."""


class Networks:
    """Engines by what opened them, so that each is loaded once."""

    def __init__(self, options: NetworkOptions, opener: Opener) -> None:
        self.options = options
        self.opener = opener
        self._engines: dict[Network, Engine] = {}
        self._style: Engine | LutEngine | None = None

    def upscaler(self, stages: Sequence[Network], *, beside: Sequence[Network] = ()) -> Upscaler:
        """The networks in a row. Of those in use `beside` it, by turns, engines of its own."""
        style = self.options.style
        return Upscaler(
            [self._own(stage) if stage in beside else self._engine(stage) for stage in stages],
            tile_px=self.options.tile_px,
            overlap_px=self.options.overlap_px,
            strength=self.options.strength,
            style=self.style(),
            style_strength=style.strength if style else 1.0,
        )

    def _own(self, network: Network) -> Engine:
        """One that has nothing of another's under way, which it would overwrite."""
        engine = self._engine(network)
        return engine if engine.in_flight == 1 else engine.in_precision(engine.precision)

    def style(self) -> Engine | LutEngine | None:
        """What gives pictures their look, if they are to have one."""
        style, options = self.options.style, self.options
        if style is not None and self._style is None:
            if style.kind == "network":
                self._style = self._open(style.combination, 1)
            else:
                self._style = open_tables(style, offline=options.offline)
        return self._style

    def _all(self, stages: Sequence[Network]) -> list[Engine | LutEngine]:
        style = self.style()
        return [*([] if style is None else [style]), *(self._engine(stage) for stage in stages)]

    def label(self, chain: Chain) -> str:
        """What ran where, in which precision and by what, and which others on keyframes."""
        engines = self._all(chain.stages)
        last, names = engines[-1], " + ".join(engine.name for engine in engines)  # tables before it say nothing
        keys = " + ".join(self._engine(network).name for network in chain.keys)
        return f"{names} on {last.device} in {last.precision} by {last.backend}" + f", {keys} on keyframes" * bool(keys)

    def seconds_per_pixel(self, network: Network, tile_px: int) -> float | None:
        """How long a pixel of a tile takes by what `upscale bench` found here, if it did."""
        engine = self._engine(network)
        return findings.seconds_per_pixel(
            engine.name, engine.device, backend=engine.backend, precision=engine.precision, tile_px=tile_px
        )

    def remark(self, chain: Chain) -> str:
        """Why not by something faster; empty mostly."""
        engines = self._all((*chain.stages, *chain.keys))
        return " ".join(dict.fromkeys(filter(None, (engine.remark for engine in engines))))

    def _engine(self, network: Network) -> Engine:
        if network not in self._engines:
            self._engines[network] = self._open(network.combination, network.scale)
        return self._engines[network]

    def _open(self, combination: Combination, scale: int) -> Engine:
        options = self.options
        return self.opener(
            combination,
            scale,
            device=options.device,
            precision=options.precision,
            backend=options.backend,
            offline=options.offline,
        )


class Worker:
    """The networks of a run, open on one device."""

    def __init__(self, orders: Orders, hear: Callable[[Event | Opened], None]) -> None:
        """Opens all, so that what is wrong with one ends the run before it begins; raises what `opener` does.

        `hear` is told what was opened, and later how far the picture of a task is.
        """
        networks = Networks(orders.network, orders.opener)
        self._chains: list[tuple[Upscaler, Upscaler | None, str]] = []
        self._picture = orders.picture
        self._hear = hear
        for chain in orders.chains:
            strong = networks.upscaler(chain.keys, beside=chain.stages) if chain.keys else None
            self._chains.append((networks.upscaler(chain.stages), strong, networks.label(chain)))
            hear(Opened(networks.label(chain), networks.remark(chain)))

    def make(self, tasks: Iterable[Task]) -> Generator[Made]:
        """Every picture, in the order of the tasks, which are taken a few ahead and by another thread.

        DeviceLostError, behind what became of the picture that it happened to, once the device takes no more. Closed
        early, as by Ctrl-C, nothing half-made stays.
        """
        for chain, group in itertools.groupby(tasks, key=lambda task: task.chain):
            with contextlib.closing(self._make(chain, group)) as results:
                yield from results

    def _make(self, chain: int, tasks: Iterable[Task]) -> Generator[Made]:
        upscaler, strong, engine = self._chains[chain]
        taken: list[int] = []

        def jobs() -> Iterator[Job]:
            for task in tasks:
                taken.append(task.index)
                yield task.job

        def listen(event: Event) -> None:
            if event.finished is None:
                self._hear(replace(event, job_index=taken[event.job_index]))

        with contextlib.closing(process(jobs(), upscaler, self._picture, strong=strong, progress=listen)) as results:
            for place, result in enumerate(results):
                if not result.device_lost:
                    yield Made(taken[place], result, engine)
                    continue
                yield Made(taken[place], replace(result, error=f"{result.error}. {AGAIN}"), engine)
                raise DeviceLostError(result.error)
