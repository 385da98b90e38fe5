"""The processes of one training, as torchrun starts them: who this one is, and what they tell each other.

Owns the process group. The first process alone writes and prints; all of them take the same decisions, from what it
shares. Knows no network and no file.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from upscale_cli import device as devices
from upscale_cli.errors import TrainingError, UsageError

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)
"""How long the others wait for one: longer than the first takes to validate."""
# Of a RuntimeError of gloo, which has no class of its own. NCCL's is a DistError.
_LOST = ("gloo", "Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting")


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those of the training."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def shared(self, value: T) -> T:
        """What the first process holds, in all of them."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes."""
        if self.size == 1:
            return values
        values = values.to(self.device)
        dist.all_reduce(values)
        return values / self.size


@contextlib.contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """The group that torchrun's variables speak of, or this process alone.

    UsageError for a device that is not there; TrainingError where another process of the group is lost inside.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks(devices.pick(device))
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    place = devices.pick(device)
    if place.type == "cuda":
        place = devices.pick(f"cuda:{local}")
        torch.cuda.set_device(place)
    elif place.type != "cpu":
        raise UsageError(f"Several processes cannot train on {place.type}. Use --device cpu, or CUDA devices.")
    try:
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=TIMEOUT)
        yield Ranks(place, rank, size)
    except RuntimeError as error:
        if not is_loss_of_another(error):
            raise
        reason = str(error).partition("\n")[0]
        raise TrainingError(
            f"Process {rank} of {size} ends: another one of this training is gone ({reason}). "
            "Start all of them again with --resume."
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def is_loss_of_another(error: RuntimeError) -> bool:
    """Whether `error` says that another process of the group went away."""
    return isinstance(error, dist.DistError) or any(mark in str(error) for mark in _LOST)
