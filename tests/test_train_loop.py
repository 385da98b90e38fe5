"""The loop: that steps train, that an interrupted training ends as an uninterrupted one, and what stops one."""

import csv
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import ALONE, TINY, assert_same, trainer, weights_of
from torch import Tensor, nn

from upscale_cli import zoo
from upscale_cli.errors import TrainingError, UsageError
from upscale_cli.evaluate import Pair, make_pair
from upscale_cli.metrics.protocol import Scores
from upscale_cli.train import loop
from upscale_cli.train.checkpoint import Checkpoint
from upscale_cli.train.config import TrainConfig, read_recipe
from upscale_cli.train.data import Batch, PatchSampler
from upscale_cli.train.history import History, Progress, read
from upscale_cli.train.method import Method, Phase
from upscale_cli.train.methods.objective import Objective
from upscale_cli.train.methods.supervised import Supervised
from upscale_cli.train.optimizer import orthogonal
from upscale_cli.train.trainer import Trainer

MUON = dataclasses.replace(TINY, variant="lightweight/x2", optimizer="muon", batch=2)


@pytest.fixture(scope="module")
def pairs(spices: np.ndarray) -> list[Pair]:
    return [make_pair("left.png", spices[:120, :160], 2), make_pair("right.png", spices[200:261, 300:401], 2)]


def loss_on(pair: Pair, variant: str = TINY.variant) -> Callable[[dict[str, Tensor]], Scores]:
    """A stand-in for validation that is quick: the negated L1 loss of one pair."""

    def validate(weights: dict[str, Tensor]) -> Scores:
        module = zoo.find(variant).build()
        module.load_state_dict(weights)
        lr, hr = (torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255 for image in (pair.lr, pair.hr))
        with torch.no_grad():
            return {"psnr_y": -float((module(lr) - hr).abs().mean()), "ssim_y": 0.5, "psnr_rgb": 20.0}

    return validate


# Steps


@pytest.mark.parametrize("base", [TINY, MUON], ids=lambda config: config.optimizer)
def test_training_lowers_the_loss_and_says_so(base: TrainConfig, pairs: list[Pair], tmp_path: Path) -> None:
    told: list[Progress] = []
    config = dataclasses.replace(base, steps=80, validate_every=20, checkpoint_every=40, learning_rate=1e-2)
    own = trainer(config)
    validate = loss_on(pairs[1], config.variant)
    before = validate(own.average)["psnr_y"]
    loop.run(own, PatchSampler(pairs, config, scale=2), validate, folder=tmp_path, rows=[told.append])
    assert [progress.step for progress in told] == [20, 40, 50, 60, 80]
    assert told[-1].loss < 0.85 * told[0].loss
    assert own.validations[-1] > 0.9 * before, "the moving average follows"
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [20, 40, 50, 60, 80]
    assert float(rows[-1]["loss"]) == told[-1].loss == float(rows[-1]["loss_l1"])
    assert rows[2]["psnr_y"] == "", "step 50 was not validated"
    assert 0 <= told[-1].loader_share < 1


@pytest.mark.parametrize(
    ("recipe", "losses", "weight"),
    [
        (
            "lightweight-x2",
            [0.0785588, 0.0804537, 0.0665148, 0.0561664, 0.0777958, 0.0585166, 0.064618, 0.0957711],
            1317.2837860885436,
        ),
        (
            "edsr-x2",
            [0.2378997, 0.1975731, 0.2223306, 0.2002649, 0.1552119, 0.1385936, 0.1459743, 0.1379519],
            28689.836398227795,
        ),
    ],
)
def test_recipes_take_the_steps_they_always_took(
    recipe: str, losses: list[float], weight: float, pairs: list[Pair]
) -> None:
    """Measured before the loop knew of phases."""
    small = {"precision": "fp32", "batch": 2, "patch_px": 16, "steps": 8, "warmup_steps": 2}
    config = read_recipe(Path(loop.__file__).parent / "recipes" / f"{recipe}.toml", small)
    own, sampler = trainer(config), PatchSampler(pairs, config, scale=2)
    found = [float(own.train_step(batch.lr, batch.hr)["l1"]) for batch in sampler.batches(0, 8)]
    assert found == pytest.approx(losses, rel=1e-5)
    assert sum(float(value.double().abs().sum()) for value in own.average.values()) == pytest.approx(weight, rel=1e-6)


