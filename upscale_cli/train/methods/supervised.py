"""The plain way: the pictures of one network, held to the originals, to VGG's eyes or to a teacher's pictures.

Distillation is one of its losses: Hinton et al., arXiv:1503.02531, for pictures as He et al., FAKD, ICIP 2020.
"""

from contextlib import nullcontext

from torch import Tensor, nn

from upscale_cli.train.method import GENERATOR, Phase
from upscale_cli.train.methods.objective import Objective
from upscale_cli.train.methods.rounding import FakeQuantize
from upscale_cli.train.methods.tables import TablePenalties
from upscale_cli.zoo import Variant


class Supervised:
    """One network and one objective, and penalties for what it is. `rounds`: it sees its numbers as int8 will."""

    def __init__(
        self,
        variant: Variant,
        generator: nn.Module,
        objective: Objective,
        *,
        penalties: TablePenalties | None = None,
        rounds: bool = False,
    ) -> None:
        self.variant = variant
        self.networks = nn.ModuleDict({GENERATOR: generator})
        self.objective = objective
        self.penalties = penalties
        self.rounds = rounds
        self.phases = (Phase(GENERATOR, (GENERATOR,), self._loss),)

    def generate(self, lr: Tensor) -> Tensor:
        """The picture made of `lr`, float32."""
        with FakeQuantize() if self.rounds else nullcontext():
            return self.networks[GENERATOR](lr).float()

    def compare(self, sr: Tensor, lr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        """The objective, wherever the pictures are."""
        penalties = self.penalties() if self.penalties else {}
        return self.objective.to(sr.device)(sr, lr, hr) | penalties

    def _loss(self, lr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        return self.compare(self.generate(lr), lr, hr)
