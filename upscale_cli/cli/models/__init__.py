"""`upscale models`: what there is, where it lies, whether it is whole; and a way in for the user's own."""

import typer

from upscale_cli.cli.models.export import export
from upscale_cli.cli.models.fetch import fetch, prune, verify
from upscale_cli.cli.models.imports import import_model, remove
from upscale_cli.cli.models.quantize import quantize
from upscale_cli.cli.models.row import row
from upscale_cli.cli.models.show import info, list_models, path

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="List, fetch, check and import models. Example: `upscale models list`",
)
app.command("list")(list_models)
app.command()(info)
app.command()(fetch)
app.command()(verify)
app.command()(path)
app.command("import")(import_model)
app.command()(export)
app.command()(quantize)
app.command()(remove)
app.command()(prune)
app.command(hidden=True)(row)
