"""The zoo: every network, one architecture a file, joined here by hand. A file joins by one line in `_TABLES`."""

import difflib

from upscale_cli.errors import UsageError
from upscale_cli.zoo import edsr, improved, interpolation, lightweight, srresnet
from upscale_cli.zoo.variant import Precision, Variant

__all__ = ["Precision", "Variant", "find", "variants"]

_TABLES = (lightweight.VARIANTS, improved.VARIANTS, edsr.VARIANTS, srresnet.VARIANTS, interpolation.VARIANTS)
_BY_NAME = {variant.name: variant for table in _TABLES for variant in table}
if len(_BY_NAME) != sum(map(len, _TABLES)):
    raise RuntimeError("two variants of the zoo share a name")


def variants() -> tuple[Variant, ...]:
    """All variants, in the order of the tables."""
    return tuple(_BY_NAME.values())


def find(name: str) -> Variant:
    """The variant called `name` (`edsr/x4`); UsageError with the nearest names otherwise."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    near = difflib.get_close_matches(name, _BY_NAME, n=3)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(_BY_NAME)}."
    raise UsageError(f"No network variant is called {name!r}. {hint}")