def test_muon_evens_out_the_spectrum_of_a_step() -> None:
    torch.manual_seed(0)
    for rows, columns in ((16, 144), (144, 16), (32, 32)):
        matrices = torch.randn(3, rows, columns) * torch.tensor([1e-4, 1.0, 1e4])[:, None, None]
        values = torch.linalg.svdvals(orthogonal(matrices, torch.float32))
        assert values.median() == pytest.approx(1, abs=0.3)
        assert values.max() < 1.3
        # The directions stay: a step never goes against its gradient.
        assert ((orthogonal(matrices, torch.float32) * matrices).sum((1, 2)) > 0).all()


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        ({"accumulate": 4}, 1e-5),
        ({"channels_last": False}, 1e-4),
        ({"precision": "bf16"}, 0.05),
        ({"precision": "fp16"}, 0.02),
        ({"optimizer": "adamw", "weight_decay": 0.0}, 0.0),
    ],
    ids=str,
)
def test_other_ways_to_compute_a_step_lead_to_the_same_weights(
    settings: dict[str, object], tolerance: float, pairs: list[Pair]
) -> None:
    weights, losses = [], []
    for config in (TINY, dataclasses.replace(TINY, **settings)):
        own = trainer(config)
        batches = PatchSampler(pairs, config, scale=2).batches(0, 10)
        losses.append([float(own.train_step(batch.lr, batch.hr)["loss"]) for batch in batches])
        weights.append(torch.cat([value.flatten() for value in own.generator.state_dict().values()]))
    assert losses[1] == pytest.approx(losses[0], rel=max(tolerance, 1e-6))
    assert float((weights[0] - weights[1]).norm() / weights[0].norm()) <= max(tolerance, 1e-6)


def test_weight_decay_shrinks_weights_and_a_clipped_gradient_is_short(pairs: list[Pair]) -> None:
    sums = {}
    for name, settings in (
        ("plain", {}),
        ("decayed", {"optimizer": "adamw", "weight_decay": 1.0}),
        ("clipped", {"clip_norm": 1e-3}),
    ):
        own = trainer(dataclasses.replace(TINY, **settings))
        for batch in PatchSampler(pairs, TINY, scale=2).batches(0, 5):
            own.train_step(batch.lr, batch.hr)
        sums[name] = sum(float(value.abs().sum()) for value in own.generator.state_dict().values())
        norm = float(
            torch.stack([value.grad.norm() for value in own.generator.parameters() if value.grad is not None]).norm()
        )
        assert (norm <= 1.001e-3) == (name == "clipped")
    assert sums["decayed"] < sums["plain"]


def test_frozen_layers_keep_their_weights(pairs: list[Pair]) -> None:
    config = dataclasses.replace(TINY, freeze=("head", "body.0"))
    own = trainer(config)
    before = weights_of(own)
    for batch in PatchSampler(pairs, config, scale=2).batches(0, 3):
        own.train_step(batch.lr, batch.hr)
    moved = {name for name, value in weights_of(own).items() if not torch.equal(value, before[name])}
    assert moved
    assert moved == {name for name in before if not name.startswith(("generator.head.", "generator.body.0."))}
    with pytest.raises(UsageError, match="freeze names 'haed', which is no layer of this network"):
        trainer(dataclasses.replace(TINY, freeze=("haed",)))
    layers = {name.partition(".")[0] for name, _ in own.generator.named_parameters()}
    with pytest.raises(UsageError, match="leaves nothing"):
        trainer(dataclasses.replace(TINY, freeze=tuple(layers)))


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(UsageError, match=r"A batch of 4 cannot be divided evenly among 1 process\(es\) in 3 part"):
        trainer(dataclasses.replace(TINY, accumulate=3))


