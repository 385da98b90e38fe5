"""A training that takes no time: its settings, its trainer, and how two states are compared."""

import torch
from torch import Tensor

from upscale_cli import zoo
from upscale_cli.train.config import TrainConfig
from upscale_cli.train.methods import make_method
from upscale_cli.train.ranks import Ranks
from upscale_cli.train.trainer import Trainer

ALONE = Ranks(torch.device("cpu"))
TINY = TrainConfig(
    variant="lightweight/x2-tiny",
    steps=40,
    batch=4,
    patch_px=16,
    learning_rate=3e-3,
    warmup_steps=5,
    precision="fp32",
    validate_every=10,
    checkpoint_every=5,
)


def trainer(config: TrainConfig) -> Trainer:
    torch.manual_seed(config.seed)
    variant = zoo.find(config.variant)
    return Trainer(config, make_method(config, variant, variant.build()), ALONE)


def weights_of(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.networks.state_dict().items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
