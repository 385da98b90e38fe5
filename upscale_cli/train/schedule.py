"""The learning rate and the end of a training, as pure functions of the step and of what validations found.

Nothing here has a state: a checkpoint holds the step and the list of validations, and that is all there is to resume.
An epoch, where people count in them, is the `validate_every` steps between two validations.
"""

import math
from collections.abc import Sequence

from upscale_cli.train.config import TrainConfig

THRESHOLD = 1e-4  # share by which a validation must be better to count, as in torch's ReduceLROnPlateau


def learning_rate(config: TrainConfig, step: int, validations: Sequence[float] = ()) -> float:
    """The rate of a step, counted from 0, after validations with these values of `config.best_by`."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    match config.schedule:
        case "constant":
            rate = config.learning_rate
        case "step":
            rate = config.learning_rate * config.step_factor ** (step // config.step_every)
        case "multistep":
            rate = config.learning_rate * config.step_factor ** sum(step >= mark for mark in config.milestones)
        case "plateau":
            drops = plateaus(config, validations)
            rate = max(config.learning_rate * config.step_factor**drops, config.learning_rate_final)
        case "linear":
            left = min(1.0, 2 * (1 - step / config.steps))
            rate = config.learning_rate_final + left * (config.learning_rate - config.learning_rate_final)
        case "cosine":
            share = step / max(1, config.steps - 1)
            span = config.learning_rate - config.learning_rate_final
            rate = config.learning_rate_final + span * (1 + math.cos(math.pi * share)) / 2
    return warm * rate


def plateaus(config: TrainConfig, validations: Sequence[float]) -> int:
    """How often more than `patience` validations in a row were no better than the best before, as torch counts."""
    best, waited, drops = None, 0, 0
    for value in validations:
        if best is None or is_better(config, value, best, threshold=THRESHOLD):
            best, waited = value, 0
        else:
            waited += 1
        if waited > config.patience:
            drops, waited = drops + 1, 0
    return drops


def is_over(config: TrainConfig, validations: Sequence[float]) -> bool:
    """Whether `stop_after` validations in a row were no better than the best before them."""
    if not config.stop_after or len(validations) <= config.stop_after:
        return False
    best = best_index(config, validations)
    return len(validations) - 1 - best >= config.stop_after


def best_index(config: TrainConfig, validations: Sequence[float]) -> int:
    """Where the best validation stands, the first of equal ones. ValueError without any."""
    best = 0
    for index, value in enumerate(validations):
        if is_better(config, value, validations[best]):
            best = index
    return best


def is_better(config: TrainConfig, value: float, best: float, *, threshold: float = 0.0) -> bool:
    """Whether a value of `config.best_by` beats another by more than this share of it."""
    if config.best_by == "last":
        return True
    margin = threshold * abs(best)
    return value > best + margin if config.higher_is_better else value < best - margin
