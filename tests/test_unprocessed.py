"""Photographs pushed back to an unedited look, teachers that see all of them, and tables that stay in order."""

import colorsys
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from upscale_cli import zoo
from upscale_cli.errors import UsageError
from upscale_cli.evaluate import Pair, read_rgb8
from upscale_cli.train.config import TrainConfig
from upscale_cli.train.data import PatchSampler, load_data
from upscale_cli.train.data.degrade import degrade
from upscale_cli.train.data.unprocessed import Push, draw_push, push_back
from upscale_cli.train.methods import make_method
from upscale_cli.train.methods.tables import differences, falling, total_variation
from upscale_cli.train.teachers import load_teachers, retouch_by
from upscale_cli.weights import formats
from upscale_cli.zoo.lut3d import identity

CONFIG = TrainConfig(
    variant="enhance-residual/x1-tiny",
    steps=1,
    batch=3,
    patch_px=32,
    degradation="unprocessed",
    photo_px=120,
    detail_draws=1,
    flip=False,
    rotate=False,
)


def saturation(image: np.ndarray) -> float:
    return float(np.mean([colorsys.rgb_to_hsv(*color)[1] for color in image[::9, ::9].reshape(-1, 3) / 255]))


def test_no_push_changes_nothing_but_what_twelve_bits_round(spices: np.ndarray) -> None:
    assert np.abs(push_back(spices, Push()).astype(int) - spices).max() <= 1


def test_a_push_is_one_function_of_every_pixel_and_drawn_from_its_generator(spices: np.ndarray) -> None:
    one, again, other = (degrade(spices, 1, "unprocessed", np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    push = draw_push(np.random.default_rng(1))
    assert np.array_equal(push_back(spices[50:90, 60:99], push), push_back(spices, push)[50:90, 60:99])
    assert degrade(spices[:420], 2, "unprocessed", np.random.default_rng(1)).shape == (210, 320, 3)


def test_exposure_is_in_stops_of_linear_light() -> None:
    """18 % grey, 118 of sRGB, is 85 a stop below and 162 a stop above (IEC 61966-2-1)."""
    grey = np.full((1, 1, 3), 118, np.uint8)
    assert push_back(grey, Push(exposure_ev=-1)).tolist() == [[[85, 85, 85]]]
    red, green, blue = push_back(grey, Push(white_ev=(1, -1)))[0, 0]
    assert (red, green, blue) == (162, 118, 85)


def test_unprocessed_photographs_are_darker_flatter_and_paler(photos: list[Path]) -> None:
    measures = (np.mean, np.std, saturation)
    ratios = []
    for number, path in enumerate(photos):
        photo = read_rgb8(path)[::4, ::4]
        for seed in range(4):
            made = push_back(photo, draw_push(np.random.default_rng((number, seed))))
            ratios.append([measure(made) / measure(photo) for measure in measures])
    darker, flatter, paler = np.array(ratios).T
    assert np.mean(darker < 0.97) > 0.6, "but for low keys, whose shadows the flat curve lifts"
    assert np.mean(flatter < 0.9) > 0.7
    assert np.mean(paler < 0.9) > 0.9


# Teachers see whole photographs


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], str]:
    """A network that decides by the whole picture, with weights drawn from a seed."""
    folder = tmp_path_factory.mktemp("teachers")

    def write(seed: int) -> str:
        torch.manual_seed(seed)
        module = zoo.find("lut3d/x1-tiny").build()
        state = {key: value + 0.1 * torch.randn_like(value) for key, value in module.state_dict().items()}
        path = folder / f"{seed}.safetensors"
        formats.save(path, state, {"variant": "lut3d/x1-tiny"})
        return str(path)

    return write


@pytest.fixture
def folder(tmp_path: Path, photos: list[Path]) -> Path:
    (tmp_path / "data").mkdir()
    for path in photos[:3]:
        with Image.open(path) as image:
            image.reduce(4).save(tmp_path / "data" / f"{path.stem}.png")
    return tmp_path / "data"


def test_the_targets_are_what_the_teachers_make_of_the_whole_photograph(
    folder: Path, teachers: Callable[[int], str], tmp_path: Path
) -> None:
    both = f"{teachers(1)},{teachers(2)}"
    data = load_data([str(folder)], [str(folder)], dataclasses.replace(CONFIG, teacher=both), scale=1, cache=tmp_path)
    plain = load_data([str(folder)], [str(folder)], CONFIG, scale=1, cache=tmp_path)
    retouch = retouch_by(load_teachers(both, 1))
    one, other = (retouch_by(load_teachers(teachers(seed), 1)) for seed in (1, 2))
    for pair, untaught in zip(data.valid, plain.valid, strict=True):
        assert max(pair.hr.shape) == 120
        assert np.array_equal(pair.lr, untaught.lr)
        assert np.array_equal(pair.hr, retouch(pair.lr))
        assert not np.array_equal(pair.hr, untaught.hr), "without teachers it is the photograph"
        mean = (one(pair.lr).astype(float) + other(pair.lr)) / 2
        assert np.abs(pair.hr - mean).max() <= 1
    batch = data.sampler.batch(0)
    for lr, hr in zip(batch.lr, batch.hr, strict=True):
        alone = retouch(np.ascontiguousarray(lr.permute(1, 2, 0).numpy()))
        assert np.abs(alone.astype(int) - hr.permute(1, 2, 0).numpy()).max() > 3, "of a patch it makes something else"


