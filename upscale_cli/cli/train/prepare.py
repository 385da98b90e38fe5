"""`upscale train prepare`: options in, one PrepareRequest out."""

from pathlib import Path
from typing import Annotated

import typer

from upscale_cli import render


def prepare(
    data: Annotated[
        list[str],
        typer.Argument(
            help="Photographs or pairs, DIV2K, a CSV, an archive, hub:owner/name; or `fivek` and its folder."
        ),
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
    photo_px: Annotated[
        int, typer.Option("--photo-px", min=0, help="Of `fivek`: longer side of the pairs; 0 leaves them full size.")
    ] = 512,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace other shards in the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Cut pictures into sub-images that a training reads without decoding them.

    Example: `upscale train prepare photos/train -o shards -s 4`, then `upscale train edsr-x4 --data shards`

    `upscale train prepare fivek FOLDER -o pairs` makes pairs of MIT-Adobe FiveK's DNGs and an expert's TIFFs instead.
    """
    if len(data) == 2 and data[0] == "fivek":
        return _fivek(Path(data[1]), output, expert.upper(), photo_px, as_json=as_json)
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


def _fivek(source: Path, output: Path, expert: str, photo_px: int, *, as_json: bool) -> None:
    from upscale_cli.train.data.fivek import FiveKRequest, prepare_fivek

    request = FiveKRequest(source=source, folder=output, expert=expert, photo_px=photo_px)
    with render.PreparingBar(quiet=as_json) as bar:
        report = prepare_fivek(request, progress=bar.update)
    render.prepared_fivek(report, as_json=as_json)
