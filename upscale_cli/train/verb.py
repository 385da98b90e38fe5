"""`upscale train`: a recipe and photographs in, verified weights out. Resumes where it stopped."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from upscale_cli import device as devices
from upscale_cli import zoo
from upscale_cli.engines.eager import EagerEngine
from upscale_cli.errors import UsageError, WeightsError
from upscale_cli.evaluate import ImageScore, Pair, Pixels, mean_scores, score_pairs
from upscale_cli.manifest import load_manifest, names_file
from upscale_cli.metrics.protocol import Scores
from upscale_cli.model import Model
from upscale_cli.pipeline import Upscaler
from upscale_cli.train import checkpoint, history, loop
from upscale_cli.train.checkpoint import Checkpoint
from upscale_cli.train.config import TrainConfig
from upscale_cli.train.data import TrainingData, load_data
from upscale_cli.train.method import Method
from upscale_cli.train.methods import make_method
from upscale_cli.train.ranks import Ranks, joined
from upscale_cli.train.trainer import Trainer
from upscale_cli.weights import formats
from upscale_cli.weights.loading import load_encoder, load_module

VALID_SIDE_PX = 384  # side of the centre cut of each validation photograph, in HR pixels
WEIGHTS = "weights.safetensors"
SAMPLES = 3
"""Validation pictures shown of the best, and as many of the worst."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """Where the photographs are and where the results go."""

    config: TrainConfig
    data: tuple[str, ...]
    valid: tuple[str, ...]
    folder: Path
    resume: bool = False
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Sample:
    """A validation picture as the best weights make it."""

    name: str
    scores: Scores
    lr: Pixels
    sr: Pixels
    hr: Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainReport:
    """What came out: the weights of the best validation."""

    weights: Path
    config: TrainConfig
    variant: str
    scale: int
    parameters: int
    steps: int
    best_step: int
    scores: Scores | None
    """Of the best weights on the whole validation photographs; None where there are none."""
    images: tuple[ImageScore, ...]
    samples: tuple[Sample, ...]
    """By SSIM: the best, then the worst."""
    history: tuple[dict[str, float], ...]
    seconds: float
    """Of training, without validating."""
    device: str
    processes: int
    data: tuple[str, ...]


def train(
    request: TrainRequest, *, watch: Sequence[loop.Watch] = (), note: Callable[[str], None] = lambda _: None
) -> TrainReport | None:
    """Train to the recipe's last step; writes checkpoint.pt, history.csv and weights.safetensors into the folder.

    `note` is told what is worth knowing before the first step. As one of several processes that torchrun started, it
    takes its share of every batch; all but the first return None.
    """
    with joined(request.device) as ranks:
        return _train(request, ranks, watch, note if ranks.first else lambda _: None)


def _train(
    request: TrainRequest, ranks: Ranks, watch: Sequence[loop.Watch], note: Callable[[str], None]
) -> TrainReport | None:
    config, folder = request.config, request.folder
    saved = folder / checkpoint.NAME
    if saved.exists() and not request.resume:
        raise UsageError(f"{folder} holds a training already. Go on with --resume, or choose another -o.")
    resumed = Checkpoint.load(saved, config) if ranks.first and saved.exists() else None
    variant = zoo.find(config.variant)
    data = load_data(
        request.data,
        request.valid,
        config,
        scale=variant.scale,
        cache=folder / "data",
        rank=ranks.rank,
        world=ranks.size,
    )
    for line in data.notes:
        note(line)
    if not data.valid and config.best_by != "loss":
        raise UsageError(f"There is nothing to take {config.best_by} on: give --valid, or --set best_by=loss.")
    torch.manual_seed(config.seed)
    module = variant.build()
    if config.init:
        shared = transfer(module, config.init)
        note(f"{shared} of {len(module.state_dict())} tensors start as those of {config.init}")
    method = make_method(config, variant, module)
    trainer = Trainer(config, method, ranks)
    folder.mkdir(parents=True, exist_ok=True)
    if resumed := ranks.shared(resumed):
        trainer.restore(resumed)
    centres = [centre(pair, variant.scale) for pair in data.valid]

    def validate(weights: dict[str, Tensor]) -> Scores | None:
        images = score_pairs(_upscaler(method.variant, weights, ranks.device), centres)
        return mean_scores(image.scores for image in images) if images else None

    loop.run(trainer, data.sampler, validate, folder=folder, watch=watch)
    return _finish(trainer, method, data, request) if ranks.first else None


def transfer(module: nn.Module, weights: str) -> int:
    """Copy every tensor of the same key and shape from another network (a model name or a file); returns how many.

    An encoder, by its name or a file, fills that of the network.
    """
    if any(entry.name == weights for entry in load_manifest().encoders):
        return _transfer_encoder(module, weights)
    try:
        _, variant, other = load_module(weights, None)
    except WeightsError:
        if not hasattr(module, "encoder") or not names_file(weights):
            raise
        return _transfer_encoder(module, weights)
    own = module.state_dict()
    shared = {key: value for key, value in other.state_dict().items() if key in own and own[key].shape == value.shape}
    if not shared:
        raise UsageError(
            f"init {weights!r} is {variant.name} and shares no tensor with this network; it can start nothing."
        )
    module.load_state_dict(own | shared)
    return len(shared)


def _transfer_encoder(module: nn.Module, encoder: str) -> int:
    own = getattr(module, "encoder", None)
    if own is None:
        raise UsageError(f"init {encoder!r} is an encoder, and this network has none. Choose the weights of a model.")
    load_encoder(own, encoder)
    return len(own.state_dict())


def centre(pair: Pair, scale: int) -> Pair:
    """The middle of a pair: validating on all of every photograph would take as long as training."""
    side = VALID_SIDE_PX // scale
    height, width = pair.lr.shape[:2]
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    lr = pair.lr[top : top + side, left : left + side]
    hr = pair.hr[top * scale : (top + side) * scale, left * scale : (left + side) * scale]
    return Pair(pair.name, hr, lr)


def _upscaler(variant: zoo.Variant, weights: dict[str, Tensor], device: torch.device) -> Upscaler:
    module = variant.build()
    module.load_state_dict({key: value.cpu() for key, value in weights.items()})
    return Upscaler([EagerEngine(Model(variant.name, variant, module, device=device))])


def _finish(trainer: Trainer, method: Method, data: TrainingData, request: TrainRequest) -> TrainReport:
    """Score the best weights on whole pictures, and save them."""
    config, variant = trainer.config, method.variant
    upscaler = _upscaler(variant, trainer.best, trainer.ranks.device)
    images = score_pairs(upscaler, data.valid)
    scores = mean_scores(image.scores for image in images) if images else None
    weights = request.folder / WEIGHTS
    metadata = {
        "variant": variant.name,
        "config": json.dumps(dataclasses.asdict(config)),
        "step": str(trainer.best_step),
    }
    if scores:
        metadata["valid"] = json.dumps(dict(scores))
    formats.save(weights, trainer.best, metadata)
    return TrainReport(
        weights=weights,
        config=config,
        variant=variant.name,
        scale=variant.scale,
        parameters=sum(value.numel() for value in trainer.generator.parameters()),
        steps=trainer.step,
        best_step=trainer.best_step,
        scores=scores,
        images=images,
        samples=tuple(_samples(upscaler, data.valid, images)),
        history=tuple(history.read(request.folder)),
        seconds=trainer.seconds,
        device=devices.hardware(trainer.ranks.device.type),
        processes=trainer.ranks.size,
        data=request.data,
    )


def _samples(upscaler: Upscaler, pairs: list[Pair], images: Sequence[ImageScore]) -> Iterator[Sample]:
    """The best by SSIM, then the worst, each picture once."""
    order = sorted(range(len(images)), key=lambda index: -images[index].scores["ssim_y"])
    for index in [*order[:SAMPLES], *order[max(SAMPLES, len(order) - SAMPLES) :]]:
        pair = pairs[index]
        yield Sample(pair.name, images[index].scores, pair.lr, upscaler.enlarge_rgb8(pair.lr), pair.hr)
