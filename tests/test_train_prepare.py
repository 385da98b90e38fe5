"""`upscale train prepare`: shards hold the very pixels, whole or not at all. And data that is packed, or on the hub."""

import dataclasses
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from upscale_cli.cli.app import app
from upscale_cli.errors import UsageError
from upscale_cli.evaluate import read_rgb8
from upscale_cli.media.resize import imresize
from upscale_cli.train.config import TrainConfig
from upscale_cli.train.data import TrainingData, load_data
from upscale_cli.train.data.archives import unpack
from upscale_cli.train.data.degrade import sharpen
from upscale_cli.train.data.prepare import PrepareRequest, prepare
from upscale_cli.train.data.shards import Cut, open_shards

CONFIG = TrainConfig(variant="lightweight/x2-tiny", steps=4, batch=4, patch_px=16)


@pytest.fixture
def folder(tmp_path: Path, photos: list[Path]) -> Path:
    """Five photographs, of 200 x 170 pixels, in PNG."""
    (tmp_path / "photos").mkdir()
    for path in photos[:5]:
        with Image.open(path) as image:
            image.convert("RGB").crop((100, 100, 300, 270)).save(tmp_path / "photos" / f"{path.stem}.png")
    return tmp_path / "photos"


def request(photos: Path, **settings: object) -> PrepareRequest:
    made = PrepareRequest(data=(str(photos),), folder=photos.parent / "shards", cut=Cut(96, 48))
    return dataclasses.replace(made, **settings)


def load(words: Path, *, scale: int = 2, **settings: object) -> TrainingData:
    config = dataclasses.replace(CONFIG, **settings)
    return load_data((str(words),), (), config, scale=scale, cache=words.parent / "cache")


# Shards


