"""What a training learns from: layouts recognised, what is left out, and patches that show what they should."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from upscale_cli.errors import UsageError
from upscale_cli.evaluate import make_pair
from upscale_cli.media.resize import imresize
from upscale_cli.train.config import TrainConfig
from upscale_cli.train.data import Batch, PatchSampler, TrainingData, load_data
from upscale_cli.train.data import sources as sources_module
from upscale_cli.train.data.layouts import Wish, recognise, split
from upscale_cli.train.data.patches import recolouring
from upscale_cli.train.data.pictures import Picture

CONFIG = TrainConfig(variant="lightweight/x2-tiny", steps=4, batch=4, patch_px=16)
Cuts = Callable[[str, int, int], Path]


@pytest.fixture
def cuts(tmp_path: Path, spices: np.ndarray) -> Callable[..., Path]:
    """Writes a cut of the photograph of a size, from a place that `number` chooses, as a PNG."""

    def write(name: str, height: int, width: int, *, number: int = 0, shrink: int = 1) -> Path:
        top, left = 37 * number % 150, 61 * number % 250
        image = spices[top : top + height * shrink, left : left + width * shrink]
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(imresize(image, height, width) if shrink > 1 else image).save(path)
        return path

    return write


def load(tmp_path: Path, *words: str, valid: tuple[str, ...] = (), scale: int = 2, **settings: object) -> TrainingData:
    config = dataclasses.replace(CONFIG, **settings)
    words = tuple(str(tmp_path / word) for word in words)
    valid = tuple(str(tmp_path / word) for word in valid)
    return load_data(words, valid, config, scale=scale, cache=tmp_path / "cache")


def arrays(batch: Batch) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        (low.permute(1, 2, 0).numpy(), high.permute(1, 2, 0).numpy())
        for low, high in zip(batch.lr, batch.hr, strict=True)
    ]


# Layouts


def test_a_folder_is_split_by_seed_and_nothing_is_in_two_parts(tmp_path: Path, cuts: Callable[..., Path]) -> None:
    for number in range(20):
        cuts(f"data/{number:02}.png", 60, 64, number=number)
    found = load(tmp_path, "data")
    assert found.notes == (
        f"data: 20 photographs of {tmp_path / 'data'}",
        "14 to train on, 3 to validate on, 3 held back, by seed; test.csv names those held back",
    )
    valid = {pair.name for pair in found.valid}
    trained = {name for step in range(40) for name in found.sampler.batch(step).names}
    assert (len(trained), len(valid), trained & valid) == (14, 3, set())
    assert len({item.hr.name for item in found.test} - trained - valid) == 3
    assert all(item.hr.is_absolute() and item.lr is None for item in found.test)
    assert load(tmp_path, "data", valid=("data",)).test == ()
    assert {pair.name for pair in load(tmp_path, "data").valid} == valid
    assert {pair.name for pair in load(tmp_path, "data", seed=1).valid} != valid


@pytest.mark.parametrize("count", [3, 4, 7, 100])
def test_a_split_loses_nothing(count: int) -> None:
    parts = split(list(range(count)), 5)
    assert sorted(number for part in parts for number in part) == list(range(count))
    assert all(len(part) >= 1 for part in parts[:2])
    assert list(map(len, split(list(range(100)), 0))) == [70, 15, 15]
    with pytest.raises(UsageError, match="2 pictures cannot be split"):
        split([1, 2], 0)


def test_div2k_is_recognised_with_its_tracks(tmp_path: Path, cuts: Callable[..., Path]) -> None:
    for number in (1, 2):
        cuts(f"DIV2K_train_HR/000{number}.png", 64, 68, number=number)
        cuts(f"DIV2K_train_LR_bicubic/X2/000{number}x2.png", 32, 34, number=number, shrink=2)
        cuts(f"DIV2K_train_LR_unknown/X2/000{number}x2.png", 32, 34, number=number + 3, shrink=2)
    cuts("DIV2K_valid_HR/0801.png", 64, 68, number=9)
    cuts("DIV2K_valid_LR_bicubic/X2/0801x2.png", 32, 34, number=9, shrink=2)
    found = load(tmp_path, ".")
    assert found.notes == ("data: DIV2K, 2 of DIV2K_train_HR with DIV2K_train_LR_bicubic/X2",)
    assert [pair.name for pair in found.valid] == ["0801.png"]
    assert found.valid[0].lr.shape == (32, 34, 3)
    # The unknown track, which here shows another place, is what the batches hold, not something made of HR.
    unknown = recognise([str(tmp_path)], Wish(2, "unknown"))
    assert [item.lr and item.lr.parent.parent.name for item in unknown.items] == ["DIV2K_train_LR_unknown"] * 2
    made = load(tmp_path, ".", scale=3)
    assert "with LR made of it: there is no DIV2K_train_LR_bicubic/X3" in made.notes[0]
    assert made.sampler.batch(0).hr.shape == (4, 3, 48, 48)
    assert load(tmp_path, ".", valid=(".",)).valid[0].name == "0801.png"


@pytest.mark.parametrize(("low", "high"), [("LR", "HR"), ("low res", "high res"), ("input", "target")])
def test_two_folders_of_pairs_are_recognised_by_their_names(
    low: str, high: str, tmp_path: Path, cuts: Callable[..., Path]
) -> None:
    for number in range(5):
        cuts(f"data/{high}/p{number}.png", 65, 72, number=number)
        cuts(f"data/{low}/p{number}_x2.png", 32, 36, number=number, shrink=2)
    found = load(tmp_path, "data")
    assert "5 pairs of" in found.notes[0]
    two = load(tmp_path, f"data/{low}", f"data/{high}")
    assert torch.equal(two.sampler.batch(3).lr, found.sampler.batch(3).lr)
    for pair in found.valid:
        assert np.array_equal(pair.lr, np.asarray(Image.open(tmp_path / "data" / low / f"{pair.name[:2]}_x2.png")))
        assert pair.hr.shape == (64, 72, 3), "what a division leaves over is cut"


def test_pairs_without_partner_or_of_a_wrong_size_are_named_and_left_out(
    tmp_path: Path, cuts: Callable[..., Path]
) -> None:
    for number in range(4):
        cuts(f"HR/p{number}.png", 64, 64, number=number)
        cuts(f"LR/p{number}.png", 32, 32, number=number, shrink=2)
    cuts("HR/alone.png", 64, 64)
    cuts("LR/stray.png", 32, 32)
    cuts("LR/p3.png", 30, 32)
    found = load(tmp_path, "LR", "HR", valid=("LR", "HR"))
    for note, purpose in zip(found.notes[1:], ("train on", "validate on"), strict=True):
        assert note.startswith(f"cannot be used to {purpose} and left out: 3 pictures\n")
        assert f"alone.png: no partner in {tmp_path / 'LR'}" in note
        assert f"stray.png: no partner in {tmp_path / 'HR'}" in note
        assert "p3.png is 32 x 30; times 2 that does not fit p3.png, which is 64 x 64" in note
    assert {pair.name for pair in found.valid} == {"p0.png", "p1.png", "p2.png"}


def test_a_csv_of_pairs(tmp_path: Path, cuts: Callable[..., Path]) -> None:
    rows = ["low_res,high_res"]
    for number in range(10):
        cuts(f"set/high res/{number}.png", 64, 64, number=number)
        cuts(f"set/low res/{number}_small.png", 32, 32, number=number, shrink=2)
        rows.append(f"{number}_small.png,{number}.png")
    rows.append("gone.png,9.png")
    (tmp_path / "set" / "pairs.csv").write_text("\n".join(rows))
    found = load(tmp_path, "set/pairs.csv")
    assert found.notes[0] == "data: 10 pairs of pairs.csv"
    assert found.notes[1] == "7 to train on, 2 to validate on, 1 held back, by seed; test.csv names those held back"
    assert "gone.png: no such file beside pairs.csv" in found.notes[2]
    assert len(found.valid) == 2
    assert [item.lr and item.lr.stem for item in found.test] == [f"{item.hr.stem}_small" for item in found.test]
    (tmp_path / "set" / "high.csv").write_text("high_res\n" + "".join(f"{number}.png\n" for number in range(10)))
    assert load(tmp_path, "set/high.csv").notes[0] == "data: 10 photographs of high.csv"
    (tmp_path / "set" / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="no rows with the columns low_res and high_res"):
        load(tmp_path, "set/bad.csv")


@pytest.mark.parametrize("flat", [True, False])
def test_fivek_pairs_are_cut_about_their_centres(flat: bool, tmp_path: Path, cuts: Callable[..., Path]) -> None:
    names = {True: ("a{}_input.png", "a{}_expert{}.png"), False: ("input/a{}.png", "expert{1}/a{0}.png")}[flat]
    for number in range(4):
        cuts("five/" + names[0].format(number), 70, 66, number=number)
        for expert in "CD":
            source = np.asarray(Image.open(tmp_path / "five" / names[0].format(number)))
            path = tmp_path / "five" / names[1].format(number, expert)
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(source[2:-2, 1:-1] // (2 if expert == "C" else 3)).save(path)
    for expert, divisor in (("C", 2), ("D", 3)):
        found = load(tmp_path, "five", scale=1, expert=expert)
        assert found.notes[0].startswith("data: FiveK, 4 pairs of input and expert")
        for low, high in arrays(found.sampler.batch(0)):
            assert low.shape == high.shape == (16, 16, 3)
            assert np.array_equal(low // divisor, high), "the same place of both"
    with pytest.raises(UsageError, match="expert A"):
        load(tmp_path, "five", scale=1, expert="A")


def test_the_experts_colours_are_brought_to_srgb(tmp_path: Path, spices: np.ndarray) -> None:
    """A target in another colour space, as the experts' are, comes out as what it looks like."""
    from pictures import display_p3

    (tmp_path / "f").mkdir()
    for number in range(3):
        Image.fromarray(spices[:64, :64]).save(tmp_path / "f" / f"a{number}_input.png")
        Image.fromarray(spices[:64, :64]).save(tmp_path / "f" / f"a{number}_expertC.png", icc_profile=display_p3())
    ((low, high), *_) = arrays(load(tmp_path, "f", scale=1).sampler.batch(0))
    change = high.astype(int) - low.astype(int)
    assert np.abs(change).max() > 8
    assert np.abs(change.mean()) < 12


