"""The options that several commands of `upscale models` share, and the rows they name."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from upscale_cli.errors import UsageError
from upscale_cli.manifest import Entry, load_manifest


def _complete(incomplete: str) -> list[str]:
    return sorted(name for name in load_manifest().names if name.startswith(incomplete))


JsonOpt = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
NameArg = Annotated[str, typer.Argument(help="A model (edsr) or one row of it (edsr-x4).", autocompletion=_complete)]
NamesArg = Annotated[
    list[str] | None, typer.Argument(help="Models (edsr) or rows (edsr-x4).", autocompletion=_complete)
]
CacheOpt = Annotated[
    Path | None,
    typer.Option("--cache-dir", help="Folder for downloaded weights, instead of UPSCALE_CACHE or the user's cache."),
]
YesOpt = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]


def rows_named(names: Iterable[str], *, usable: bool = False) -> list[Entry]:
    """The rows meant by names: a family stands for all its rows (those with weights, where only these make sense)."""
    manifest = load_manifest()
    rows: dict[str, Entry] = {}
    for name in names:
        found = manifest.rows(name)
        rows |= {entry.name: entry for entry in [e for e in found if e.source or not usable] or found}
    return list(rows.values())


def rows_with_weights() -> list[Entry]:
    """Every model and encoder that has a file."""
    manifest = load_manifest()
    return [entry for entry in (*manifest.entries, *manifest.encoders) if entry.source]


def ask(question: str, *, instead: str) -> None:
    """Go on if the user says yes, else typer.Abort. UsageError, with what to write `instead`, if nobody can answer."""
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Add {instead} where nobody can be asked.")
    typer.confirm(question, abort=True)


def print_results(results: list[dict[str, Any]], *, as_json: bool) -> None:
    """One line for each row, errors to standard error; exit code 1 if there was one."""
    if as_json:
        typer.echo(json.dumps({"models": results}, indent=2))
    for result in results if not as_json else ():
        typer.echo(f"{result['name']}: {result['error'] or result['path']}", err=bool(result["error"]))
    if any(result["error"] for result in results):
        raise typer.Exit(1)
