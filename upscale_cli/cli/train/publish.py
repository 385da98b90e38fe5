"""`upscale train publish`: a finished training to the hub, and the manifest row that pins it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from upscale_cli.manifest import to_json


def publish(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished training, with its report.")],
    repo_id: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository of the hub; made if not there.")],
    spdx: Annotated[str, typer.Option("--license", help="Licence of the weights, as SPDX calls it.")] = "Apache-2.0",
    attribution: Annotated[str, typer.Option(help="Whose work they are; the owner unless given.")] = "",
    commercial: Annotated[bool, typer.Option(help="Whether commercial use is allowed.")] = True,
    trained_on: Annotated[
        list[str] | None, typer.Option(help="What they were trained on; repeat for several sources.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a repository that nobody else sees.")] = False,
) -> None:
    """Push the weights of a training, its pictures and its model card, and print the manifest row that pins them.

    Example: `upscale train publish runs/lightweight-x2 me/lightweight-x2`
    """
    from upscale_cli.train.publish import PublishRequest
    from upscale_cli.train.publish import publish as push

    done = push(
        PublishRequest(
            folder=folder,
            repo_id=repo_id,
            spdx=spdx,
            attribution=attribution,
            commercial=commercial,
            trained_on=tuple(trained_on or ()),
            private=private,
        )
    )
    typer.echo(f"published: {done.url}", err=True)
    typer.echo(json.dumps({done.row.name: to_json(done.row)}, indent=2))
