"""`upscale train RECIPE`: options in, one TrainRequest out."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upscale_cli import render
from upscale_cli.cli.train.recipe import find_recipe, overrides, recipe_names
from upscale_cli.errors import UsageError

if TYPE_CHECKING:
    from upscale_cli.train.config import TrainConfig


def train(
    recipes: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE", help="A TOML file, or the name of a shipped recipe.", autocompletion=recipe_names
        ),
    ],
    data: Annotated[list[str], typer.Option("--data", help="What to train on: photographs, or pairs.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for checkpoint, history and weights.")],
    valid: Annotated[
        list[str] | None, typer.Option("--valid", help="What to choose the best weights by; else a part of --data.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")] = False,
    finish: Annotated[
        bool, typer.Option("--finish", help="End where the checkpoint is: weights and report of the best so far.")
    ] = False,
    steps: Annotated[int | None, typer.Option("--steps", help="Steps in all.")] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Steps in all, in epochs: as many steps each as validate_every says.")
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Patches a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--lr", help="Learning rate.")] = None,
    teacher: Annotated[
        str | None, typer.Option("--teacher", help="A model or a weights file whose pictures are learned as well.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of everything that is drawn.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override any setting of the recipe: --set patch_px=64")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Train several recipes from one seed; one table and one figure.")
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write for TensorBoard as well.")] = False,
    device: Annotated[str, typer.Option("-d", "--device", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a network of the zoo from photographs; low resolution is made on the fly.

    Example: `upscale train lightweight-x2 --data photos/train --valid photos/valid -o runs/lightweight-x2`
    """
    flags = {
        "steps": steps,
        "epochs": epochs,
        "batch": batch,
        "learning_rate": learning_rate,
        "teacher": teacher,
        "seed": seed,
    }
    first = os.environ.get("RANK", "0") == "0"  # of several processes, where torchrun started them
    try:
        if len(recipes) != 1 and not compare:
            raise UsageError(f"{len(recipes)} recipes are given. Train one, or several with --compare.")
        configs = _configs(recipes, overrides(settings or [], flags))
        from upscale_cli.train.compare import compare as train_all
        from upscale_cli.train.verb import TrainRequest, train

        request = TrainRequest(
            config=next(iter(configs.values())),
            data=tuple(data),
            valid=tuple(valid or ()),
            folder=output,
            resume=resume,
            finish=finish,
            device=device,
            tensorboard=tensorboard,
        )
        with render.TrainingBar(quiet=as_json or not first) as bar:
            if compare:
                reports = train_all(configs, request, watch=bar.named, note=bar.note)
            else:
                report = train(request, watch=[bar.update], note=bar.note)
                reports = {"": report} if report else {}
    except UsageError:
        if first:
            raise
        raise typer.Exit(2) from None  # the first says it
    folders = [render.write_report(report) for report in reports.values()]
    if compare and reports:
        render.comparison(reports, output, as_json=as_json)
    elif reports:
        render.training(reports[""], folders[0], as_json=as_json)


def _configs(recipes: list[str], values: Mapping[str, Any]) -> "dict[str, TrainConfig]":
    """Each by the last part of its recipe's name."""
    paths = {path.stem: path for path in map(find_recipe, recipes)}
    if len(paths) < len(recipes):
        raise UsageError("Two of the recipes have one name. Rename one: their results lie in folders of their names.")
    from upscale_cli.train.config import read_recipe

    return {name: read_recipe(path, values) for name, path in paths.items()}
