"""Which recipe is meant, and what the command line changes in it. No torch."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upscale_cli.errors import UsageError

RECIPES = Path(__file__).parents[2] / "train" / "recipes"


def recipe_names(incomplete: str = "") -> list[str]:
    """Of those that ship."""
    return sorted(path.stem for path in RECIPES.glob("*.toml") if path.stem.startswith(incomplete))


def find_recipe(recipe: str) -> Path:
    """A TOML file; where there is none, the shipped recipe of that name, with or without `recipes/` and `.toml`."""
    path = Path(recipe)
    if path.is_file():
        return path
    shipped = RECIPES / f"{path.name.removesuffix('.toml')}.toml"
    if path.parent in (Path(), Path("recipes")) and shipped.is_file():
        return shipped
    known = ", ".join(recipe_names())
    raise UsageError(f"There is no recipe {recipe!r}. Give a TOML file, or one that ships: {known}.")


def overrides(settings: list[str], flags: Mapping[str, object]) -> dict[str, Any]:
    """`name=value` pairs, values as TOML has them (a bare word is a string), and the flags that were given.

    UsageError for what is no pair, and for a flag that `--set` contradicts.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = (part.strip() for part in setting.partition("="))
        if not equals:
            raise UsageError(f"--set {setting!r} is no name=value. Example: --set steps=20000")
        try:
            values[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            values[name] = value
    given = {name: value for name, value in flags.items() if value is not None}
    if twice := values.keys() & given.keys():
        raise UsageError(f"--set and a flag both give {', '.join(sorted(twice))}. Leave out one of them.")
    return values | given
