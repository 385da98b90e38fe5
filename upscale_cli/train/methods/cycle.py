"""CycleGAN: two kinds of pictures without pairs, a network from each to the other, and one that judges each.

Zhu et al., arXiv:1703.10593: what goes there and back should come back as it was, and a picture that is of the wanted
kind already should stay. LR and HR of a batch are a picture of each kind, and show different things. At a scale above 1
the way back shrinks first (by means of pixels) and translates small.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.train.losses import Game, discriminator_loss, generator_loss
from upscale_cli.train.method import GENERATOR, Phase
from upscale_cli.train.methods.adversarial import Made
from upscale_cli.zoo import Variant
from upscale_cli.zoo.cyclegan import Generator, PatchDiscriminator, ResidualBlock

POOL = 50  # pictures: Shrivastava et al., arXiv:1612.07828
_JUDGES = ("judge_lr", "judge_hr")


class Back(nn.Module):
    """N x 3 x sH x sW of the one kind -> N x 3 x H x W of the other, [0, 1]."""

    def __init__(self, forth: Generator) -> None:
        super().__init__()
        head, blocks = forth.model[1], sum(isinstance(layer, ResidualBlock) for layer in forth.model)
        assert isinstance(head, nn.Conv2d)
        self.shrink = nn.AvgPool2d(forth.scale)
        self.translate = Generator(channels=head.out_channels, blocks=blocks)

    def forward(self, hr: Tensor) -> Tensor:
        return self.translate(self.shrink(hr))


class Pool(nn.Module):
    """The last pictures that were made: half of what is judged is older, so that generators do not run in circles.

    A module, since checkpoints keep the buffers of networks: a resumed training draws from the same pictures.
    """

    pictures: Tensor
    filled: Tensor

    def __init__(self, side_px: int) -> None:
        super().__init__()
        self.register_buffer("pictures", torch.zeros(POOL, 3, side_px, side_px))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def forward(self, made: Tensor) -> Tensor:
        """For each picture itself, or with a chance of a half one of the pool, whose place it takes."""
        chosen = []
        for picture in made:
            held = int(self.filled)
            place = held if held < POOL else int(torch.randint(2 * POOL, ()))
            chosen.append(self.pictures[place].clone() if held == POOL and place < POOL else picture)
            if place < POOL:
                self.pictures[place] = picture
                self.filled.fill_(max(held, place + 1))
        return torch.stack(chosen)


class CycleGAN:
    """`forth` from LR's kind to HR's, which is validated and saved, and a way back like it.

    `weights`: of the terms gan, cycle and identity.
    """

    def __init__(
        self, variant: Variant, forth: Generator, weights: dict[str, float], *, game: Game, patch_px: int, channels: int
    ) -> None:
        self.variant, self.weights = variant, weights
        self.game: Game = game
        self.networks = nn.ModuleDict({GENERATOR: forth, "back": Back(forth)})
        for name, side_px in zip(_JUDGES, (patch_px, patch_px * forth.scale), strict=True):
            self.networks[name] = PatchDiscriminator(channels=channels)
            self.networks[f"{name}_pool"] = Pool(side_px)
        self.phases = (
            Phase("generators", (GENERATOR, "back"), self._generators_loss),
            Phase("judges", _JUDGES, self._judges_loss),
        )
        self._made = Made()

    def _generators_loss(self, lr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        forth, back = self.networks[GENERATOR], self.networks["back"]
        made = back(hr).float(), forth(lr).float()
        self._made.keep(lr, *made)
        terms = {"gan": self._game(made, (lr, hr))}
        if "cycle" in self.weights:
            terms["cycle"] = F.l1_loss(back(made[1]).float(), lr) + F.l1_loss(forth(made[0]).float(), hr)
        if "identity" in self.weights:
            scale = self.variant.scale
            small, large = F.avg_pool2d(hr, scale), F.interpolate(lr, scale_factor=scale, mode="nearest")
            terms["identity"] = F.l1_loss(forth(small).float(), hr) + F.l1_loss(back(large).float(), lr)
        return {name: self.weights[name] * term for name, term in terms.items()}

    def _game(self, made: tuple[Tensor, Tensor], real: tuple[Tensor, Tensor]) -> Tensor:
        """What both generators pay."""
        paid = []
        for name, ours, theirs in zip(_JUDGES, made, real, strict=True):
            with torch.no_grad():
                shown = self.networks[name](theirs).float() if self.game == "relativistic" else None
            paid.append(generator_loss(self.game, self.networks[name](ours).float(), shown))
        return paid[0] + paid[1]

    def _judges_loss(self, lr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        terms = {}
        for name, made, real in zip(_JUDGES, self._made.take(lr), (lr, hr), strict=True):
            judge, pool = self.networks[name], self.networks[f"{name}_pool"]
            terms[name] = discriminator_loss(self.game, judge(pool(made)).float(), judge(real).float())
        return terms
