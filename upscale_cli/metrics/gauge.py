"""How a metric's value for a set comes of its pictures, one model at a time; and what metrics are opened with."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from upscale_cli.metrics.protocol import Comparison, NoValueError, Scores


@dataclass(frozen=True, slots=True)
class Needs:
    """What metrics with networks are opened with."""

    device: str = "auto"
    encoders: Mapping[str, Path] = field(default_factory=dict)
    """Name of an encoder -> a file with its weights, in place of the one that is fetched."""
    offline: bool = False


class Gauge(Protocol):
    """One metric over the pictures of one model."""

    def look(self, pictures: Comparison) -> float:
        """The value of one picture; NaN where there is none: it is too small, or only a set has a value."""
        ...

    def result(self) -> float:
        """The value of all that were looked at."""
        ...


@dataclass(slots=True)
class Mean:
    """A metric of single pictures; the set's value is their mean."""

    measure: Callable[[Comparison], float]
    values: list[float] = field(default_factory=list)

    def look(self, pictures: Comparison) -> float:
        """See Gauge."""
        try:
            value = self.measure(pictures)
        except NoValueError:
            value = math.nan
        self.values.append(value)
        return value

    def result(self) -> float:
        """See `average`."""
        return average(self.values)


def average(values: Iterable[float]) -> float:
    """The mean of the finite ones: a picture without error has infinite PSNR, which would hide all others.

    inf where all are infinite, NaN where there is none.
    """
    known = [value for value in values if not math.isnan(value)]
    finite = [value for value in known if math.isfinite(value)]
    if finite:
        return math.fsum(finite) / len(finite)
    return math.inf if known else math.nan


def mean_scores(rows: Iterable[Scores]) -> Scores:
    """The `average` of every metric of the first row over all rows."""
    found = list(rows)
    return {name: average(row[name] for row in found) for name in found[0]} if found else {}
