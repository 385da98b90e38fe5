"""The metrics by name: which way is better, how each is taken, and how its value for a set comes of its pictures.

Owns the words that stand beside the numbers. The formulas are in the files of their families.
"""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol as Interface

from upscale_cli.errors import UsageError
from upscale_cli.metrics import color, fidelity
from upscale_cli.metrics.protocol import Comparison, Pixels, Protocol, Scores, TooSmallError


@dataclass(frozen=True, slots=True)
class Needs:
    """What metrics with networks are opened with."""

    device: str = "auto"
    encoders: Mapping[str, Path] = field(default_factory=dict)
    """Name of an encoder -> a file with its weights, in place of the one that is fetched."""
    offline: bool = False


class Gauge(Interface):
    """One metric over the pictures of one model."""

    def look(self, pictures: Comparison) -> float:
        """The value of one picture; NaN where there is none: it is too small, or only a set has a value."""
        ...

    def result(self) -> float:
        """The value of all that were looked at."""
        ...


@dataclass(frozen=True, slots=True)
class Metric:
    """One column of the table."""

    name: str
    title: str
    protocol: str
    """How it is taken, beyond what all have in common."""
    higher_is_better: bool
    digits: int
    """Behind the point, for people."""
    unit: float
    """What counts as a change of 1: 1 for dB and distances without an end, 0.01 for what lies between 0 and 1."""
    open: Callable[[Needs], Callable[[], Gauge]]
    """Loads what it needs once; WeightsError where that cannot be had. What comes makes a gauge a model."""


@dataclass(slots=True)
class Mean:
    """A metric of single pictures; the set's value is their mean."""

    measure: Callable[[Comparison], float]
    values: list[float] = field(default_factory=list)

    def look(self, pictures: Comparison) -> float:
        """See Gauge."""
        try:
            value = self.measure(pictures)
        except TooSmallError:
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


def score(image: Pixels, reference: Pixels, protocol: Protocol, metrics: "Sequence[str]" = ()) -> Scores:
    """Score an H x W x 3 8-bit image against its reference of the same size; by `DEFAULT` unless metrics are named."""
    pictures = Comparison(protocol.inside(image), protocol.inside(reference))
    return {metric.name: metric.open(Needs())().look(pictures) for metric in choose(metrics or DEFAULT)}


def choose(names: Iterable[str]) -> tuple[Metric, ...]:
    """The metrics called so, `all` for every one; UsageError, with the nearest name, for an unknown one."""
    wanted = list(dict.fromkeys(names))
    if "all" in wanted:
        return tuple(METRICS.values())
    for name in wanted:
        if name not in METRICS:
            near = difflib.get_close_matches(name, METRICS, n=1)
            guess = f" Did you mean {near[0]}?" if near else ""
            raise UsageError(f"There is no metric {name!r}.{guess} Choose among {', '.join(METRICS)}, or all.")
    if not wanted:
        raise UsageError(f"--metrics names none. Choose among {', '.join(METRICS)}, or all.")
    return tuple(METRICS[name] for name in wanted)


def _plain(measure: Callable[[Comparison], float]) -> Callable[[Needs], Callable[[], Gauge]]:
    """Of a formula that needs nothing."""
    return lambda _needs: lambda: Mean(measure)


_Y = "BT.601 luma in [16, 235], unrounded"
_SSIM = "Gaussian window of 11 x 11, sigma 1.5, K1 0.01, K2 0.03, where it fits whole (Wang 2004)"
_ROWS = (
    Metric(
        name="psnr_y",
        title="PSNR-Y",
        protocol=f"in dB, peak 255, on {_Y}",
        higher_is_better=True,
        digits=2,
        unit=1.0,
        open=_plain(lambda pictures: fidelity.psnr(*pictures.luma)),
    ),
    Metric(
        name="ssim_y",
        title="SSIM-Y",
        protocol=f"on {_Y}; {_SSIM}",
        higher_is_better=True,
        digits=4,
        unit=0.01,
        open=_plain(lambda pictures: fidelity.ssim(*pictures.luma)),
    ),
    Metric(
        name="psnr_rgb",
        title="PSNR-RGB",
        protocol="in dB, peak 255, on all values of R, G and B",
        higher_is_better=True,
        digits=2,
        unit=1.0,
        open=_plain(lambda pictures: fidelity.psnr(pictures.image, pictures.reference)),
    ),
    Metric(
        name="ssim_rgb",
        title="SSIM-RGB",
        protocol=f"mean over R, G and B; {_SSIM}",
        higher_is_better=True,
        digits=4,
        unit=0.01,
        open=_plain(lambda pictures: fidelity.ssim(pictures.image, pictures.reference)),
    ),
    Metric(
        name="ms_ssim_y",
        title="MS-SSIM-Y",
        protocol=f"on {_Y}; five scales of the weights of Wang 2003, each the mean of 2 x 2; {_SSIM}",
        higher_is_better=True,
        digits=4,
        unit=0.01,
        open=_plain(lambda pictures: fidelity.ms_ssim(*pictures.luma)),
    ),
    Metric(
        name="delta_e",
        title="dE2000",
        protocol="CIEDE2000 (Sharma 2005), mean over pixels, of sRGB as CIE L*a*b* of D65 and the 2 degree observer",
        higher_is_better=False,
        digits=2,
        unit=1.0,
        open=_plain(lambda pictures: color.delta_e(pictures.image, pictures.reference)),
    ),
)
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _ROWS}
DEFAULT = ("psnr_y", "ssim_y", "psnr_rgb")
