"""`upscale train`: a recipe and photographs in, verified weights out. Resumes where it stopped."""

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import nn

from upscale_cli import __version__, zoo
from upscale_cli import device as devices
from upscale_cli.errors import OutputError, UsageError, WeightsError
from upscale_cli.evaluate import write_table
from upscale_cli.manifest import load_manifest, names_file
from upscale_cli.media.paths import shown
from upscale_cli.train import checkpoint, history, loop
from upscale_cli.train.card import Facts
from upscale_cli.train.checkpoint import Checkpoint, as_stored
from upscale_cli.train.config import TrainConfig
from upscale_cli.train.data import HELD_BACK, load_data
from upscale_cli.train.method import Method
from upscale_cli.train.methods import make_method
from upscale_cli.train.ranks import Ranks, joined
from upscale_cli.train.revive import revive
from upscale_cli.train.tensorboard import open_board
from upscale_cli.train.trainer import Trainer
from upscale_cli.train.validation import Validation, Verdict
from upscale_cli.weights import formats
from upscale_cli.weights.loading import load_encoder, load_module

WEIGHTS = "weights.safetensors"
_LOOKED_AT = 8  # batches that show which channels are dead


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """Where the photographs are and where the results go."""

    config: TrainConfig
    data: tuple[str, ...]
    valid: tuple[str, ...]
    folder: Path
    resume: bool = False
    finish: bool = False
    """Take no further step: what the checkpoint in the folder holds is the result."""
    device: str = "auto"
    tensorboard: bool = False
    """Write the rows of the history for TensorBoard as well; needs the extra of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainReport:
    """What came out: the weights of the best validation, and how they were found."""

    weights: Path
    config: TrainConfig
    facts: Facts
    verdict: Verdict | None
    """Of the weights on whole validation pictures; None where there are none."""
    history: tuple[dict[str, float], ...]
    """Rows of the CSV file."""


def train(
    request: TrainRequest, *, watch: Sequence[loop.Watch] = (), note: Callable[[str], None] = lambda _: None
) -> TrainReport | None:
    """Train to the recipe's last step; writes checkpoint.pt, history.csv and weights.safetensors into the folder.

    Where pictures were split, test.csv names those held back, as `upscale eval --data` takes them.
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
    if request.finish and not saved.exists():
        raise UsageError(
            f"{folder} holds no checkpoint to finish at. Train first; one comes every checkpoint_every steps."
        )
    if saved.exists() and not (request.resume or request.finish):
        raise UsageError(
            f"{folder} holds a training already. Go on with --resume, end it with --finish, or choose another -o."
        )
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
    if not data.valid and config.best_by not in ("loss", "last"):
        raise UsageError(f"There is nothing to take {config.best_by} on: give --valid, or --set best_by=last.")
    torch.manual_seed(config.seed)
    module = variant.build()
    if config.init:
        shared = transfer(module, config.init)
        note(f"{shared} of {len(module.state_dict())} tensors start as those of {config.init}")
    if config.revive and not saved.exists():
        batches = (data.sampler.batch(step) for step in range(_LOOKED_AT))
        found = revive(module, [batch.lr.float() / 255 for batch in batches])
        note(f"{found.dead:,} of {found.channels:,} channels were dead and start anew")
    method = make_method(config, variant, module)
    trainer = Trainer(config, method, ranks)
    validation = Validation(config, method.variant, data.valid if ranks.first else [], ranks.device)
    with _alone(folder) if ranks.first else nullcontext():
        if ranks.first:
            for part in folder.glob(".*.part"):  # what a killed training was writing
                part.unlink()
            if data.test:
                write_table(folder / HELD_BACK, ((item.lr, item.hr) for item in data.test))
        if resumed := ranks.shared(resumed):
            trainer.restore(resumed)
        if not request.finish:
            rows = [open_board(folder / "tensorboard", trainer.step)] if request.tensorboard and ranks.first else []
            loop.run(trainer, data.sampler, validation.score, folder=folder, rows=rows, watch=watch)
        elif not trainer.validations:  # nothing was ever the best
            trainer.record(validation.score(trainer.average))
        return _finish(trainer, method, validation, request) if ranks.first else None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """UsageError where another process trains into the folder: each would overwrite what the other saves.

    OutputError where it cannot be made or written to.
    """
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UsageError(f"Another training writes to {folder}. Let it end, or choose another -o.") from error
    except OSError as error:
        raise OutputError(f"{shown(folder)} cannot be written to: {error.strerror}. Choose another -o.") from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows keeps what is open
            Path(lock.lock_file).unlink()
        lock.release()


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


def _finish(trainer: Trainer, method: Method, validation: Validation, request: TrainRequest) -> TrainReport:
    """Score the best weights on whole pictures, and save them."""
    variant, verdict = method.variant, validation.judge(trainer.best)
    weights = request.folder / WEIGHTS
    metadata = {
        "variant": variant.name,
        "config": json.dumps(as_stored(trainer.config)),
        "step": str(trainer.best_step),
    }
    if verdict:
        metadata["valid"] = json.dumps(dict(verdict.scores))
    formats.save(weights, trainer.best, metadata)
    return TrainReport(
        weights=weights,
        config=trainer.config,
        facts=_facts(trainer, variant, request, validation.protocol, verdict),
        verdict=verdict,
        history=tuple(history.read(request.folder)),
    )


def _facts(
    trainer: Trainer, variant: zoo.Variant, request: TrainRequest, protocol: str, verdict: Verdict | None
) -> Facts:
    return Facts(
        variant=variant.name,
        architecture=variant.architecture,
        scale=variant.scale,
        parameters=sum(value.numel() for value in trainer.generator.parameters()),
        config=as_stored(trainer.config),
        steps=trainer.step,
        best_step=trainer.best_step,
        scores=verdict.scores if verdict else None,
        protocol=protocol,
        pictures=len(verdict.images) if verdict else 0,
        seconds=trainer.seconds,
        device=devices.hardware(trainer.ranks.device.type),
        processes=trainer.ranks.size,
        versions={"upscale": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
        data=request.data,
    )
