"""The weighted terms of a loss that need no second player: what the made picture is compared with, and how.

Owns the reading of the settings, and the networks that only look on: VGG and a teacher. They are frozen, stand in no
checkpoint, and follow the picture to its device.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from upscale_cli.errors import UsageError, WeightsError
from upscale_cli.train.config import TrainConfig
from upscale_cli.train.losses import MS_SSIM_LEAST_PX, PIXEL_TERMS, WINDOW, Perceptual
from upscale_cli.train.teachers import load_teachers
from upscale_cli.train.terms import PIXEL, parse_terms
from upscale_cli.weights.loading import load_encoder
from upscale_cli.zoo import Variant
from upscale_cli.zoo.encoders.vgg import VGG, layer_names

_LEAST_PX = {"ssim": WINDOW, "ms-ssim": MS_SSIM_LEAST_PX}


class Objective(nn.Module):
    """Made, LR and HR pictures to the weighted terms by name; those of the game are not its own."""

    def __init__(
        self, terms: Mapping[str, float], *, perceptual: nn.Module | None = None, teacher: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.weights = {name: weight for name, weight in terms.items() if name in (*PIXEL, "perceptual", "teacher")}
        self.distances = nn.ModuleDict({name: PIXEL_TERMS[name]() for name in self.weights if name in PIXEL})
        if perceptual is not None:
            self.distances["perceptual"] = perceptual
        self.teacher = teacher

    def forward(self, sr: Tensor, lr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        return {name: weight * self._term(name, sr, lr, hr) for name, weight in self.weights.items()}

    def _term(self, name: str, sr: Tensor, lr: Tensor, hr: Tensor) -> Tensor:
        if name != "teacher":
            return self.distances[name](sr, hr)
        assert self.teacher is not None
        with torch.no_grad():
            shown = self.teacher(lr).float()
        return (sr - shown).abs().mean()


def make_objective(config: TrainConfig, variant: Variant, terms: Mapping[str, float]) -> Objective:
    """The objective of the settings. UsageError where they contradict each other, WeightsError where weights lack."""
    side = config.patch_px * variant.scale
    for name, least in _LEAST_PX.items():
        if name in terms and side < least:
            raise UsageError(
                f"The loss {name} needs {least} x {least} pixels; patch_px = {config.patch_px} makes {side} x {side}. "
                f"Set patch_px to {-(-least // variant.scale)} or more, or choose another loss."
            )
    return Objective(
        terms,
        perceptual=_perceptual(config, side) if "perceptual" in terms else None,
        teacher=load_teachers(config.teacher, variant.scale) if "teacher" in terms else None,
    )


def _perceptual(config: TrainConfig, side: int) -> Perceptual:
    depth = 16 if config.perceptual_net == "vgg16" else 19
    layers = parse_terms(config.perceptual_layers, layer_names(depth), setting="perceptual_layers")
    network = VGG(depth=depth, taps=tuple(layers))
    halvings = max(int(name[4]) - (not name.startswith("pool")) for name in layers)  # conv5_4, pool5
    if side < 2**halvings:
        raise UsageError(
            f"patch_px makes pictures of {side} x {side}, which are too small for {', '.join(layers)} of VGG: "
            f"it needs {2**halvings} x {2**halvings}. Set a larger patch_px, or earlier perceptual_layers."
        )
    try:
        load_encoder(network, config.perceptual_weights or config.perceptual_net)
    except WeightsError as error:
        raise WeightsError(
            f"{error} The loss `perceptual` looks through it; --set perceptual_weights=FILE takes a file."
        ) from error
    return Perceptual(network, layers, criterion=config.perceptual_criterion)
