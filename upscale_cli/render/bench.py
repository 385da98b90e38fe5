"""`upscale bench` on the screen: what is under way, the table of what was measured, and the one of seams."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.table import Table
from rich.text import Text

from upscale_cli.media.paths import shown
from upscale_cli.render import screen

if TYPE_CHECKING:
    from upscale_cli.bench import BenchReport, Row, SeamsReport, Skipped

# Two lines a row: side by side 80 columns would not do.
COLUMNS = (
    "MP/s in\nout",
    "images/s\nspread",
    "fps 720p\n1080p",
    "first run\nmemory",
    "of rate\nPSNR",
    "decode\ninfer",
    "blend\nencode",
)


class BenchStatus:
    """What is being measured, on a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        console = screen.errors()
        self._status = console.status("measuring") if console.is_terminal and not quiet else contextlib.nullcontext()

    def __enter__(self) -> Self:
        self._status.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.__exit__(kind, fault, trace)

    def update(self, news: str) -> None:
        """Something else now."""
        if not isinstance(self._status, contextlib.nullcontext):
            self._status.update(Text(shown(news)))


def benched(report: "BenchReport", *, as_json: bool) -> None:
    """What was measured, a block a model, and what could not be."""
    if as_json:
        return screen.print_json(_bench_json(report))
    console = _console()
    rates = ", ".join(f"{rate.precision} {_giga(rate.per_second)} ({rate.backend})" for rate in report.rates)
    console.print(Text(report.machine))
    console.print(Text(f"convolutions of 64 channels, GFLOP/s: {rates}"))
    for model in dict.fromkeys(row.model for row in report.rows):
        rows = [row for row in report.rows if row.model == model]
        operations = report.operations_per_pixel[model] / 1e6
        console.print()
        about = f"  {report.pictures[model]}, {operations:.3g} MFLOP a pixel"
        console.print(Text.assemble((shown(model), "bold"), about))
        console.print(_bench_table(rows))
        for row in rows:
            for note in row.notes:
                console.print(Text(f"{row.backend} {row.precision}: {shown(note)}", "yellow"))
    if report.rows:
        console.print()
        console.print(
            Text(
                "Decode to encode: seconds at work for a megapixel of the input, * where most goes. fps: frames of "
                "that size through the network. Of rate: what the engine computes a second, of what "
                "convolutions reach right before and after. PSNR: to fp32 by torch, dB.",
                "dim",
            )
        )
    for reason, those in _by_reason(report.skipped):
        console.print(Text(f"not measured: {', '.join(map(_setting, those))}: {shown(reason)}", "yellow"))
    for note in report.notes:
        screen.warning(note)
    if report.interrupted:
        screen.warning(f"interrupted: {'this' if report.rows else 'nothing'} was measured until then")


def seams(report: "SeamsReport", *, as_json: bool) -> None:
    """How far tiled pictures are from whole ones, by what the tiles share."""
    if as_json:
        return screen.print_json(asdict(report))
    console = _console()
    for model, found in report.seams.items():
        needed = report.margins[model]
        console.print(Text.assemble((shown(model), "bold"), f"  {report.pictures[model]}, in 3 x 3 tiles"))
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("overlap", "margin", "tile", "worst / 255", "beyond 1 / 255", ""):
            table.add_column(title, justify="right", no_wrap=True)
        for seam in found:
            worst, beyond = f"{seam.worst:.3f}", f"{seam.beyond:.4%}"
            mark = "<- used" if seam.margin == needed else "" if seam.enough else "seams"
            table.add_row(f"{seam.overlap_px} px", f"{seam.margin} px", f"{seam.tile_px} px", worst, beyond, mark)
        console.print(table)


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=screen.WIDE)


def _bench_table(rows: "list[Row]") -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("engine\ntiles", no_wrap=True)
    for title in COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: "Row") -> Iterator[Text]:
    memory = "-" if row.memory_bytes is None else screen.in_bytes(row.memory_bytes)
    share = "-" if row.share is None else f"{row.share:.0%}"
    spread = f"{row.spread:.0%}" if row.turns > 1 else "-"
    yield Text(f"{row.backend} {row.precision}\n{row.tile_px} px")
    yield Text(f"{figure(row.in_megapixels_per_second)}\n{figure(row.out_megapixels_per_second)}")
    yield Text(f"{figure(row.images_per_second)}\n{spread}")
    yield Text(f"{figure(row.frames_720p)}\n{figure(row.frames_1080p)}")
    yield Text(f"{screen.seconds(row.first_seconds)}\n{memory}")
    yield Text(f"{share}\n{decibels(row)}")
    times = {stage: _time(row, stage) for stage in asdict(row.stages)}
    yield Text("\n").join([times["decode"], times["infer"]])
    yield Text("\n").join([times["blend"], times["encode"]])


def _time(row: "Row", stage: str) -> Text:
    seconds = figure(getattr(row.stages, stage))
    return Text(f"* {seconds}", "bold") if stage == row.stages.bottleneck else Text(seconds)


def figure(value: float) -> str:
    """Three digits: `0.0123`, `1.23`, `123`, `1,230`."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


def decibels(row: "Row") -> str:
    """PSNR to fp32; `equal` where there is no difference."""
    return "-" if row.psnr is None else "equal" if math.isinf(row.psnr) else f"{row.psnr:.1f}"


def _giga(value: float) -> str:
    return f"{value / 1e9:,.0f}"


def _by_reason(skipped: "tuple[Skipped, ...]") -> "Iterator[tuple[str, list[Skipped]]]":
    for reason in dict.fromkeys(each.reason for each in skipped):
        yield reason, [each for each in skipped if each.reason == reason]


def _setting(skipped: "Skipped") -> str:
    setting = skipped.setting
    tiles = f" with tiles of {setting.tile_px} px" if setting.tile_px else ""
    return f"{shown(setting.model)} by {setting.backend} in {setting.precision}{tiles}"


def _bench_json(report: "BenchReport") -> dict[str, Any]:
    facts = asdict(report)
    for row, each in zip(facts["rows"], report.rows, strict=True):
        row["bottleneck"] = each.stages.bottleneck
        row["equals_fp32"] = each.psnr == math.inf  # which JSON has no number for
        row["psnr"] = None if row["equals_fp32"] else each.psnr
    return facts
