"""`upscale train prepare`: options in, one PrepareRequest out."""

from pathlib import Path
from typing import Annotated

import typer

from upscale_cli import render


def prepare(
    data: Annotated[
        list[str], typer.Argument(help="A folder of photographs or pairs, DIV2K, a CSV, an archive, hub:owner/name.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the shards.")],
    sub_image: Annotated[
        int, typer.Option("--sub-image", min=0, help="Side of the sub-images in HR pixels; 0 leaves pictures whole.")
    ] = 480,
    step: Annotated[int, typer.Option("--step", min=1, help="From one sub-image to the next, in HR pixels.")] = 240,
    scale: Annotated[
        int,
        typer.Option("-s", "--scale", min=0, help="Lay out LR as well: of the pairs, or made by bicubic; 0: HR alone."),
    ] = 0,
    sharpen: Annotated[bool, typer.Option("--sharpen", help="Sharpen HR, for recipes that say so.")] = False,
    expert: Annotated[str, typer.Option("--expert", help="Of FiveK, whose retouch is the target: A to E.")] = "C",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace other shards in the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Cut pictures into sub-images that a training reads without decoding them.

    Example: `upscale train prepare photos/train -o shards -s 4`, then `upscale train edsr-x4 --data shards`
    """
    from upscale_cli.train.data.prepare import PrepareRequest
    from upscale_cli.train.data.prepare import prepare as lay_out
    from upscale_cli.train.data.shards import Cut

    request = PrepareRequest(
        data=tuple(data),
        folder=output,
        cut=Cut(sub_image, step),
        scale=scale,
        sharpen=sharpen,
        expert=expert.upper(),
        overwrite=overwrite,
    )
    with render.PreparingBar(quiet=as_json) as bar:
        report = lay_out(request, progress=bar.update)
    render.prepared(report, as_json=as_json)
