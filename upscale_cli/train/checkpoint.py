"""What a training leaves on disk: a checkpoint to resume from, and the trained weights as safetensors."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from upscale_cli.errors import UsageError
from upscale_cli.train.config import TrainConfig


@dataclass(slots=True)
class Checkpoint:
    """The whole state of a training after `step` steps."""

    step: int
    config: dict[str, Any]
    model: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizer: dict[str, Any]
    best: dict[str, Tensor]
    best_psnr: float
    best_step: int

    def save(self, path: Path) -> None:
        """Write under a temporary name, then rename: a checkpoint is whole or not there."""
        temporary = path.with_name(f".{path.name}.part")
        torch.save({field.name: getattr(self, field.name) for field in dataclasses.fields(self)}, temporary)
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path, config: TrainConfig) -> "Checkpoint":
        """Read `path`; UsageError if it was made with another configuration. Nothing in the file is executed."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
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
    """`name: stored -> now` for each setting that differs."""
    now = json.loads(json.dumps(dataclasses.asdict(config)))
    return ", ".join(
        f"{name}: {stored.get(name)} -> {now.get(name)}"
        for name in sorted({*stored, *now})
        if stored.get(name) != now.get(name)
    )
