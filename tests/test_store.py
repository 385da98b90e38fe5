"""The user's own models: imported under a name, used by it, removed; and nothing half-done whatever goes wrong."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from upscale_cli import Upscaler, open_engine, zoo
from upscale_cli.cli.app import app
from upscale_cli.errors import OutputError, UsageError, WeightsError
from upscale_cli.manifest import Imported, load_manifest, models_path, shipped_manifest
from upscale_cli.weights import importing, store
from upscale_cli.weights.formats import save
from upscale_cli.weights.loading import load_module
from upscale_cli.weights.source import local, locate, verify
from upscale_cli.zoo.edsr import EDSR
from upscale_cli.zoo.rrdb import RRDBNet


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of imported models, not there yet."""
    monkeypatch.setenv("UPSCALE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights with a capital in their name, and none of ours in their header."""
    torch.manual_seed(3)
    save(tmp_path / "My_EDSR v2.safetensors", zoo.find("edsr/x2-tiny").build().state_dict(), {})
    return tmp_path / "My_EDSR v2.safetensors"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments])


def names() -> list[str]:
    return [entry.name for entry in load_manifest().entries if entry.status == "imported"]


def test_an_imported_model_is_used_by_its_name(file: Path, folder: Path, spices: np.ndarray) -> None:
    entry = store.add(file)
    assert {path.name for path in folder.iterdir()} == {"my-edsr-v2.safetensors", "my-edsr-v2.json"}
    assert load_manifest().find("my-edsr-v2", 2) == entry
    assert (entry.variant, entry.scale, entry.parameters) == ("edsr/x2-tiny", 2, 4531)
    origin = hashlib.sha256(file.read_bytes()).hexdigest()
    assert entry.source == Imported("my-edsr-v2.safetensors", file.name, origin, ())
    assert verify(entry).complaint() is None
    lr = spices[100:120, 100:130]
    pictures = [
        Upscaler([open_engine(model, precision="fp32")]).enlarge_rgb8(lr) for model in ("my-edsr-v2", str(file))
    ]
    assert np.array_equal(*pictures)


def test_on_the_command_line(file: Path, tmp_path: Path, spices: np.ndarray) -> None:
    Image.fromarray(spices[:20, :30]).save(tmp_path / "photo.png")
    shown = call("import", str(file), "--name", "mine").stdout
    assert "My_EDSR v2.safetensors is edsr/x2-tiny: scale 2, 4,531 parameters." in shown
    assert shown.splitlines()[-1] == "upscale photos/ -m mine -s 2"
    assert "mine" in call("list").stdout
    assert "made from  My_EDSR v2.safetensors, sha256 " in call("info", "mine").stdout
    assert call("verify", "mine").exit_code == 0
    assert call("path", "mine").stdout.strip() == str(models_path() / "mine.safetensors")
    words = [str(tmp_path / "photo.png"), "-m", "mine", "-s", "2", "-o", str(tmp_path / "out.png"), "--offline"]
    assert CliRunner().invoke(app, words).exit_code == 0
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (60, 40)
    assert call("remove", "mine", "-y").stdout == "Deleted mine.\n"
    assert names() == []
    assert list(models_path().iterdir()) == []


def test_json_is_the_row(file: Path) -> None:
    row = json.loads(call("import", str(file), "--json").stdout)["models"]["my-edsr-v2"]
    assert (row["status"], row["variant"]) == ("imported", "edsr/x2-tiny")
    assert Path(row["local"]).is_file()
    assert call("import", str(file), "--name", "again", "--json").exit_code == 0
    assert list(json.loads(call("list", "--json", "--status", "imported").stdout)["models"]) == ["again", "my-edsr-v2"]


def test_hyperparameters_that_no_table_has(tmp_path: Path) -> None:
    """The file is known by its tensors, each time it is loaded."""
    known = [each.name for each in zoo.variants()]
    torch.manual_seed(0)
    module = RRDBNet(scale=4, blocks=2, channels=16)
    save(tmp_path / "odd.safetensors", module.state_dict(), {})
    entry = store.add(tmp_path / "odd.safetensors")
    assert entry.variant not in known
    name, variant, loaded = load_module("odd", None)
    assert (name, variant.name, variant.parameters) == ("odd", entry.variant, entry.parameters)
    lr = torch.rand(1, 3, 9, 8)
    with torch.no_grad():
        assert torch.equal(loaded(lr), module.eval()(lr))


