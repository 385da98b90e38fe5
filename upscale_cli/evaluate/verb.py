"""Every picture through every model and into every metric: decoding runs ahead of the networks, scoring behind them.

Owns the order of the work and what a failure costs: a picture that cannot be read costs itself, a model that cannot
run its row. Refuses to print, and to make LR and scores itself.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from upscale_cli.engines import Engine, open_engine
from upscale_cli.errors import InferenceError, InputError, UpscaleError, UsageError, WeightsError
from upscale_cli.evaluate.cost import cost_of
from upscale_cli.evaluate.pairs import IMRESIZE, Pair, Pixels, pair_by_name, read_pair
from upscale_cli.evaluate.report import EvalReport, ImageScore, ModelReport, Problem, Step
from upscale_cli.media.paths import picture_files
from upscale_cli.metrics.catalog import DEFAULT, Metric, choose
from upscale_cli.metrics.gauge import Gauge, Needs, mean_scores
from upscale_cli.metrics.protocol import Comparison, Protocol
from upscale_cli.networks import Combination
from upscale_cli.pipeline import Upscaler

__all__ = ["EvalRequest", "evaluate", "mean_scores"]

AHEAD = 2
"""Pairs decoded before they are needed, and pictures that wait for their scores."""
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalRequest:
    """What to score on what."""

    models: tuple[str | Path | Combination, ...]
    data: Path
    """Folder of HR images, or one image."""
    scale: int | None = None
    """Native scale; without it, that of the first model that can be opened."""
    lr: Path | None = None
    """Folder of LR images, paired with HR by name; without it they are made by imresize."""
    metrics: tuple[str, ...] = DEFAULT
    crop_border: int | None = None
    """Pixels; the scale unless given."""
    device: str = "auto"
    precision: str = "fp32"
    """fp32 by default: a score must not depend on the machine it was taken on."""
    backend: str = "torch"
    """What runs the network; see `open_engine`."""
    tile_px: int = 0
    offline: bool = False
    encoders: Mapping[str, Path] = field(default_factory=dict)
    """Weights of metrics; see `Needs`."""


def evaluate(request: EvalRequest, *, progress: Callable[[Step], None] | None = None) -> EvalReport:
    """Score models on a folder.

    A picture or a model of several that fails is named in the report, and the others go on. Raises UsageError where
    nothing can be scored or a metric named cannot be taken, and what the model raises where there is but one.
    """
    files = picture_files(request.data)
    if not files:
        raise UsageError(f"{request.data} holds no picture to score on. Give --data a folder of HR images.")
    metrics, left_out = _open_metrics(request)
    contestants = _open_models(request)
    scale = next((contestant.scale for contestant in contestants if contestant.scale), None)
    if scale is None:
        raise UsageError("\n".join(f"{contestant.label}: {contestant.error}" for contestant in contestants))
    if scale == 1 and request.lr is None:
        raise UsageError(f"{contestants[0].label} enlarges nothing: give --lr the folder of what it is to restore.")
    protocol = Protocol(scale if request.crop_border is None else request.crop_border)
    run = _Run(contestants, metrics, protocol, progress or (lambda _step: None), len(files))
    partners = pair_by_name(files, request.lr, scale) if request.lr else None
    run.score(files, lambda path: read_pair(path, scale, partners))
    if not run.fingerprints:
        raise InputError("\n".join(problem.reason for problem in run.problems[:20]))
    return EvalReport(
        data=str(request.data),
        scale=scale,
        low_resolution=f"read from {request.lr}" if request.lr else IMRESIZE,
        pixels=str(protocol),
        metrics={metric.name: metric.protocol for metric, _ in metrics},
        fingerprints=run.fingerprints,
        models=tuple(contestant.report() for contestant in contestants),
        pictures=len(files),
        problems=tuple(run.problems),
        left_out=left_out,
    )


Opened = tuple[Metric, Callable[[], Gauge]]


def _open_metrics(request: EvalRequest) -> tuple[list[Opened], tuple[Problem, ...]]:
    """What can be taken here, and what `all` stands for and cannot."""
    needs = Needs(request.device, request.encoders, request.offline)
    found: list[Opened] = []
    left_out: list[Problem] = []
    for metric in choose(request.metrics):
        try:
            found.append((metric, metric.open(needs)))
        except WeightsError as error:
            if "all" not in request.metrics:
                raise UsageError(f"--metrics {metric.name}: {error}") from error
            left_out.append(Problem(metric.name, str(error)))
    return found, tuple(left_out)


@dataclass(slots=True, eq=False)
class _Contestant:
    """One model on its way through the pictures."""

    label: str
    engine: Engine | None = None
    upscaler: Upscaler | None = None
    parameters: int | None = None
    gmacs_720p: float | None = None
    error: str | None = None
    gauges: dict[str, Gauge] = field(default_factory=dict)
    images: list[ImageScore] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def scale(self) -> int | None:
        return None if self.engine is None else self.engine.scale

    def enlarge(self, pair: Pair) -> Pixels | None:
        """The picture it makes, or None, with the error noted, where it makes none."""
        assert self.upscaler is not None
        started = time.perf_counter()
        try:
            return self.upscaler.enlarge_rgb8(pair.lr)
        except InferenceError as error:
            self.error = self.error or f"{pair.name}: {error}"
            return None
        finally:
            self.seconds += time.perf_counter() - started

    def judge(self, name: str, pictures: Comparison) -> ImageScore:
        """Every metric of one picture; in the judges' thread."""
        image = ImageScore(name, {metric: gauge.look(pictures) for metric, gauge in self.gauges.items()})
        self.images.append(image)
        return image

    def report(self) -> ModelReport:
        engine = self.engine
        return ModelReport(
            model=self.label,
            network=engine.name if engine else "",
            precision=engine.precision if engine else "",
            backend=engine.backend if engine else "",
            device=engine.device if engine else "",
            parameters=self.parameters,
            gmacs_720p=self.gmacs_720p,
            seconds=self.seconds,
            scores={name: gauge.result() if self.images else math.nan for name, gauge in self.gauges.items()},
            images=tuple(self.images),
            error=self.error,
        )


