"""`upscale eval`: what is scored on what, at which scale and by which metrics; and what came of it.

Owns these decisions. Refuses to print, and to make LR and scores itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from upscale_cli.errors import InputError, UsageError, WeightsError
from upscale_cli.evaluate.contest import Contest, Opened
from upscale_cli.evaluate.contestants import Contestant, made_films, open_models, originals, untouched
from upscale_cli.evaluate.listing import is_table, pictures, read_table
from upscale_cli.evaluate.pairs import IMRESIZE, pair_by_name
from upscale_cli.evaluate.report import EvalReport, Problem, Step
from upscale_cli.evaluate.request import EvalRequest
from upscale_cli.evaluate.retouch import RetouchProtocol, retouch_protocol, retouch_view, retouched
from upscale_cli.evaluate.views import Film, View, film_views, picture_view
from upscale_cli.media.files import is_video, probe
from upscale_cli.media.job import PictureOptions
from upscale_cli.media.paths import picture_files
from upscale_cli.metrics.catalog import DEFAULT, FILMS, METRICS, choose
from upscale_cli.metrics.gauge import Needs, average
from upscale_cli.metrics.protocol import Protocol

__all__ = ["EvalRequest", "evaluate", "scores_films"]


def evaluate(request: EvalRequest, *, progress: Callable[[Step], None] | None = None) -> EvalReport:
    """Score models, and films that were made already, on pictures or on films.

    A picture or a model of several that fails is named in the report, and the others go on. Raises UsageError where
    nothing can be scored or a metric named cannot be taken, and what the model raises where there is but one.
    """
    retouch = retouch_protocol(request.protocol) if request.protocol else None
    films = [] if retouch else _films(request)
    metrics, left_out = _open_metrics(request, retouch.metrics if retouch else (), films=bool(films))
    if request.made and request.scale is None:
        request = replace(request, scale=_scale_of(request.made[0], films))
    contestants = open_models(request)
    scale = next((contestant.engine.scale for contestant in contestants if contestant.engine), request.scale)
    if scale is None or not (request.made or any(contestant.make for contestant in contestants)):
        raise UsageError("\n".join(f"{contestant.label}: {contestant.error}" for contestant in contestants))
    contestants = [*([untouched()] if retouch else []), *contestants, *_made(request, films, scale)]
    border = 0 if retouch else scale
    protocol = Protocol(border if request.crop_border is None else request.crop_border)
    moving = any(metric.of_films for metric, _ in metrics)
    if films:
        views = {film.name: film_views(film, scale, protocol, moving=moving) for film in films}
        count = sum(_frame_count(film) for film in films)
    else:
        views = _retouched(request, retouch) if retouch else _pictures(request, scale, contestants[0].label)
        count = len(views)
    beside = originals() if moving and request.data else None
    contest = Contest(contestants, beside, metrics, protocol, progress or (lambda _step: None), count)
    contest.score(views)
    if not contest.fingerprints:
        raise InputError("\n".join(problem.reason for problem in contest.problems[:20]))
    return EvalReport(
        data=str(request.data or request.lr),
        scale=scale,
        low_resolution=str(retouch) if retouch else _low_resolution(request),
        pixels=str(protocol),
        metrics={metric.name: metric.protocol for metric, _ in metrics},
        fingerprints=contest.fingerprints,
        models=tuple(contestant.report() for contestant in contestants),
        pictures=len(views),
        problems=tuple(contest.problems),
        left_out=left_out,
        frames=contest.views if films else 0,
        originals=beside.scores() if beside else {},
        source_error=average(contest.source_errors) if moving else None,
    )


def _pictures(request: EvalRequest, scale: int, label: str) -> dict[str, Iterator[View]]:
    assert request.data is not None
    found = pictures(request.data, request.lr, scale)
    if scale == 1 and not any(files.paired for files in found.values()):
        raise UsageError(f"{label} enlarges nothing: give --lr the folder of what it is to restore.")
    return {name: picture_view(name, files, scale) for name, files in found.items()}


def _low_resolution(request: EvalRequest) -> str:
    """Where it is from."""
    place = request.lr
    if request.data and is_table(request.data) and any(files.paired for files in read_table(request.data).values()):
        place = request.data
    return f"read from {place}" if place else IMRESIZE


def _retouched(request: EvalRequest, protocol: RetouchProtocol) -> dict[str, Iterator[View]]:
    assert request.data is not None
    pairs = retouched(request.data, request.lr, request.expert)
    return {name: retouch_view(name, files, protocol) for name, files in pairs.items()}


def scores_films(request: EvalRequest) -> bool:
    """Whether it is films, not pictures, that are scored."""
    return not request.protocol and bool(_films(request))


def _films(request: EvalRequest) -> list[Film]:
    """The films to score on, none where it is pictures; UsageError where there are neither, or both."""
    place = request.data or request.lr
    assert place is not None
    files = [place] if is_table(place) else picture_files(place)
    films = [path for path in files if is_video(path)]
    if not files:
        raise UsageError(f"{place} holds no picture to score on. Give --data a folder of HR images.")
    if films and len(films) < len(files):
        raise UsageError(f"{place} holds pictures and films, which are scored apart. Name one kind.")
    if not films:
        if request.data is None or request.made:
            raise UsageError(f"{place} holds pictures. Without an original, or made already, only films are scored.")
        return []
    if request.data is None:
        return [Film(None, path) for path in films]
    if request.lr is None:
        return [Film(path, None) for path in films]
    if len(films) == 1 and request.lr.is_file():
        return [Film(films[0], request.lr)]
    partners = pair_by_name(films, request.lr, request.scale or 2)
    for path, partner in partners.items():
        if partner is None:
            raise UsageError(f"{path.name} has no partner in {request.lr}: expected one of the same name.")
    return [Film(path, partner) for path, partner in partners.items()]


def _scale_of(made: Path, films: list[Film]) -> int:
    """Of the first film there. UsageError where that is no whole number."""
    first = next((path for path in picture_files(made) if is_video(path)), None)
    source = films[0].lr if films else None
    if first is None or source is None:
        raise UsageError(f"{made} holds no film to score.")
    large, small = (probe(path, PictureOptions()) for path in (first, source))
    factor = large.height / small.height
    if abs(round(factor) - factor) * small.height >= 2 or round(factor) < 1:
        raise UsageError(f"{first.name} is {factor:.3g} x {source.name}. Films are scored at whole scales.")
    return round(factor)


def _made(request: EvalRequest, films: list[Film], scale: int) -> list[Contestant]:
    """A row for each of the films, or folders of films, that were made already."""
    found: list[Contestant] = []
    for place in request.made:
        if place.is_file() and len(films) == 1:
            found.append(made_films(place, {films[0].name: place}))
            continue
        sources = {film.lr: film.name for film in films if film.lr}
        partners = pair_by_name(sources, place, scale)
        found.append(made_films(place, {sources[path]: partner for path, partner in partners.items()}))
    return found


def _frame_count(film: Film) -> int:
    path = film.hr or film.lr
    assert path is not None
    try:
        return probe(path, PictureOptions()).frames
    except InputError:
        return 1  # what is wrong with it is said when its turn comes


def _open_metrics(
    request: EvalRequest, wanted: Sequence[str], *, films: bool
) -> tuple[list[Opened], tuple[Problem, ...]]:
    """What can be taken here, and what `all` stands for and cannot."""
    needs = Needs(request.device, request.encoders, request.offline)
    found: list[Opened] = []
    left_out: list[Problem] = []
    original = request.data is not None
    usual = [name for name in FILMS if METRICS[name].alone or original] if films else DEFAULT
    for metric in choose(request.metrics or wanted or usual, films=films, original=original):
        try:
            found.append((metric, metric.open(needs)))
        except WeightsError as error:
            if "all" not in request.metrics:
                raise UsageError(f"--metrics {metric.name}: {error}") from error
            left_out.append(Problem(metric.name, str(error)))
    return found, tuple(left_out)