def test_domains_without_pairs_are_drawn_apart(tmp_path: Path, cuts: Callable[..., Path]) -> None:
    for number in range(3):
        cuts(f"trainA/a{number}.png", 60, 60, number=number)
        cuts(f"trainB/b{number}.png", 90, 80, number=number)
    found = load(tmp_path, ".", scale=2)
    assert found.notes == ("data: two domains, 3 of trainA and 3 of trainB",)
    assert found.valid == []
    batch = found.sampler.batch(0)
    assert (batch.lr.shape, batch.hr.shape) == ((4, 3, 16, 16), (4, 3, 32, 32))
    names = {name for step in range(20) for name in found.sampler.batch(step).names}
    assert len(names) == 9, "each with each"
    assert all(name[0] == "a" and " | b" in name for name in names)
    for number in range(2):
        cuts(f"testA/{number}.png", 40, 40, number=number)
        cuts(f"testB/{number}.png", 80, 80, number=number)
    assert [pair.name for pair in load(tmp_path, ".", scale=2).valid] == ["0.png", "1.png"]


def test_what_is_nothing_is_refused(tmp_path: Path, cuts: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match=r"none does not exist"):
        load(tmp_path, "none")
    with pytest.raises(UsageError, match="holds no photographs"):
        load(tmp_path, ".")
    for number in range(3):
        cuts(f"data/{number}.png", 64, 64, number=number)
    with pytest.raises(UsageError, match="scale 1 learns nothing from pictures alone"):
        load(tmp_path, "data", scale=1)


