"""The training loop: batches in, L1, a step, moving average, validation by the code of `upscale eval`, checkpoints."""

import csv
import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli import device as devices
from upscale_cli.train.checkpoint import Checkpoint
from upscale_cli.train.config import TrainConfig
from upscale_cli.train.data import PatchSampler
from upscale_cli.train.optimizer import Muon


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training is; `validation` is mean PSNR-Y in dB when this step was validated."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    images_per_second: float
    validation: float | None = None


def learning_rate(config: TrainConfig, step: int) -> float:
    """The rate of a step, counted from 0."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "step":
        return warm * config.learning_rate * config.step_factor ** (step // config.step_every)
    share = step / max(1, config.steps - 1)
    span = config.learning_rate - config.learning_rate_final
    return warm * (config.learning_rate_final + span * (1 + math.cos(math.pi * share)) / 2)


class Trainer:
    """One network in training: holds the weights, their moving average and the optimiser."""

    def __init__(self, config: TrainConfig, module: nn.Module, *, device: torch.device) -> None:
        self.config = config
        self.device = device
        # The stubs of torch know `memory_format` for tensors only.
        self.module = module.to(device, memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
        self.average = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        self.best = {name: value.clone() for name, value in self.average.items()}
        self.best_psnr, self.best_step = -math.inf, 0
        self.step = 0
        self._autocast = _autocast_dtype(config, device)
        self.optimizer = self._make_optimizer()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        trained = [value for value in self.module.parameters() if value.requires_grad]
        if self.config.optimizer == "muon":
            return Muon(trained, lr=self.config.learning_rate, dtype=self._autocast or torch.float32)
        return torch.optim.Adam(trained, lr=self.config.learning_rate, betas=(0.9, 0.999))

    def train_step(self, lr: Tensor, hr: Tensor) -> Tensor:
        """One step on the L1 loss of a uint8 batch; returns the loss without waiting for the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        lr, hr = (image.to(self.device, non_blocking=True).float().div_(255) for image in (lr, hr))
        with torch.autocast(self.device.type, dtype=self._autocast, enabled=self._autocast is not None):
            sr = self.module(lr)
        loss = F.l1_loss(sr.float(), hr)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self._update_average()
        self.step += 1
        return loss.detach()

    @torch.no_grad()
    def _update_average(self) -> None:
        # A young average follows closely, or it would carry the random start for thousands of steps.
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        for name, value in self.module.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def checkpoint(self) -> Checkpoint:
        """A snapshot to resume from."""
        config = json.loads(json.dumps(dataclasses.asdict(self.config)))
        return Checkpoint(
            step=self.step,
            config=config,
            model=self.module.state_dict(),
            average=self.average,
            optimizer=self.optimizer.state_dict(),
            best=self.best,
            best_psnr=self.best_psnr,
            best_step=self.best_step,
        )

    def restore(self, saved: Checkpoint) -> None:
        """Go on exactly where `saved` stopped."""
        self.module.load_state_dict(saved.model)
        self.optimizer.load_state_dict(saved.optimizer)
        for name, value in saved.average.items():
            self.average[name].copy_(value)
        self.best = {name: value.to(self.device) for name, value in saved.best.items()}
        self.best_psnr, self.best_step, self.step = saved.best_psnr, saved.best_step, saved.step

    def keep_if_best(self, psnr: float) -> None:
        """Remember the moving average if it validates better than any before."""
        if psnr > self.best_psnr:
            self.best_psnr, self.best_step = psnr, self.step
            self.best = {name: value.clone() for name, value in self.average.items()}


def _autocast_dtype(config: TrainConfig, device: torch.device) -> torch.dtype | None:
    if config.precision == "fp32":
        return None
    # Gradients overflow fp16; bf16 has the range of fp32. On a CPU it pays where the processor multiplies in it.
    wanted = config.precision == "bf16" or device.type == "cuda" or devices.fastest_precision(device) == "bf16"
    return torch.bfloat16 if wanted else None


def run(
    trainer: Trainer,
    sampler: PatchSampler,
    validate: Callable[[dict[str, Tensor]], float],
    *,
    folder: Path,
    watch: Sequence[Callable[[Progress], None]] = (),
) -> None:
    """Train to the last step, validating and saving into `folder` on the way. `validate` scores weights in dB."""
    config = trainer.config
    history = folder / "history.csv"
    _forget_after(history, trainer.step)
    began, first = time.monotonic(), trainer.step
    loss_sum, loss_count = torch.zeros((), device=trainer.device), 0
    for batch in sampler.batches(trainer.step, config.steps):
        loss_sum, loss_count = loss_sum + trainer.train_step(batch.lr, batch.hr), loss_count + 1
        step, psnr = trainer.step, None
        last = step == config.steps
        if step % config.validate_every == 0 or last:
            psnr = validate(trainer.average)
            trainer.keep_if_best(psnr)
        if psnr is not None or step % 50 == 0:
            rate = (step - first) * config.batch / (time.monotonic() - began)
            mean_loss = float(loss_sum) / loss_count
            progress = Progress(step, config.steps, mean_loss, learning_rate(config, step - 1), rate, psnr)
            loss_sum, loss_count = torch.zeros((), device=trainer.device), 0
            _append(history, progress)
            for tell in watch:
                tell(progress)
        if step % config.checkpoint_every == 0 or last:
            trainer.checkpoint().save(folder / "checkpoint.pt")


def _forget_after(history: Path, step: int) -> None:
    """Drop the rows of steps that a killed training took after its last checkpoint: they are taken again."""
    if not history.exists():
        return
    head, *rows = history.read_text("utf-8").splitlines(keepends=True)
    history.write_text(head + "".join(row for row in rows if int(row.split(",", 1)[0]) <= step), "utf-8")


def _append(path: Path, progress: Progress) -> None:
    row = dataclasses.asdict(progress)
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)
