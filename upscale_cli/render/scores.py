"""`upscale eval` on the screen: what is under way, and what models are worth beside each other."""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from upscale_cli.errors import UsageError
from upscale_cli.media.paths import shown
from upscale_cli.render import screen

if TYPE_CHECKING:
    from upscale_cli.evaluate import EvalReport, ModelReport, Step
    from upscale_cli.evaluate.compare import Change
    from upscale_cli.metrics.catalog import Metric
    from upscale_cli.metrics.protocol import Scores

MOST_LINES = 20


class EvaluationBar(screen.Bar):
    """Progress of `upscale eval`, on a terminal: pictures scored, by which model, and how long it still takes."""

    def __init__(self, *, quiet: bool) -> None:
        words = TextColumn("{task.description}", markup=False)
        columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn(compact=True), words)
        super().__init__(*columns, quiet=quiet, task="scoring")

    def update(self, step: "Step") -> None:
        """One more picture of one model is scored."""
        name, value = next(iter(step.image.scores.items()))
        words = f"scoring: {shown(step.model)}, {shown(step.image.name)}, {_metric(name).title} {cell(name, value)}"
        self._progress.update(self._task, completed=step.done, total=step.total, description=words)


def evaluation(report: "EvalReport", changes: "Sequence[Change]" = (), *, as_json: bool) -> None:
    """A row a model, before it a row a picture where there is but one model, and how all of it was measured; behind it
    what changed since an earlier evaluation.
    """
    if as_json:
        return screen.print_json(to_json(report, changes))
    console = screen.output()
    if len(report.models) == 1 and len(report.fingerprints) > 1:
        console.print(_pictures(report, report.models[0]))
    console.print(_models(report))
    for line in _words(report):
        console.print(line, markup=False)
    if changes:
        console.print(_changes(changes))


def to_json(report: "EvalReport", changes: "Sequence[Change]" = ()) -> dict[str, Any]:
    """All of it; what JSON has no number for as text (`Infinity`) or null (no value)."""
    document = {"whole": report.whole, "fingerprint": report.fingerprint, **asdict(report)}
    if changes:
        document["changes"] = [asdict(change) for change in changes]
    return json.loads(json.dumps(document), parse_constant=lambda name: None if name == "NaN" else name)


def cell(name: str, value: float) -> str:
    """A value for people, `-` for none."""
    return "-" if math.isnan(value) else f"{value:.{_metric(name).digits}f}"


def _metric(name: str) -> "Metric":
    # Its formulas import OpenCV, for which `upscale --help` cannot wait.
    from upscale_cli.metrics.catalog import METRICS

    return METRICS[name]


def title(name: str) -> str:
    """What a metric is called above a column."""
    return _metric(name).title


def named(scores: "Scores") -> str:
    """Every value for people with its name: `PSNR-Y 30.12, SSIM-Y 0.9000`."""
    return ", ".join(f"{_metric(name).title} {cell(name, value)}" for name, value in scores.items())


def cells(scores: "Scores") -> tuple[str, ...]:
    """Every value for people."""
    return tuple(cell(name, value) for name, value in scores.items())


def write_scores(report: "EvalReport", path: Path) -> None:
    """A CSV file with a row an image and model, and one of each model's values for the set, called `mean`."""
    names = list(report.metrics)
    try:
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(("model", "image", *names))
            for model in report.models:
                rows = [(image.name, image.scores) for image in model.images]
                for image, scores in (*rows, ("mean", model.scores)) if rows else ():
                    writer.writerow((model.model, image, *(_plain(_metric(name), scores[name]) for name in names)))
    except OSError as fault:
        raise UsageError(f"--csv {path} cannot be written: {(fault.strerror or str(fault)).lower()}.") from fault


def _plain(metric: "Metric", value: float) -> str:
    return "" if math.isnan(value) else f"{value:.{metric.digits + 2}f}"


def _pictures(report: "EvalReport", model: "ModelReport") -> Table:
    table = _table("image", report.metrics)
    for image in model.images:
        table.add_row(Text(shown(image.name)), *cells(image.scores))
    return table


