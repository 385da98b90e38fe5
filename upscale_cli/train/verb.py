"""`upscale train`: a recipe and photographs in, verified weights out. Resumes where it stopped."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from upscale_cli import device as devices
from upscale_cli import zoo
from upscale_cli.engines.eager import EagerEngine
from upscale_cli.errors import UsageError
from upscale_cli.evaluate import Pair, mean_scores, score_pairs
from upscale_cli.metrics.protocol import Scores
from upscale_cli.model import Model
from upscale_cli.pipeline import Upscaler
from upscale_cli.train import loop
from upscale_cli.train.checkpoint import Checkpoint
from upscale_cli.train.config import TrainConfig
from upscale_cli.train.data import load_data
from upscale_cli.weights import formats
from upscale_cli.weights.loading import load_module

VALID_SIDE_PX = 384  # side of the centre cut of each validation photograph, in HR pixels


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
class TrainReport:
    """What came out: the weights of the best validation."""

    weights: Path
    variant: str
    steps: int
    best_step: int
    scores: Scores
    """Of the best weights on the whole validation photographs."""


def train(request: TrainRequest, *, watch: Sequence[Callable[[loop.Progress], None]] = ()) -> TrainReport:
    """Train to the recipe's last step; writes checkpoint.pt, history.csv and weights.safetensors into the folder."""
    config, folder = request.config, request.folder
    variant = zoo.find(config.variant)
    device = devices.pick(request.device)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists() and not request.resume:
        raise UsageError(f"{folder} holds a training already. Go on with --resume, or choose another -o.")
    data = load_data(request.data, request.valid, config, scale=variant.scale)
    torch.manual_seed(config.seed)
    module = variant.build()
    if config.init:
        transfer(module, config.init)
    folder.mkdir(parents=True, exist_ok=True)
    trainer = loop.Trainer(config, module, device=device)
    if checkpoint.exists():
        trainer.restore(Checkpoint.load(checkpoint, config))
    centres = [centre(pair, variant.scale) for pair in data.valid]

    def validate(weights: dict[str, Tensor]) -> float:
        return _score(variant, weights, centres, device).psnr_y

    loop.run(trainer, data.sampler, validate, folder=folder, watch=watch)
    scores = _score(variant, trainer.best, data.valid, device)
    return _finish(trainer, variant, folder, scores)


def transfer(module: nn.Module, weights: str) -> int:
    """Copy every tensor of the same key and shape from another network (a model name or a file); returns how many."""
    _, _, other = load_module(weights, None)
    own = module.state_dict()
    shared = {key: value for key, value in other.state_dict().items() if key in own and own[key].shape == value.shape}
    if not shared:
        raise UsageError(f"init {weights!r} shares no tensor with this network; it can start nothing.")
    module.load_state_dict(own | shared)
    return len(shared)


def centre(pair: Pair, scale: int) -> Pair:
    """The middle of a pair: validating on all of every photograph would take as long as training."""
    side = VALID_SIDE_PX // scale
    height, width = pair.lr.shape[:2]
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    lr = pair.lr[top : top + side, left : left + side]
    hr = pair.hr[top * scale : (top + side) * scale, left * scale : (left + side) * scale]
    return Pair(pair.name, hr, lr)


def _score(variant: zoo.Variant, weights: dict[str, Tensor], pairs: list[Pair], device: torch.device) -> Scores:
    module = variant.build()
    module.load_state_dict({key: value.cpu() for key, value in weights.items()})
    upscaler = Upscaler([EagerEngine(Model(variant.name, variant, module, device=device))])
    return mean_scores(image.scores for image in score_pairs(upscaler, pairs))


def _finish(trainer: loop.Trainer, variant: zoo.Variant, folder: Path, scores: Scores) -> TrainReport:
    weights = folder / "weights.safetensors"
    metadata = {
        "variant": variant.name,
        "config": json.dumps(dataclasses.asdict(trainer.config)),
        "step": str(trainer.best_step),
        "valid": json.dumps(dataclasses.asdict(scores)),
    }
    formats.save(weights, {key: value.contiguous() for key, value in trainer.best.items()}, metadata)
    return TrainReport(weights, variant.name, trainer.step, trainer.best_step, scores)
