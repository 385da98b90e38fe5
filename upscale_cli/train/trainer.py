"""One training in memory: networks, their optimizers, the moving average, and the step that moves them all.

Knows no file, no validation and no batch but the one it is given.
"""

import contextlib
import functools
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from upscale_cli import device as devices
from upscale_cli.errors import UsageError
from upscale_cli.metrics.protocol import Scores
from upscale_cli.train import schedule
from upscale_cli.train.checkpoint import Checkpoint, as_stored
from upscale_cli.train.config import TrainConfig
from upscale_cli.train.method import GENERATOR, Method, Phase
from upscale_cli.train.optimizer import make_optimizer
from upscale_cli.train.ranks import Ranks

TOTAL = "loss"
"""What the sum of the generator's terms is called among them."""


class Trainer:
    """A method in training on one device, alone or as one of several processes."""

    def __init__(self, config: TrainConfig, method: Method, ranks: Ranks) -> None:
        """UsageError for a batch that cannot be divided as asked, and for frozen layers that are not there."""
        share = config.batch // (ranks.size * config.accumulate)
        if share * ranks.size * config.accumulate != config.batch:
            raise UsageError(
                f"A batch of {config.batch} cannot be divided evenly among {ranks.size} process(es) in "
                f"{config.accumulate} part(s) each. Choose another batch or accumulate."
            )
        if ranks.device.type == "cpu":
            devices.keep_freed_memory()
        self.config = config
        self.ranks = ranks
        self.networks = method.networks.to(ranks.device).train()
        if config.channels_last:
            # The stubs of torch know `memory_format` for tensors only.
            self.networks.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.generator = method.networks[GENERATOR]
        freeze(self.generator, config.freeze)
        if config.compile:
            self.generator.compile()
        self.average = {name: value.detach().clone() for name, value in self.generator.state_dict().items()}
        self.best = {name: value.clone() for name, value in self.average.items()}
        self.best_step = self.step = 0
        self.validations: list[float] = []
        self.losses = (0.0, 0)
        self.seconds = self.learning_rate = 0.0
        self._autocast = _autocast_dtype(config, ranks.device)
        self._scaler = torch.amp.GradScaler(ranks.device.type, enabled=self._autocast is torch.float16)
        every = [value for value in self.networks.parameters() if value.requires_grad]
        self._phases = [_Stepper(phase, self, every) for phase in method.phases]

    @property
    def done(self) -> bool:
        """Whether the last step was taken, or validations have stopped getting better."""
        return self.step >= self.config.steps or schedule.is_over(self.config, self.validations)

    def train_step(self, lr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        """One step on this process's share of a batch, uint8; the losses by name, without waiting for the device."""
        # Whatever a step draws depends on the seed, the step and the process: there is no state to save.
        torch.manual_seed((self.config.seed * 1_000_003 + self.step) * self.ranks.size + self.ranks.rank)
        lr, hr = (self._on_device(image) for image in (lr, hr))
        self.learning_rate = schedule.learning_rate(self.config, self.step, self.validations)
        found = [stepper.step(lr, hr, self.learning_rate) for stepper in self._phases]
        if self._scaler.is_enabled():
            self._scaler.update()
        self._update_average()
        self.step += 1
        of_generator = zip(self._phases, found, strict=True)
        total = _sum(value for stepper, terms in of_generator if stepper.moves_generator for value in terms.values())
        return {TOTAL: total} | {name: value for terms in found for name, value in terms.items()}

    def _on_device(self, image: Tensor) -> Tensor:
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        image = image.to(self.ranks.device, non_blocking=True)
        return image.float().div_(255).contiguous(memory_format=layout)

    def autocast(self) -> torch.autocast:
        """What a loss is computed in."""
        return torch.autocast(self.ranks.device.type, dtype=self._autocast, enabled=self._autocast is not None)

    @property
    def matrix_dtype(self) -> torch.dtype:
        """What an optimizer may multiply in: the range of fp16 is not enough."""
        return torch.bfloat16 if self._autocast is torch.bfloat16 else torch.float32

    def backward(self, loss: Tensor) -> None:
        """Gradients of a part's loss, large enough for fp16 where that is what it was computed in."""
        self._scaler.scale(loss).backward()

    def move(self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
        """Along the gradients, cut to `clip_norm`; nowhere where fp16 has lost them."""
        if self.config.clip_norm:
            self._scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
        self._scaler.step(optimizer)

    @torch.no_grad()
    def _update_average(self) -> None:
        # A young average follows closely, or it would carry the random start for thousands of steps.
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        for name, value in self.generator.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def is_finite(self) -> bool:
        """Whether every weight is a number."""
        values = [*self.networks.state_dict().values(), *self.average.values()]
        return all(bool(value.isfinite().all()) for value in values if value.is_floating_point())

    def record(self, scores: Scores | None) -> None:
        """A validation of the moving average, which is remembered if it is the best; a new epoch begins."""
        total, count = self.losses
        by = self.config.best_by
        self.validations.append(scores[by] if scores and by in scores else total / count)
        self.losses = (0.0, 0)
        if schedule.best_index(self.config, self.validations) == len(self.validations) - 1:
            self.best_step = self.step
            self.best = {name: value.clone() for name, value in self.average.items()}

    def checkpoint(self) -> Checkpoint:
        """A snapshot to resume from."""
        return Checkpoint(
            step=self.step,
            config=as_stored(self.config),
            networks=self.networks.state_dict(),
            params_ema=self.average,
            optimizers={stepper.phase.name: stepper.optimizer.state_dict() for stepper in self._phases},
            scaler=self._scaler.state_dict(),
            validations=self.validations,
            best=self.best,
            best_step=self.best_step,
            losses=self.losses,
            seconds=self.seconds,
        )

    def restore(self, saved: Checkpoint) -> None:
        """Go on exactly where `saved` stopped."""
        self.networks.load_state_dict(saved.networks)
        for stepper in self._phases:
            stepper.optimizer.load_state_dict(saved.optimizers[stepper.phase.name])
        self._scaler.load_state_dict(saved.scaler)
        for own, other in ((self.average, saved.params_ema), (self.best, saved.best)):
            for name, value in other.items():
                own[name].copy_(value)
        self.validations, self.losses = list(saved.validations), saved.losses
        self.best_step, self.step, self.seconds = saved.best_step, saved.step, saved.seconds


class _Stepper:
    """A phase with what moves its networks."""

    def __init__(self, phase: Phase, trainer: Trainer, every: list[nn.Parameter]) -> None:
        self.phase = phase
        self.moves_generator = GENERATOR in phase.trains
        self._trainer = trainer
        networks = nn.ModuleDict({name: trainer.networks[name] for name in phase.trains})
        self._parameters = [value for value in networks.parameters() if value.requires_grad]
        own = {id(value) for value in self._parameters}
        self._others = [value for value in every if id(value) not in own]
        self.optimizer = make_optimizer(trainer.config, self._parameters, dtype=trainer.matrix_dtype)
        self._loss: nn.Module = _Loss(phase, networks)
        if trainer.ranks.size > 1:
            self._loss = DistributedDataParallel(self._loss)

    def step(self, lr: Tensor, hr: Tensor, rate: float) -> dict[str, Tensor]:
        """Move along the mean gradient of the batch; the terms of the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        for values, moves in ((self._parameters, True), (self._others, False)):
            for value in values:
                value.requires_grad_(moves)
        self.optimizer.zero_grad(set_to_none=True)
        parts = self._trainer.config.accumulate
        found: list[dict[str, Tensor]] = []
        for index, (lr_part, hr_part) in enumerate(zip(lr.chunk(parts), hr.chunk(parts), strict=True), 1):
            with self._alone() if index < parts else contextlib.nullcontext():
                with self._trainer.autocast():
                    terms = self._loss(lr_part, hr_part)
                self._trainer.backward(_sum(terms.values()) / parts)
            found.append({name: value.detach() for name, value in terms.items()})
        self._trainer.move(self.optimizer, self._parameters)
        return {name: _sum(terms[name] for terms in found) / parts for name in found[0]}

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        # Gradients are exchanged once, with those of the last part.
        return self._loss.no_sync() if isinstance(self._loss, DistributedDataParallel) else contextlib.nullcontext()


class _Loss(nn.Module):
    """The loss of a phase as the forward of a module, which is what gradients are exchanged for."""

    def __init__(self, phase: Phase, networks: nn.ModuleDict) -> None:
        super().__init__()
        self.networks = networks
        self._phase = phase

    def forward(self, lr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        return self._phase.loss(lr, hr)


def freeze(network: nn.Module, layers: Iterable[str]) -> None:
    """Let the parameters of these layers, named by the beginning of their names, keep their values.

    UsageError for a layer that is not there, and where nothing is left to train.
    """
    for layer in layers:
        named = [value for name, value in network.named_parameters() if f"{name}.".startswith(f"{layer}.")]
        if not named:
            known = ", ".join(dict.fromkeys(name.partition(".")[0] for name, _ in network.named_parameters()))
            raise UsageError(f"freeze names {layer!r}, which is no layer of this network. It has {known}.")
        for value in named:
            value.requires_grad_(False)
    if not any(value.requires_grad for value in network.parameters()):
        raise UsageError("freeze leaves nothing of this network to train. Name fewer layers.")


def _sum(values: Iterable[Tensor]) -> Tensor:
    return functools.reduce(torch.add, values)


def _autocast_dtype(config: TrainConfig, device: torch.device) -> torch.dtype | None:
    if config.precision != "auto":
        return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[config.precision]
    # Gradients overflow fp16; bf16 has the range of fp32. On a CPU it pays where the processor multiplies in it.
    pays = device.type == "cuda" or devices.fastest_precision(device) == "bf16"
    return torch.bfloat16 if pays else None
