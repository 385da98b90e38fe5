"""`upscale models quantize`: options in, one QuantizeRequest out."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from upscale_cli.cli.models.options import JsonOpt, NameArg

if TYPE_CHECKING:
    from upscale_cli.quantize import QuantizeReport


def quantize(
    name: NameArg,
    scale: Annotated[float | None, typer.Option("--scale", "-s", help="Scale the model is wanted for.")] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FOLDER", help="Photographs to measure on; none the model knows.")
    ] = None,
    max_loss: Annotated[
        float, typer.Option("--max-loss", min=0, help="PSNR-Y that may be lost, in dB, the mean of all photographs.")
    ] = 0.1,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File for the ranges, instead of where --precision int8 looks."),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never fetch weights.")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Measure what `--precision int8` needs to know of a model; without --data show what is known and its speed.

    Example: `upscale models quantize lightweight -s 2 --data photos`
    """
    from upscale_cli.quantize import QuantizeRequest
    from upscale_cli.quantize import quantize as measure

    request = QuantizeRequest(model=name, scale=scale, data=data, max_loss=max_loss, output=output, offline=offline)
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("measuring convolutions", total=None)
        report = measure(request, progress=lambda done, total: bar.update(task, completed=done, total=total))
    if as_json:
        typer.echo(json.dumps({**asdict(report), "file": report.file and str(report.file)}, indent=2))
    else:
        _print(report)


def _print(report: "QuantizeReport") -> None:
    width = max(len(layer.name) for layer in report.layers)
    for layer in report.layers:
        what = f"int8 in {layer.low:.4g} .. {layer.high:.4g}" if layer.low is not None else report.compared_with
        typer.echo(f"{layer.name:{width}}  {what}")
    rounded = sum(layer.low is not None for layer in report.layers)
    typer.echo(
        f"{report.model}: {rounded} of {len(report.layers)} convolutions in int8, {report.loss_db:.3f} dB lost to fp32 "
        f"on {report.pictures} photographs, {report.speed:.2f} x the speed of {report.compared_with}."
    )
    if report.file:
        typer.echo(f"Ranges written to {report.file}.")
