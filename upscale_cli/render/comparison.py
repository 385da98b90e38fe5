"""Several trainings beside each other: one table, on the screen and as CSV, and one figure."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from upscale_cli.errors import OutputError
from upscale_cli.media.paths import shown
from upscale_cli.render import screen
from upscale_cli.render.curves import draw_curves
from upscale_cli.render.scores import cells, title

if TYPE_CHECKING:
    from upscale_cli.train.verb import TrainReport

TABLE, FIGURE = "comparison.csv", "comparison.png"


def comparison(reports: Mapping[str, "TrainReport"], folder: Path, *, as_json: bool) -> None:
    """Print the table, and write it and the figure into `folder`. OutputError where they cannot be written."""
    rows = {name: _row(report) for name, report in reports.items()}
    try:
        with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["recipe", *next(iter(rows.values()))])
            writer.writeheader()
            writer.writerows({"recipe": name, **row} for name, row in rows.items())
    except OSError as error:
        raise OutputError(f"{folder / TABLE} cannot be written: {error.strerror}. Free some space.") from error
    draw_curves({name: report.history for name, report in reports.items()}, folder / FIGURE)
    if as_json:
        return screen.print_json({"figure": str(folder / FIGURE), "trainings": rows})
    metrics = [name for report in reports.values() for name in report.facts.scores or {}]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("recipe")
    for words in ("network", "parameters", "best step", "seconds", *map(title, dict.fromkeys(metrics))):
        table.add_column(words, justify="right", no_wrap=True)
    for name, report in reports.items():
        facts = report.facts
        numbers = (f"{facts.parameters:,}", f"{facts.best_step:,}", f"{facts.seconds:.0f}")
        table.add_row(Text(shown(name)), facts.variant, *numbers, *cells(facts.scores or {}))
    screen.output().print(table)
    screen.output().print(f"Table and figure: {shown(folder / TABLE)}, {shown(folder / FIGURE)}", markup=False)


def _row(report: "TrainReport") -> dict[str, object]:
    facts = report.facts
    return {
        "variant": facts.variant,
        "parameters": facts.parameters,
        "steps": facts.steps,
        "best_step": facts.best_step,
        "seconds": round(facts.seconds, 1),
        **(facts.scores or {}),
    }
