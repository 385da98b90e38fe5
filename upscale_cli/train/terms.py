"""A weighted sum as a recipe writes it: `loss = "l1:1, perceptual:1, gan:0.1"`. Owns the words, computes nothing."""

import difflib
import math
from collections.abc import Collection

from upscale_cli.errors import UsageError

PIXEL = ("l1", "mse", "charbonnier", "ssim", "ms-ssim")
"""Terms that look at two pictures and nothing else."""
CYCLE = ("cycle", "identity")
"""Terms of two networks that undo each other."""
TABLES = ("smooth", "monotone")
"""Terms of the tables of a lut3d."""
TERMS = (*PIXEL, "perceptual", "teacher", *TABLES, "gan", *CYCLE)


def parse_terms(text: str, known: Collection[str], *, setting: str) -> dict[str, float]:
    """Name -> weight above 0, in the order of `text`; a name without a weight counts 1.

    UsageError, naming `setting`, for a name that is not `known` (with the nearest), named twice, or a useless weight.
    """
    terms: dict[str, float] = {}
    for part in text.split(","):
        name, colon, number = (piece.strip() for piece in part.partition(":"))
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
            raise UsageError(f"Training setting {setting} names {name!r}, which is no term of it. {hint}")
        try:
            weight = float(number) if colon else 1.0
        except ValueError:
            weight = math.nan
        if name in terms or not 0 < weight < math.inf:
            problem = "twice" if name in terms else f"with the weight {number!r}, which is no number above 0"
            raise UsageError(f"Training setting {setting} names {name!r} {problem}. Example: {name}:0.5")
        terms[name] = weight
    return terms