def test_published_weights(oracles: Path, tmp_path: Path, spices: np.ndarray) -> None:
    """An ncnn model and a PyTorch checkpoint give the picture they give elsewhere."""
    assert call("import", str(oracles / "4xLSDIRCompactC3" / "4xLSDIRCompactC3.param")).exit_code == 0
    assert (
        call("import", str(oracles / "srgan-leftthomas" / "netG_epoch_4_100.pth"), "--name", "srgan-lt").exit_code == 0
    )
    with Image.open(oracles / "reference" / "img_003_lr_x4.png") as image:
        lr = np.asarray(image.convert("RGB"))
    for model, reference in (("4xlsdircompactc3", "4xLSDIRCompactC3"), ("srgan-lt", "srgan-leftthomas-x4")):
        with Image.open(oracles / "reference" / f"img_003_{reference}.png") as image:
            expected = np.asarray(image.convert("RGB")).astype(int)
        sr = Upscaler([open_engine(model, precision="fp32")]).enlarge_rgb8(lr)
        assert np.abs(sr.astype(int) - expected).max() <= 1


def test_the_user_decides_where_the_tensors_fit_several_networks(tmp_path: Path, folder: Path) -> None:
    """A network that enlarges its input first has the same tensors at every scale."""
    path = tmp_path / "own.pth"
    torch.save(zoo.find("simplecnn/x3").build().state_dict(), path)
    with pytest.raises(WeightsError, match=r"simplecnn/x2, simplecnn/x3, simplecnn/x4.*--variant"):
        store.add(path)
    assert not folder.exists() or not list(folder.iterdir())
    entry = store.add(path, variant="simplecnn/x3")
    assert (entry.variant, entry.scale) == ("simplecnn/x3", 3)
    assert load_module(entry.name, None)[1] is zoo.find("simplecnn/x3")


def test_force_replaces_and_nothing_else_does(file: Path, folder: Path, tmp_path: Path) -> None:
    first = store.add(file, name="mine")
    save(tmp_path / "other.safetensors", zoo.find("lightweight/x2").build().state_dict(), {})
    with pytest.raises(UsageError, match=r"a model mine already.*--force"):
        store.add(tmp_path / "other.safetensors", name="mine")
    assert load_manifest().find("mine") == first
    second = store.add(tmp_path / "other.safetensors", name="mine", force=True)
    assert load_manifest().find("mine") == second
    assert second.variant == "lightweight/x2"
    assert verify(second).complaint() is None


@pytest.mark.parametrize("name", ["edsr", "edsr-x4", "bicubic", "resnet18"])
def test_a_shipped_name_is_refused(name: str, file: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match=f"upscale itself has a model called {name}"):
        store.add(file, name=name, force=True)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["", "../up", "a/b", "Mine", "a b", "mine.pth", "-m", "x" + "." * 3, "a\nb"])
def test_what_is_no_name_is_refused(name: str, file: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match="--name"):
        store.add(file, name=name)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4xNomos2_hq_drct-l", "4xnomos2-hq-drct-l"),
        ("RealESRGAN_x4plus", "realesrgan-x4plus"),
        ("é 1.2", "e-1-2"),
        ("写真", ""),
    ],
)
def test_names_come_from_files(text: str, expected: str) -> None:
    assert store.slug(text) == expected