# What is left out


def test_every_unusable_picture_is_named_before_training(tmp_path: Path, cuts: Callable[..., Path]) -> None:
    for number in range(3):
        cuts(f"data/good{number}.png", 40, 40, number=number)
    cuts("data/small.png", 31, 40)
    (tmp_path / "data" / "text.jpg").write_text("no picture")
    cuts("data/cut.png", 60, 60).write_bytes((tmp_path / "data" / "good0.png").read_bytes()[:900])
    cuts("valid/v.png", 40, 40)
    found = load(tmp_path, "data", valid=("valid",))
    assert found.notes[1].startswith("cannot be used to train on and left out: 3 pictures\n")
    for name in ("small.png is 40 x 31: too small, 32 x 32 pixels are needed", "text.jpg", "cut.png"):
        assert name in found.notes[1]
    assert {name for step in range(9) for name in found.sampler.batch(step).names} <= {f"good{n}.png" for n in range(3)}
    with pytest.raises(
        UsageError, match=r"Nothing is left to train on: cannot be used to train on and left out: 6 pictures"
    ):
        load(tmp_path, "data", valid=("valid",), patch_px=64)


def test_of_many_faults_twenty_are_named(tmp_path: Path, cuts: Callable[..., Path]) -> None:
    cuts("data/good.png", 40, 40)
    for number in range(25):
        (tmp_path / "data" / f"bad{number:02}.png").write_bytes(b"")
    note = load(tmp_path, "data", valid=("data",)).notes[1]
    assert note.count("\n") == 21
    assert note.endswith("and 5 more")


