"""`upscale train` on the screen: how far it is, how fast, and what came out."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from upscale_cli.media.paths import shown
from upscale_cli.render import screen
from upscale_cli.render.scores import named

if TYPE_CHECKING:
    from upscale_cli.train.history import Progress as Step
    from upscale_cli.train.verb import TrainReport


class TrainingBar(screen.Bar):
    """Progress of `upscale train`: a bar on a terminal, and a line a validation everywhere."""

    def __init__(self, *, quiet: bool) -> None:
        words = TextColumn("{task.description}", markup=False)
        columns = (BarColumn(bar_width=16), MofNCompleteColumn(), TimeRemainingColumn(compact=True), words)
        super().__init__(*columns, quiet=quiet)
        self._quiet = quiet

    def note(self, words: str) -> None:
        """Something to know before the first step."""
        if not self._quiet:
            screen.warning(words)

    def named(self, name: str) -> "Callable[[Step], None]":
        """What is told of one training of several."""
        return lambda step: self.update(step, f"{shown(name)}: ")

    def update(self, step: "Step", name: str = "") -> None:
        """One more step, or a validation, of the training called `name`."""
        words = (
            f"loss {step.loss:.4f}, rate {step.learning_rate:.2g}, {step.images_per_second:.0f} images/s, "
            f"loader {step.loader_share:.0%}"
        )
        self._progress.update(self._task, completed=step.step, total=step.steps, description=name + words)
        if step.scores is not None and not self._quiet:
            self._console.print(f"{name}step {step.step}: {named(step.scores)}, {words}", markup=False)


def training(report: "TrainReport", folder: Path, *, as_json: bool) -> None:
    """Where the weights and the report in `folder` are, and what the weights are worth."""
    facts = report.facts
    if as_json:
        images = [asdict(image) for image in report.verdict.images] if report.verdict else []
        return screen.print_json(
            {"weights": str(report.weights), "report": str(folder), **asdict(facts), "images": images}
        )
    validation = f"validation: {named(facts.scores)}\n" if facts.scores else ""
    screen.output().print(
        f"{shown(report.weights)}: {facts.variant}, best of {facts.steps} steps at step {facts.best_step}\n"
        f"{validation}Curves, pictures and a model card: {shown(folder)}\n"
        f"Use it with `upscale PATH -m {shown(report.weights)}`.",
        markup=False,
    )
