"""`upscale train RECIPE`: options in, one TrainRequest out."""

import os
from pathlib import Path
from typing import Annotated

import typer

from upscale_cli import render
from upscale_cli.cli.train.recipe import find_recipe, overrides, recipe_names
from upscale_cli.errors import UsageError


def train(
    recipe: Annotated[
        str, typer.Argument(help="A TOML file, or the name of a shipped recipe.", autocompletion=recipe_names)
    ],
    data: Annotated[list[str], typer.Option("--data", help="What to train on: photographs, or pairs.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for checkpoint, history and weights.")],
    valid: Annotated[
        list[str] | None, typer.Option("--valid", help="What to choose the best weights by; else a part of --data.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")] = False,
    steps: Annotated[int | None, typer.Option("--steps", help="Steps in all.")] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Steps in all, in epochs: as many steps each as validate_every says.")
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Patches a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--lr", help="Learning rate.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of everything that is drawn.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override any setting of the recipe: --set patch_px=64")
    ] = None,
    device: Annotated[str, typer.Option("-d", "--device", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a network of the zoo from photographs; low resolution is made on the fly.

    Example: `upscale train lightweight-x2 --data photos/train --valid photos/valid -o runs/lightweight-x2`
    """
    flags = {"steps": steps, "epochs": epochs, "batch": batch, "learning_rate": learning_rate, "seed": seed}
    first = os.environ.get("RANK", "0") == "0"  # of several processes, where torchrun started them
    try:
        path, values = find_recipe(recipe), overrides(settings or [], flags)
        from upscale_cli.train.config import read_recipe
        from upscale_cli.train.verb import TrainRequest, train

        request = TrainRequest(
            config=read_recipe(path, values),
            data=tuple(data),
            valid=tuple(valid or ()),
            folder=output,
            resume=resume,
            device=device,
        )
        with render.TrainingBar(quiet=as_json or not first) as bar:
            report = train(request, watch=[bar.update], note=bar.note)
    except UsageError:
        if first:
            raise
        raise typer.Exit(2) from None  # the first says it
    if report:
        render.training(report, render.write_report(report), as_json=as_json)
