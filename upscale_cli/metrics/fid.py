"""Frechet Inception Distance: how far what a network sees in all pictures is from what it sees in all references.

Heusel et al., arXiv:1706.08500. Of a set, not of a picture; sets of other sizes have other distances. Lower is better.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from upscale_cli.metrics.protocol import Comparison, Pixels

Floats = npt.NDArray[np.float64]
See = Callable[[Pixels], npt.NDArray[np.float32]]
"""A picture to its features."""


class Moments:
    """Mean and covariance of vectors that come one after another, in float64.

    The covariance is kept as rows R with R^T R = its products (Welford 1962), never more than twice as many as vectors
    are long: no rank is lost to squaring, and few vectors cost little.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Floats = np.zeros(0)
        self._rows: list[Floats] = []

    def add(self, vector: npt.NDArray[np.floating]) -> None:
        """One more vector, as long as the others."""
        if not self.count:
            self.mean = np.zeros(len(vector))
        before = vector - self.mean
        self.count += 1
        self.mean = self.mean + before / self.count
        self._rows.append(before * math.sqrt((self.count - 1) / self.count))
        if len(self._rows) > 2 * len(vector):
            self._rows = list(np.linalg.qr(np.stack(self._rows), mode="r"))

    def root(self) -> Floats:
        """R with R^T R = the covariance over the count less 1; ValueError under two vectors."""
        if self.count < 2:
            raise ValueError("a covariance needs two vectors")
        return np.stack(self._rows) / math.sqrt(self.count - 1)


def frechet_distance(first: Moments, second: Moments) -> float:
    """Between the normal distributions with these moments (Dowson and Landau 1982).

    The trace of the root of the product of both covariances A^T A and B^T B is the sum of the singular values of A B^T.
    """
    ours, theirs = first.root(), second.root()
    overlap = np.linalg.svd(ours @ theirs.T, compute_uv=False).sum()
    away = first.mean - second.mean
    return float(away @ away + np.square(ours).sum() + np.square(theirs).sum() - 2 * overlap)


class FID:
    """The distance between one model's pictures and their references."""

    def __init__(self, see: See, see_reference: See) -> None:
        self._see, self._see_reference = see, see_reference
        self._ours, self._theirs = Moments(), Moments()

    def look(self, pictures: Comparison) -> float:
        """Takes both in; one picture has no value: NaN."""
        self._ours.add(self._see(pictures.image))
        self._theirs.add(self._see_reference(pictures.reference))
        return math.nan

    def result(self) -> float:
        """Of all that were seen; NaN under two."""
        return frechet_distance(self._ours, self._theirs) if self._ours.count > 1 else math.nan
