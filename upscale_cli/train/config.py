"""One flat, typed training configuration; a recipe is a TOML file that fills it. Unknown keys are errors."""

import dataclasses
import difflib
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from upscale_cli.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """All that decides the result of a training, apart from the photographs. Sizes in pixels of the low resolution."""

    variant: str
    """What to train: a name of the zoo, `edsr/x4`."""
    steps: int
    batch: int = 16
    patch_px: int = 48
    optimizer: Literal["adam", "muon"] = "adam"
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "step"] = "cosine"
    learning_rate_final: float = 1e-6
    """Where the cosine ends."""
    warmup_steps: int = 100
    """Linear rise of the learning rate at the start."""
    step_every: int = 0
    """Schedule `step`: multiply the rate by `step_factor` every so many steps."""
    step_factor: float = 0.5
    clip_norm: float = 0.0
    """Largest norm of the gradient; 0 clips nothing."""
    ema_decay: float = 0.999
    """Decay a step of the weights' moving average, which is what is validated and saved."""
    detail_draws: int = 2
    """Crops drawn a patch, of which the most detailed is taken, so that flat sky does not fill the batches."""
    init: str = ""
    """Weights to start from: a safetensors file or a model name; tensors of other shapes start fresh."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0
    validate_every: int = 1000
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "patch_px", "validate_every", "checkpoint_every", "detail_draws"):
            if getattr(self, name) < 1:
                raise UsageError(f"Training setting {name} is {getattr(self, name)}; it must be at least 1.")
        if not 0 <= self.ema_decay < 1:
            raise UsageError(f"Training setting ema_decay is {self.ema_decay}; it must be in [0, 1).")
        if self.schedule == "step" and self.step_every < 1:
            raise UsageError("Schedule 'step' needs step_every, the number of steps between two drops of the rate.")
        for name, kind in typing.get_type_hints(type(self)).items():
            allowed = typing.get_args(kind)
            if allowed and getattr(self, name) not in allowed:
                raise UsageError(
                    f"Training setting {name} is {getattr(self, name)!r}; choose from {', '.join(allowed)}."
                )


def read_recipe(path: Path, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
    """The configuration in a TOML file, with `overrides` on top; UsageError for unknown or wrongly typed keys."""
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"Cannot read the recipe {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"The recipe {path} is not valid TOML: {error}.") from error
    return parse_config({**values, **(overrides or {})}, origin=str(path))


def parse_config(values: dict[str, Any], *, origin: str) -> TrainConfig:
    """Check names and types of `values`, which came from `origin`."""
    kinds = typing.get_type_hints(TrainConfig)
    for name, value in values.items():
        if name not in kinds:
            near = difflib.get_close_matches(name, kinds, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(kinds)}."
            raise UsageError(f"{origin} sets {name!r}, which is no training setting. {hint}")
        expected = str if typing.get_args(kinds[name]) else kinds[name]
        fits = isinstance(value, (int, float) if expected is float else expected) and not isinstance(value, bool)
        if not fits:
            raise UsageError(f"{origin} sets {name} to {value!r}; it must be of type {expected.__name__}.")
    required = {field.name for field in dataclasses.fields(TrainConfig) if field.default is dataclasses.MISSING}
    if missing := required - values.keys():
        raise UsageError(f"{origin} does not set {', '.join(sorted(missing))}.")
    return TrainConfig(**values)
