"""`upscale models export`: options in, one ExportRequest out."""

import contextlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from upscale_cli.cli.models.options import JsonOpt, NameArg

if TYPE_CHECKING:
    from upscale_cli.export import ExportReport

Format = Literal["onnx", "safetensors", "torchscript", "openvino"]


def export(
    name: NameArg,
    to: Annotated[Format, typer.Option("--to", help="Format; onnx and openvino need the extra of that name.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A file or folder; named after the model unless given.")
    ] = None,
    scale: Annotated[float | None, typer.Option("--scale", "-s", help="Scale the model is wanted for.")] = None,
    check: Annotated[
        Path | None, typer.Option("--check", metavar="PHOTO", help="Compare on this picture, not on a made one.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never fetch weights.")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Write a model, or a weights file, for other programs: in fp32, and seen to give the same picture.

    Example: `upscale models export lightweight -s 2 --to safetensors`
    """
    from upscale_cli.export import ExportRequest
    from upscale_cli.export import export as write

    request = ExportRequest(
        model=name, format=to, scale=scale, output=output, check=check, overwrite=overwrite, offline=offline
    )
    errors = Console(stderr=True)
    with errors.status(f"exporting to {to}") if errors.is_terminal else contextlib.nullcontext():
        report = write(request)
    if as_json:
        files = [str(file) for file in report.files]
        typer.echo(json.dumps({**asdict(report), "files": files}, indent=2))
    else:
        _print(report)


def _print(report: "ExportReport") -> None:
    files = " and ".join(str(file) for file in report.files)
    typer.echo(
        f"{files}: {report.model} ({report.variant}, x{report.scale}) as {report.format}, {report.bytes:,} bytes."
    )
    apart = ", ".join(f"{check.max_error:.1e} on {check.width} x {check.height}" for check in report.checks)
    typer.echo(f"Apart from the original on {report.checked_on}: {apart} pixels ({report.tolerance:.0e} is allowed).")
    if "license" in report.facts:
        by = report.facts.get("attribution", "an unknown author")
        use = ", no commercial use" if report.facts.get("commercial_use") == "no" else ""
        typer.echo(f"Licence {report.facts['license']}{use}, by {by}; the file says so too.")
    else:
        typer.echo("Licence unknown: ask the author of the weights.")