class Pretender(Supervised):
    """Two networks that work against each other, by phases, and remember a number from step to step."""

    def __init__(self) -> None:
        super().__init__(zoo.find(TINY.variant), zoo.find(TINY.variant).build(), Objective({"l1": 1.0}))
        self.networks["critic"] = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.Conv2d(4, 1, 3))
        self.networks["critic"].register_buffer("seen", torch.zeros(()))
        self.phases = (
            Phase("generator", ("generator",), self._fool),
            Phase("critic", ("critic",), self._tell_apart),
        )

    def _fool(self, lr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        sr = self.networks["generator"](lr)
        return {"l1": (sr - hr).abs().mean(), "gan": -0.1 * self.networks["critic"](sr).mean()}

    def _tell_apart(self, lr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        critic = self.networks["critic"]
        critic.seen += 1
        sr = self.networks["generator"](lr).detach()
        return {"critic": critic(sr).square().mean() + (critic(hr) - 1).square().mean()}


def test_each_phase_moves_its_own_networks_alone(pairs: list[Pair]) -> None:
    method = Pretender()
    first, _ = method.phases
    method.phases = (first,)
    own = Trainer(TINY, method, ALONE)
    before = weights_of(own)
    batch = PatchSampler(pairs, TINY, scale=2).batch(0)
    losses = own.train_step(batch.lr, batch.hr)
    assert losses.keys() == {"loss", "l1", "gan"}
    assert float(losses["loss"]) == pytest.approx(float(losses["l1"] + losses["gan"]))
    moved = {name.partition(".")[0] for name, value in weights_of(own).items() if not torch.equal(value, before[name])}
    assert moved == {"generator"}

    both = Trainer(TINY, Pretender(), ALONE)
    losses = both.train_step(batch.lr, batch.hr)
    assert float(losses["loss"]) == pytest.approx(float(losses["l1"] + losses["gan"])), "the critic's is none of it"
    assert "critic" in losses


# Resuming


def run_through(make: Callable[[], Trainer], sampler: PatchSampler, validate: loop.Validate, folder: Path) -> Trainer:
    folder.mkdir()
    whole = make()
    loop.run(whole, sampler, validate, folder=folder)
    return whole


def make_pretender() -> Trainer:
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, steps=30, validate_every=7, checkpoint_every=10, schedule="plateau", patience=1)
    return Trainer(config, Pretender(), ALONE)


def make_plain(base: TrainConfig) -> Callable[[], Trainer]:
    return lambda: trainer(dataclasses.replace(base, steps=30, validate_every=7, checkpoint_every=10))


@pytest.mark.parametrize(
    "make",
    [make_plain(TINY), make_plain(MUON), make_plain(dataclasses.replace(TINY, precision="fp16")), make_pretender],
    ids=["adam", "muon", "fp16", "two networks, dropout and a plateau"],
)
def test_an_interrupted_training_ends_with_the_same_bits(
    make: Callable[[], Trainer], pairs: list[Pair], tmp_path: Path
) -> None:
    broken = make()
    config = broken.config
    sampler, validate = PatchSampler(pairs, config, scale=2), loss_on(pairs[1], config.variant)
    whole = run_through(make, sampler, validate, tmp_path / "whole")
    (tmp_path / "broken").mkdir()

    def interrupt(weights: dict[str, Tensor]) -> Scores:
        if broken.step == 28:
            raise KeyboardInterrupt
        return validate(weights)

    with pytest.raises(KeyboardInterrupt):
        loop.run(broken, sampler, interrupt, folder=tmp_path / "broken")
    resumed = make()
    resumed.restore(Checkpoint.load(tmp_path / "broken" / "checkpoint.pt", config))
    assert resumed.step == 20, "what came after the last checkpoint is lost"
    torch.manual_seed(99)  # what was drawn before does not matter to what goes on
    loop.run(resumed, sampler, validate, folder=tmp_path / "broken")

    assert_same(weights_of(resumed), weights_of(whole))
    assert_same(resumed.average, whole.average)
    assert_same(resumed.best, whole.best)
    assert (resumed.validations, resumed.best_step) == (whole.validations, whole.best_step)
    curves = [
        [(row["step"], row["loss"], row["learning_rate"], row.get("psnr_y")) for row in read(tmp_path / folder)]
        for folder in ("whole", "broken")
    ]
    assert curves[0] == curves[1], "the same loss curve, to the last digit"
    assert [row[0] for row in curves[0]] == [7, 10, 14, 20, 21, 28, 30], "no step twice"
    assert not list(tmp_path.rglob("*.part"))


def test_a_row_that_was_being_written_is_forgotten(tmp_path: Path) -> None:
    head = "step,loss\n"
    (tmp_path / "history.csv").write_text(head + "50,0.1\n100,0.2\n150,0.3\n15")
    History(tmp_path, ()).forget_after(100)
    assert (tmp_path / "history.csv").read_text() == head + "50,0.1\n100,0.2\n"


# What goes wrong


def test_early_stop_ends_with_the_best_weights_kept(pairs: list[Pair], tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, validate_every=2, stop_after=3, best_by="ssim_y")
    values = iter([0.5, 0.8, 0.7, 0.8, 0.6, 0.9])
    own = trainer(config)

    def validate(weights: dict[str, Tensor]) -> Scores:
        return {"psnr_y": 20.0, "ssim_y": next(values), "psnr_rgb": 20.0}

    loop.run(own, PatchSampler(pairs, config, scale=2), validate, folder=tmp_path)
    assert (own.step, own.best_step) == (10, 4)
    resumed = trainer(config)
    resumed.restore(Checkpoint.load(tmp_path / "checkpoint.pt", config))
    assert resumed.done, "a training that ended is not taken up again"


def test_the_best_may_be_chosen_by_the_loss(pairs: list[Pair], tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, best_by="loss", validate_every=4, checkpoint_every=2, steps=8)
    own = trainer(config)
    loop.run(own, PatchSampler(pairs, config, scale=2), lambda _: None, folder=tmp_path)
    rows = {row["step"]: row["loss"] for row in read(tmp_path)}
    assert own.validations == pytest.approx([(rows[2] + rows[4]) / 2, (rows[6] + rows[8]) / 2])


class Poisoned(PatchSampler):
    """Its batches are sound; what happens to the network at a step is not."""

    def __init__(self, pairs: list[Pair], own: Trainer, at: int) -> None:
        super().__init__(pairs, own.config, scale=2)
        self._own, self._at = own, at

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        for step in range(start, stop):
            if step == self._at:
                with torch.no_grad():
                    next(self._own.generator.parameters()).fill_(torch.nan)
            yield self.batch(step)


def test_a_loss_that_is_no_number_stops_with_step_files_and_checkpoint(pairs: list[Pair], tmp_path: Path) -> None:
    own = trainer(TINY)
    with pytest.raises(TrainingError) as caught:
        loop.run(own, Poisoned(pairs, own, 13), loss_on(pairs[1]), folder=tmp_path)
    files = ", ".join(sorted(set(PatchSampler(pairs, TINY, scale=2).batch(13).names)))
    assert str(caught.value).startswith(
        f"The loss is no number at step 14: loss nan, l1 nan. The batch was cut from {files}. "
    )
    assert f'start anew with init = "{tmp_path}/checkpoint.pt", the last good checkpoint, and a' in str(caught.value)
    saved = Checkpoint.load(tmp_path / "checkpoint.pt", TINY)
    assert saved.step == 10
    assert all(bool(value.isfinite().all()) for value in saved.networks.values())
    assert [row["step"] for row in read(tmp_path)] == [5, 10]


def test_weights_that_are_no_numbers_are_never_saved(pairs: list[Pair], tmp_path: Path) -> None:
    class Vanishing(Supervised):
        """Its loss is a number when its gradient is none: as the root has at 0."""

        def _loss(self, lr: Tensor, hr: Tensor) -> dict[str, Tensor]:
            sr = self.networks["generator"](lr)
            return {"root": ((sr - sr.detach()).square().sum()).sqrt()}

    torch.manual_seed(0)
    config = dataclasses.replace(TINY, checkpoint_every=1)
    method: Method = Vanishing(zoo.find(TINY.variant), zoo.find(TINY.variant).build(), Objective({"l1": 1.0}))
    own = Trainer(config, method, ALONE)
    with pytest.raises(TrainingError, match="no number at step 1: the weights are no numbers any more"):
        loop.run(own, PatchSampler(pairs, config, scale=2), loss_on(pairs[1]), folder=tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()
