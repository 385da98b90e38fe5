"""`upscale bench`: options in, one BenchRequest out; and forgetting what was found."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from upscale_cli import render
from upscale_cli.errors import OutputError


def bench(
    model: Annotated[
        list[str] | None,
        typer.Option("-m", "--model", metavar="A,B,...", help="Models, rows or weights files; may be repeated."),
    ] = None,
    scale: Annotated[float | None, typer.Option("-s", "--scale", help="Native scale, 2 unless given.")] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option("--engine", metavar="A,B,...", help="What runs the network; every one here unless given."),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option("--precision", metavar="A,B,...", help="Of fp32, bf16, fp16, int8; what suits unless given."),
    ] = None,
    tile: Annotated[
        list[int] | None, typer.Option("-t", "--tile", metavar="PX", help="Most pixels of a tile's side; repeatable.")
    ] = None,
    device: Annotated[str, typer.Option("-d", "--device", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    photos: Annotated[
        Path | None, typer.Option("--photos", metavar="PATH", help="Your photographs, in place of a made picture.")
    ] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", help="To time each row; 3 unless given.")] = None,
    seams: Annotated[bool, typer.Option("--seams", help="Show what tiles do to the picture instead.")] = False,
    overlap: Annotated[
        list[int] | None, typer.Option("--overlap", metavar="PX", help="For --seams: pixels tiles share; repeatable.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option("--figure", metavar="FILE", help="Also draw it, into a .png or .svg file.")
    ] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Forget what earlier benches found, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure how fast this machine runs the networks, by which engine, and where the time goes.

    What is found is remembered: `--dry-run` and `--engine auto` go by it.

    Example: `upscale bench -m lightweight,improved -s 2`
    """
    if forget:
        return _forget()
    from upscale_cli import bench as verb

    request = verb.BenchRequest(
        models=_words(model),
        scale=scale,
        backends=_words(engine),
        precisions=_words(precision),
        tiles=tuple(tile or (0,)),
        device=device,
        photos=photos,
        seconds=verb.SECONDS if seconds is None else seconds,
    )
    if figure is not None:
        render.check_figure(figure, seams=seams)
    with render.BenchStatus(quiet=as_json) as status:
        if seams:
            tiled = verb.measure_seams(request, overlaps=overlap or (), tell=status.update)
            return render.seams(tiled, as_json=as_json)
        report = verb.bench(request, tell=status.update)
    render.benched(report, as_json=as_json)
    if figure is not None and report.rows:
        render.draw_bench(report, figure)
    raise typer.Exit(130 if report.interrupted else int(not report.rows))


def _forget() -> None:
    """Drop the findings; OutputError if they stay."""
    from upscale_cli import findings

    try:
        count = findings.forget()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"{findings.path()} cannot be removed: {reason}. Remove it by hand.") from error
    typer.echo(f"{count} finding{'s' * (count != 1)} forgotten.")


def _words(values: Iterable[str] | None) -> tuple[str, ...]:
    """Of an option that may be repeated, and may hold a list at a time."""
    return tuple(word.strip() for value in values or () for word in value.split(",") if word.strip())
