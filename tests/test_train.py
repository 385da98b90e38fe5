"""Training: what a recipe may say, what a step sees, and that an interrupted training ends as an uninterrupted one."""

import csv
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from upscale_cli import zoo
from upscale_cli.errors import UsageError
from upscale_cli.evaluate import Pair, make_pair
from upscale_cli.manifest import load_manifest
from upscale_cli.media.resize import imresize
from upscale_cli.train import loop
from upscale_cli.train.checkpoint import Checkpoint
from upscale_cli.train.config import TrainConfig, parse_config, read_recipe
from upscale_cli.train.data import PatchSampler
from upscale_cli.train.data.sources import load_pairs
from upscale_cli.train.optimizer import orthogonal
from upscale_cli.train.verb import TrainRequest, centre, train, transfer
from upscale_cli.weights import formats
from upscale_cli.weights.loading import load_module

RECIPES = sorted((Path(loop.__file__).parent / "recipes").glob("*.toml"))
CPU = torch.device("cpu")
TINY = TrainConfig(
    variant="lightweight/x2-tiny",
    steps=40,
    batch=4,
    patch_px=16,
    learning_rate=3e-3,
    warmup_steps=5,
    precision="fp32",
    validate_every=10,
    checkpoint_every=5,
)


@pytest.fixture(scope="module")
def pairs(spices: np.ndarray) -> list[Pair]:
    return [make_pair("left.png", spices[:120, :160], 2), make_pair("right.png", spices[200:261, 300:401], 2)]


