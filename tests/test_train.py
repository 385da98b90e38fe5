"""Training: what a recipe may say, what a step sees, and that an interrupted training ends as an uninterrupted one."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from tiny_training import TINY, assert_same

from upscale_cli import zoo
from upscale_cli.errors import OutputError, UsageError
from upscale_cli.evaluate import Pair, make_pair
from upscale_cli.media.resize import imresize
from upscale_cli.train import loop
from upscale_cli.train.checkpoint import Checkpoint
from upscale_cli.train.config import as_toml, parse_config, read_recipe
from upscale_cli.train.data import PatchSampler
from upscale_cli.train.history import Progress
from upscale_cli.train.validation import centre
from upscale_cli.train.verb import TrainRequest, train, transfer
from upscale_cli.weights import formats
from upscale_cli.weights.loading import load_module

RECIPES = sorted((Path(loop.__file__).parent / "recipes").glob("*.toml"))
CPU = torch.device("cpu")


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
        ({"best_by": "fid"}, "best_by is 'fid'; choose from loss, last, psnr_y, ssim_y, psnr_rgb"),
        ({"metrics": ["psnr"]}, "There is no metric 'psnr'. Did you mean psnr_"),
        ({"ema_decay": 1.0}, "must be in"),
        ({"schedule": "cubic"}, "'cubic'; choose from cosine, step, multistep, plateau, linear, constant"),
        ({"schedule": "step"}, "needs step_every"),
        ({"precision": "fp8"}, "choose from auto, fp32, bf16, fp16"),
        ({"compile": 1}, "compile to 1; it must be of type bool"),
        ({"milestones": [10, 2.5]}, r"milestones to \[10, 2.5\]; it must be a list of type int"),
        ({"freeze": "head"}, "freeze to 'head'; it must be a list of type str"),
        ({"schedule": "multistep"}, "needs milestones"),
        ({"learning_rate": -1}, "must be above 0"),
        ({"clip_norm": -1}, "must not be negative"),
        ({"optimizer": "muon", "weight_decay": 0.1}, "'muon' has no weight_decay"),
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


def test_a_configuration_is_written_as_a_recipe_that_gives_it_again(tmp_path: Path) -> None:
    config = dataclasses.replace(
        TINY, milestones=(3, 7), schedule="multistep", freeze=("head",), init='a "b"\\c', compile=True
    )
    (tmp_path / "again.toml").write_text(as_toml(config), "utf-8")
    assert read_recipe(tmp_path / "again.toml") == config


def test_epochs_are_steps_between_validations(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('variant = "edsr/x2"\nsteps = 10\nvalidate_every = 200\n')
    assert read_recipe(tmp_path / "a.toml", {"epochs": 3}).steps == 600
    with pytest.raises(UsageError, match="steps and epochs cannot both"):
        read_recipe(tmp_path / "a.toml", {"epochs": 3, "steps": 5})


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
    assert report
    assert report.weights == tmp_path / "out" / "weights.safetensors"
    assert (report.facts.variant, report.facts.steps, report.facts.best_step) == (TINY.variant, 12, 12)
    assert report.facts.scores
    assert 15 < report.facts.scores["psnr_y"] < 45
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
    assert again
    assert again.facts.scores == report.facts.scores


def test_an_output_that_cannot_be_a_folder(tmp_path: Path, spices: np.ndarray) -> None:
    (tmp_path / "data").mkdir()
    Image.fromarray(spices[:80, :80]).save(tmp_path / "data" / "a.png")
    (tmp_path / "file").touch()
    shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "data")
    for data in ("data", "a.zip"):
        words = (str(tmp_path / data),)
        for folder in (tmp_path / "file", tmp_path / "file" / "out"):
            request = TrainRequest(config=TINY, data=words, valid=words, folder=folder, device="cpu")
            with pytest.raises(OutputError, match=r"file.* cannot be written to: .*\. Choose another -o"):
                train(request)


@pytest.mark.parametrize("validate_every", [4, 50])
def test_a_stopped_training_is_finished_where_its_checkpoint_is(
    validate_every: int, tmp_path: Path, spices: np.ndarray
) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 13:
            raise KeyboardInterrupt

    (tmp_path / "data").mkdir()
    Image.fromarray(spices[:80, :80]).save(tmp_path / "data" / "a.png")
    data = (str(tmp_path / "data"),)
    config = dataclasses.replace(TINY, validate_every=validate_every)
    request = TrainRequest(config=config, data=data, valid=data, folder=tmp_path / "run", device="cpu")
    with pytest.raises(UsageError, match=r"run holds no checkpoint to finish at"):
        train(dataclasses.replace(request, finish=True))
    with pytest.raises(KeyboardInterrupt):
        train(request, watch=[stop])
    before = Checkpoint.load(tmp_path / "run" / "checkpoint.pt", config)

    report = train(dataclasses.replace(request, finish=True))
    assert report
    validated = bool(before.validations)
    assert validated == (validate_every == 4)
    assert (report.facts.steps, report.facts.best_step) == (10, before.best_step if validated else 10)
    assert_same(formats.read_state(report.weights)[0], before.best if validated else before.params_ema)
    assert report.facts.scores
    assert Checkpoint.load(tmp_path / "run" / "checkpoint.pt", config).step == 10, "it can still go on"


def test_two_trainings_into_one_folder_do_not_spoil_each_other(tmp_path: Path, spices: np.ndarray) -> None:
    (tmp_path / "data").mkdir()
    Image.fromarray(spices[:80, :80]).save(tmp_path / "data" / "a.png")
    data = (str(tmp_path / "data"),)
    config = dataclasses.replace(TINY, steps=2, validate_every=2)
    request = TrainRequest(config=config, data=data, valid=data, folder=tmp_path / "run")
    (tmp_path / "run").mkdir()
    with (
        FileLock(tmp_path / "run" / ".lock"),
        pytest.raises(UsageError, match=r"Another training writes to .*run\."),
    ):
        train(request)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    assert train(request) is not None, "when the other has ended"


def test_train_without_photographs(tmp_path: Path) -> None:
    request = TrainRequest(config=TINY, data=(str(tmp_path),), valid=(str(tmp_path),), folder=tmp_path / "out")
    with pytest.raises(UsageError, match="holds no photographs"):
        train(request)
    assert not (tmp_path / "out").exists()
