"""Which networks a picture goes through: what `--model` stands for, and in which order native scales reach a size.

Knows the list of models and the header of a weights file; loads no network.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path

from upscale_cli.errors import UsageError
from upscale_cli.manifest import load_manifest, names_file


@dataclass(frozen=True, slots=True)
class Network:
    """A network of one native scale: what `open_engine` takes, and what tells its weights from any others."""

    name: str
    scale: int
    identity: str


def plan_stages(wanted: float, natives: Collection[int]) -> tuple[int, ...]:
    """The native scales to run in a row so that their product reaches `wanted`: the least work, then the least excess.

    Work is counted in pixels that enter a network, so small scales come first. UsageError where none enlarges.
    """
    enough = wanted * (1 - 1e-9)  # a square root of megapixels may come out a rounding above a native scale
    if enough <= 1:
        return (min(natives),)
    scales = sorted({scale for scale in natives if scale > 1})
    if not scales:
        raise UsageError("This model does not enlarge. Choose another (`upscale models list`), or --scale 1.")
    longest = 1
    while scales[0] ** longest < enough:
        longest += 1
    chains = (chain for count in range(1, longest + 1) for chain in combinations_with_replacement(scales, count))
    return min(
        (chain for chain in chains if math.prod(chain) >= enough), key=lambda chain: (_work(chain), math.prod(chain))
    )


def _work(chain: Sequence[int]) -> int:
    return sum(math.prod(chain[:place]) ** 2 for place in range(len(chain)))


def find_networks(model: str) -> tuple[Network, ...]:
    """The networks `--model` stands for: a family's, one row of the manifest, or a weights file.

    UsageError for a name nobody knows, WeightsError for a file that is no network's weights.
    """
    manifest = load_manifest()
    rows = [entry for entry in manifest.entries if entry.name == model] or manifest.family(model)
    if rows:
        rows = [entry for entry in rows if entry.usable] or rows  # without any, opening one says what is missing
        return tuple(Network(entry.name, entry.scale, entry.sha256 or entry.variant) for entry in rows)
    if not names_file(model):
        manifest.find(model)  # raises, with the nearest name
    # Imports torch, which a name of the manifest does not need at this point.
    from upscale_cli.weights.download import sha256_of
    from upscale_cli.weights.loading import variant_of_file

    return (Network(model, variant_of_file(Path(model)).scale, sha256_of(Path(model))),)
