"""From a manifest row to a verified file: bundled weights, the memory of what was verified, the row of a new file."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from upscale_cli import zoo
from upscale_cli.errors import WeightsError
from upscale_cli.manifest import Bundled, Entry, License, Manifest, Score, load_manifest, to_json
from upscale_cli.weights import source
from upscale_cli.weights.formats import expected_shapes, keys_sha256, save
from upscale_cli.weights.row import manifest_row
from upscale_cli.weights.source import cache_path, local, locate, megabytes, verify

RIGHTS = License("Apache-2.0", "upscale contributors", True, ("144 photographs",), None)
SCORE = {"dataset": "Set5", "psnr_y": 33.5, "ssim_y": 0.92, "psnr_rgb": 31.5, "protocol": "y, border 2"}


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A row whose real file lies in a package folder of its own."""
    folder = tmp_path / "package"
    monkeypatch.setattr(source, "BUNDLED", folder)
    torch.manual_seed(1)
    save(folder / "tiny.safetensors", zoo.find("edsr/x2-tiny").build().state_dict(), {"variant": "edsr/x2-tiny"})
    body = (folder / "tiny.safetensors").read_bytes()
    return Entry(
        name="tiny-x2",
        model="tiny",
        variant="edsr/x2-tiny",
        task="upscale",
        scale=2,
        parameters=4531,
        status="bundled",
        summary="For tests",
        source=Bundled("tiny.safetensors"),
        size=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        keys_sha256=keys_sha256(expected_shapes(zoo.find("edsr/x2-tiny"))),
        license=RIGHTS,
    )


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were hashed, in order."""
    seen: list[Path] = []
    real = source.sha256_of
    monkeypatch.setattr(source, "sha256_of", lambda path: seen.append(path) or real(path))
    return seen


def flip(path: Path, *, keep_time: bool = False) -> None:
    """Change the last bit of a file, same size."""
    before = path.stat()
    body = path.read_bytes()
    path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_bundled_file_is_hashed_once_and_remembered(bundled: Entry, cache: Path, hashed: list[Path]) -> None:
    for _ in range(3):
        assert locate(bundled, cache_dir=cache) == source.BUNDLED / "tiny.safetensors"
    assert len(hashed) == 1


@pytest.mark.parametrize("change", ["content", "touched", "replaced"])
def test_a_file_that_may_have_changed_is_hashed_again(
    change: str, bundled: Entry, cache: Path, hashed: list[Path]
) -> None:
    path = locate(bundled, cache_dir=cache)
    body = path.read_bytes()
    if change == "content":
        flip(path)
        with pytest.raises(WeightsError, match="is not the pinned file"):
            locate(bundled, cache_dir=cache)
    elif change == "touched":
        os.utime(path, ns=(1, 1))
        locate(bundled, cache_dir=cache)
    else:
        before = path.stat()
        path.rename(path.with_suffix(".old"))
        path.write_bytes(body)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        locate(bundled, cache_dir=cache)
    assert len(hashed) >= 2


def test_verify_hashes_whatever_is_remembered(bundled: Entry, cache: Path) -> None:
    path = locate(bundled, cache_dir=cache)
    assert verify(bundled, cache_dir=cache).complaint() is None
    flip(path, keep_time=True)
    assert locate(bundled, cache_dir=cache) == path  # the price of not hashing on every run
    result = verify(bundled, cache_dir=cache)
    assert result.state == "corrupt"
    assert str(bundled.sha256) in str(result.complaint())
    assert str(result.found) in str(result.complaint())
    assert "Reinstall upscale" in str(result.complaint())
    with pytest.raises(WeightsError, match="is not the pinned file"):  # and the memory is gone
        locate(bundled, cache_dir=cache)


def test_one_row_is_not_verified_by_the_memory_of_another(bundled: Entry, cache: Path) -> None:
    locate(bundled, cache_dir=cache)
    with pytest.raises(WeightsError, match="is not the pinned file"):
        locate(replace(bundled, sha256="0" * 64), cache_dir=cache)


@pytest.mark.parametrize("note", [b"", b"{", b"\xff", b"[1, 2]"])
def test_a_damaged_note_only_costs_a_hash(note: bytes, bundled: Entry, cache: Path) -> None:
    path = locate(bundled, cache_dir=cache)
    (written,) = (cache / "verified").iterdir()
    written.write_bytes(note)
    assert locate(bundled, cache_dir=cache) == path


def test_a_cache_that_cannot_be_written_does_not_stop_bundled_weights(bundled: Entry, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert locate(bundled, cache_dir=tmp_path / "file" / "cache").is_file()
    assert verify(bundled, cache_dir=tmp_path / "file" / "cache").state == "ok"


def test_a_bundled_file_that_is_missing_or_of_another_size(bundled: Entry, cache: Path) -> None:
    path = source.BUNDLED / "tiny.safetensors"
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(WeightsError, match=rf"tiny-x2: .*{path.stat().st_size:,} bytes.*Reinstall"):
        locate(bundled, cache_dir=cache)
    path.unlink()
    with pytest.raises(WeightsError, match=r"tiny-x2: missing from the installation\. Reinstall"):
        locate(bundled, cache_dir=cache)
    assert local(bundled, cache_dir=cache) is None
    assert verify(bundled, cache_dir=cache).state == "absent"


def test_rows_without_weights_say_why(bundled: Entry, cache: Path) -> None:
    untrained = replace(bundled, status="untrained", source=None, recipe="recipes/tiny.toml")
    with pytest.raises(WeightsError, match=r"Nobody has trained .*tiny-x2 yet.*`upscale train tiny`"):
        locate(untrained, cache_dir=cache)
    with pytest.raises(WeightsError, match="is a formula and has no weights"):
        verify(replace(untrained, status="formula"), cache_dir=cache)
    assert local(untrained, cache_dir=cache) is None


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path / "mine"))
    assert cache_path() == tmp_path / "mine"
    monkeypatch.setenv("UPSCALE_CACHE", "~/mine")
    assert cache_path() == Path.home() / "mine"
    monkeypatch.delenv("UPSCALE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if os.name == "posix" and os.uname().sysname == "Linux":
        assert cache_path() == tmp_path / "xdg" / "upscale"


def test_sizes_for_people() -> None:
    assert [megabytes(size) for size in (None, 950, 150_000, 6_123_456)] == ["-", "0.9 kB", "0.1 MB", "6.1 MB"]


@pytest.mark.parametrize("metadata", [{"variant": "lightweight/x2"}, {}], ids=["named", "by its tensors"])
def test_the_row_of_a_trained_file(metadata: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "lightweight-x2.safetensors"
    header = {**metadata, "recipe": "recipes/lightweight-x2.toml", "scores": json.dumps([SCORE])}
    save(path, zoo.find("lightweight/x2").build().state_dict(), header)
    entry = manifest_row(path, load_manifest(), license=RIGHTS)
    assert (entry.name, entry.status, entry.source) == ("lightweight-x2", "bundled", Bundled(path.name))
    assert (entry.size, entry.sha256) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    assert (entry.parameters, entry.recipe) == (41516, "recipes/lightweight-x2.toml")
    assert entry.scores == (Score("Set5", 33.5, 0.92, 31.5, "y, border 2"),)
    document = tmp_path / "manifest.json"
    document.write_text(json.dumps({"schema": 1, "models": {entry.name: to_json(entry)}}))
    assert load_manifest(document).entries == (entry,)


def test_no_row_for_a_file_that_is_not_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    state = zoo.find("lightweight/x2").build().state_dict()
    save(path, state, {"variant": "lightweight/x4"})
    with pytest.raises(WeightsError, match="do not fit lightweight/x4"):
        manifest_row(path, load_manifest(), license=RIGHTS)
    save(path, state, {"variant": "lightweight/x2", "scores": '[{"dataset": "Set5"}]'})
    with pytest.raises(WeightsError, match="scores in the header"):
        manifest_row(path, load_manifest(), license=RIGHTS)
    save(path, state, {"variant": "lightweight/x2"})
    with pytest.raises(WeightsError, match="no row for lightweight/x2"):
        manifest_row(path, Manifest(()), license=RIGHTS)
