"""One flat, typed training configuration; a recipe is a TOML file that fills it. Unknown keys are errors."""

import dataclasses
import difflib
import json
import math
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from upscale_cli.errors import UsageError
from upscale_cli.metrics.catalog import DEFAULT, METRICS, choose
from upscale_cli.train.terms import TERMS, parse_terms


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """All that decides the result of a training, apart from the photographs. Sizes in pixels of the low resolution.

    An epoch, where a paper counts in them, is the `validate_every` steps between two validations.
    """

    variant: str
    """What to train: a name of the zoo, `edsr/x4`."""
    steps: int
    batch: int = 16
    """Patches of a step, over all processes."""
    accumulate: int = 1
    """Parts that a process computes its share of a batch in, one after the other, to save memory."""
    patch_px: int = 48
    optimizer: Literal["adam", "adamw", "muon"] = "adam"
    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.0
    schedule: Literal["cosine", "step", "multistep", "plateau", "linear", "constant"] = "cosine"
    learning_rate_final: float = 1e-6
    """Where the cosine ends, the plateau, and the line that falls from the middle of the steps on."""
    warmup_steps: int = 100
    """Linear rise of the learning rate at the start, of any schedule."""
    step_every: int = 0
    """Schedule `step`: multiply the rate by `step_factor` every so many steps."""
    step_factor: float = 0.5
    """What the rate is multiplied by when it drops."""
    milestones: tuple[int, ...] = ()
    """Schedule `multistep`: the steps at which the rate drops."""
    patience: int = 10
    """Schedule `plateau`: the rate drops after more than so many validations in a row without a better `best_by`."""
    clip_norm: float = 0.0
    """Largest norm of the gradient; 0 clips nothing."""
    ema_decay: float = 0.999
    """Decay a step of the weights' moving average, which is what is validated and saved."""
    detail_draws: int = 2
    """Crops drawn a patch, of which the most detailed is taken, so that flat sky does not fill the batches."""
    init: str = ""
    """Weights to start from: a weights file, a checkpoint or a model name; tensors of other shapes start fresh."""
    revive: bool = False
    """Channels of `init` that a ReLU lets next to nothing through of start anew; its pictures hardly change."""
    freeze: tuple[str, ...] = ()
    """Layers that keep the weights they start with, by the beginning of their names: ["head", "body.0"]."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    channels_last: bool = True
    compile: bool = False
    """Compile the network by torch.compile: a slow first step, faster ones on CUDA."""
    seed: int = 0
    validate_every: int = 1000
    metrics: tuple[str, ...] = DEFAULT
    """Taken at every validation, by the names that `upscale eval --metrics` knows."""
    best_by: str = "psnr_y"
    """What the best weights are chosen by: one of the metrics, `loss`, the mean since the validation before;
    `last` keeps the newest, as of games, whose pictures no score knows the better of."""
    stop_after: int = 0
    """End early after so many validations in a row that were no better than the best; 0 never does."""
    checkpoint_every: int = 500

    # Data
    degradation: Literal["auto", "bicubic", "unknown", "realesrgan", "unprocessed"] = "auto"
    """How LR is made of HR; `auto` takes LR files where there are some, and bicubic where there are none."""
    draws: int = 1
    """Degradation `unprocessed`: how many times each photograph is pushed back, each time otherwise."""
    photo_px: int = 0
    """Longer side that photographs are scaled to before all else, where they are larger; 0 scales none."""
    whole: bool = False
    """A patch is a whole picture, squeezed to patch_px a side: for networks that look at all of it."""
    preupsample: int = 1
    """For networks of scale 1: LR is made so many times smaller than HR, and enlarged again by bicubic."""
    sharpen: bool = False
    """Unsharp masking of HR before anything else, as Real-ESRGAN does it."""
    flip: bool = True
    rotate: bool = True
    """Quarter turns."""
    brightness: float = 0.0
    """Each patch is made darker or brighter by a factor of up to 1 +- so much, LR and HR alike."""
    contrast: float = 0.0
    expert: Literal["A", "B", "C", "D", "E"] = "C"
    """Whose retouch of FiveK is the target."""

    # Method
    loss: str = "l1:1"
    """A weighted sum: l1, mse, charbonnier, ssim, ms-ssim; perceptual; teacher; gan; cycle and identity; of the tables
    of a lut3d, smooth and monotone."""
    perceptual_net: Literal["vgg16", "vgg19"] = "vgg19"
    perceptual_layers: str = "conv5_4"
    """Layers of VGG and what each counts: "conv3_4:0.5, conv5_4:1"."""
    perceptual_criterion: Literal["l1", "mse"] = "l1"
    perceptual_weights: str = ""
    """A file with the weights of `perceptual_net`, where those of its row cannot be had."""
    gan: Literal["vanilla", "lsgan", "relativistic"] = "vanilla"
    """The game that the terms `gan` and what judges play."""
    discriminator: Literal["unet", "srgan", "patch"] = "unet"
    discriminator_channels: int = 64
    teacher: str = ""
    """A model or a weights file whose pictures are learned as well: `teacher` in the loss, else with the weight 1.

    Of several, `a,b`, it is their mean. With the degradation `unprocessed` its pictures of the whole photographs, which
    show how dark they are, become the targets themselves.
    """
    prune: float = 0.0
    """Share of all channels to leave out of the network that `init` names, before training."""
    quantize_aware: bool = False
    """Round in the forward pass as int8 will."""

    @property
    def teacher_makes_targets(self) -> bool:
        """Instead of being a term of the loss."""
        return bool(self.teacher) and self.degradation == "unprocessed"

    @property
    def higher_is_better(self) -> bool:
        """Of `best_by`."""
        return self.best_by in METRICS and METRICS[self.best_by].higher_is_better

    def __post_init__(self) -> None:
        at_least_1 = ("draws", "batch", "accumulate", "patch_px", "validate_every", "checkpoint_every", "detail_draws")
        for name in ("steps", *at_least_1, "preupsample", "discriminator_channels"):
            if getattr(self, name) < 1:
                raise UsageError(f"Training setting {name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("ema_decay", "beta1", "beta2", "brightness", "contrast", "prune"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"Training setting {name} is {getattr(self, name)}; it must be in [0, 1).")
        for name in (
            "warmup_steps",
            "weight_decay",
            "clip_norm",
            "patience",
            "stop_after",
            "learning_rate_final",
            "photo_px",
        ):
            if getattr(self, name) < 0:
                raise UsageError(f"Training setting {name} is {getattr(self, name)}; it must not be negative.")
        for name in ("learning_rate", "step_factor"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"Training setting {name} is {getattr(self, name)}; it must be above 0, and finite.")
        if self.schedule == "step" and self.step_every < 1:
            raise UsageError("Schedule 'step' needs step_every, the number of steps between two drops of the rate.")
        if self.schedule == "multistep" and not self.milestones:
            raise UsageError("Schedule 'multistep' needs milestones, the steps at which the rate drops: [5000, 8000].")
        if self.best_by == "last" and (self.schedule == "plateau" or self.stop_after):
            raise UsageError("With best_by 'last' nothing gets worse: no plateau, no stop_after. Choose a score.")
        parse_terms(self.loss, TERMS, setting="loss")
        if self.prune and not self.init:
            raise UsageError("Setting prune leaves out channels of a trained network. Set init to one.")
        if self.revive and not self.init:
            raise UsageError("Setting revive starts channels of a trained network anew. Set init to one.")
        if self.optimizer == "muon" and self.weight_decay:
            raise UsageError("Optimizer 'muon' has no weight_decay. Leave it out, or choose optimizer adamw.")
        known = ("loss", "last", *(metric.name for metric in choose(self.metrics)))
        if self.best_by not in known:
            raise UsageError(f"Training setting best_by is {self.best_by!r}; choose from {', '.join(known)}.")
        for name, kind in typing.get_type_hints(type(self)).items():
            allowed = typing.get_args(kind)
            if typing.get_origin(kind) is Literal and getattr(self, name) not in allowed:
                raise UsageError(
                    f"Training setting {name} is {getattr(self, name)!r}; choose from {', '.join(allowed)}."
                )


def read_recipe(path: Path, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
    """The configuration in a TOML file, with `overrides` on top; UsageError for unknown or wrongly typed keys.

    One of the overrides may be `epochs`, which gives the steps.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"Cannot read the recipe {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"The recipe {path} is not valid TOML: {error}.") from error
    values = {**values, **(overrides or {})}
    if (epochs := values.pop("epochs", None)) is not None:
        if "steps" in (overrides or {}):
            raise UsageError("steps and epochs cannot both be given. Leave out one of them.")
        values["steps"] = epochs * values.get("validate_every", TrainConfig.validate_every)
    return parse_config(values, origin=str(path))


