"""`upscale train RECIPE` and what belongs to it."""

import typer

from upscale_cli.cli.group import DefaultGroup
from upscale_cli.cli.train.prepare import prepare
from upscale_cli.cli.train.publish import publish
from upscale_cli.cli.train.run import train

app = typer.Typer(cls=DefaultGroup, no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")
app.command("run")(train)
app.command()(publish)
app.command()(prepare)


@app.callback()
def callback() -> None:
    """Train a network of the zoo from photographs.

    Example: `upscale train lightweight-x2 --data photos/train --valid photos/valid -o runs/lightweight-x2`

    `upscale train run --help` lists all options of a training; the word `run` may be left out.
    """
