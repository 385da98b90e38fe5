"""Compiled networks that are read back instead of being compiled again."""

import gc
from pathlib import Path

import numpy as np
import pytest

from upscale_cli.engines import kept, open_engine, openvino

SMALL = "lightweight-x2"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path))
    monkeypatch.setattr(kept, "SLOW_SECONDS", 0)


def _blobs(tmp_path: Path) -> list[Path]:
    return sorted(tmp_path.rglob("*.blob"))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_second_start_compiles_nothing_and_makes_the_same_picture(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spices: np.ndarray
) -> None:
    tile = spices[None, :40, :48]
    expected = open_engine(SMALL, device="cpu", precision=precision).infer(tile)
    (blob,) = _blobs(tmp_path)
    monkeypatch.setattr(openvino, "compiled", lambda *_: pytest.fail("compiled again"))
    np.testing.assert_array_equal(open_engine(SMALL, device="cpu", precision=precision).infer(tile), expected)
    assert _blobs(tmp_path) == [blob]
    assert not list(tmp_path.rglob("*.part"))


def test_of_what_compiles_at_once_only_the_first_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spices: np.ndarray
) -> None:
    monkeypatch.setattr(kept, "SLOW_SECONDS", 3600)
    engine = open_engine(SMALL, device="cpu", precision="int8")
    engine.infer(spices[None, :40, :48])
    (first,) = _blobs(tmp_path)
    engine.infer(spices[None, :48, :40])
    assert _blobs(tmp_path) == [first], "a folder of pictures of many sizes would write each"


def test_what_was_read_back_outlives_its_file_and_what_read_it(tmp_path: Path, spices: np.ndarray) -> None:
    tile = spices[None, :40, :48]
    expected = open_engine(SMALL, device="cpu", precision="fp32").infer(tile)
    engine = open_engine(SMALL, device="cpu", precision="fp32")
    engine.infer(tile)
    (blob,) = _blobs(tmp_path)
    blob.unlink()
    gc.collect()
    np.testing.assert_array_equal(engine.infer(tile), expected)


@pytest.mark.parametrize("left", [0, 100, 5000])
def test_a_damaged_one_is_compiled_anew(left: int, tmp_path: Path, spices: np.ndarray) -> None:
    tile = spices[None, :40, :48]
    expected = open_engine(SMALL, device="cpu", precision="int8").infer(tile)
    (blob,) = _blobs(tmp_path)
    whole = blob.read_bytes()
    blob.write_bytes(whole[:left])
    np.testing.assert_array_equal(open_engine(SMALL, device="cpu", precision="int8").infer(tile), expected)
    assert blob.stat().st_size == len(whole)


def test_precisions_shapes_and_kinds_of_tiles_have_their_own_and_few_stay(tmp_path: Path, spices: np.ndarray) -> None:
    engine = open_engine(SMALL, device="cpu", precision="int8")
    engine.infer(spices[None, :40, :48])
    engine.infer(spices[None, :48, :40])
    (first, second) = _blobs(tmp_path)
    open_engine(SMALL, device="cpu", precision="fp32").infer(spices[None, :40, :48])
    engine.infer(spices[None, :40, :48].astype(np.uint16))
    assert len(_blobs(tmp_path)) == kept.KEPT == 4
    engine.infer(spices[None, :32, :32])
    assert len(_blobs(tmp_path)) == kept.KEPT
    assert len({first, second} & set(_blobs(tmp_path))) == 1, "the longest unused went"
