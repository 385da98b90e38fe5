"""The ways of training: what a recipe's `loss` asks for decides which."""

from collections.abc import Mapping

from torch import nn

from upscale_cli.errors import UsageError
from upscale_cli.train.config import TrainConfig
from upscale_cli.train.method import Method
from upscale_cli.train.methods.adversarial import JUDGES, Adversarial
from upscale_cli.train.methods.cycle import CycleGAN
from upscale_cli.train.methods.objective import make_objective
from upscale_cli.train.methods.prune import pruned
from upscale_cli.train.methods.supervised import Supervised
from upscale_cli.train.methods.tables import TablePenalties
from upscale_cli.train.terms import CYCLE, TABLES, TERMS, parse_terms
from upscale_cli.zoo import Variant
from upscale_cli.zoo.cyclegan import Generator


def make_method(config: TrainConfig, variant: Variant, generator: nn.Module) -> Method:
    """The way of training that `config` asks for, of a network that is built and has the weights it starts from.

    UsageError where settings contradict each other or the network; WeightsError where a VGG or a teacher has none.
    """
    terms = parse_terms(config.loss, TERMS, setting="loss")
    if config.teacher and not config.teacher_makes_targets:
        terms.setdefault("teacher", 1.0)
    elif "teacher" in terms:
        why = "makes the targets already" if config.teacher else "is not set. Set teacher to a model or a weights file"
        raise UsageError(f"The loss names a teacher, which {why}.")
    if config.prune:
        variant, generator = pruned(variant, generator, config.prune)
    if terms.keys() & set(CYCLE):
        return _cycle(config, variant, generator, terms)
    objective = make_objective(config, variant, terms)
    of_tables = {name: weight for name, weight in terms.items() if name in TABLES}
    penalties = TablePenalties(generator, of_tables) if of_tables else None
    inner = Supervised(variant, generator, objective, penalties=penalties, rounds=config.quantize_aware)
    if "gan" not in terms:
        return inner
    judge, least = JUDGES[config.discriminator]
    _check_side(config, config.patch_px * variant.scale, least)
    discriminator = judge(channels=config.discriminator_channels)
    return Adversarial(inner, discriminator, game=config.gan, weight=terms["gan"])


def _cycle(config: TrainConfig, variant: Variant, generator: nn.Module, terms: Mapping[str, float]) -> CycleGAN:
    if not isinstance(generator, Generator):
        raise UsageError(f"The losses {' and '.join(CYCLE)} train a cyclegan; {variant.name} is none.")
    if "gan" not in terms or not terms.keys() <= {"gan", *CYCLE}:
        raise UsageError(
            'A cyclegan has no pairs: its loss is made of gan, cycle and identity. Example: "gan:1, cycle:10".'
        )
    _check_side(config, config.patch_px, JUDGES["patch"][1])
    return CycleGAN(
        variant,
        generator,
        dict(terms),
        game=config.gan,
        patch_px=config.patch_px,
        channels=config.discriminator_channels,
    )


def _check_side(config: TrainConfig, side: int, least: int) -> None:
    if side < least:
        raise UsageError(
            f"patch_px = {config.patch_px} shows the discriminator {side} x {side} pixels; it needs {least} x {least}. "
            "Set a larger patch_px."
        )
