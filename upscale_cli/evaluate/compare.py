"""What became of the scores since an earlier evaluation: `upscale eval --compare baseline.json`.

Owns the question whether two evaluations may be compared at all: the same pixels, protocol and scale, models of the
same names. Refuses to read anything but what `--json` printed.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upscale_cli.errors import UsageError
from upscale_cli.evaluate.report import EvalReport, ModelReport
from upscale_cli.metrics.catalog import METRICS

TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Change:
    """One metric of one model, then and now."""

    model: str
    metric: str
    before: float
    now: float
    difference: float
    """Of the pictures that have a finite value in both, in the mean; positive where the value grew."""
    regressed: bool


def read_baseline(path: Path) -> Mapping[str, Any]:
    """UsageError for what `upscale eval --json` did not print."""
    try:
        document = json.loads(path.read_text("utf-8"))
        for key in ("fingerprint", "scale", "pixels", "metrics", "models", "whole"):
            document[key]
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"--compare {path} cannot be read: {reason}. `upscale eval --json` makes one.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--compare {path} is not what `upscale eval --json` prints. Make it anew.") from error
    return document


def compare(report: EvalReport, baseline: Mapping[str, Any], tolerance: float = TOLERANCE) -> tuple[Change, ...]:
    """Every metric that both have, of every model now. `tolerance` is in dB and the like; of what lies between 0 and 1
    a hundredth of it is meant. UsageError where numbers of the two mean different things.
    """
    _check(report, baseline)
    earlier = {model["model"]: model for model in baseline["models"]}
    found: list[Change] = []
    for model in report.models:
        for name in report.metrics:
            if model.images and name in baseline["metrics"]:
                found.append(_change(model, earlier[model.model], name, tolerance))
    return tuple(found)


def _check(report: EvalReport, baseline: Mapping[str, Any]) -> None:
    shared = [name for name in report.metrics if name in baseline["metrics"]]
    reasons = [
        (report.scale != baseline["scale"], f"its scale is {baseline['scale']}, not {report.scale}"),
        (report.fingerprint != baseline["fingerprint"], "it was taken on other pictures"),
        (report.pixels != baseline["pixels"], f"its protocol is {baseline['pixels']!r}, not {report.pixels!r}"),
        (not shared, f"it has none of {', '.join(report.metrics)}"),
        *((report.metrics[name] != baseline["metrics"][name], f"its protocol of {name} is another") for name in shared),
    ]
    known = {model["model"]: model for model in baseline["models"]}
    for model in report.models:
        missing = model.model not in known or not known[model.model]["images"]
        reasons.append((missing, f"it has no scores of {model.model}"))
    wrong = [reason for applies, reason in reasons if applies]
    if wrong:
        raise UsageError(f"The baseline cannot be compared with: {'; '.join(wrong)}. Make one with `--json` again.")


def _change(model: ModelReport, earlier: Mapping[str, Any], name: str, tolerance: float) -> Change:
    metric = METRICS[name]
    before = {image["name"]: _number(image["scores"].get(name)) for image in earlier["images"]}
    pairs = [(before.get(image.name, math.nan), image.scores[name]) for image in model.images]
    finite = [now - then for then, now in pairs if math.isfinite(then) and math.isfinite(now)]
    total_before, total = _number(earlier["scores"].get(name)), model.scores[name]
    of_set = 0.0 if total == total_before else total - total_before  # FID, or infinite throughout
    difference = math.fsum(finite) / len(finite) if finite else of_set
    worse = -difference if metric.higher_is_better else difference
    # A picture that equalled its original and does no longer has no part in the mean.
    spoiled = any(math.isinf(then) and not math.isinf(now) for then, now in pairs)
    return Change(model.model, name, total_before, total, difference, spoiled or not worse <= tolerance * metric.unit)


def _number(value: object) -> float:
    """As `--json` writes it: null for none, `Infinity` as text."""
    return math.nan if value is None else float(str(value))
