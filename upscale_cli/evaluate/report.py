"""What an evaluation found, with all that is needed to compare it with another one. Data only."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from upscale_cli.metrics.protocol import Scores


@dataclass(frozen=True, slots=True)
class ImageScore:
    """One image of the set."""

    name: str
    scores: Scores


@dataclass(frozen=True, slots=True)
class Problem:
    """A picture that could not be scored, or a metric that could not be taken, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Step:
    """News for a progress display: one more picture of one model is scored."""

    done: int
    total: int
    model: str
    image: ImageScore


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One row of the table. With an `error` the model was not scored, or not on all pictures that could be read."""

    model: str
    """As the user named it."""
    network: str = ""
    """Rows of the manifest, or files, its weights came from."""
    precision: str = ""
    backend: str = ""
    device: str = ""
    parameters: int | None = None
    gmacs_720p: float | None = None
    """Billion multiplications with an addition for an output of 1280 x 720, of convolutions and matrix products; None
    for what is not made of them."""
    seconds: float = 0.0
    """In the network, over all pictures; reading and scoring left out."""
    scores: Scores = field(default_factory=dict)
    """Over the whole set."""
    images: tuple[ImageScore, ...] = ()
    error: str | None = None

    def without_error(self, metric: str) -> int:
        """How many pictures equal their original, so that they have an infinite value and no part in the mean."""
        return sum(math.isinf(image.scores[metric]) for image in self.images)

    def without_value(self, metric: str) -> int:
        """How many pictures have no value of their own."""
        return sum(math.isnan(image.scores[metric]) for image in self.images)


@dataclass(frozen=True, slots=True)
class EvalReport:
    """Scores and how they were made."""

    data: str
    scale: int
    low_resolution: str
    pixels: str
    """What every metric looks at."""
    metrics: Mapping[str, str]
    """Name -> its protocol."""
    fingerprints: Mapping[str, str]
    """Picture -> a hash of the pixels that were scored, high and low resolution."""
    models: tuple[ModelReport, ...]
    pictures: int
    """That the data holds."""
    problems: tuple[Problem, ...] = ()
    """Pictures that no model was scored on."""
    left_out: tuple[Problem, ...] = ()
    """Metrics that were asked for by `all` and cannot be taken here."""
    frames: int = 0
    """Of films, that were scored; 0 for pictures."""
    originals: Scores = field(default_factory=dict)
    """What the originals of films themselves have."""
    source_error: float | None = None
    """The warping error of the sources of films, enlarged by bicubic, which `flicker` counts from."""

    @property
    def fingerprint(self) -> str:
        """Equal for equal pictures in whatever order and format."""
        return hashlib.sha256("".join(sorted(self.fingerprints.values())).encode()).hexdigest()

    @property
    def whole(self) -> bool:
        """Whether every model was scored on every picture."""
        return not self.problems and all(model.error is None for model in self.models)

    @property
    def protocol(self) -> str:
        """All of it in one line."""
        return "; ".join((self.pixels, *(f"{name}: {words}" for name, words in self.metrics.items())))
