"""What the weights of a training are worth on pictures that it does not see, by the metrics of `upscale eval`."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from upscale_cli.engines.eager import EagerEngine
from upscale_cli.errors import UsageError, WeightsError
from upscale_cli.evaluate import ImageScore, Pair, Pixels
from upscale_cli.metrics.catalog import Needs, choose
from upscale_cli.metrics.protocol import Comparison, Protocol, Scores
from upscale_cli.model import Model
from upscale_cli.pipeline import Upscaler
from upscale_cli.train.config import TrainConfig
from upscale_cli.zoo import Variant

VALID_SIDE_PX = 384  # side of the centre cut of each validation photograph, in HR pixels
SAMPLES = 3
"""Pictures that are shown of the best, and of the worst."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A validation picture as some weights make it."""

    name: str
    scores: Scores
    lr: Pixels
    sr: Pixels
    hr: Pixels


@dataclass(frozen=True, slots=True)
class Verdict:
    """What weights are worth on whole pictures."""

    scores: Scores
    images: tuple[ImageScore, ...]
    best: tuple[Sample, ...]
    """By the first metric there is of SSIM and the others: the best first."""
    worst: tuple[Sample, ...]
    """The worst first, none that is among the best."""


class Validation:
    """The pictures, and the metrics that a configuration names."""

    def __init__(self, config: TrainConfig, variant: Variant, pairs: Sequence[Pair], device: torch.device) -> None:
        """UsageError for a metric whose weights cannot be had."""
        self._variant, self._pairs, self._device = variant, pairs, device
        self._centres = [pair if config.whole else centre(pair, variant.scale) for pair in pairs]
        self._metrics = choose(config.metrics)
        try:
            self._open = {metric.name: metric.open(Needs(device=str(device))) for metric in self._metrics if pairs}
        except WeightsError as error:
            raise UsageError(f"The setting metrics names one that cannot be taken: {error}") from error

    @property
    def protocol(self) -> str:
        """How the metrics are taken."""
        common = str(Protocol(crop_border=self._variant.scale))
        return "; ".join((common, *(f"{metric.title}: {metric.protocol}" for metric in self._metrics)))

    def score(self, weights: dict[str, Tensor]) -> Scores | None:
        """On the middle of each picture, or on the whole where that is trained on; None where there are none."""
        return self._judge(self._upscaler(weights, "auto"), self._centres)[0] if self._centres else None

    def judge(self, weights: dict[str, Tensor]) -> Verdict | None:
        """On whole pictures in fp32, as `upscale eval` takes them; None where there are none."""
        if not self._pairs:
            return None
        upscaler = self._upscaler(weights, "fp32")
        scores, images = self._judge(upscaler, self._pairs)
        by = next((metric for metric in self._metrics if metric.name == "ssim_y"), self._metrics[0])
        sign = -1 if by.higher_is_better else 1
        order = sorted(range(len(images)), key=lambda place: sign * images[place].scores[by.name])
        some = min(SAMPLES, -(-len(order) // 2))

        def samples(places: list[int]) -> tuple[Sample, ...]:
            pairs = [(self._pairs[place], images[place].scores) for place in places]
            return tuple(Sample(p.name, found, p.lr, upscaler.enlarge_rgb8(p.lr), p.hr) for p, found in pairs)

        return Verdict(scores, images, samples(order[:some]), samples(order[some:][: -SAMPLES - 1 : -1]))

    def _upscaler(self, weights: dict[str, Tensor], precision: str) -> Upscaler:
        module = self._variant.build()
        module.load_state_dict({key: value.cpu() for key, value in weights.items()})
        name = self._variant.name
        return Upscaler([EagerEngine(Model(name, self._variant, module, device=self._device, precision=precision))])

    def _judge(self, upscaler: Upscaler, pairs: Sequence[Pair]) -> tuple[Scores, tuple[ImageScore, ...]]:
        protocol = Protocol(crop_border=upscaler.scale)
        gauges = {name: make() for name, make in self._open.items()}
        images = []
        for pair in pairs:
            sr = upscaler.enlarge_rgb8(pair.lr)
            pictures = Comparison(protocol.inside(sr), protocol.inside(pair.hr))
            images.append(ImageScore(pair.name, {name: gauge.look(pictures) for name, gauge in gauges.items()}))
        return {name: gauge.result() for name, gauge in gauges.items()}, tuple(images)


def centre(pair: Pair, scale: int) -> Pair:
    """The middle of a pair: validating on all of every photograph would take as long as training."""
    side = VALID_SIDE_PX // scale
    height, width = pair.lr.shape[:2]
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    lr = pair.lr[top : top + side, left : left + side]
    hr = pair.hr[top * scale : (top + side) * scale, left * scale : (left + side) * scale]
    return Pair(pair.name, hr, lr)
