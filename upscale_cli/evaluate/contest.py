"""Every view through every contestant and into every metric: decoding runs ahead of the networks, scoring behind them.

Owns the order of the work and the threads: a reader's, the calling one with the networks, a judge's. What cannot be
read costs itself. Refuses to decide what is scored.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from upscale_cli.errors import InputError
from upscale_cli.evaluate.contestants import Contestant
from upscale_cli.evaluate.pairs import Pixels
from upscale_cli.evaluate.report import ImageScore, Problem, Step
from upscale_cli.evaluate.views import View
from upscale_cli.metrics.catalog import Metric
from upscale_cli.metrics.gauge import Gauge
from upscale_cli.metrics.protocol import Comparison, Protocol, Scores, Since

AHEAD = 2
"""Views decoded before they are needed, and pictures that wait for their scores."""
T = TypeVar("T")

Opened = tuple[Metric, Callable[[], Gauge]]


@dataclass(frozen=True, slots=True)
class _End:
    """Of a picture or a film."""

    name: str
    digests: tuple[str, ...]
    fault: InputError | None


@dataclass(slots=True, eq=False)
class Contest:
    """One evaluation under way."""

    contestants: list[Contestant]
    originals: Contestant | None
    """Out of competition: what the original itself has of metrics that need none."""
    metrics: list[Opened]
    protocol: Protocol
    progress: Callable[[Step], None]
    expected: int
    """Views, an estimate."""
    views: int = 0
    done: int = 0
    fingerprints: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    source_errors: list[float] = field(default_factory=list)

    def score(self, files: Mapping[str, Iterator[View]]) -> None:
        """Every file, by its name, through every contestant that takes part."""
        running = [contestant for contestant in self.contestants if contestant.make]
        for contestant in running:
            contestant.gauges = {metric.name: make() for metric, make in self.metrics}
        if self.originals:
            self.originals.gauges = {metric.name: make() for metric, make in self.metrics if metric.of_films}
        everyone = [*running, self.originals] if self.originals else running
        waiting: deque[tuple[Contestant, str, Future[Scores]]] = deque()
        closing: list[Future[None]] = []
        readers, judges = ThreadPoolExecutor(1, "upscale-read"), ThreadPoolExecutor(1, "upscale-judge")
        try:
            for item in _ahead(readers, self._stream(files)):
                if isinstance(item, _End):
                    self._end(item)
                    closing += [judges.submit(each.close, item.name, whole=each.whole) for each in everyone]
                    continue
                self.views += 1
                self.source_errors.append(item.source_error)
                for contestant in everyone:
                    image = contestant.enlarge(item)
                    if image is not None:
                        pictures = self._comparison(contestant, image, item)
                        waiting.append((contestant, item.name, judges.submit(contestant.judge, pictures)))
                    while len(waiting) > AHEAD:
                        self._tell(*waiting.popleft(), len(running))
            while waiting:
                self._tell(*waiting.popleft(), len(running))
            for closed in closing:  # or the last would be cancelled
                closed.result()
        finally:
            for pool in (readers, judges):
                pool.shutdown(cancel_futures=True)

    def _comparison(self, contestant: Contestant, image: Pixels, view: View) -> Comparison:
        image = self.protocol.inside(image)
        # Without an original only metrics were chosen that do not look at it.
        reference = image if view.hr is None else self.protocol.inside(view.hr)
        before, contestant.before = contestant.before, image
        since = None
        if view.motion is not None and before is not None:
            since = Since(before, view.motion, view.source_error)
        return Comparison(image, reference, since)

    def _stream(self, files: Mapping[str, Iterator[View]]) -> Iterator[View | _End]:
        """All views of a file, and its end; in the reader's thread."""
        for name, views in files.items():
            digests: list[str] = []
            fault: InputError | None = None
            try:
                for view in views:
                    self._check(view)
                    digests.append(view.digest)
                    yield view
            except InputError as error:
                fault = error
            yield _End(name, tuple(digests), fault)

    def _check(self, view: View) -> None:
        height, width = view.size
        if min(height, width) <= 2 * self.protocol.crop_border:
            border = self.protocol.crop_border
            raise InputError(f"{view.name}: {width} x {height} pixels are all border of {border} px.")

    def _end(self, item: _End) -> None:
        if item.fault is not None:
            self.problems.append(Problem(item.name, str(item.fault)))
        if len(item.digests) == 1:
            self.fingerprints[item.name] = item.digests[0]
        elif item.digests:
            self.fingerprints[item.name] = hashlib.sha256("".join(item.digests).encode()).hexdigest()

    def _tell(self, contestant: Contestant, name: str, judged: "Future[Scores]", models: int) -> None:
        scores = judged.result()
        if contestant is not self.originals:
            self.done += 1
            total = max(self.expected * models, self.done)
            self.progress(Step(self.done, total, contestant.label, ImageScore(name, scores)))


def _ahead(pool: ThreadPoolExecutor, stream: Iterator[T]) -> Iterator[T]:
    """All that comes, a few of it made before they are asked for."""
    waiting = deque(pool.submit(next, stream, None) for _ in range(AHEAD + 1))
    while (item := waiting.popleft().result()) is not None:
        waiting.append(pool.submit(next, stream, None))
        yield item
