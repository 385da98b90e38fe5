"""What is known of a finished training, and the model card made of it: a README as the hub wants it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from upscale_cli.errors import UsageError
from upscale_cli.metrics.catalog import METRICS
from upscale_cli.metrics.protocol import Scores

FACTS = "training.json"
LICENSE = "apache-2.0"
HUB = "hub:"
"""Before the name of a data set of the hub."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A training and the network that came out of it."""

    variant: str
    architecture: str
    scale: int
    parameters: int
    config: dict[str, Any]
    steps: int
    best_step: int
    scores: Scores | None
    """Of the best weights, mean over the whole validation pictures; None where there are none."""
    protocol: str
    pictures: int
    """Those validated on."""
    seconds: float
    """Of training, without validating and saving."""
    device: str
    processes: int
    versions: dict[str, str]
    data: tuple[str, ...]
    """What --data was given."""


def write_facts(facts: Facts, folder: Path) -> None:
    """As `training.json`."""
    (folder / FACTS).write_text(json.dumps(asdict(facts), indent=2) + "\n", "utf-8")


def read_facts(folder: Path) -> Facts:
    """What `write_facts` wrote; UsageError where there is none."""
    try:
        found = json.loads((folder / FACTS).read_text("utf-8"))
        return Facts(**{**found, "data": tuple(found["data"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"{folder} holds no report of a finished training ({error}). Finish it with `upscale train --resume`."
        ) from error


def card(facts: Facts, *, name: str, license: str = LICENSE) -> str:
    """README.md of a hub repository called `name`, front matter first. Of folders it tells the last name alone."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        license=license,
        library_name="upscale-cli",
        pipeline_tag="image-to-image",
        tags=["super-resolution", "upscale", facts.architecture, f"x{facts.scale}"],
        metrics=list(facts.scores) if facts.scores else None,
        datasets=[place.removeprefix(HUB) for place in facts.data if place.startswith(HUB)] or None,
        model_name=name,
        eval_results=_results(facts),
    )
    return f"---\n{data.to_yaml()}\n---\n{_body(facts, name)}"


def trained_on(facts: Facts) -> tuple[str, ...]:
    """What --data was given, without the folders above it, which concern nobody."""
    return tuple(place if place.startswith(HUB) else Path(place).resolve().name for place in facts.data)


def _results(facts: Facts) -> Any:
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="image-to-image",
            dataset_type="photographs",
            dataset_name=f"{facts.pictures} validation photographs",
            metric_type=name,
            metric_name=METRICS[name].title,
            metric_value=round(value, 4),
        )
        for name, value in (facts.scores or {}).items()
    ] or None


def _body(facts: Facts, name: str) -> str:
    scores = "Not validated: there were no pairs to score on.\n"
    if facts.scores:
        rows = "".join(
            f"| {METRICS[metric].title} | {value:.{METRICS[metric].digits}f} |\n"
            for metric, value in facts.scores.items()
        )
        scores = (
            f"Mean over {facts.pictures} validation photographs:\n\n"
            f"| metric | value |\n|---|---:|\n{rows}\nProtocol: {facts.protocol}.\n"
        )
    versions = ", ".join(f"{package} {version}" for package, version in facts.versions.items())
    several = f", {facts.processes} processes" if facts.processes > 1 else ""
    data = ", ".join(trained_on(facts))
    return f"""
# {name}

`{facts.variant}`, {facts.parameters:,} parameters, enlarges x{facts.scale}. `pip install upscale-cli`, then
`upscale PATH -m weights.safetensors`.

## Scores

{scores}
![Curves](curves.png)

The best and the worst validation pictures by SSIM are in `best-*.png` and `worst-*.png`.

## Training

{facts.steps:,} steps of {facts.config["batch"]} patches from {data}; the weights are those of step {facts.best_step:,},
chosen by {facts.config["best_by"]}. {facts.seconds / 60:.1f} minutes of training on {facts.device}{several}
({versions}). Every setting: `config.toml`.
"""