def _models(report: "EvalReport") -> Table:
    table = _table("model", report.metrics)
    for title in ("parameters", "GMACs 720p", "seconds"):
        table.add_column(title, justify="right", no_wrap=True)
    best = {name: _best(_metric(name), report.models) for name in report.metrics}
    for model in report.models:
        values = [
            Text(cell(name, model.scores[name]), "bold" if model.scores[name] == best[name] else "")
            for name in model.scores
        ]
        parameters = "-" if not model.parameters else f"{model.parameters:,}"
        macs = "-" if model.gmacs_720p is None else f"{model.gmacs_720p:,.1f}"
        if model.images:
            table.add_row(Text(shown(model.model)), *values, parameters, macs, f"{model.seconds:.1f}")
        else:
            table.add_row(Text(shown(model.model)), *["-"] * (len(best) + 3))
    return table


def _best(metric: "Metric", models: "Iterable[ModelReport]") -> float:
    values = [model.scores[metric.name] for model in models if model.images]
    known = [value for value in values if not math.isnan(value)]
    return (max if metric.higher_is_better else min)(known) if len(known) > 1 else math.nan


def _table(first: str, metrics: Mapping[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for name in metrics:
        table.add_column(_metric(name).title, justify="right", no_wrap=True)
    return table


def _words(report: "EvalReport") -> Iterable[str]:
    """What stands below the table: failures first, then how it was measured."""
    scored, kind = len(report.fingerprints), "films" if report.frames else "pictures"
    if scored < report.pictures:
        yield f"INCOMPLETE: {scored} of {report.pictures} {kind} were scored; the values are not those of the set."
    for problem in report.problems[:MOST_LINES]:
        yield f"  not scored: {shown(problem.reason)}"
    if len(report.problems) > MOST_LINES:
        yield f"  and {len(report.problems) - MOST_LINES} more"
    for model in report.models:
        if model.error is not None:
            some = f"INCOMPLETE: {len(model.images)} of {scored} {kind}; " if model.images else ""
            yield f"{shown(model.model)}: {some}{shown(model.error)}"
    for problem in report.left_out:
        yield f"{problem.name} left out: {shown(problem.reason)}"
    yield from _exceptions(report)
    low = shown(report.low_resolution)
    yield f"{shown(report.data)}: {scored} {kind}, {_frames(report)}x{report.scale}; low resolution: {low}"
    yield f"all metrics: {report.pixels}"
    for name, words in report.metrics.items():
        yield f"{_metric(name).title}{'' if _metric(name).higher_is_better else ' (lower is better)'}: {words}"
    if report.source_error is not None:
        yield f"warping error of the source enlarged by bicubic: {report.source_error:.2f}"
    if report.originals:
        yield f"the originals themselves: {named(report.originals)}"
    networks = (model for model in report.models if model.images and model.network)
    for how in dict.fromkeys(f"{m.precision} by {m.backend} on {m.device}" for m in networks):
        yield f"networks: {how}; GMACs: billion multiply-adds for an output of 1280 x 720; seconds: in the network"


def _frames(report: "EvalReport") -> str:
    return f"{report.frames} frames, values are means over them; " if report.frames else ""


def _exceptions(report: "EvalReport") -> Iterable[str]:
    """Pictures that have no part in a mean."""
    for model in report.models:
        for name in report.metrics:
            title = f"{shown(model.model)}: {_metric(name).title}"
            if equal := model.without_error(name):
                yield f"{title} of {equal} pictures is infinite: they equal their originals and are not in the mean"
            missing = model.without_value(name)
            if missing and _metric(name).of_pictures:
                why = "films, which have no two frames of one scene"
                which = why if _metric(name).of_films else "pictures, which are too small or too plain"
                yield f"{title} has no value for {missing} {which}"


def _changes(changes: "Iterable[Change]") -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("model", "metric", "before", "now", "change", ""):
        table.add_column(title, justify="right" if title in ("before", "now", "change") else "left")
    for change in changes:
        digits = _metric(change.metric).digits + 1
        values = (f"{value:.{digits}f}" for value in (change.before, change.now))
        verdict = Text("REGRESSED", "bold red") if change.regressed else Text("")
        title = _metric(change.metric).title
        table.add_row(Text(shown(change.model)), title, *values, f"{change.difference:+.{digits}f}", verdict)
    return table
