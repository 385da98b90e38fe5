"""What is trained, and by which losses: the seam between the loop, which takes steps, and the ways of training.

A method owns its networks and its losses. It knows no optimizer, no schedule, no file and no other process.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from upscale_cli.zoo import Variant

GENERATOR = "generator"
Loss = Callable[[Tensor, Tensor], dict[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of a step: some networks move along the gradient of a loss, the others stand still."""

    name: str
    trains: tuple[str, ...]
    """Names in the method's networks. A network moves in one phase only."""
    loss: Loss
    """LR and HR, float [0, 1] N x 3 x h x w and N x 3 x H x W on the device, to the terms of the loss by name: scalars,
    weighted already, means over the batch. The loop adds them up and logs each; no two phases share a name."""


class Method(Protocol):
    """A way of training. The loop runs the phases of a step in order, each with an optimizer of its own."""

    @property
    def variant(self) -> Variant:
        """What the generator is."""
        ...

    @property
    def networks(self) -> nn.ModuleDict:
        """`generator` is what is averaged, validated and saved. The others go into checkpoints beside it, with their
        buffers: a method that must remember something from step to step keeps it in one.
        """
        ...

    @property
    def phases(self) -> tuple[Phase, ...]: ...
