"""`upscale train prepare` on the screen: how far it is, and what was laid out."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from upscale_cli.media.paths import shown
from upscale_cli.render import screen

if TYPE_CHECKING:
    from upscale_cli.train.data.fivek import FiveKReport
    from upscale_cli.train.data.prepare import PrepareReport

MOST = 20
"""Pictures left out that are named."""


class PreparingBar(screen.Bar):
    """Pictures done and in all, on a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("pictures"), TimeRemainingColumn())
        super().__init__(*columns, quiet=quiet)

    def update(self, done: int, total: int) -> None:
        """One more picture."""
        self._progress.update(self._task, completed=done, total=total)


def prepared(report: "PrepareReport", *, as_json: bool) -> None:
    """Where the shards are, what they are of, and what could not be used."""
    if as_json:
        return screen.print_json({**asdict(report), "folder": str(report.folder)})
    _warn(report.faults)
    had = "" if report.made else " (there already)"
    screen.output().print(
        f"{shown(report.folder)}: {report.parts} sub-images of {report.pictures} pictures, "
        f"{screen.in_bytes(report.bytes)}{had}; {report.layout}\n"
        f"Train on them with `upscale train RECIPE --data {shown(report.folder)} -o OUT`.",
        markup=False,
    )


def prepared_fivek(report: "FiveKReport", *, as_json: bool) -> None:
    """How many pairs there are of each part, which split that is, and what could not be used."""
    if as_json:
        return screen.print_json({**asdict(report), "folder": str(report.folder)})
    _warn(report.faults)
    counts = ", ".join(f"{count:,} {part}" for part, count in report.counts.items())
    folder = shown(report.folder)
    screen.output().print(
        f"{folder}: {counts} pairs, {report.made:,} made now; split sha256 {report.split_sha256[:16]}\n"
        f"Train on them with `upscale train lut3d --data {folder}/train --valid {folder}/valid -o OUT`.",
        markup=False,
    )


def _warn(faults: "Sequence[str]") -> None:
    if faults:
        more = [f"and {len(faults) - MOST} more"] if len(faults) > MOST else []
        lines = [f"{len(faults)} pictures cannot be used and are left out:", *faults[:MOST], *more]
        screen.warning("\n  ".join(lines))
