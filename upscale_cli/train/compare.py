"""`upscale train --compare`: several recipes on the same photographs from the same seed, a folder each."""

import dataclasses
from collections.abc import Callable, Mapping

from upscale_cli.errors import UsageError
from upscale_cli.train import loop
from upscale_cli.train.config import TrainConfig
from upscale_cli.train.verb import TrainReport, TrainRequest, train


def compare(
    configs: Mapping[str, TrainConfig],
    request: TrainRequest,
    *,
    watch: Callable[[str], loop.Watch],
    note: Callable[[str], None],
) -> dict[str, TrainReport]:
    """Train each configuration by its name in a folder of that name inside `request.folder`, one after the other.

    What else `request` says holds for all; the seed is that of the first. `watch` makes the one who is told of a
    training. UsageError for what is validated by different metrics, which no table could compare.
    """
    first = next(iter(configs.values()))
    for name, config in configs.items():
        if config.metrics != first.metrics:
            raise UsageError(f"{name} is validated by other metrics than {next(iter(configs))}. Set the same for both.")
    found: dict[str, TrainReport] = {}
    for name, config in configs.items():
        own = dataclasses.replace(
            request, config=dataclasses.replace(config, seed=first.seed), folder=request.folder / name
        )
        report = train(own, watch=[watch(name)], note=note)
        if report:
            found[name] = report
    return found
