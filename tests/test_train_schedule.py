"""The learning rate and the end of a training: as torch's schedulers have them, and as nothing but numbers decide."""

import math

import pytest
import torch
from torch.optim import lr_scheduler

from upscale_cli.errors import UsageError
from upscale_cli.train import schedule
from upscale_cli.train.config import TrainConfig


def config(**settings: object) -> TrainConfig:
    return TrainConfig(**({"variant": "x", "steps": 100, "warmup_steps": 0} | settings))  # type: ignore[arg-type]


def optimizer(rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=rate)


def rates(scheduler: lr_scheduler.LRScheduler, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return found


def test_the_rate_rises_then_falls_along_a_cosine() -> None:
    one = config(steps=1001, learning_rate=1e-3, learning_rate_final=1e-5, warmup_steps=100)
    assert schedule.learning_rate(one, 0) == pytest.approx(1e-5, rel=1e-3)
    assert schedule.learning_rate(one, 500) == pytest.approx((1e-3 + 1e-5) / 2)
    assert schedule.learning_rate(one, 250) == pytest.approx(1e-5 + 0.99e-3 * (1 + math.sqrt(0.5)) / 2)
    assert schedule.learning_rate(one, 1000) == pytest.approx(1e-5)


def test_the_line_falls_from_the_middle_on() -> None:
    one = config(learning_rate=2e-4, learning_rate_final=0.0, schedule="linear")
    # CycleGAN's, by epochs: 1 - max(0, epoch - 50) / 50
    expected = rates(lr_scheduler.LambdaLR(optimizer(2e-4), lambda epoch: 1 - max(0, epoch - 50) / 50), 100)
    assert [schedule.learning_rate(one, step) for step in range(100)] == pytest.approx(expected)


def test_steps_are_those_of_steplr() -> None:
    one = config(learning_rate=0.8, schedule="step", step_every=30, step_factor=0.5)
    expected = rates(lr_scheduler.StepLR(optimizer(0.8), 30, 0.5), 100)
    assert [schedule.learning_rate(one, step) for step in range(100)] == pytest.approx(expected, rel=1e-12)


def test_milestones_are_those_of_multisteplr() -> None:
    one = config(learning_rate=0.8, schedule="multistep", milestones=(20, 50, 90), step_factor=0.1)
    expected = rates(lr_scheduler.MultiStepLR(optimizer(0.8), [20, 50, 90], 0.1), 100)
    assert [schedule.learning_rate(one, step) for step in range(100)] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("best_by", "mode"), [("psnr_y", "max"), ("loss", "min")])
def test_the_plateau_is_that_of_reducelronplateau(best_by: str, mode: str) -> None:
    one = config(
        learning_rate=1.0, schedule="plateau", patience=2, step_factor=0.5, learning_rate_final=0.1, best_by=best_by
    )
    peer = lr_scheduler.ReduceLROnPlateau(optimizer(1.0), mode, factor=0.5, patience=2, min_lr=0.1)  # type: ignore[arg-type]
    draw = torch.Generator().manual_seed(0)
    # Values that move less and less, some of them by less than counts.
    values = [25 + 3 * float(torch.randn(1, generator=draw)) / (1 + n) for n in range(60)]
    values[10] = max(values[:10]) * (1 + 1e-5)
    seen = set()
    for count in range(1, len(values) + 1):
        peer.step(values[count - 1])
        rate = schedule.learning_rate(one, 5, values[:count])
        assert rate == pytest.approx(peer.optimizer.param_groups[0]["lr"], rel=1e-12)
        seen.add(round(rate, 6))
    assert len(seen) > 3, "the rate dropped again and again"


def test_warm_up_comes_before_any_schedule() -> None:
    one = config(learning_rate=1.0, schedule="constant", warmup_steps=4)
    assert [schedule.learning_rate(one, step) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_a_training_ends_after_so_many_validations_without_a_better_one() -> None:
    one = config(stop_after=2)
    assert not schedule.is_over(one, [30.0])
    assert not schedule.is_over(one, [30.0, 29.0])
    assert schedule.is_over(one, [30.0, 29.0, 30.0]), "an equal one is no better"
    assert not schedule.is_over(one, [30.0, 29.0, 30.1, 30.0])
    assert schedule.is_over(config(stop_after=1, best_by="loss"), [0.1, 0.2])
    assert not schedule.is_over(config(), [30.0] * 50)


def test_the_last_weights_are_the_best_where_no_score_decides() -> None:
    last = config(best_by="last")
    assert schedule.best_index(last, [0.1, 0.3, 0.2]) == 2
    for other in ({"schedule": "plateau"}, {"stop_after": 3}):
        with pytest.raises(UsageError, match="With best_by 'last' nothing gets worse"):
            config(best_by="last", **other)