def parse_config(values: Mapping[str, Any], *, origin: str) -> TrainConfig:
    """Check names and types of `values`, which came from `origin`."""
    kinds = typing.get_type_hints(TrainConfig)
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in kinds:
            near = difflib.get_close_matches(name, kinds, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(kinds)}."
            raise UsageError(f"{origin} sets {name!r}, which is no training setting. {hint}")
        checked[name] = _typed(name, value, kinds[name], origin=origin)
    required = {field.name for field in dataclasses.fields(TrainConfig) if field.default is dataclasses.MISSING}
    if missing := required - values.keys():
        raise UsageError(f"{origin} does not set {', '.join(sorted(missing))}.")
    return TrainConfig(**checked)


def _typed(name: str, value: Any, kind: Any, *, origin: str) -> Any:
    """`value` if it is of the type that the setting has; a list becomes a tuple."""
    if typing.get_origin(kind) is tuple:
        of = typing.get_args(kind)[0]
        if isinstance(value, list | tuple) and all(_is(each, of) for each in value):
            return tuple(value)
        raise UsageError(f"{origin} sets {name} to {value!r}; it must be a list of type {of.__name__}.")
    expected = str if typing.get_origin(kind) is Literal else kind
    if not _is(value, expected):
        raise UsageError(f"{origin} sets {name} to {value!r}; it must be of type {expected.__name__}.")
    return value


def _is(value: Any, kind: type) -> bool:
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    return isinstance(value, (int, float) if kind is float else kind)


def as_toml(config: TrainConfig) -> str:
    """Every setting with its value, as a recipe that gives the same configuration."""
    # JSON writes strings, numbers, truths and lists as TOML reads them, but for the infinite ones, which none may be.
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in dataclasses.asdict(config).items())
