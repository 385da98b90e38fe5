"""The training loop: batches in, steps, validation by the code of `upscale eval`, rows of the history, checkpoints."""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from upscale_cli.errors import TrainingError
from upscale_cli.metrics.catalog import choose
from upscale_cli.metrics.protocol import Scores
from upscale_cli.train import checkpoint
from upscale_cli.train.data import Batch, Sampler
from upscale_cli.train.history import History, Progress
from upscale_cli.train.trainer import TOTAL, Trainer

ROW_EVERY = 50
"""Steps between two rows of the history; a validation and a checkpoint write one as well."""
NAMED = 20
"""Files of a batch that an error names."""

Validate = Callable[[dict[str, Tensor]], Scores | None]
Watch = Callable[[Progress], None]


def run(
    trainer: Trainer,
    sampler: Sampler,
    validate: Validate,
    *,
    folder: Path,
    rows: Sequence[Watch] = (),
    watch: Sequence[Watch] = (),
) -> None:
    """Train to the last step, validating and saving into `folder` on the way.

    `rows` are told what the history is, `watch` also what is in between. Only the first of several processes validates,
    writes and tells. TrainingError where a loss or a weight is no number any more.
    """
    config, ranks = trainer.config, trainer.ranks
    history = History(folder, [metric.name for metric in choose(config.metrics)])
    if ranks.first:
        history.forget_after(trainer.step)
    meter = _Meter(trainer, folder)
    batches = sampler.batches(trainer.step, config.steps)
    while not trainer.done:
        meter.add(trainer.train_step(*meter.awaited(batches)))
        step, scores = trainer.step, None
        last = step == config.steps
        validates, saves = step % config.validate_every == 0 or last, step % config.checkpoint_every == 0 or last
        is_row = validates or saves or step % ROW_EVERY == 0
        if is_row or trainer.ranks.device.type == "cpu":  # elsewhere to look at a loss is to wait for it
            meter.settle()
            if ranks.first:
                _tell(watch, meter.progress())
        if not is_row:
            continue
        meter.synchronise()
        if validates or saves:
            meter.check_weights()
        if validates:
            scores = ranks.shared(validate(trainer.average) if ranks.first else None)
            trainer.record(scores)
        if ranks.first:
            _tell([history.append, *rows, *(watch if validates else ())], meter.progress(scores))
        if (saves or trainer.done) and ranks.first:
            trainer.checkpoint().save(folder / checkpoint.NAME)
        meter.restart()


def _tell(listeners: Sequence[Watch], progress: Progress) -> None:
    for tell in listeners:
        tell(progress)


class _Meter:
    """Losses and times since the last row. A loss that is no number ends the training here."""

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self._trainer = trainer
        self._folder = folder
        self._names: tuple[str, ...] = ()
        self.restart()

    def restart(self) -> None:
        """From here on."""
        self._pending: list[tuple[int, tuple[str, ...], dict[str, Tensor]]] = []
        self._sums: dict[str, float] = {}
        self._count = 0
        self._waited = 0.0
        self._seconds = 0.0
        self._began = time.perf_counter()

    def awaited(self, batches: Iterator[Batch]) -> tuple[Tensor, Tensor]:
        """The next batch, and the time that it let the step wait."""
        began = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - began
        self._names = batch.names
        return batch.lr, batch.hr

    def add(self, losses: dict[str, Tensor]) -> None:
        """Those of the step that was just taken; nothing is waited for."""
        self._pending.append((self._trainer.step, self._names, losses))

    def settle(self) -> None:
        """Wait for the device and add up. TrainingError, with step and files, for a loss that is no number."""
        if not self._pending:
            return
        flat = torch.stack([value for _, _, losses in self._pending for value in losses.values()])
        values = iter(flat.double().tolist())
        for step, names, losses in self._pending:
            found = dict(zip(losses, itertools.islice(values, len(losses)), strict=True))
            if not all(map(math.isfinite, found.values())):
                self._give_up(step, names, ", ".join(f"{name} {value}" for name, value in found.items()))
            for name, value in found.items():
                self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += len(self._pending)
        self._pending = []
        self._seconds = time.perf_counter() - self._began

    def synchronise(self) -> None:
        """Make the sums those of all processes, and count them to the epoch's."""
        sums = self._trainer.ranks.mean(torch.tensor(list(self._sums.values()), dtype=torch.float64)).tolist()
        self._sums = dict(zip(self._sums, sums, strict=True))
        total, count = self._trainer.losses
        self._trainer.losses = (total + self._sums[TOTAL], count + self._count)
        self._trainer.seconds += self._seconds

    def check_weights(self) -> None:
        """TrainingError where the last step left a weight that is no number: it may not be saved."""
        if not self._trainer.is_finite():
            self._give_up(self._trainer.step, self._names, "the weights are no numbers any more")

    def progress(self, scores: Scores | None = None) -> Progress:
        """What was settled."""
        trainer = self._trainer
        terms = {name: value / self._count for name, value in self._sums.items()}
        return Progress(
            step=trainer.step,
            steps=trainer.config.steps,
            loss=terms.pop(TOTAL),
            terms=terms,
            learning_rate=trainer.learning_rate,
            images_per_second=self._count * trainer.config.batch / self._seconds,
            loader_share=self._waited / self._seconds,
            scores=scores,
        )

    def _give_up(self, step: int, names: tuple[str, ...], what: str) -> None:
        several = sorted(set(names))
        more = f" and {len(several) - NAMED} more" if len(several) > NAMED else ""
        saved = self._folder / checkpoint.NAME
        start = f' init = "{saved}", the last good checkpoint, and' if saved.exists() else ""
        raise TrainingError(
            f"The loss is no number at step {step}: {what}. The batch was cut from {', '.join(several[:NAMED])}{more}. "
            f'Look at them, or start anew with{start} a lower learning_rate, a clip_norm or precision = "fp32".'
        )
