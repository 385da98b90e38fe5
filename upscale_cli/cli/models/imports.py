"""`upscale models import` and `remove`: the user's own models."""

import json
from pathlib import Path
from typing import Annotated

import typer

from upscale_cli.cli.models.options import JsonOpt, YesOpt, ask
from upscale_cli.manifest import Imported, load_manifest, models_path, to_json
from upscale_cli.weights import source, store


def _complete_imported(incomplete: str) -> list[str]:
    return [e.name for e in load_manifest().entries if e.status == "imported" and e.name.startswith(incomplete)]


def import_model(
    file: Annotated[Path, typer.Argument(help="A .safetensors, .pth, .pt file, or ncnn's .param or .bin.")],
    name: Annotated[str | None, typer.Option("--name", help="What to call it; after the file unless given.")] = None,
    variant: Annotated[
        str | None, typer.Option("--variant", help="The network (simplecnn/x4), where the tensors fit several.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an imported model of this name.")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Take in weights from elsewhere: read without executing anything, recognised, tried on a patch, kept for `-m`.

    Example: `upscale models import 4xNomos2.pth --name nomos`
    """
    entry = store.add(file, name=name, variant=variant, force=force)
    assert isinstance(entry.source, Imported)
    path = models_path() / entry.source.path
    if as_json:
        typer.echo(json.dumps({"models": {entry.name: {**to_json(entry), "local": str(path)}}}, indent=2))
        return
    typer.echo(f"{file.name} is {entry.variant}: scale {entry.scale}, {entry.parameters:,} parameters.")
    for note in entry.source.notes:
        typer.echo(f"Note: {note}.")
    typer.echo(f"Kept as {entry.name} ({source.megabytes(entry.size)}, {path}). Use it:")
    typer.echo(f"upscale photos/ -m {entry.name}" + (f" -s {entry.scale}" if entry.task == "upscale" else ""))


def remove(
    name: Annotated[str, typer.Argument(help="An imported model.", autocompletion=_complete_imported)],
    yes: YesOpt = False,
) -> None:
    """Delete an imported model.

    Example: `upscale models remove nomos`
    """
    wanted = store.removal(name)
    if not yes:
        ask(f"Delete {name} ({source.megabytes(wanted.bytes)} in {models_path()})?", instead="--yes")
    store.remove(wanted)
    typer.echo(f"Deleted {name}.")
