"""Who is scored: models that enlarge what they are shown, and films that were made already. A row of the table each.

Owns what a failure of one costs: its own row. Refuses to read what they are shown, and threads.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from upscale_cli.engines import Engine, open_engine
from upscale_cli.errors import InferenceError, InputError, UpscaleError, UsageError
from upscale_cli.evaluate.cost import cost_of
from upscale_cli.evaluate.pairs import Pixels
from upscale_cli.evaluate.report import ImageScore, ModelReport
from upscale_cli.evaluate.request import EvalRequest
from upscale_cli.evaluate.views import View, frames
from upscale_cli.metrics.catalog import METRICS
from upscale_cli.metrics.gauge import Gauge, average, mean_scores
from upscale_cli.metrics.protocol import Comparison, Scores
from upscale_cli.networks import Combination
from upscale_cli.pipeline import Upscaler


@dataclass(slots=True, eq=False)
class Contestant:
    """One row on its way through pictures and films."""

    label: str
    make: Callable[[View], Pixels] | None = None
    """Raises InferenceError or InputError; None where it takes no part."""
    engine: Engine | None = None
    parameters: int | None = None
    gmacs_720p: float | None = None
    error: str | None = None
    gauges: dict[str, Gauge] = field(default_factory=dict)
    images: list[ImageScore] = field(default_factory=list)
    seconds: float = 0.0
    before: Pixels | None = None
    """What it made of the frame before, of a film."""
    whole: bool = True
    """Whether it made every frame of the file under way."""
    _frames: list[Scores] = field(default_factory=list)

    def enlarge(self, view: View) -> Pixels | None:
        """The picture it makes, or None, with the error noted, where it makes none."""
        assert self.make is not None
        self.whole = self.whole or view.index == 0
        started = time.perf_counter()
        try:
            return self.make(view)
        except (InferenceError, InputError) as error:
            self.error = self.error or f"{view.name}: {error}"
            self.whole, self.before = False, None
            return None
        finally:
            self.seconds += time.perf_counter() - started

    def judge(self, pictures: Comparison) -> Scores:
        """Every metric of one picture or frame; in the judge's thread."""
        scores = {metric: gauge.look(pictures) for metric, gauge in self.gauges.items()}
        self._frames.append(scores)
        return scores

    def close(self, name: str, *, whole: bool) -> None:
        """A picture or film is over: its score is the mean of its frames, if all were made. In the judge's thread."""
        if self._frames and whole:
            self.images.append(ImageScore(name, mean_scores(self._frames)))
        self._frames = []

    def scores(self) -> Scores:
        """Of the set: the mean over pictures and films, where these have values."""
        if not self.images:
            return dict.fromkeys(self.gauges, math.nan)
        return {
            name: average(image.scores[name] for image in self.images) if METRICS[name].of_pictures else gauge.result()
            for name, gauge in self.gauges.items()
        }

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
            scores=self.scores(),
            images=tuple(self.images),
            error=self.error,
        )


def originals() -> Contestant:
    """What is there to be reached."""

    def make(view: View) -> Pixels:
        assert view.hr is not None
        return view.hr

    return Contestant("originals", make)


def untouched() -> Contestant:
    """What the pictures score as they are."""
    return Contestant("input", lambda view: view.lr)


def open_models(request: EvalRequest) -> list[Contestant]:
    """All of them, those of several that cannot take part with the reason."""
    found: list[Contestant] = []
    scale = 1 if request.protocol else request.scale
    for model in request.models:
        contestant = Contestant(str(model))
        found.append(contestant)
        try:
            engine = open_model(request, model, scale)
        except UpscaleError as error:
            if len(request.models) + len(request.made) == 1:
                raise
            contestant.error = str(error)
            continue
        scale = engine.scale
        upscaler = Upscaler([engine], tile_px=request.tile_px)
        contestant.engine = engine
        contestant.make = lambda view, upscaler=upscaler: upscaler.enlarge_rgb8(view.lr)
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


def made_films(path: Path, of: Mapping[str, Path | None]) -> Contestant:
    """Films as they lie on the disk; `of` says which was made of the source of a name."""
    return Contestant(str(path), _Made(of))


class _Made:
    """The films of one maker, frame by frame as they are asked for."""

    def __init__(self, of: Mapping[str, Path | None]) -> None:
        self._of = of
        self._frames: Iterator[Pixels] = iter(())

    def __call__(self, view: View) -> Pixels:
        """Cut to the size it should have: encoders make sides even. InputError where it does not belong to the view."""
        path = self._of[view.name]
        if path is None:
            raise InputError("nothing was made of it, by the names there.")
        if view.index == 0:
            self._frames = frames(path)
        made = next(self._frames, None)
        if made is None:
            raise InputError(f"{path.name} ends after {view.index} frames.")
        height, width = view.size
        if not (0 <= made.shape[0] - height < 2 and 0 <= made.shape[1] - width < 2):
            raise InputError(
                f"{path.name} is {made.shape[1]} x {made.shape[0]}, not {width} x {height}. Give the --scale it was "
                "made with."
            )
        if view.last and next(self._frames, None) is not None:
            raise InputError(f"{path.name} has more frames than the {view.index + 1} it is compared with.")
        return made[:height, :width]