def _open_models(request: EvalRequest) -> list[_Contestant]:
    """All of them, those of several that cannot take part with the reason."""
    found: list[_Contestant] = []
    scale = request.scale
    for model in request.models:
        contestant = _Contestant(str(model))
        found.append(contestant)
        try:
            engine = open_model(request, model, scale)
        except UpscaleError as error:
            if len(request.models) == 1:
                raise
            contestant.error = str(error)
            continue
        scale = engine.scale
        contestant.engine, contestant.upscaler = engine, Upscaler([engine], tile_px=request.tile_px)
        contestant.parameters, contestant.gmacs_720p = cost_of(Combination.of(model), scale)
    return found


def open_model(request: EvalRequest, model: str | Path | Combination, scale: int | None) -> Engine:
    """As the request says; UsageError where the model has another scale."""
    engine = open_engine(
        model,
        scale,
        device=request.device,
        precision=request.precision,
        backend=request.backend,
        offline=request.offline,
    )
    if scale is not None and engine.scale != scale:
        raise UsageError(f"{engine.name} has the native scale {engine.scale}, not {scale}: its scores are no others'.")
    return engine


@dataclass(slots=True, eq=False)
class _Run:
    """One evaluation under way: a reader's thread, the calling one with the networks, a judge's thread."""

    contestants: list[_Contestant]
    metrics: list[Opened]
    protocol: Protocol
    progress: Callable[[Step], None]
    pictures: int
    done: int = 0
    fingerprints: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def score(self, files: list[Path], read: Callable[[Path], Pair]) -> None:
        """Every file through every model that is open."""
        running = [contestant for contestant in self.contestants if contestant.upscaler]
        for contestant in running:
            contestant.gauges = {metric.name: make() for metric, make in self.metrics}
        waiting: deque[tuple[_Contestant, Future[ImageScore]]] = deque()
        readers, judges = ThreadPoolExecutor(1, "upscale-read"), ThreadPoolExecutor(1, "upscale-judge")
        try:
            for path, reading in _ahead(readers, lambda path: self._read(path, read), files):
                try:
                    pair, digest = reading.result()
                except InputError as error:
                    self.problems.append(Problem(path.name, str(error)))
                    continue
                self.fingerprints[pair.name] = digest
                reference = self.protocol.inside(pair.hr)
                for contestant in running:
                    image = contestant.enlarge(pair)
                    if image is not None:
                        pictures = Comparison(self.protocol.inside(image), reference)
                        waiting.append((contestant, judges.submit(contestant.judge, pair.name, pictures)))
                    while len(waiting) > AHEAD:
                        self._tell(*waiting.popleft(), len(running))
            while waiting:
                self._tell(*waiting.popleft(), len(running))
        finally:
            for pool in (readers, judges):
                pool.shutdown(cancel_futures=True)

    def _read(self, path: Path, read: Callable[[Path], Pair]) -> tuple[Pair, str]:
        """In the reader's thread."""
        pair = read(path)
        try:
            self.protocol.inside(pair.hr)
        except ValueError as error:
            raise InputError(f"{path.name}: {error}.") from error
        return pair, pair.digest()

    def _tell(self, contestant: _Contestant, judged: "Future[ImageScore]", models: int) -> None:
        image = judged.result()
        self.done += 1
        self.progress(Step(self.done, self.pictures * models, contestant.label, image))


def _ahead(pool: ThreadPoolExecutor, work: Callable[[T], U], items: Iterable[T]) -> Iterator[tuple[T, "Future[U]"]]:
    """Every item and its work, of which a few are done before they are asked for."""
    waiting: deque[tuple[T, Future[U]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(work, item)))
        if len(waiting) > AHEAD:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()
