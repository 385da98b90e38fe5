"""`upscale devices`: where networks can run on this machine."""

from typing import Annotated

import typer

from upscale_cli import render


def devices(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """List what `--device` takes on this machine, best first, with the precision `auto` chooses there.

    Example: `upscale devices`
    """
    from upscale_cli.device import list_devices

    render.devices(list_devices(), as_json=as_json)
