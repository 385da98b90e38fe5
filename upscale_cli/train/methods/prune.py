"""Structured pruning: whole channels leave a trained network, and what is left is a smaller network of the same kind.

Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017, arXiv:1608.08710: of channels that are made by several
convolutions and added up, the sum of their L1 norms decides. Owns which channels of which networks hang together.
Refuses to train: what was lost, fine-tuning brings back.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from upscale_cli import zoo
from upscale_cli.errors import UsageError
from upscale_cli.zoo.layout import count
from upscale_cli.zoo.variant import Variant


@dataclass(frozen=True, slots=True)
class Space:
    """Channels that stay or go together, wherever they are made and read."""

    makes: tuple[str, ...]
    """Layers whose output they are, with all that has one number a channel: bias, the slope of a PReLU."""
    reads: tuple[str, ...]
    """Convolutions whose input they are."""
    rows: int = 1
    """Outputs of a layer to one channel: what PixelShuffle spreads over pixels."""


State = Mapping[str, Tensor]


def pruned(variant: Variant, module: nn.Module, share: float) -> tuple[Variant, nn.Module]:
    """`module` without `share` of the channels of every layer, those with the least weight, and what it is now.

    UsageError where channels are tied in ways not known here, or none would be left.
    """
    if variant.architecture not in _SPACES:
        raise UsageError(f"{variant.name} cannot be pruned. Those that can: {', '.join(_SPACES)}.")
    state = {key: value.detach().clone() for key, value in module.state_dict().items()}
    for space in _SPACES[variant.architecture](state):
        _cut(state, space, share)
    smaller = zoo.recognise({key: value.shape for key, value in state.items()})
    if smaller is None:
        raise UsageError(f"{variant.name} without {share:.0%} of its channels is no network. Choose a smaller prune.")
    fresh = smaller[0].build()
    _keep_residual_scale(module, fresh, state)
    fresh.load_state_dict(state, strict=True)
    return smaller[0], fresh


def _cut(state: dict[str, Tensor], space: Space, share: float) -> None:
    """Take the weakest channels of a space out of every tensor that has them."""
    norms = sum(_norms(state[f"{layer}.weight"], space.rows) for layer in space.makes if _is_conv(state, layer))
    assert isinstance(norms, Tensor)
    left = round(len(norms) * (1 - share))
    if not left:
        raise UsageError(f"prune = {share:g} leaves none of the {len(norms)} channels of {space.makes[0]}.")
    kept = norms.argsort(descending=True, stable=True)[:left].sort().values
    outputs = (kept[:, None] * space.rows + torch.arange(space.rows)).flatten()
    for layer in space.makes:
        for key in (f"{layer}.weight", f"{layer}.bias"):
            if key in state:
                state[key] = state[key][outputs]
    for layer in space.reads:
        state[f"{layer}.weight"] = state[f"{layer}.weight"][:, kept]


def _norms(weight: Tensor, rows: int) -> Tensor:
    return weight.abs().flatten(1).sum(1).unflatten(0, (-1, rows)).sum(1)


def _is_conv(state: State, layer: str) -> bool:
    return state[f"{layer}.weight"].ndim == 4


def _keep_residual_scale(module: nn.Module, fresh: nn.Module, state: dict[str, Tensor]) -> None:
    """A factor that no tensor shows, and that another width has another of, goes into the weights in front of it."""
    for (name, block), (_, other) in zip(module.named_modules(), fresh.named_modules(), strict=True):
        factor = getattr(block, "residual_scale", 1.0) / getattr(other, "residual_scale", 1.0)
        if factor != 1:
            for key in (f"{name}.body.2.weight", f"{name}.body.2.bias"):
                state[key] = state[key] * factor


def _lightweight(state: State) -> Iterable[Space]:
    layers = ["head", *(f"body.{n}" for n in range(count(state, "body.{}.weight"))), "tail"]
    for place, (layer, reader) in enumerate(pairwise(layers)):
        yield Space((layer, f"act.{place}"), (reader,))


def _srvgg(state: State) -> Iterable[Space]:
    convs = count(state, "body.{}.weight", step=2)
    for place in range(convs - 1):
        yield Space((f"body.{2 * place}", f"body.{2 * place + 1}"), (f"body.{2 * place + 2}",))


def _improved(state: State) -> Iterable[Space]:
    layers = [f"body.{n}" for n in range(count(state, "body.{}.weight"))]
    group = min(len(layers), 4)
    yield Space(("head", *layers[group - 1 :: group]), (*layers[::group], "upsample.0"))
    for place, (layer, reader) in enumerate(pairwise(layers), 1):
        if place % group:
            yield Space((layer,), (reader,))
    yield from _shuffled(state, [f"upsample.{n}" for n in range(count(state, "upsample.{}.weight"))], "tail")


def _edsr(state: State) -> Iterable[Space]:
    blocks = [f"body.{n}.body" for n in range(count(state, "body.{}.body.0.weight"))]
    last, enlarged = f"body.{len(blocks)}", count(state, "tail.0.{}.weight", step=2)
    yield Space(
        ("head.0", *(f"{block}.2" for block in blocks), last), (*(f"{block}.0" for block in blocks), last, "tail.0.0")
    )
    for block in blocks:
        yield Space((f"{block}.0",), (f"{block}.2",))
    yield from _shuffled(state, [f"tail.0.{2 * n}" for n in range(enlarged)], "tail.1")


def _shuffled(state: State, layers: list[str], tail: str) -> Iterable[Space]:
    for layer, reader in zip(layers, [*layers[1:], tail], strict=True):
        yield Space((layer,), (reader,), rows=len(state[f"{layer}.weight"]) // state[f"{reader}.weight"].shape[1])


_SPACES: Mapping[str, Callable[[State], Iterable[Space]]] = {
    "lightweight": _lightweight,
    "improved": _improved,
    "edsr": _edsr,
    "srvgg": _srvgg,
}
