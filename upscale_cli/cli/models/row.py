"""`upscale models row`, for maintainers: the manifest row that ships a trained file."""

import json
from pathlib import Path
from typing import Annotated

import typer

from upscale_cli.manifest import License, shipped_manifest, to_json


def row(
    file: Annotated[Path, typer.Argument(help="A trained .safetensors file.")],
    trained_on: Annotated[list[str], typer.Option(help="What it was trained on; repeat for several sources.")],
    spdx: Annotated[str, typer.Option(help="Licence of the weights.")] = "Apache-2.0",
    attribution: Annotated[str, typer.Option(help="Whose work they are.")] = "upscale contributors",
    commercial: Annotated[bool, typer.Option(help="Whether commercial use is allowed.")] = True,
) -> None:
    """Print the manifest row that bundles a trained file, as JSON (for maintainers).

    Example: `upscale models row edsr-x4.safetensors --trained-on "DIV2K"`
    """
    from upscale_cli.weights.row import manifest_row  # needs torch

    rights = License(spdx=spdx, attribution=attribution, commercial=commercial, trained_on=tuple(trained_on), url=None)
    entry = manifest_row(file, shipped_manifest(), license=rights)
    typer.echo(json.dumps({entry.name: to_json(entry)}, indent=2))
