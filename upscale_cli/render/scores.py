"""`upscale eval` on the screen: what is under way, and what a network is worth."""

import contextlib
import csv
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.table import Table
from rich.text import Text

from upscale_cli.errors import UsageError
from upscale_cli.media.paths import shown
from upscale_cli.render import screen

if TYPE_CHECKING:
    from upscale_cli.evaluate import EvalReport, ImageScore
    from upscale_cli.metrics.protocol import Scores


class EvaluationBar:
    """Progress of `upscale eval`: how many images are scored, on a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        console = screen.errors()
        self._status = console.status("scoring") if console.is_terminal and not quiet else contextlib.nullcontext()
        self._done = 0

    def __enter__(self) -> Self:
        self._status.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.__exit__(kind, fault, trace)

    def update(self, image: "ImageScore") -> None:
        """One more image is scored."""
        self._done += 1
        if not isinstance(self._status, contextlib.nullcontext):
            self._status.update(Text(f"scoring: {self._done} done, {shown(image.name)} {image.scores.psnr_y:.2f} dB"))


def evaluation(report: "EvalReport", *, as_json: bool) -> None:
    """The scores of every image and their mean, with the protocol they were taken by."""
    if as_json:
        return screen.print_json({**asdict(report), "mean": asdict(report.mean)})
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("image")
    for title in ("PSNR-Y", "SSIM-Y", "PSNR-RGB"):
        table.add_column(title, justify="right", no_wrap=True)
    for image in report.images:
        table.add_row(Text(shown(image.name)), *cells(image.scores))
    table.add_row(Text("mean", "bold"), *cells(report.mean))
    console = screen.output()
    console.print(table)
    console.print(
        f"{report.model} x{report.scale} on {report.data}, {report.device} in {report.precision} by {report.backend}\n"
        f"protocol: {report.protocol}\nlow resolution: {report.low_resolution}",
        markup=False,
    )


def write_scores(report: "EvalReport", path: Path) -> None:
    """A CSV file with a row an image and one of means."""
    rows = [(image.name, image.scores) for image in report.images]
    try:
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(("image", "psnr_y", "ssim_y", "psnr_rgb"))
            for name, scores in (*rows, ("mean", report.mean)):
                writer.writerow((name, f"{scores.psnr_y:.4f}", f"{scores.ssim_y:.6f}", f"{scores.psnr_rgb:.4f}"))
    except OSError as fault:
        raise UsageError(f"--csv {path} cannot be written: {(fault.strerror or str(fault)).lower()}.") from fault


def cells(scores: "Scores") -> tuple[str, str, str]:
    """PSNR-Y, SSIM-Y and PSNR-RGB as people read them."""
    return f"{scores.psnr_y:.2f}", f"{scores.ssim_y:.4f}", f"{scores.psnr_rgb:.2f}"
