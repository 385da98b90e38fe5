"""`upscale models`: what there is, where it lies, whether it is whole."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from upscale_cli.errors import UsageError, WeightsError
from upscale_cli.manifest import Entry, Hub, License, load_manifest, to_json
from upscale_cli.weights import source

app = typer.Typer(no_args_is_help=True, help="List, fetch and check the models. Example: `upscale models list`")


def _complete(incomplete: str) -> list[str]:
    entries = load_manifest().entries
    return sorted(
        name for name in {e.name for e in entries} | {e.model for e in entries} if name.startswith(incomplete)
    )


JsonOpt = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
NameArg = Annotated[str, typer.Argument(help="A model (edsr) or one row of it (edsr-x4).", autocompletion=_complete)]
NamesArg = Annotated[
    list[str] | None, typer.Argument(help="Models (edsr) or rows (edsr-x4).", autocompletion=_complete)
]
CacheOpt = Annotated[
    Path | None,
    typer.Option("--cache-dir", help="Folder for downloaded weights, instead of UPSCALE_CACHE or the user's cache."),
]


@app.command("list")
def list_models(as_json: JsonOpt = False) -> None:
    """Show every model: size, licence, status, and PSNR-Y on Set5 and BSD100.

    Example: `upscale models list`
    """
    entries = load_manifest().entries
    if as_json:
        return _print_json(entries)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", no_wrap=True)
    for title in ("scale", "params", "size"):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("licence", "status"):
        table.add_column(title, no_wrap=True)
    for title in ("Set5", "BSD100"):
        table.add_column(title, justify="right", no_wrap=True)
    for entry in entries:
        table.add_row(
            entry.name,
            f"x{entry.scale}",
            f"{entry.parameters:,}" if entry.parameters else "-",
            source.megabytes(entry.size),
            entry.license.spdx if entry.license else "-",
            entry.status,
            _decibels(entry, "Set5"),
            _decibels(entry, "BSD100"),
        )
    Console().print(table)


@app.command()
def info(name: NameArg, as_json: JsonOpt = False, cache_dir: CacheOpt = None) -> None:
    """Show all that is known of a model: network, file, licence, training data, scores and their protocol.

    Example: `upscale models info edsr-x4`
    """
    entries = _rows([name])
    if as_json:
        return _print_json(entries, cache_dir=cache_dir)
    console = Console()
    for entry in entries:
        table = Table(title=entry.name, title_justify="left", box=None, show_header=False, pad_edge=False)
        for key, value in _facts(entry, cache_dir):
            table.add_row(key, value)
        console.print(table)


@app.command()
def fetch(
    names: NamesArg = None,
    everything: Annotated[bool, typer.Option("--all", help="Every model that has weights.")] = False,
    as_json: JsonOpt = False,
    cache_dir: CacheOpt = None,
) -> None:
    """Download weights now, so that later runs need no network. What is here already is only verified.

    Example: `upscale models fetch lightweight`
    """
    if bool(names) == everything:
        raise UsageError("Name the models to fetch, or use --all. `upscale models list` shows them.")
    entries = [e for e in load_manifest().entries if e.source] if everything else _rows(names or [], usable=True)
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
            bar = bars.add_task(entry.name, total=entry.size)
            try:
                path = source.locate(
                    entry, cache_dir=cache_dir, progress=lambda done, _, bar=bar: bars.update(bar, completed=done)
                )
                results.append({"name": entry.name, "path": str(path), "error": None})
            except WeightsError as error:
                results.append({"name": entry.name, "path": None, "error": str(error)})
    _print_results(results, as_json=as_json)


@app.command()
def verify(names: NamesArg = None, as_json: JsonOpt = False, cache_dir: CacheOpt = None) -> None:
    """Hash local weights again (all of them, unless named) and compare with the manifest. Exit code 1 if one is bad.

    Example: `upscale models verify`
    """
    entries = _rows(names, usable=True) if names else [e for e in load_manifest().entries if e.source]
    found = [source.verify(entry, cache_dir=cache_dir) for entry in entries]
    results = [
        {**asdict(result), "path": result.path and str(result.path), "error": result.complaint()}
        for result in found
        if names or result.state != "absent"
    ]
    _print_results(results, as_json=as_json)


@app.command()
def path(
    name: NameArg,
    scale: Annotated[float | None, typer.Option("--scale", "-s", help="Scale the model is wanted for.")] = None,
    as_json: JsonOpt = False,
    cache_dir: CacheOpt = None,
) -> None:
    """Print the verified local file that `--model NAME` uses. Downloads nothing.

    Example: `upscale models path lightweight -s 2`
    """
    entry = load_manifest().find(name, scale)
    if entry.source is not None and source.local(entry, cache_dir=cache_dir) is None:
        raise WeightsError(
            f"{entry.name} is not on this machine ({source.megabytes(entry.size)}). "
            f"Fetch it with `upscale models fetch {entry.name}`."
        )
    found = source.locate(entry, offline=True, cache_dir=cache_dir)
    typer.echo(json.dumps({"name": entry.name, "path": str(found)}) if as_json else str(found))


@app.command(hidden=True)
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
    entry = manifest_row(file, load_manifest(), license=rights)
    typer.echo(json.dumps({entry.name: to_json(entry)}, indent=2))


def _rows(names: Iterable[str], *, usable: bool = False) -> list[Entry]:
    """The rows meant by names: a family stands for all its rows (those with weights, where only these make sense)."""
    manifest = load_manifest()
    rows: dict[str, Entry] = {}
    for name in names:
        family = manifest.family(name)
        chosen = [e for e in family if e.source or not usable] or [manifest.find(name)]
        rows |= {entry.name: entry for entry in chosen}
    return list(rows.values())


def _print_json(entries: Iterable[Entry], *, cache_dir: Path | None = None) -> None:
    models = {}
    for entry in entries:
        here = source.local(entry, cache_dir=cache_dir)
        models[entry.name] = {**to_json(entry), "local": str(here) if here else None}
    typer.echo(json.dumps({"models": models}, indent=2))


def _print_results(results: list[dict[str, Any]], *, as_json: bool) -> None:
    """One line for each row, errors to standard error; exit code 1 if there was one."""
    if as_json:
        typer.echo(json.dumps({"models": results}, indent=2))
    for result in results if not as_json else ():
        typer.echo(f"{result['name']}: {result['error'] or result['path']}", err=bool(result["error"]))
    if not results and not as_json:
        typer.echo("No weights are on this machine. `upscale models list` shows what there is.")
    if any(result["error"] for result in results):
        raise typer.Exit(1)


def _facts(entry: Entry, cache_dir: Path | None) -> Iterable[tuple[str, str]]:
    """What `info` shows of a row, in reading order."""
    yield "", entry.summary
    yield "network", f"{entry.variant}, {entry.parameters:,} parameters, native scale {entry.scale}"
    yield "status", entry.status
    if isinstance(entry.source, Hub):
        yield "hub", f"{entry.source.repo_id} at {entry.source.revision}, {entry.source.path}"
    if entry.source:
        yield "file", f"{source.local(entry, cache_dir=cache_dir) or 'not on this machine'}"
        yield "size", f"{entry.size:,} bytes"
        yield "sha256", f"{entry.sha256}"
    if entry.license:
        use = "commercial use allowed" if entry.license.commercial else "no commercial use"
        yield "licence", f"{entry.license.spdx} ({use}), {entry.license.attribution}"
        yield "trained on", ", ".join(entry.license.trained_on)
    if entry.recipe:
        yield "recipe", entry.recipe
    for score in entry.scores:
        numbers = f"{score.psnr_y:.2f} dB PSNR-Y, {score.ssim_y:.4f} SSIM-Y, {score.psnr_rgb:.2f} dB PSNR-RGB"
        yield score.dataset, f"{numbers} ({score.protocol})"


def _decibels(entry: Entry, dataset: str) -> str:
    score = entry.score(dataset)
    return f"{score.psnr_y:.2f}" if score else "-"
