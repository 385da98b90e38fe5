"""A generator against a discriminator: SRGAN, ESRGAN, Real-ESRGAN.

Ledig et al., arXiv:1609.04802; Wang et al., arXiv:1809.00219; Wang et al., arXiv:2107.10833. The generator's terms and
the game's are one weighted sum; then the discriminator learns from what the generator has just made.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from upscale_cli.train.losses import Game, discriminator_loss, generator_loss
from upscale_cli.train.method import GENERATOR, Phase
from upscale_cli.train.methods.supervised import Supervised
from upscale_cli.zoo.cyclegan import PatchDiscriminator
from upscale_cli.zoo.srgan import Discriminator, UNetDiscriminatorSN

DISCRIMINATOR = "discriminator"
Judge = Literal["unet", "srgan", "patch"]
JUDGES: Mapping[Judge, tuple[Callable[..., nn.Module], int]] = {
    "unet": (UNetDiscriminatorSN, 8),
    "srgan": (Discriminator, 32),
    "patch": (PatchDiscriminator, 24),
}
"""What judges, and the least side of a picture it learns from: half would leave SRGAN a single pixel to normalise."""


class Adversarial:
    """What `inner` trains, and a discriminator beside it; `weight` is the game's in the generator's sum."""

    def __init__(self, inner: Supervised, discriminator: nn.Module, *, game: Game, weight: float) -> None:
        self.inner, self.weight = inner, weight
        self.game: Game = game
        self.variant = inner.variant
        self.networks = inner.networks
        self.networks[DISCRIMINATOR] = discriminator
        self.phases = (
            Phase(GENERATOR, (GENERATOR,), self._generator_loss),
            Phase(DISCRIMINATOR, (DISCRIMINATOR,), self._discriminator_loss),
        )
        self._made = Made()

    def _generator_loss(self, lr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        sr, judge = self.inner.generate(lr), self.networks[DISCRIMINATOR]
        self._made.keep(lr, sr)
        made = judge(sr).float()
        with torch.no_grad():
            real = judge(hr).float() if self.game == "relativistic" else None
        return {**self.inner.compare(sr, lr, hr), "gan": self.weight * generator_loss(self.game, made, real)}

    def _discriminator_loss(self, lr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        (sr,), judge = self._made.take(lr), self.networks[DISCRIMINATOR]
        return {"discriminator": discriminator_loss(self.game, judge(sr).float(), judge(hr).float())}


class Made:
    """What the generators made of each part of the batch at hand, kept for the discriminators' phase that follows."""

    def __init__(self) -> None:
        self._pictures: dict[int, tuple[Tensor, ...]] = {}

    def keep(self, part: Tensor, *pictures: Tensor) -> None:
        """Without their gradients; a part of a batch is known by where it lies in memory."""
        self._pictures[part.data_ptr()] = tuple(picture.detach() for picture in pictures)

    def take(self, part: Tensor) -> tuple[Tensor, ...]:
        """Those of `part`, once."""
        return self._pictures.pop(part.data_ptr())