# Patches


def test_low_resolution_made_of_a_patch_is_that_of_the_whole_photograph(spices: np.ndarray) -> None:
    """What fits into memory is shrunk once, what does not patch by patch: no pixel may tell."""
    for scale, preupsample in ((2, 1), (3, 1), (4, 1), (1, 4), (1, 3)):
        factor = scale * preupsample
        hr = spices[: 120 // factor * factor, : 180 // factor * factor]
        config = dataclasses.replace(CONFIG, detail_draws=1, preupsample=preupsample, batch=12)
        whole = imresize(hr, hr.shape[0] // factor, hr.shape[1] // factor)
        if preupsample > 1:
            whole = imresize(whole, *hr.shape[:2])
        stored = PatchSampler([Picture("a", hr, whole)], config, scale=scale)
        made = PatchSampler([Picture("a", hr, None)], config, scale=scale)
        for step in range(3):
            assert torch.equal(stored.batch(step).lr, made.batch(step).lr)
            assert torch.equal(stored.batch(step).hr, made.batch(step).hr)


@pytest.mark.parametrize("kind", ["unknown", "realesrgan"])
def test_degraded_batches_are_the_same_in_every_run_and_share(kind: str, spices: np.ndarray) -> None:
    config = dataclasses.replace(CONFIG, degradation=kind, brightness=0.2, contrast=0.2)
    pictures = [Picture("a", spices[:160, :200], None), Picture("b", spices[100:300, 300:500], None)]
    whole = [PatchSampler(pictures, config, scale=2).batch(step) for step in range(3, 6)]
    again = list(PatchSampler(pictures, config, scale=2).batches(3, 6))
    for one, other in zip(whole, again, strict=True):
        assert torch.equal(one.lr, other.lr)
        assert torch.equal(one.hr, other.hr)
    part = PatchSampler(pictures, config, scale=2, rank=1, world=2).batch(4)
    assert torch.equal(part.lr, whole[1].lr[1::2])
    assert torch.equal(part.hr, whole[1].hr[1::2])
    assert whole[0].lr.shape == (4, 3, 16, 16)


def test_a_degraded_patch_shows_the_place_of_its_target(spices: np.ndarray) -> None:
    """Over many patches, the LR at its own place is nearer to HR's than one that is a pixel off."""
    config = dataclasses.replace(CONFIG, degradation="realesrgan", patch_px=32, batch=16, detail_draws=1)
    pairs = arrays(PatchSampler([Picture("a", spices, None)], config, scale=2).batch(0))
    here, beside = 0.0, 0.0
    for low, high in pairs:
        clean = imresize(high, 32, 32).astype(float)[4:-4, 4:-4]
        here += float(((low[4:-4, 4:-4] - clean) ** 2).mean())
        beside += float(((low[4:-4, 6:-2] - clean) ** 2).mean())
    assert here < 0.85 * beside


def test_colours_change_alike_in_both_and_are_rounded_once(spices: np.ndarray) -> None:
    pair = make_pair("a", spices[:120, :160], 2)
    plain = PatchSampler([pair], CONFIG, scale=2).batch(1)
    changed = PatchSampler([pair], dataclasses.replace(CONFIG, brightness=0.2, contrast=0.2), scale=2).batch(1)
    factors = []
    for number in range(4):
        table: dict[int, int] = {}
        for before, after in ((plain.lr, changed.lr), (plain.hr, changed.hr)):
            for value, became in zip(before[number].flatten().tolist(), after[number].flatten().tolist(), strict=True):
                assert table.setdefault(value, became) == became, "one table for both"
        values = np.array(sorted(value for value, became in table.items() if 0 < became < 255))
        slope, offset = np.polyfit(values, [table[value] for value in values], 1)
        assert np.abs(slope * values + offset - [table[value] for value in values]).max() < 0.75
        factors.append(slope)
    assert 0.64 <= min(factors) < max(factors) <= 1.44
    assert np.array_equal(recolouring(1, 1, 90), np.arange(256))
    assert recolouring(1.2, 0.8, 100)[[0, 100, 255]].tolist() == [24, 120, 255]


def test_patches_may_be_left_as_they_lie(spices: np.ndarray) -> None:
    pair = make_pair("a", spices[:64, :64], 2)
    config = dataclasses.replace(CONFIG, flip=False, rotate=False, patch_px=16)
    for low, _ in arrays(PatchSampler([pair], config, scale=2).batch(0)):
        places = np.lib.stride_tricks.sliding_window_view(pair.lr, (16, 16, 3)).reshape(-1, 16, 16, 3)
        assert (places == low).all((1, 2, 3)).any()


def test_what_does_not_fit_into_memory_is_mapped_and_gives_the_same_batches(
    tmp_path: Path, cuts: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        cuts(f"data/{number}.png", 80, 90, number=number)
    inside = load(tmp_path, "data", valid=("data",))
    monkeypatch.setattr(sources_module, "free_memory_bytes", lambda: 1000)
    mapped = load(tmp_path, "data", valid=("data",))
    assert "more pictures than fit into memory" in mapped.notes[1]
    for one, other in zip(inside.sampler.batches(0, 4), mapped.sampler.batches(0, 4), strict=True):
        assert torch.equal(one.lr, other.lr)
        assert torch.equal(one.hr, other.hr)
        assert one.names == other.names
    shares = [
        load_data(
            (str(tmp_path / "data"),),
            (str(tmp_path / "data"),),
            CONFIG,
            scale=2,
            cache=tmp_path / "cache",
            rank=rank,
            world=2,
        ).sampler.batch(0)
        for rank in range(2)
    ]
    assert torch.equal(torch.stack([shares[0].lr[0], shares[1].lr[0]]), inside.sampler.batch(0).lr[:2])
