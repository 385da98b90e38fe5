"""The metrics by name: which way is better, and how each is taken.

Owns the words that stand beside the numbers. The formulas are in the files of their families.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

from upscale_cli.errors import UsageError
from upscale_cli.metrics import color, fidelity, flicker, niqe
from upscale_cli.metrics.gauge import Gauge, Mean, Needs
from upscale_cli.metrics.protocol import Comparison, Pixels, Protocol, Scores


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
    of_pictures: bool = True
    """False where only a set has a value."""
    of_films: bool = False
    """True where only what comes frame after frame has a value."""
    alone: bool = False
    """True where no original is needed."""


def score(image: Pixels, reference: Pixels, protocol: Protocol, metrics: "Sequence[str]" = ()) -> Scores:
    """Score an H x W x 3 8-bit image against its reference of the same size; by `DEFAULT` unless metrics are named."""
    pictures = Comparison(protocol.inside(image), protocol.inside(reference))
    return {metric.name: metric.open(Needs())().look(pictures) for metric in choose(metrics or DEFAULT)}


def choose(names: Iterable[str], *, films: bool = False, original: bool = True) -> tuple[Metric, ...]:
    """The metrics called so, `all` for every one that can be taken: of pictures or films, with an original or without.

    UsageError, with the nearest name, for an unknown one, and for one that cannot be taken.
    """
    wanted = list(dict.fromkeys(names))
    if "all" in wanted:
        return tuple(metric for metric in METRICS.values() if not _objection(metric, films, original))
    for name in wanted:
        if name not in METRICS:
            near = difflib.get_close_matches(name, METRICS, n=1)
            guess = f" Did you mean {near[0]}?" if near else ""
            raise UsageError(f"There is no metric {name!r}.{guess} Choose among {', '.join(METRICS)}, or all.")
        if objection := _objection(METRICS[name], films, original):
            raise UsageError(f"--metrics {name}: {objection}.")
    if not wanted:
        raise UsageError(f"--metrics names none. Choose among {', '.join(METRICS)}, or all.")
    return tuple(METRICS[name] for name in wanted)


def _objection(metric: Metric, films: bool, original: bool) -> str:
    """Why it cannot be taken; empty where it can."""
    if metric.of_films and not films:
        return "single pictures have none, only films"
    if not metric.alone and not original:
        return "needs an original. Give --data"
    return ""


def _plain(measure: Callable[[Comparison], float]) -> Callable[[Needs], Callable[[], Gauge]]:
    """Of a formula that needs nothing."""
    return lambda _needs: lambda: Mean(measure)


def _networks() -> ModuleType:
    # They import torch, which formulas do without.
    from upscale_cli.metrics import networks

    return networks


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
        name="ssim_wang",
        title="SSIM-Wang",
        protocol="as ssim.m of 2009 gives it for colours: R, G and B side by side, made smaller until the shorter side "
        f"is near 256; {_SSIM}",
        higher_is_better=True,
        digits=4,
        unit=0.01,
        open=_plain(lambda pictures: fidelity.ssim_side_by_side(pictures.image, pictures.reference)),
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
    Metric(
        name="delta_e76",
        title="dE76",
        protocol="distance in CIE L*a*b* of D65 and the 2 degree observer (CIE 1976), mean over pixels, of sRGB",
        higher_is_better=False,
        digits=2,
        unit=1.0,
        open=_plain(lambda pictures: color.delta_e76(pictures.image, pictures.reference)),
    ),
    Metric(
        name="niqe",
        title="NIQE",
        protocol="of the output alone, on BT.601 luma in [16, 235], rounded; blocks of 96 x 96, model as published "
        "(Mittal 2013)",
        higher_is_better=False,
        digits=2,
        unit=1.0,
        open=_plain(lambda pictures: niqe.niqe(pictures.luma[0])),
        alone=True,
    ),
    Metric(
        name="lpips",
        title="LPIPS-VGG",
        protocol="v0.1 through VGG16, its linear weights as published, RGB (Zhang 2018)",
        higher_is_better=False,
        digits=4,
        unit=0.01,
        open=lambda needs: _networks().lpips("vgg", needs),
    ),
    Metric(
        name="lpips_alex",
        title="LPIPS-Alex",
        protocol="v0.1 through AlexNet, its linear weights as published, RGB (Zhang 2018)",
        higher_is_better=False,
        digits=4,
        unit=0.01,
        open=lambda needs: _networks().lpips("alex", needs),
    ),
    Metric(
        name="dists",
        title="DISTS",
        protocol="through VGG16, its weights as published, RGB at full size (Ding 2020)",
        higher_is_better=False,
        digits=4,
        unit=0.01,
        open=lambda needs: _networks().dists(needs),
    ),
    Metric(
        name="fid",
        title="FID",
        protocol="of all outputs to all originals, Inception of 2015-12-05, each picture made 299 x 299 as pytorch-fid "
        "does (Heusel 2017); comparable only for sets of one size",
        higher_is_better=False,
        digits=2,
        unit=1.0,
        open=lambda needs: _networks().fid(needs),
        of_pictures=False,
    ),
    Metric(
        name="flicker",
        title="Flicker",
        protocol=flicker.PROTOCOL,
        higher_is_better=False,
        digits=2,
        unit=1.0,
        open=_plain(lambda pictures: flicker.flicker(pictures.luma[0], pictures.since)),
        of_films=True,
        alone=True,
    ),
)
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _ROWS}
DEFAULT = ("psnr_y", "ssim_y", "psnr_rgb")
FILMS = (*DEFAULT, "flicker")
