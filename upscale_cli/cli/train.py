"""`upscale train`: options in, one TrainRequest out."""

from pathlib import Path
from typing import Annotated

import typer

from upscale_cli import render
from upscale_cli.errors import UsageError

RECIPES = Path(__file__).parents[1] / "train" / "recipes"


def _recipe_names(incomplete: str) -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.toml") if path.stem.startswith(incomplete))


def _find_recipe(recipe: str) -> Path:
    """A TOML file, or the name of a recipe that ships."""
    shipped = RECIPES / f"{recipe}.toml"
    path = Path(recipe)
    if path.exists() or not shipped.exists():
        if not path.exists():
            known = ", ".join(_recipe_names(""))
            raise UsageError(f"There is no recipe {recipe!r}. Give a TOML file, or one that ships: {known}.")
        return path
    return shipped


def _overrides(settings: list[str]) -> dict[str, object]:
    """`name=value` pairs, values as TOML has them; a bare word is a string."""
    import tomllib

    values: dict[str, object] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting!r} is no name=value. Example: --set steps=20000")
        try:
            values[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            values[name.strip()] = value
    return values


def train(
    recipe: Annotated[
        str, typer.Argument(help="A TOML file, or the name of a shipped recipe.", autocompletion=_recipe_names)
    ],
    data: Annotated[list[str], typer.Option("--data", help="Folder of high-resolution photographs to train on.")],
    valid: Annotated[list[str], typer.Option("--valid", help="Photographs to choose the best weights by.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for checkpoint, history and weights.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting of the recipe: --set steps=20000")
    ] = None,
    device: Annotated[str, typer.Option("-d", "--device", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a network of the zoo from photographs; low resolution is made on the fly.

    Example: `upscale train lightweight-x2 --data photos/train --valid photos/valid -o runs/lightweight-x2`
    """
    path = _find_recipe(recipe)
    overrides = _overrides(settings or [])
    from upscale_cli.train.config import read_recipe
    from upscale_cli.train.verb import TrainRequest, train

    config = read_recipe(path, overrides)
    request = TrainRequest(
        config=config, data=tuple(data), valid=tuple(valid), folder=output, resume=resume, device=device
    )
    with render.TrainingBar(quiet=as_json) as bar:
        report = train(request, watch=[bar.update])
    render.training(report, as_json=as_json)
