"""What is written down of a training while it runs: a row of `history.csv` every so many steps."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upscale_cli.errors import OutputError
from upscale_cli.metrics.protocol import Scores

NAME = "history.csv"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training is. Losses are means since the last row."""

    step: int
    steps: int
    loss: float
    terms: dict[str, float]
    """The parts of the loss by name, and the losses of networks trained beside."""
    learning_rate: float
    images_per_second: float
    """Of training alone: validating and saving do not count."""
    loader_share: float
    """Part of that time spent waiting for a batch."""
    scores: Scores | None = None
    """When this step was validated."""

    def row(self, metrics: Sequence[str]) -> dict[str, Any]:
        """As a row of the history: flat, and empty where there is nothing."""
        scores: Mapping[str, float | str] = self.scores or dict.fromkeys(metrics, "")
        return {
            "step": self.step,
            "loss": self.loss,
            **{f"loss_{name}": value for name, value in self.terms.items()},
            "learning_rate": self.learning_rate,
            "images_per_second": f"{self.images_per_second:.2f}",
            "loader_share": f"{self.loader_share:.4f}",
            **scores,
        }


class History:
    """The CSV file of one training."""

    def __init__(self, folder: Path, metrics: Sequence[str]) -> None:
        self.path = folder / NAME
        self._metrics = metrics

    def forget_after(self, step: int) -> None:
        """Drop the rows of steps that a killed training took after its last checkpoint: they are taken again."""
        if not self.path.exists():
            return
        head, *rows = self.path.read_text("utf-8").splitlines(keepends=True)
        # A row without an end was being written; its first number may be cut off as well.
        kept = [row for row in rows if row.endswith("\n") and int(row.split(",", 1)[0]) <= step]
        temporary = self.path.with_name(f".{self.path.name}.part")
        temporary.write_text("".join([head, *kept]), "utf-8", newline="")
        temporary.replace(self.path)

    def append(self, progress: Progress) -> None:
        """One more row. OutputError where it cannot be written."""
        row = progress.row(self._metrics)
        try:
            new = not self.path.exists() or not self.path.stat().st_size
            with self.path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, row, lineterminator="\n")  # as `forget_after` leaves them
                if new:
                    writer.writeheader()
                writer.writerow(row)
        except OSError as error:
            raise OutputError(
                f"{self.path} cannot be written: {error.strerror}. The last checkpoint is whole: free some space, "
                "then go on with --resume."
            ) from error


def read(folder: Path) -> list[dict[str, float]]:
    """The rows that a training in `folder` wrote, numbers by name; what is empty is left out."""
    with (folder / NAME).open(newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
