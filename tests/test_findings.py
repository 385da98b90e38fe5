"""What a bench found is there for later runs, as long as it is true of the machine, and never in anybody's way."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from upscale_cli import __version__, findings
from upscale_cli.device import hardware
from upscale_cli.engines import open_engine
from upscale_cli.findings import FILE_NAME, Finding

HERE = findings.machine("cpu")
FOUND = Finding(HERE, "edsr-x2", "torch", "fp32", 256, 2e-5, 1.5, 50_000_000, "2026-05-01")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_is_remembered_comes_back_fastest_first(cache: Path) -> None:
    assert findings.known("edsr-x2", "cpu") == ()
    faster = replace(FOUND, backend="openvino", precision="bf16", seconds_per_pixel=3e-6, bytes=None)
    findings.remember([FOUND, replace(FOUND, model="edsr-x4")])
    findings.remember([faster])
    assert findings.known("edsr-x2", "cpu") == (faster, FOUND)
    assert sorted(path.name for path in cache.iterdir() if path.suffix != ".lock") == [FILE_NAME]


def test_a_new_measurement_replaces_the_old_one_of_the_same() -> None:
    findings.remember([FOUND, replace(FOUND, tile_px=512)])
    findings.remember([replace(FOUND, seconds_per_pixel=9e-5)])
    assert [each.seconds_per_pixel for each in findings.known("edsr-x2", "cpu")] == [2e-5, 9e-5]


def test_the_most_similar_tiles_tell_what_a_pixel_takes() -> None:
    findings.remember([FOUND, replace(FOUND, tile_px=1024, seconds_per_pixel=1e-5)])
    for tile_px, seconds in ((64, 2e-5), (256, 2e-5), (500, 2e-5), (530, 1e-5), (4096, 1e-5)):
        found = findings.seconds_per_pixel("edsr-x2", "cpu", backend="torch", precision="fp32", tile_px=tile_px)
        assert found == seconds
    for backend, precision in (("openvino", "fp32"), ("torch", "bf16")):
        found = findings.seconds_per_pixel("edsr-x2", "cpu", backend=backend, precision=precision, tile_px=256)
        assert found is None


def test_another_machine_or_version_is_not_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    findings.remember([replace(FOUND, machine=HERE.replace(__version__, "0.0.1")), replace(FOUND, machine="a Cray")])
    assert findings.known("edsr-x2", "cpu") == ()
    findings.remember([FOUND])
    assert len(findings.known("edsr-x2", "cpu")) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1000")  # no more than there are
    most = findings.machine("cpu")
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert findings.machine("cpu") == most
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert ", 1 cores; " in findings.machine("cpu")


def test_a_machine_is_named_by_what_decides_its_speed() -> None:
    import torch

    assert HERE.startswith(f"{hardware('cpu')}, ")
    assert f"upscale {__version__}" in HERE
    assert f"torch {torch.__version__}" in HERE


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'"findings"',
        b"\xff\x00",
        b'{"schema": 1}',
        b'{"schema": 2, "findings": [1]}',
        b'{"schema": 1, "findings": 5}',
        b'{"schema": 1, "findings": [1, null, {}, [], {"machine": 3}]}',
    ],
)
def test_a_damaged_file_is_as_good_as_none(cache: Path, content: bytes) -> None:
    cache.mkdir()
    (cache / FILE_NAME).write_bytes(content)
    assert findings.known("edsr-x2", "cpu") == ()
    findings.remember([FOUND])
    assert findings.known("edsr-x2", "cpu") == (FOUND,)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seconds_per_pixel", 0),
        ("seconds_per_pixel", float("nan")),
        ("seconds_per_pixel", float("inf")),
        ("seconds_per_pixel", "1"),
        ("tile_px", 0),
        ("tile_px", None),
        ("first_seconds", -1),
        ("bytes", "many"),
        ("model", 7),
    ],
)
def test_a_row_that_cannot_be_is_left_out_and_the_others_stay(cache: Path, name: str, value: object) -> None:
    other = replace(FOUND, precision="bf16")
    rows = [{**asdict(FOUND), name: value}, asdict(other)]
    cache.mkdir()
    (cache / FILE_NAME).write_text(json.dumps({"schema": 1, "findings": rows}))
    assert findings.known("edsr-x2", "cpu") == (other,)


def test_benches_side_by_side_lose_nothing() -> None:
    each = [replace(FOUND, tile_px=64 + index) for index in range(16)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda found: findings.remember([found]), each))
    assert {found.tile_px for found in findings.known("edsr-x2", "cpu")} == {found.tile_px for found in each}


def test_the_file_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "_MOST", 3)
    for tile_px in (64, 128, 64, 256, 512):
        findings.remember([replace(FOUND, tile_px=tile_px)])
    assert {found.tile_px for found in findings.known("edsr-x2", "cpu")} == {64, 256, 512}


def test_forgetting(cache: Path) -> None:
    assert findings.forget() == 0
    findings.remember([FOUND, replace(FOUND, tile_px=512)])
    assert findings.forget() == 2
    assert findings.known("edsr-x2", "cpu") == ()
    assert not (cache / FILE_NAME).exists()


def test_a_cache_that_cannot_be_written_says_so(cache: Path) -> None:
    cache.write_bytes(b"a file where the folder should be")
    with pytest.raises(OSError, match="exists"):
        findings.remember([FOUND])
    assert findings.known("edsr-x2", "cpu") == ()


@pytest.mark.parametrize(
    ("rows", "precision", "backend"),
    [
        ([("torch", "fp32", 1e-6), ("openvino", "fp32", 2e-6)], "auto", "torch"),
        ([("torch", "fp32", 2e-6), ("openvino", "fp32", 1e-6)], "auto", "openvino"),
        ([("torch", "fp32", 1e-6)], "auto", "openvino"),  # nobody knows what the other takes
        ([("torch", "bf16", 1e-6), ("openvino", "bf16", 2e-6)], "fp32", "openvino"),
        ([("torch", "fp32", 2e-6), ("openvino", "fp32", 3e-6), ("openvino", "int8", 1e-6)], "auto", "torch"),
        ([("torch", "fp32", 1e-6), ("openvino", "fp32", 2e-6)], "fp32", "torch"),
    ],
)
def test_the_engine_is_the_one_that_was_found_faster(
    rows: list[tuple[str, str, float]], precision: str, backend: str
) -> None:
    for engine, numbers, seconds in rows:
        row = replace(FOUND, model="lightweight-x2", backend=engine, precision=numbers, seconds_per_pixel=seconds)
        findings.remember([row])
    engine = open_engine("lightweight", 2, device="cpu", precision=precision)
    assert engine.backend == backend
    assert open_engine("lightweight", 2, device="cpu", backend="torch").backend == "torch"


def test_asking_needs_no_torch() -> None:
    findings.remember([FOUND])
    code = (
        "import sys; from upscale_cli import findings; "
        "print(len(findings.known('edsr-x2', 'cpu')), 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "1 False\n"
