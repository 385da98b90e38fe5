"""`upscale models list`, `info` and `path`: what is known of the models, told without opening a weights file."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from upscale_cli import render
from upscale_cli.cli.models.options import CacheOpt, JsonOpt, NameArg, rows_named
from upscale_cli.errors import WeightsError
from upscale_cli.manifest import Entry, Hub, Imported, Status, Wheel, load_manifest, to_json
from upscale_cli.weights import source

# From left to right. Where they are too wide for a terminal, the columns named first in `_SPARE` are left out.
_COLUMNS: tuple[str, ...] = ("model", "scale", "params", "size", "licence", "status", "Set5", "BSD100")
_SPARE = ("params", "BSD100", "licence", "size", "Set5")
_LEFT = ("model", "licence", "status")


def list_models(
    usable: Annotated[bool, typer.Option("--usable", help="Only what can make pictures as it is.")] = False,
    status: Annotated[Status | None, typer.Option("--status", help="Only rows of this status.")] = None,
    as_json: JsonOpt = False,
) -> None:
    """Show every model: scale, parameters, size, licence, status, and PSNR-Y on Set5 and BSD100.

    Networks that have no weights yet are only named, unless asked for by --status untrained.

    Example: `upscale models list --usable`
    """
    manifest = load_manifest()
    for problem in manifest.problems.values():
        render.warning(problem)

    def chosen(entries: Iterable[Entry]) -> list[Entry]:
        return [e for e in entries if (e.usable or not usable) and (status is None or e.status == status)]

    entries, encoders = chosen(manifest.entries), [] if usable else chosen(manifest.encoders)
    if as_json:
        return _print_json({"models": entries, "encoders": encoders})
    console = _console()
    sections = {
        "": [e for e in entries if e.usable and e.status != "imported"],
        "imported": [e for e in entries if e.status == "imported"],
        "no weights yet": [e for e in entries if not e.usable and status == e.status],
        "encoders": encoders,
    }
    _print_table(console, {title: rows for title, rows in sections.items() if rows})
    if status is None and (rest := _by_model(e for e in entries if not e.usable)):
        console.print(f"\n[bold]no weights yet[/] (train them, or import some): {rest}", soft_wrap=False)


def info(name: NameArg, as_json: JsonOpt = False, cache_dir: CacheOpt = None) -> None:
    """Show all that is known of a model: network, file, licence, training data, scores and their protocol.

    Example: `upscale models info edsr-x4`
    """
    entries = rows_named([name])
    if as_json:
        return _print_json({"models": entries}, cache_dir=cache_dir)
    console = _console()
    for entry in entries:
        table = Table(title=entry.name, title_justify="left", box=None, show_header=False, pad_edge=False)
        for key, value in _facts(entry, cache_dir):
            table.add_row(key, value)
        console.print(table)


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
        raise WeightsError(f"{entry.name} ({source.megabytes(entry.size)}) is {source.missing(entry)}")
    found = source.locate(entry, offline=True, cache_dir=cache_dir)
    typer.echo(json.dumps({"name": entry.name, "path": str(found)}) if as_json else str(found))


def _console() -> Console:
    """As wide as the terminal; wide enough for everything where the output goes elsewhere."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=render.WIDE)


def _by_model(entries: Iterable[Entry]) -> str:
    """`edsr x3 x8, rdn x2`: rows in short."""
    scales: dict[str, str] = {}
    for entry in entries:
        scales[entry.model] = f"{scales.get(entry.model, entry.model)} x{entry.scale}"
    return ", ".join(scales.values())


def _print_table(console: Console, sections: dict[str, list[Entry]]) -> None:
    unbounded = console.options.update(width=render.WIDE)
    columns = list(_COLUMNS)
    table = _table(sections, columns)
    for spare in _SPARE:
        if Measurement.get(console, unbounded, table).maximum <= console.width:
            break
        columns.remove(spare)
        table = _table(sections, columns)
    console.print(table)
    if hidden := [column for column in _COLUMNS if column not in columns]:
        console.print(f"A wider terminal shows {', '.join(hidden)} too.", style="dim")


def _table(sections: dict[str, list[Entry]], columns: list[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in columns:
        table.add_column(title, justify="left" if title in _LEFT else "right", no_wrap=True)
    for title, rows in sections.items():
        if title:
            if table.row_count:
                table.add_row()
            table.add_row(title, style="bold")
        for entry in rows:
            cells = {
                "model": entry.name,
                "scale": f"x{entry.scale}" if entry.task != "encoder" else "-",
                "params": f"{entry.parameters:,}" if entry.parameters else "-",
                "size": source.megabytes(entry.size),
                "licence": entry.license.spdx if entry.license else "-",
                "status": entry.status,
                "Set5": _decibels(entry, "Set5"),
                "BSD100": _decibels(entry, "BSD100"),
            }
            table.add_row(*(cells[column] for column in columns))
    return table


def _print_json(groups: dict[str, list[Entry]], *, cache_dir: Path | None = None) -> None:
    def told(entry: Entry) -> dict[str, Any]:
        here = source.local(entry, cache_dir=cache_dir)
        return {**to_json(entry), "local": str(here) if here else None}

    typer.echo(json.dumps({key: {e.name: told(e) for e in entries} for key, entries in groups.items()}, indent=2))


def _facts(entry: Entry, cache_dir: Path | None) -> Iterator[tuple[str, str]]:
    """What `info` shows of a row, in reading order."""
    yield "", entry.summary
    yield "network", f"{entry.variant}, {entry.parameters:,} parameters, native scale {entry.scale}"
    yield "status", entry.status
    match entry.source:
        case Hub(revision=revision) as place:
            yield "hub", f"{source.origin(place)} at {revision}"
        case Wheel() as place:
            yield "package", source.origin(place)
        case Imported(_, origin, origin_sha256, notes):
            yield "made from", f"{origin}, sha256 {origin_sha256}"
            yield from (("note", note) for note in notes)
        case None if not entry.usable:
            yield "weights", source.no_weights(entry)
    if entry.source:
        yield "file", f"{source.local(entry, cache_dir=cache_dir) or source.missing(entry)}"
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
    if entry.usable and entry.task != "encoder":
        yield "use", f"upscale photos/ -m {entry.name}"


def _decibels(entry: Entry, dataset: str) -> str:
    score = entry.score(dataset)
    return f"{score.psnr_y:.2f}" if score else "-"
