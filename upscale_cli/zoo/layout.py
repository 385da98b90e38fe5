"""What the keys and shapes of a state dict say of its network: for every architecture's `recognise`.

Owns measuring a stranger's table of tensors, where every number is bounded before anything is built with it, and the
last word: that a network built with these numbers has exactly these tensors. Reads no values and raises nothing.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import replace

import torch

from upscale_cli.zoo.variant import Shapes, Variant

DEEPEST = 256
"""No network here has more blocks in a row."""
WIDEST = 4096
"""Nor more channels."""


def count(keys: Collection[str], pattern: str, *, first: int = 0, step: int = 1) -> int:
    """How many blocks follow each other: the keys `body.{}.weight` for {} = first, first + step, ... without a gap.

    0 for more than any network here has.
    """
    found = 0
    while pattern.format(first + found * step) in keys:
        found += 1
        if found > DEEPEST:
            return 0
    return found


def width(shapes: Shapes, key: str, axis: int = 0) -> int:
    """Size of a tensor along an axis; 0 where there is none or no network here is that wide."""
    shape = shapes.get(key, ())
    return shape[axis] if axis < len(shape) and shape[axis] <= WIDEST else 0


def shuffle_scale(shapes: Shapes, pattern: str, *, step: int = 1) -> int:
    """The scale of a row of convolutions with PixelShuffle (`blocks.shuffle_steps`); 0 where it is none of those."""
    steps = count(shapes, pattern, step=step)
    if steps == 1:
        key = pattern.format(0)
        factor = math.isqrt(width(shapes, key) // max(width(shapes, key, 1), 1))
        return factor if factor in (2, 3) else 0
    return {2: 4, 3: 8}.get(steps, 0)


def fitting(shapes: Shapes, fresh: Variant, table: Iterable[Variant]) -> Variant | None:
    """The row of `table` that has exactly these keys and shapes, or else `fresh` if it has, its parameters counted.

    `fresh` holds the numbers read from `shapes`; what no tensor shows is taken from the row, where there is one.
    `num_batches_tracked`, a counter that older checkpoints lack, may be missing.
    """
    wanted, parameters = _measured(fresh)
    if any(wanted.get(key) != shape for key, shape in shapes.items()):
        return None
    if any(key not in shapes and not key.endswith(".num_batches_tracked") for key in wanted):
        return None
    for row in table:
        if (row.scale, row.parameters) == (fresh.scale, parameters) and _measured(row)[0] == wanted:
            return row
    return replace(fresh, parameters=parameters)


def _measured(variant: Variant) -> tuple[Shapes, int]:
    """Key -> shape and count of parameters, of a network that is built without memory."""
    with torch.device("meta"):
        module = variant.build()
    shapes = {key: value.shape for key, value in module.state_dict().items()}
    return shapes, sum(parameter.numel() for parameter in module.parameters())
