"""What a training leaves on disk to resume from: its whole state after a step, in a file that is whole or not there."""

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from upscale_cli.errors import OutputError, UsageError
from upscale_cli.train.config import TrainConfig

NAME = "checkpoint.pt"
FORMAT = 2


@dataclass(slots=True)
class Checkpoint:
    """The whole state of a training after `step` steps.

    No state of a random generator is among it: whatever is drawn in a step depends on the seed and the step alone.
    """

    step: int
    config: dict[str, Any]
    networks: dict[str, Tensor]
    """Of all networks of the method, their names before the keys."""
    params_ema: dict[str, Tensor]
    """The moving average, under the name by which training programs offer weights, so that `-m checkpoint.pt` works."""
    optimizers: dict[str, Any]
    """By the names of their phases."""
    scaler: dict[str, Any]
    validations: list[float]
    """Values of `best_by`, one a validation: the schedule and the end of the training depend on them."""
    best: dict[str, Tensor]
    best_step: int
    losses: tuple[float, int]
    """Sum and count since the last validation."""
    seconds: float
    """That training took so far, in all the processes it was interrupted into."""
    format: int = FORMAT

    def save(self, path: Path) -> None:
        """Write under a temporary name, force it to the disk, then rename: until then `path` is what it was.

        OutputError, with `path` as it was, where the disk is full or the folder cannot be written.
        """
        temporary = path.with_name(f".{path.name}.part")
        try:
            with temporary.open("wb") as file:
                torch.save({field.name: getattr(self, field.name) for field in dataclasses.fields(self)}, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except (OSError, RuntimeError) as error:  # torch wraps what the file raised
            temporary.unlink(missing_ok=True)
            reason = next((each.strerror for each in _causes(error) if isinstance(each, OSError)), None) or error
            kept = "The one before it is whole: free" if path.exists() else "Free"
            raise OutputError(
                f"{path} of step {self.step} cannot be written: {reason}. {kept} some space, then go on with --resume."
            ) from error

    @classmethod
    def load(cls, path: Path, config: TrainConfig) -> "Checkpoint":
        """Read `path`; UsageError if it was made with another configuration. Nothing in the file is executed."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if "format" not in state:
                raise ValueError("an earlier version of upscale wrote it")
            found = cls(**state)
        except Exception as error:
            raise UsageError(f"{path} is no usable checkpoint ({error}). Choose another output folder.") from error
        if differing := config_difference(found.config, config):
            raise UsageError(
                f"{path} was made with other settings ({differing}). "
                "Use the recipe it was started with, or choose another output folder."
            )
        return found


def config_difference(stored: dict[str, Any], config: TrainConfig) -> str:
    """`name: stored -> now` for each setting that differs; one that is not stored had its default."""
    now = as_stored(config)
    defaults = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    stored = json.loads(json.dumps({**defaults, **stored}, default=str))
    return ", ".join(
        f"{name}: {stored.get(name)} -> {now.get(name)}"
        for name in sorted({*stored, *now})
        if stored.get(name) != now.get(name)
    )


def as_stored(config: TrainConfig) -> dict[str, Any]:
    """The configuration as JSON gives it back."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