def test_each_photograph_is_pushed_back_as_often_as_there_are_draws(folder: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, draws=5, batch=60, whole=True)
    batch = load_data([str(folder)], [str(folder)], config, scale=1, cache=tmp_path).sampler.batch(0)
    assert batch.lr.shape == batch.hr.shape == (60, 3, 32, 32), "whole photographs, squeezed"
    looks = {(name, lr.numpy().tobytes()) for name, lr in zip(batch.names, batch.lr, strict=True)}
    assert 12 <= len(looks) <= 15
    assert len({hr.numpy().tobytes() for hr in batch.hr}) == 3


# Tables


def test_the_penalties_are_those_of_the_paper() -> None:
    """The published program's TV_3D, written out."""
    torch.manual_seed(0)
    tables = torch.rand(2, 3, 5, 5, 5)
    smooth, rising = 0.0, 0.0
    for table in tables:
        red, green, blue = (table.diff(dim=axis) for axis in (3, 2, 1))
        for step, axis in ((red, 3), (green, 2), (blue, 1)):
            twice = torch.ones_like(step).movedim(axis, 0)
            twice[0] *= 2
            twice[-1] *= 2
            smooth += float((step.square().movedim(axis, 0) * twice).mean())
            rising += float((-step).clamp(min=0).mean())
    assert float(total_variation(differences(tables))) == pytest.approx(smooth, rel=1e-5)
    assert float(falling(differences(tables))) == pytest.approx(rising, rel=1e-5)
    assert float(falling(differences(identity(9)[None]))) == 0


@pytest.mark.parametrize("variant", ["lut3d/x1-tiny", "lut3d/x1-adaint-tiny"])
def test_penalties_reach_the_tables_and_the_shares(variant: str) -> None:
    config = dataclasses.replace(CONFIG, variant=variant, loss="l1:1, smooth:1, monotone:10")
    generator = zoo.find(variant).build()
    method = make_method(config, zoo.find(variant), generator)
    lr = torch.rand(2, 3, 32, 32)
    terms = method.phases[0].loss(lr, lr)
    assert list(terms) == ["l1", "smooth", "monotone"]
    # At first one table is the identity, which rises by a quarter in each of four steps of its own axis.
    variation = 3 * (1 / 16) * (6 / 4) / 3
    shares = float(terms["smooth"].detach()) - variation
    assert 0.1 < shares < 4
    terms["smooth"].backward()
    moved = [name for name, value in generator.lut_generator.named_parameters() if value.grad is not None]
    assert "weights_generator.bias" in moved
    assert any(name.startswith("basis_luts") for name in moved)


def test_penalties_are_refused_for_a_network_without_tables() -> None:
    config = dataclasses.replace(CONFIG, loss="l1:1, smooth:1")
    with pytest.raises(UsageError, match="they train a lut3d"):
        make_method(config, zoo.find(CONFIG.variant), zoo.find(CONFIG.variant).build())


def test_a_teacher_that_makes_the_targets_is_no_term_of_the_loss(teachers: Callable[[int], str]) -> None:
    config = dataclasses.replace(CONFIG, teacher=teachers(1))
    variant = zoo.find(CONFIG.variant)
    lr = torch.rand(1, 3, 32, 32)
    assert list(make_method(config, variant, variant.build()).phases[0].loss(lr, lr)) == ["l1"]
    with pytest.raises(UsageError, match="makes the targets already"):
        make_method(dataclasses.replace(config, loss="l1:1, teacher:1"), variant, variant.build())


def test_pairs_are_seen_whole_in_any_shape(spices: np.ndarray) -> None:
    pair = Pair("spices", spices, push_back(spices, Push(exposure_ev=-1)))
    config = dataclasses.replace(CONFIG, whole=True, batch=1)
    batch = PatchSampler([pair], config, scale=1).batch(0)
    for seen, image in ((batch.hr, pair.hr), (batch.lr, pair.lr)):
        assert seen.shape == (1, 3, 32, 32)
        assert np.abs(seen.float().mean((0, 2, 3)).numpy() - image.mean((0, 1))).max() < 1