def test_shards_hold_the_pixels_of_the_photographs(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    report = prepare(request(folder, scale=2), progress=lambda done, total: told.append((done, total)))
    shards = open_shards(report.folder)
    assert told == [(number, 5) for number in range(1, 6)]
    # 200 and 170 pixels: starts at 0, 48, 96 and flush with the edge at 104; at 0, 48 and 74.
    assert (report.pictures, report.parts) == (5, 5 * 4 * 3)
    covered = {name: np.zeros((170, 200), bool) for name in set(shards.files)}
    for picture, file in zip(shards.pictures, shards.files, strict=True):
        left, top = map(int, picture.name.removeprefix(f"{file}@").split(","))
        photo = read_rgb8(folder / file)
        assert np.array_equal(picture.hr, photo[top : top + 96, left : left + 96])
        low = imresize(photo, 85, 100)
        assert picture.lr is not None
        assert np.array_equal(picture.lr, low[top // 2 : top // 2 + 48, left // 2 : left // 2 + 48])
        covered[file][top : top + 96, left : left + 96] = True
    assert all(area.all() for area in covered.values())
    # Plain .npy: anything that reads numpy's files reads them.
    assert np.load(report.folder / "hr-000.npy").shape == (report.parts * 96 * 96 * 3,)
    assert report.bytes == sum(path.stat().st_size for path in report.folder.iterdir())


def test_shards_train_as_the_folder_does(folder: Path) -> None:
    """Whole pictures in shards, with LR or without, give the very batches of the folder."""
    plain = load(folder)
    for scale in (2, 0):
        prepare(request(folder, cut=Cut(0, 1), scale=scale, overwrite=True))
        mapped = load(folder.parent / "shards")
        assert [pair.name for pair in mapped.valid] == [pair.name for pair in plain.valid]
        assert np.array_equal(mapped.valid[0].lr, plain.valid[0].lr)
        for step in range(3):
            one, other = (data.sampler.batch(step) for data in (plain, mapped))
            if scale:  # without LR, detail is measured on HR, which may prefer another of two places
                assert torch.equal(one.lr, other.lr)
            plain_draw, mapped_draw = (
                load(path, detail_draws=1).sampler.batch(step) for path in (folder, folder.parent / "shards")
            )
            assert torch.equal(plain_draw.lr, mapped_draw.lr)
            assert torch.equal(plain_draw.hr, mapped_draw.hr)


def test_sub_images_of_one_photograph_are_never_both_trained_and_validated_on(folder: Path) -> None:
    prepare(request(folder, scale=2))
    found = load(folder.parent / "shards")
    assert found.notes == (
        "data: shards, 60 sub-images of 5 pictures",
        "3 to train on, 1 to validate on, 1 held back, by seed; test.csv names those held back",
    )
    trained = {name.partition("@")[0] for step in range(30) for name in found.sampler.batch(step).names}
    assert len(trained) == 3
    assert trained.isdisjoint(pair.name.partition("@")[0] for pair in found.valid)


def test_pairs_keep_their_own_low_resolution(folder: Path) -> None:
    (folder.parent / "set").mkdir()
    folder = folder.rename(folder.parent / "set" / "HR")
    (folder.parent / "LR").mkdir()
    for path in folder.iterdir():
        low = imresize(read_rgb8(path), 85, 100) // 2
        Image.fromarray(low).save(folder.parent / "LR" / f"{path.stem}x2.png")
    with pytest.raises(UsageError, match="These are pairs: say by --scale"):
        prepare(request(folder.parent))
    report = prepare(request(folder.parent, scale=2))
    for picture in open_shards(report.folder).pictures[:5]:
        assert picture.lr is not None
        assert float(picture.lr.mean()) == pytest.approx(float(picture.hr.mean()) / 2, abs=1.5)
    with pytest.raises(UsageError, match=r"The shards hold pairs of x2; .* want x3"):
        load(report.folder, scale=3)
    assert load(report.folder, degradation="auto").sampler.batch(0).lr.shape == (4, 3, 16, 16)


def test_experts_are_laid_out_with_their_inputs(folder: Path) -> None:
    for path in list(folder.iterdir()):
        Image.fromarray(255 - read_rgb8(path)).save(folder / f"{path.stem}_expertC.png")
        path.rename(folder / f"{path.stem}_input.png")
    report = prepare(request(folder))
    assert report.layout == "FiveK, 5 pairs of input and expert C"
    batch = load(report.folder, scale=1).sampler.batch(0)
    assert torch.equal(batch.lr, 255 - batch.hr)


def test_shards_sharpened_or_not(folder: Path) -> None:
    report = prepare(request(folder, cut=Cut(0, 1), sharpen=True))
    shards = open_shards(report.folder)
    assert np.array_equal(shards.pictures[0].hr, sharpen(read_rgb8(folder / shards.files[0])))
    with pytest.raises(UsageError, match="prepare them with --sharpen exactly where the recipe sharpens"):
        load(report.folder)
    inside, mapped = (load(path, sharpen=True, detail_draws=1) for path in (folder, report.folder))
    assert torch.equal(inside.sampler.batch(0).hr, mapped.sampler.batch(0).hr)
    assert torch.equal(inside.sampler.batch(0).lr, mapped.sampler.batch(0).lr)


def test_a_second_time_nothing_is_done_and_other_folders_are_never_replaced(folder: Path) -> None:
    first = prepare(request(folder))
    index = first.folder / "index.json"
    before = index.stat().st_mtime_ns
    again = prepare(request(folder))
    assert (again.made, again.parts, index.stat().st_mtime_ns) == (False, first.parts, before)
    with pytest.raises(UsageError, match="Use --overwrite, or another -o"):
        prepare(request(folder, cut=Cut(64, 64)))
    assert prepare(request(folder, cut=Cut(64, 64), overwrite=True)).made
    kept = folder.parent / "kept"
    kept.mkdir()
    (kept / "thesis.txt").write_text("dear")
    with pytest.raises(UsageError, match="exists and holds no shards"):
        prepare(request(folder, folder=kept, overwrite=True))
    assert (kept / "thesis.txt").read_text() == "dear"


def test_what_fails_midway_leaves_nothing(folder: Path) -> None:
    def interrupt(done: int, _total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(request(folder), progress=interrupt)
    assert [path.name for path in folder.parent.iterdir()] == ["photos"]
    for path in folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(UsageError, match="No picture can be used"):
        prepare(request(folder))
    assert [path.name for path in folder.parent.iterdir()] == ["photos"]


def test_shards_cut_short_are_refused(folder: Path) -> None:
    report = prepare(request(folder))
    data = report.folder / "hr-000.npy"
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    with pytest.raises(UsageError, match="no whole folder of shards"):
        load(report.folder)
    (report.folder / "index.json").write_text("{")
    with pytest.raises(UsageError, match="no whole folder of shards"):
        load(report.folder)


def test_the_command(folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"no picture")
    words = ["train", "prepare", str(folder), "-o", str(folder.parent / "shards"), "-s", "2", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["pictures"], report["parts"], report["made"]) == (5, 5, True), "smaller than 480 stays whole"
    assert "broken.png" in report["faults"][0]


# Archives


def test_an_archive_is_unpacked_once_and_trained_on(folder: Path) -> None:
    archive = folder.parent / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.iterdir():
            file.write(path, f"photos/{path.name}")
    packed, plain = load(archive), load(folder)
    assert torch.equal(packed.sampler.batch(1).hr, plain.sampler.batch(1).hr)
    cache = folder.parent / "cache"
    (kept,) = (path for path in cache.iterdir() if path.name.startswith("photos.zip-"))
    marked = kept / "photos" / "marked"
    marked.touch()
    load(archive)
    assert marked.exists()
    tar = folder.parent / "photos.tar.gz"
    with tarfile.open(tar, "w:gz") as file:
        file.add(folder, "photos")
    assert torch.equal(load(tar).sampler.batch(1).hr, plain.sampler.batch(1).hr)


def hostile_zip(path: Path, name: str, *, link: bool = False) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        info = zipfile.ZipInfo(name)
        info.external_attr = (0o120777 if link else 0o100644) << 16
        file.writestr("first.png", b"x")
        file.writestr(info, b"/etc/passwd")
    return path


def hostile_tar(path: Path, name: str, kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w") as file:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc"
        file.addfile(info, io.BytesIO(b""))
    return path


@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/etc/evil.png", "C:\\evil.png", "..\\evil.png"])
def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    for archive in (hostile_zip(tmp_path / "bad.zip", name), hostile_tar(tmp_path / "bad.tar", name)):
        with pytest.raises(UsageError, match="leads out of the folder"):
            unpack(archive, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"bad.zip", "bad.tar"}


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    archives = [hostile_zip(tmp_path / "bad.zip", "link.png", link=True)]
    for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)):
        archives.append(hostile_tar(tmp_path / f"bad{number}.tar", "link.png", kind))
    for archive in archives:
        with pytest.raises(UsageError, match=r"link\.png in it is a link or a device"):
            unpack(archive, tmp_path / "cache")


def test_a_damaged_archive_is_refused_and_leaves_nothing(folder: Path) -> None:
    archive = folder.parent / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.iterdir()):
            file.write(path, path.name)
    content = bytearray(archive.read_bytes())
    content[200:400] = bytes(200)
    archive.write_bytes(content)
    with pytest.raises(UsageError, match="no whole archive"):
        unpack(archive, folder.parent / "cache")
    archive.write_bytes(content[:5000])
    with pytest.raises(UsageError, match="no whole archive"):
        unpack(archive, folder.parent / "cache")
    assert list((folder.parent / "cache").iterdir()) == []


# The hub


def test_a_dataset_without_its_client_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'upscale-cli\[datasets\]'"):
        load_data(("hub:owner/name",), (), CONFIG, scale=2, cache=tmp_path / "cache")
    with pytest.raises(UsageError, match="names no dataset"):
        load_data(("hub:",), (), CONFIG, scale=2, cache=tmp_path / "cache")


@pytest.mark.filterwarnings("ignore")  # of the client and what it imports
def test_a_dataset_is_read_by_its_client(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real client, on a dataset that lies on this machine: parquet with pictures in it, as the hub has them."""
    datasets = pytest.importorskip("datasets", reason="the extra 'datasets' is not installed")
    monkeypatch.chdir(folder.parent)
    names = sorted(str(path) for path in folder.iterdir())
    table = {"hr": names, "lr": names, "label": list(range(5))}
    kinds = datasets.Features({"hr": datasets.Image(), "lr": datasets.Image(), "label": datasets.Value("int64")})
    Path("mine").mkdir()
    datasets.Dataset.from_dict(table, kinds).select_columns(["hr", "label"]).to_parquet("mine/train.parquet")
    found = load_data(("hub:mine",), (), CONFIG, scale=2, cache=Path("cache"))
    assert found.notes[0] == "data: 5 photographs of cache/hub-mine-main-train"
    plain = load(folder)
    assert torch.equal(found.sampler.batch(1).hr, plain.sampler.batch(1).hr)
    Path("pairs").mkdir()
    datasets.Dataset.from_dict(table, kinds).to_parquet("pairs/train.parquet")
    assert "5 pairs of" in load_data(("hub:pairs",), (), CONFIG, scale=1, cache=Path("cache")).notes[0]
    (tmp_none := Path("none")).mkdir()
    (tmp_none / "text.txt").write_text("no pictures")
    with pytest.raises(UsageError, match="hub:none/such cannot be read as a dataset"):
        load_data(("hub:none/such",), (), CONFIG, scale=2, cache=Path("cache"))
