"""Channels that a ReLU lets next to nothing through of, whatever the picture: found on batches, and started anew.

They get next to no gradient, so training does not bring them back (Lu et al., Dying ReLU and Initialization, 2019,
arXiv:1903.06733); starting them anew is ReDo (Sokar et al., The Dormant Neuron Phenomenon, ICML 2023,
arXiv:2302.12902).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SELDOM = 1e-3
"""Share of all places; a channel that is above zero in fewer is dead."""


@dataclass(frozen=True, slots=True)
class Revived:
    """How many channels were dead, of all that were looked at."""

    dead: int
    channels: int


@torch.no_grad()
def revive(network: nn.Module, pictures: Sequence[Tensor]) -> Revived:
    """Give dead channels between two convolutions the weights of a fresh layer, centred on what `pictures` bring there.

    `pictures` are N x 3 x H x W in [0, 1]. The convolution behind reads nothing of such a channel at first, so what the
    network draws changes by what came through in a thousandth of all places. Looks at a convolution, a ReLU and a
    convolution in one nn.Sequential, as residual blocks have them; others keep what they have.
    """
    pairs = [
        (first, behind)
        for row in (list(each) for each in network.modules() if isinstance(each, nn.Sequential))
        for first, between, behind in zip(row, row[1:], row[2:], strict=False)
        if isinstance(first, nn.Conv2d) and isinstance(between, nn.ReLU) and isinstance(behind, nn.Conv2d)
    ]
    layers = [first for first, _ in pairs]
    dead = [share < SELDOM for share in _means(network, pictures, layers, lambda values: (values > 0).float())]
    for (first, behind), which in zip(pairs, dead, strict=True):
        fresh = nn.Conv2d(first.in_channels, first.out_channels, first.kernel_size)  # pyright: ignore[reportArgumentType]
        first.weight[which] = fresh.weight[which]
        behind.weight[:, which] = 0
    # Features have a mean, which by chance would put a fresh channel far off zero again.
    middle = _means(network, pictures, layers, lambda values: values)
    for first, which, mean in zip(layers, dead, middle, strict=True):
        if first.bias is not None:
            first.bias[which] -= mean[which]
    return Revived(sum(int(which.sum()) for which in dead), sum(len(which) for which in dead))


def _means(
    network: nn.Module, pictures: Sequence[Tensor], layers: Sequence[nn.Module], of: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """For each layer, the mean of `of` its values in all pictures, a channel each; nothing else is learned of them."""
    found: list[list[Tensor]] = [[] for _ in layers]
    training = network.training

    def watch(place: int) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _layer, _given, values: found[place].append(of(values).mean((0, 2, 3)))

    hooks = [layer.register_forward_hook(watch(place)) for place, layer in enumerate(layers)]
    try:
        network.eval()
        for each in pictures:
            network(each)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return [torch.stack(each).mean(0) for each in found]