# Recipes


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lerning_rate": 1e-3}, "'lerning_rate', which is no training setting. Did you mean 'learning_rate'"),
        ({"zzz": 1}, "Known: variant, steps"),
        ({"batch": "many"}, "batch to 'many'; it must be of type int"),
        ({"batch": True}, "it must be of type int"),
        ({"batch": 1.5}, "it must be of type int"),
        ({"batch": 0}, "batch is 0; it must be at least 1"),
        ({"ema_decay": 1.0}, "must be in"),
        ({"schedule": "linear"}, "'linear'; choose from cosine, step"),
        ({"schedule": "step"}, "needs step_every"),
        ({"precision": "fp16"}, "choose from auto, fp32, bf16"),
    ],
)
def test_a_wrong_setting_is_named_with_the_way_out(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_config({"variant": "edsr/x2", "steps": 10} | values, origin="my.toml")


def test_required_settings_and_whole_numbers_for_rates() -> None:
    with pytest.raises(UsageError, match=r"my\.toml does not set steps, variant"):
        parse_config({}, origin="my.toml")
    assert parse_config({"variant": "edsr/x2", "steps": 1, "learning_rate": 1}, origin="").learning_rate == 1


def test_a_recipe_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Cannot read the recipe .*none\.toml: No such file"):
        read_recipe(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("steps = = 3")
    with pytest.raises(UsageError, match=r"bad\.toml is not valid TOML"):
        read_recipe(tmp_path / "bad.toml")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_can_run(recipe: Path) -> None:
    config = read_recipe(recipe, {"steps": 7})
    assert config.steps == 7
    variant = zoo.find(config.variant)
    assert recipe.stem == variant.name.replace("/", "-")
    if config.init:
        source = zoo.find(load_manifest().find(config.init).variant)
        assert source.architecture == variant.architecture


# The rate


def test_the_rate_rises_then_falls_along_a_cosine() -> None:
    config = TrainConfig(variant="x", steps=1001, learning_rate=1e-3, learning_rate_final=1e-5, warmup_steps=100)
    assert loop.learning_rate(config, 0) == pytest.approx(1e-5, rel=1e-3)
    assert loop.learning_rate(config, 500) == pytest.approx((1e-3 + 1e-5) / 2)
    assert loop.learning_rate(config, 250) == pytest.approx(1e-5 + 0.99e-3 * (1 + math.sqrt(0.5)) / 2)
    assert loop.learning_rate(config, 1000) == pytest.approx(1e-5)


def test_the_rate_falls_in_steps() -> None:
    config = TrainConfig(
        variant="x", steps=100, learning_rate=1.0, warmup_steps=0, schedule="step", step_every=30, step_factor=0.5
    )
    assert [loop.learning_rate(config, step) for step in (0, 29, 30, 59, 60, 99)] == [1, 1, 0.5, 0.5, 0.25, 0.125]


# What a step sees


def test_a_batch_depends_on_seed_and_step_alone(pairs: list[Pair]) -> None:
    one, other = PatchSampler(pairs, TINY, scale=2), PatchSampler(pairs, TINY, scale=2)
    other.batch(1)
    other.batch(2)
    got, expected = one.batch(3), other.batch(3)
    assert torch.equal(got.lr, expected.lr)
    assert torch.equal(got.hr, expected.hr)
    assert got.names == expected.names
    assert set(got.names) == {"left.png", "right.png"}
    assert not torch.equal(one.batch(3).lr, one.batch(4).lr)
    reseeded = PatchSampler(pairs, dataclasses.replace(TINY, seed=1), scale=2)
    assert not torch.equal(one.batch(3).lr, reseeded.batch(3).lr)


def test_several_processes_see_between_them_what_one_would(pairs: list[Pair]) -> None:
    whole = PatchSampler(pairs, TINY, scale=2).batch(7)
    for rank in range(3):
        part = PatchSampler(pairs, TINY, scale=2, rank=rank, world=3).batch(7)
        assert torch.equal(part.lr, whole.lr[rank::3])
        assert torch.equal(part.hr, whole.hr[rank::3])
        assert part.names == whole.names[rank::3]


def test_batches_are_those_steps_in_order(pairs: list[Pair]) -> None:
    sampler = PatchSampler(pairs, TINY, scale=2)
    for start, stop in ((3, 3), (3, 4), (3, 8)):
        got = list(sampler.batches(start, stop))
        assert len(got) == stop - start
        for step, batch in enumerate(got, start):
            assert torch.equal(batch.lr, sampler.batch(step).lr)
            assert torch.equal(batch.hr, sampler.batch(step).hr)


def test_low_and_high_resolution_show_the_same_place(pairs: list[Pair]) -> None:
    batch = PatchSampler(pairs, TINY, scale=2).batch(0)
    lr, hr = batch.lr, batch.hr
    assert (lr.shape, hr.shape) == ((4, 3, 16, 16), (4, 3, 32, 32))
    assert lr.is_contiguous(memory_format=torch.channels_last)
    for small, large in zip(lr, hr, strict=True):
        again = imresize(large.permute(1, 2, 0).numpy(), 16, 16).astype(int)
        # Inside, where the patch's own border is out of the kernel's reach; a turned patch rounds in another order.
        assert np.abs(again - small.permute(1, 2, 0).numpy())[2:-2, 2:-2].max() <= 3


def test_small_photographs_are_left_out(tmp_path: Path, spices: np.ndarray) -> None:
    Image.fromarray(spices[:64, :64]).save(tmp_path / "large.png")
    Image.fromarray(spices[:63, :64]).save(tmp_path / "small.png")
    files = [tmp_path / "large.png", tmp_path / "small.png"]
    assert [pair.name for pair in load_pairs(files, scale=2, smallest_px=32)] == ["large.png"]
    with pytest.raises(UsageError, match="a patch needs 128 x 128 pixels"):
        load_pairs(files, scale=2, smallest_px=64)


# The loop


def trainer(config: TrainConfig) -> loop.Trainer:
    torch.manual_seed(config.seed)
    return loop.Trainer(config, zoo.find(config.variant).build(), device=CPU)


def loss_on(pair: Pair, variant: str = TINY.variant) -> Callable[[dict[str, Tensor]], float]:
    """A stand-in for validation that is quick: the negated L1 loss of one pair."""

    def validate(weights: dict[str, Tensor]) -> float:
        module = zoo.find(variant).build()
        module.load_state_dict(weights)
        lr, hr = (torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255 for image in (pair.lr, pair.hr))
        with torch.no_grad():
            return -float((module(lr) - hr).abs().mean())

    return validate


MUON = dataclasses.replace(TINY, variant="lightweight/x2", optimizer="muon", batch=2)


@pytest.mark.parametrize("base", [TINY, MUON], ids=lambda config: config.optimizer)
def test_training_lowers_the_loss_and_says_so(base: TrainConfig, pairs: list[Pair], tmp_path: Path) -> None:
    told: list[loop.Progress] = []
    config = dataclasses.replace(base, steps=80, validate_every=20, learning_rate=1e-2)
    own = trainer(config)
    validate = loss_on(pairs[1], config.variant)
    before = validate(own.average)
    loop.run(own, PatchSampler(pairs, config, scale=2), validate, folder=tmp_path, watch=[told.append])
    assert [progress.step for progress in told] == [20, 40, 50, 60, 80]
    assert told[-1].loss < 0.85 * told[0].loss
    assert -own.best_psnr < 0.9 * -before, "the moving average follows"
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [20, 40, 50, 60, 80]
    assert float(rows[-1]["loss"]) == pytest.approx(told[-1].loss)


def test_muon_evens_out_the_spectrum_of_a_step() -> None:
    torch.manual_seed(0)
    for rows, columns in ((16, 144), (144, 16), (32, 32)):
        matrices = torch.randn(3, rows, columns) * torch.tensor([1e-4, 1.0, 1e4])[:, None, None]
        values = torch.linalg.svdvals(orthogonal(matrices, torch.float32))
        assert values.median() == pytest.approx(1, abs=0.3)
        assert values.max() < 1.3
        # The directions stay: a step never goes against its gradient.
        assert ((orthogonal(matrices, torch.float32) * matrices).sum((1, 2)) > 0).all()


@pytest.mark.parametrize("base", [TINY, MUON], ids=lambda config: config.optimizer)
def test_an_interrupted_training_ends_with_the_same_bits(base: TrainConfig, pairs: list[Pair], tmp_path: Path) -> None:
    config = dataclasses.replace(base, steps=30, validate_every=7, checkpoint_every=10)
    sampler, validate = PatchSampler(pairs, config, scale=2), loss_on(pairs[1], config.variant)
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    whole = trainer(config)
    loop.run(whole, sampler, validate, folder=tmp_path / "whole")

    broken = trainer(config)

    def interrupt(weights: dict[str, Tensor]) -> float:
        if broken.step == 28:
            raise KeyboardInterrupt
        return validate(weights)

    with pytest.raises(KeyboardInterrupt):
        loop.run(broken, sampler, interrupt, folder=tmp_path / "broken")
    torch.manual_seed(99)  # the start does not matter to what goes on
    resumed = loop.Trainer(config, zoo.find(config.variant).build(), device=CPU)
    resumed.restore(Checkpoint.load(tmp_path / "broken" / "checkpoint.pt", config))
    assert resumed.step == 20, "what came after the last checkpoint is lost"
    loop.run(resumed, sampler, validate, folder=tmp_path / "broken")

    for name, value in whole.module.state_dict().items():
        assert torch.equal(resumed.module.state_dict()[name], value)
        assert torch.equal(resumed.average[name], whole.average[name])
        assert torch.equal(resumed.best[name], whole.best[name])
    assert (resumed.best_psnr, resumed.best_step) == (whole.best_psnr, whole.best_step)
    for folder in ("whole", "broken"):
        with (tmp_path / folder / "history.csv").open(newline="") as file:
            assert [int(row["step"]) for row in csv.DictReader(file)] == [7, 14, 21, 28, 30], "no step twice"
    assert not list(tmp_path.rglob("*.part"))


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    trainer(TINY).checkpoint().save(path)
    assert Checkpoint.load(path, TINY).step == 0
    with pytest.raises(UsageError, match=r"other settings \(batch: 4 -> 8, seed: 0 -> 1\)"):
        Checkpoint.load(path, dataclasses.replace(TINY, batch=8, seed=1))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UsageError, match="no usable checkpoint"):
        Checkpoint.load(path, TINY)


# The verb


def test_transfer_copies_what_fits(tmp_path: Path) -> None:
    other = zoo.find("lightweight/x2").build()
    formats.save(tmp_path / "x2.safetensors", other.state_dict(), {"variant": "lightweight/x2"})
    module = zoo.find("lightweight/x3").build()
    tail = module.state_dict()["tail.weight"].clone()
    assert transfer(module, str(tmp_path / "x2.safetensors")) == len(module.state_dict()) - 2
    for name, value in module.state_dict().items():
        if not name.startswith("tail"):
            assert torch.equal(value, other.state_dict()[name])
    assert torch.equal(module.state_dict()["tail.weight"], tail)
    with pytest.raises(UsageError, match="shares no tensor"):
        transfer(zoo.find("edsr/x2-tiny").build(), str(tmp_path / "x2.safetensors"))


def test_validation_takes_the_centre() -> None:
    hr = np.arange(1000 * 600 * 3, dtype=np.uint32).astype(np.uint8).reshape(1000, 600, 3)
    cut = centre(Pair("a", hr, hr[::4, ::4]), 4)
    assert (cut.lr.shape, cut.hr.shape) == ((96, 96, 3), (384, 384, 3))
    assert np.array_equal(cut.hr[::4, ::4], cut.lr)
    assert centre(Pair("a", hr[:80, :80], hr[:20, :20]), 4).lr.shape == (20, 20, 3)


def test_train_writes_weights_that_upscale_can_use(tmp_path: Path, spices: np.ndarray) -> None:
    for name, cut in (("data", spices[:200, :200]), ("valid", spices[220:300, 400:500])):
        (tmp_path / name).mkdir()
        Image.fromarray(cut).save(tmp_path / name / "photo.png")
    config = dataclasses.replace(TINY, steps=12)
    request = TrainRequest(
        config=config,
        data=(str(tmp_path / "data"),),
        valid=(str(tmp_path / "valid"),),
        folder=tmp_path / "out",
        device="cpu",
    )
    report = train(request)
    assert report.weights == tmp_path / "out" / "weights.safetensors"
    assert (report.variant, report.steps, report.best_step) == (TINY.variant, 12, 12)
    assert 15 < report.scores.psnr_y < 45
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "weights.safetensors",
        "checkpoint.pt",
        "history.csv",
    }
    name, variant, module = load_module(report.weights, None)
    assert (name, variant.name) == ("weights", TINY.variant)
    saved = Checkpoint.load(tmp_path / "out" / "checkpoint.pt", config)
    assert torch.equal(module.state_dict()["head.weight"], saved.best["head.weight"])

    with pytest.raises(UsageError, match=r"holds a training already. Go on with --resume"):
        train(request)
    again = train(dataclasses.replace(request, resume=True))
    assert again.scores == report.scores


def test_train_without_photographs(tmp_path: Path) -> None:
    request = TrainRequest(config=TINY, data=(str(tmp_path),), valid=(str(tmp_path),), folder=tmp_path / "out")
    with pytest.raises(UsageError, match="holds no photographs"):
        train(request)
    assert not (tmp_path / "out").exists()