def test_a_file_whose_name_gives_none(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Choose one with --name"):
        store.add(file.rename(tmp_path / "写真.safetensors"))


def test_what_is_no_weights_file_leaves_nothing(tmp_path: Path, folder: Path) -> None:
    for body, words in ((b"", "empty"), (b"<!doctype html><title>404</title>", "web page"), (b"\x89PNG\r\n", "PNG")):
        (tmp_path / "net.pth").write_bytes(body)
        with pytest.raises(WeightsError, match=words):
            store.add(tmp_path / "net.pth")
    with pytest.raises(WeightsError, match="does not exist"):
        store.add(tmp_path / "none.pth")
    with pytest.raises(WeightsError, match="is not a file"):
        store.add(tmp_path)
    assert not folder.exists()


def test_weights_that_make_no_picture_are_not_kept(tmp_path: Path, folder: Path) -> None:
    module = EDSR(scale=2, blocks=1, channels=8)
    torch.nn.init.constant_(module.tail[1].bias, 100)  # type: ignore[arg-type]
    save(tmp_path / "white.safetensors", module.state_dict(), {})
    with pytest.raises(WeightsError, match="one colour"):
        store.add(tmp_path / "white.safetensors")
    assert not folder.exists()


def test_a_full_disk_leaves_the_old_model(file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = store.add(file, name="mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_write", full)
    with pytest.raises(OutputError, match=r"cannot be written: No space left on device.*UPSCALE_MODELS"):
        store.add(file, name="mine", force=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert verify(old).complaint() is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(file: Path, folder: Path) -> None:
    folder.mkdir(mode=0o555)
    with pytest.raises(OutputError, match="cannot be written"):
        store.add(file)


def test_what_a_killed_import_left_is_cleared(file: Path, folder: Path) -> None:
    (folder / ".mine.part").mkdir(parents=True)
    (folder / ".mine.part" / "mine.safetensors").write_bytes(b"half")
    assert names() == []
    store.add(file, name="mine")
    assert {path.name for path in folder.iterdir()} == {"mine.safetensors", "mine.json"}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "must be a JSON object"),
        ("{}", "status: missing"),
        ('{"status": "bundled"}', "must be one of imported"),
        (b"\xff\xfe", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_a_damaged_row_hides_no_other(row: str | bytes, words: str, file: Path, folder: Path) -> None:
    store.add(file, name="good")
    (folder / "bad.json").write_bytes(row if isinstance(row, bytes) else row.encode())
    manifest = load_manifest()
    assert names() == ["good"]
    assert words in manifest.problems["bad"]
    with pytest.raises(UsageError, match=r"bad\.json is not used"):
        manifest.find("bad")
    shown = call("list")
    assert shown.exit_code == 0
    assert "bad.json is not used" in shown.stderr
    assert call("remove", "bad", "-y").exit_code == 0
    assert not load_manifest().problems


def test_a_row_must_speak_of_its_own_file(file: Path, folder: Path) -> None:
    store.add(file, name="mine")
    shutil.copy(folder / "mine.json", folder / "copy.json")
    assert "copy.model: must be 'copy', not 'mine'" in load_manifest().problems["copy"]
    row = json.loads((folder / "mine.json").read_text())
    row["source"]["path"] = "../../mine.safetensors"
    (folder / "mine.json").write_text(json.dumps(row))
    assert "plain name" in load_manifest().problems["mine"]


def test_a_model_that_upscale_comes_to_ship_wins(file: Path, folder: Path) -> None:
    store.add(file, name="mine")
    for suffix in ("json", "safetensors"):
        (folder / f"mine.{suffix}").rename(folder / f"edsr.{suffix}")
    assert load_manifest().find("edsr", 4) == shipped_manifest().find("edsr", 4)
    assert "upscale itself has a model called edsr now" in load_manifest().problems["edsr"]
    assert call("remove", "edsr", "-y").exit_code == 0
    assert isinstance(call("remove", "edsr", "-y").exception, UsageError)


def test_changed_or_missing_weights_are_not_used(file: Path, folder: Path) -> None:
    entry = store.add(file, name="mine")
    path = locate(entry)
    body = path.read_bytes()
    path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    os.utime(path, ns=(1, 1))
    with pytest.raises(
        WeightsError, match=r"not the pinned file.*Import My_EDSR v2.safetensors again.*--name mine --force"
    ):
        locate(entry)
    path.unlink()
    with pytest.raises(WeightsError, match=r"mine: not on this machine. Import My_EDSR"):
        locate(entry)
    assert local(entry) is None


def test_removing_asks_and_knows_what_it_removes(file: Path) -> None:
    store.add(file, name="mine")
    assert "Add --yes" in str(call("remove", "mine").exception)
    for name, words in (("edsr", "comes with upscale"), ("mien", "Did you mean 'mine'"), ("../mine", "no model")):
        error = call("remove", name, "-y").exception
        assert isinstance(error, UsageError)
        assert words in str(error)
    assert names() == ["mine"]


def test_where_the_folder_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UPSCALE_MODELS", "~/mine")
    assert models_path() == Path.home() / "mine"
    monkeypatch.delenv("UPSCALE_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    if os.name == "posix" and os.uname().sysname == "Linux":
        assert models_path() == tmp_path / "upscale" / "models"


def test_the_list_knows_imported_models_without_torch(file: Path) -> None:
    store.add(file, name="mine")
    script = (
        "import sys\nfrom upscale_cli.manifest import load_manifest\nfrom upscale_cli.weights import store\n"
        "print(load_manifest().find('mine').scale, store.removal('mine').name, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "mine", "False"]


def test_the_precision_of_the_file_is_kept(tmp_path: Path) -> None:
    state = {key: value.half() for key, value in zoo.find("edsr/x2-tiny").build().state_dict().items()}
    save(tmp_path / "half.safetensors", state, {})
    store.add(tmp_path / "half.safetensors")
    kept = importing.read_weights(models_path() / "half.safetensors")
    assert {value.dtype for value in kept.state.values()} == {torch.float16}
    assert kept.metadata == {"variant": "edsr/x2-tiny"}
