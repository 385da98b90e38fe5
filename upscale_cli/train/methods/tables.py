"""What keeps the tables of an adaptive 3D LUT in order while they are learned: smooth, rising, mixed in small shares.

Zeng et al., arXiv:2009.14468, section 3.3, as their program has it: the shares are those of the batch, the tables the
basis itself, the steps at both ends of an axis count twice in smoothness.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli.errors import UsageError
from upscale_cli.zoo.lut3d import BankOfTables, Lut3D


class TablePenalties:
    """The weighted terms of the last pictures that the network made."""

    def __init__(self, generator: nn.Module, weights: Mapping[str, float]) -> None:
        """UsageError for a network without tables."""
        if not isinstance(generator, Lut3D):
            raise UsageError(f"The losses {' and '.join(weights)} look at tables of colours: they train a lut3d.")
        self._weights = weights
        self._tables = generator.lut_generator
        self._shares: Tensor | None = None
        self._tables.weights_generator.register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: object, shares: Tensor) -> None:
        self._shares = shares

    def __call__(self) -> dict[str, Tensor]:
        """By their names."""
        assert self._shares is not None
        steps = differences(self._basis())
        terms = {}
        if "smooth" in self._weights:
            terms["smooth"] = self._weights["smooth"] * (self._shares.square().mean() + total_variation(steps))
        if "monotone" in self._weights:
            terms["monotone"] = self._weights["monotone"] * falling(steps)
        return terms

    def _basis(self) -> Tensor:
        points = self._tables.points
        if isinstance(self._tables, BankOfTables):
            return self._tables.basis_luts_bank.weight.mT.unflatten(1, (3, points, points, points))
        return torch.stack(tuple(self._tables.basis_luts))


def differences(tables: Tensor) -> list[Tensor]:
    """N x 3 x D x D x D to what each colour has more than the one before it, along blue, green and red: this first."""
    return [tables.diff(dim=axis).movedim(axis, 0) for axis in (2, 3, 4)]


def total_variation(steps: list[Tensor]) -> Tensor:
    """Sum over tables and axes of the mean square step."""
    terms = []
    for step in steps:
        twice = torch.ones(len(step), device=step.device)
        twice[[0, -1]] = 2
        terms.append(torch.einsum("i,it->", twice / len(step), step.square().flatten(2).mean(2)))
    return torch.stack(terms).sum()


def falling(steps: list[Tensor]) -> Tensor:
    """Sum over tables and axes of how far colours fall, in the mean, where they should rise."""
    return torch.stack([F.relu(-step).mean() * step.shape[1] for step in steps]).sum()
