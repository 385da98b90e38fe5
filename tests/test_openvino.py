"""The OpenVINO engine: torch's pictures, without torch once a graph is cached, and with a word where it cannot run."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from upscale_cli import findings, zoo
from upscale_cli.engines import graph, open_engine, openvino
from upscale_cli.engines.openvino import OpenVINOEngine
from upscale_cli.errors import NonFiniteOutputError, UsageError
from upscale_cli.findings import Finding
from upscale_cli.manifest import load_manifest
from upscale_cli.media.frame import Frame
from upscale_cli.networks import Combination
from upscale_cli.pipeline import Upscaler
from upscale_cli.weights import formats
from upscale_cli.weights.leftovers import leftovers
from upscale_cli.weights.source import cache_path

BUNDLED = [
    entry.name
    for entry in load_manifest().entries
    if entry.status == "bundled" and not entry.variant.startswith("lut3d/")  # a table is looked up by torch
]
SMALL = "lightweight-x2"
in_bf16 = pytest.mark.skipif("BF16" not in openvino.capabilities(), reason="this processor does not compute in bf16")


def decibels(found: np.ndarray, expected: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((found.astype(float) - expected) ** 2) + 1e-20))


@pytest.mark.parametrize("name", BUNDLED)
def test_it_gives_the_picture_of_torch(name: str, spices: np.ndarray) -> None:
    tiles = np.stack([spices[100:140, 200:248], spices[300:340, 400:448]])
    expected = open_engine(name, device="cpu", precision="fp32", backend="torch").infer(tiles)
    engine = open_engine(name, device="cpu")
    assert (engine.backend, engine.device, engine.remark) == ("openvino", "cpu", "")
    assert decibels(engine.infer(tiles), expected) > 50
    exact = engine.in_precision("fp32")
    assert decibels(exact.infer(tiles), expected) > 100
    assert decibels(exact.infer(tiles.astype(np.uint16) * 257), expected) > 100
    assert decibels(exact.infer((tiles / 255).astype(np.float32)), expected) > 100


def test_tiles_may_lie_in_memory_as_they_like(spices: np.ndarray) -> None:
    engine = open_engine(SMALL, device="cpu", precision="fp32")
    tiles = spices[None, 100:140, 200:248]
    expected = engine.infer(np.array(tiles))
    tiles.flags.writeable = False
    np.testing.assert_array_equal(engine.infer(tiles), expected)
    turned = np.ascontiguousarray(tiles[:, ::-1, ::-1])
    np.testing.assert_array_equal(engine.infer(turned[:, ::-1, ::-1]), expected)


@in_bf16
def test_many_sums_stay_wide_in_bf16(tmp_path: Path, spices: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearer to fp32 than the same graph without the marks."""
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path))
    tiles = spices[None, 100:164, 200:264]
    marked, plain = [], []
    for found, many in ((marked, 17), (plain, 18)):  # EDSR has 17
        monkeypatch.setattr(graph, "MANY_SUMS", many)
        shutil.rmtree(tmp_path, ignore_errors=True)
        engine = open_engine("edsr-x2", device="cpu", precision="bf16")
        assert isinstance(engine, OpenVINOEngine)
        found += [engine.graph.xml.read_text("utf-8").count('name="precise"'), engine.infer(tiles)]
    assert marked[0] == plain[0] + 17
    exact = engine.in_precision("fp32").infer(tiles)
    assert decibels(marked[1], exact) > decibels(plain[1], exact)


def test_of_many_sums_those_stay_wide_that_nothing_scales(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks and what all are added to; the three sums within each are scaled by 0.2."""
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path / "cache"))
    weights = tmp_path / "dense.safetensors"
    formats.save(weights, zoo.find("rrdb/x4-tiny").build().state_dict(), {"variant": "rrdb/x4-tiny"})
    marks = []
    for many in (9, 10):  # it has 9
        monkeypatch.setattr(graph, "MANY_SUMS", many)
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        xml = graph.open_graph(Combination((str(weights),))).xml
        marks.append(xml.read_text("utf-8").count('name="precise"'))
    assert marks[0] == marks[1] + 3


@in_bf16
@pytest.mark.parametrize("name", ["span-x2", "span-x4"])
def test_a_picture_that_passes_convolutions_does_so_in_fp32_at_both_ends(name: str, spices: np.ndarray) -> None:
    """Of much detail; in bf16 throughout 49.5 and 49.2 dB."""
    tiles = spices[None, 200:240, 300:348]
    rounded, exact = (open_engine(name, device="cpu", precision=each).infer(tiles) for each in ("bf16", "fp32"))
    assert decibels(np.rint(rounded * 255) / 255, np.rint(exact * 255) / 255) > 50


def test_few_shapes_are_kept_and_large_ones_alone(monkeypatch: pytest.MonkeyPatch, spices: np.ndarray) -> None:
    engine = open_engine(SMALL, device="cpu")
    assert isinstance(engine, OpenVINOEngine)

    def kept(*heights: int) -> list[int]:
        for height in heights:
            engine.infer(spices[None, :height, :64])
        return [compiled.shape[1] for compiled in engine._compiled.values()]

    assert kept(16, 24, 32, 40, 48) == [24, 32, 40, 48]
    assert kept(24, 56) == [40, 48, 24, 56]
    monkeypatch.setattr(openvino, "_KEPT_BYTES", engine.tile_bytes(100, 64))
    assert kept(64) == [64]
    assert kept(32) == [64, 32]
    assert kept(120) == [120]


@in_bf16
def test_sixteen_bits_are_computed_in_fp32(spices: np.ndarray) -> None:
    deep = Frame(spices[100:140, 200:248].astype(np.uint16) * 257)
    upscaler = Upscaler([open_engine(SMALL, device="cpu", precision="bf16")])
    exact = Upscaler([open_engine(SMALL, device="cpu", precision="fp32")]).enlarge(deep, 80, 96)
    np.testing.assert_array_equal(upscaler.enlarge(deep, 80, 96).color, exact.color)
    assert (upscaler.effort.precision, upscaler.effort.redone) == ("fp32", 0)


def test_what_is_given_stays_while_as_many_are_under_way(spices: np.ndarray) -> None:
    engine = open_engine(SMALL, device="cpu", precision="fp32")
    tiles = [spices[None, top : top + 32, 100:148] for top in range(0, 160, 32)]
    alone = [engine.infer(tile) for tile in tiles]
    waiting = [engine.submit(tile) for tile in tiles[: engine.in_flight]]
    for tile, expected in zip(tiles[engine.in_flight :], alone, strict=False):
        found = waiting.pop(0)()
        np.testing.assert_array_equal(found, expected)
        waiting.append(engine.submit(tile))
    for asked, expected in zip(waiting, alone[-engine.in_flight :], strict=True):
        np.testing.assert_array_equal(asked(), expected)


def test_a_second_start_needs_no_torch(tmp_path: Path, spices: np.ndarray) -> None:
    open_engine(SMALL, device="cpu")  # traces it
    code = """
import sys, numpy as np
from upscale_cli import Upscaler, open_engine
rgb = np.load(sys.argv[1])
np.save(sys.argv[2], Upscaler([open_engine("lightweight-x2", device="cpu", precision="fp32")]).enlarge_rgb8(rgb))
assert "torch" not in sys.modules
assert sys.modules["openvino_telemetry"] is None
assert "openvino.tools.ovc" not in sys.modules
import openvino  # whoever wants its converter has it all the same
try:
    openvino.convert_model("none.onnx")
except Exception as error:
    assert "none.onnx" in str(error)
assert "openvino.tools.ovc" in sys.modules
"""
    np.save(tmp_path / "lr.npy", spices[:60, :80])
    subprocess.run([sys.executable, "-c", code, tmp_path / "lr.npy", tmp_path / "sr.npy"], check=True)
    expected = Upscaler([open_engine(SMALL, precision="fp32", backend="torch")]).enlarge_rgb8(spices[:60, :80])
    assert np.abs(np.load(tmp_path / "sr.npy").astype(int) - expected).max() <= 1


def test_a_graph_is_traced_again_when_it_is_damaged_or_out_of_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path))
    first = graph.open_graph(Combination((SMALL,)))
    assert first.xml.is_relative_to(cache_path())
    note = first.xml.with_name("facts.json")
    traced = note.stat().st_mtime_ns
    assert graph.open_graph(Combination((SMALL,))) == first
    assert note.stat().st_mtime_ns == traced, "nothing was traced"
    first.xml.with_name("graph.bin").write_bytes(b"cut off")
    assert graph.open_graph(Combination((SMALL,))) == first
    assert note.stat().st_mtime_ns > traced
    note.write_text("{}")
    assert graph.open_graph(Combination((SMALL,))) == first
    assert json.loads(note.read_text())["margin"] == zoo.find("lightweight/x2").margin
    monkeypatch.setattr(graph, "_code", lambda: "another version of the networks")
    assert graph.open_graph(Combination((SMALL,))).xml != first.xml
    assert not first.xml.exists(), "what nothing opens any more went"
    assert [each.path for each in leftovers(tmp_path, (), everything=True)] == [*(tmp_path / "graphs").iterdir()]


def test_a_cache_that_cannot_be_written_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spices: np.ndarray
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path / "file"))
    engine = open_engine(SMALL, device="cpu", precision="fp32")
    assert engine.backend == "openvino"
    assert engine.infer(spices[None, :32, :32]).shape == (1, 64, 64, 3)


def test_without_the_library_torch_runs_it_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    engine = open_engine(SMALL, device="cpu")
    assert engine.backend == "torch"
    assert "openvino is not installed" in engine.remark
    with pytest.raises(UsageError, match=r"openvino is not installed. Run `pip install openvino`"):
        open_engine(SMALL, device="cpu", backend="openvino")


def test_what_was_measured_here_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "path", lambda: tmp_path / "findings.json")
    opened = {}
    for backend, seconds in (("openvino", 2e-6), ("torch", 3e-6), ("torch", 1e-6)):
        found = Finding(findings.machine("cpu"), SMALL, backend, "bf16", 256, seconds, 1.0, None, "2026-01-01")
        findings.remember([found])
        opened[backend, seconds] = open_engine(SMALL, device="cpu").backend
    assert list(opened.values()) == ["openvino", "openvino", "torch"]
    assert open_engine(SMALL, device="cpu", precision="fp32").backend == "openvino", "measured in bf16 only"
    assert open_engine(SMALL, device="cpu", backend="openvino").backend == "openvino"


def test_what_is_no_plain_graph_is_torchs_without_a_word() -> None:
    engine = open_engine("bicubic-x2", device="cpu")
    assert (engine.backend, engine.remark) == ("torch", "")
    with pytest.raises(UsageError, match="bicubic-x2 is a formula"):
        open_engine("bicubic-x2", device="cpu", backend="openvino")


def test_a_mixture_and_an_ensemble_run_too(spices: np.ndarray, tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = zoo.find("lightweight/x2").build().state_dict()
    formats.save(tmp_path / "other.safetensors", state, {"variant": "lightweight/x2"})
    tiles = spices[None, 100:140, 200:248]
    for network in (
        Combination((SMALL, tmp_path / "other.safetensors"), share=0.25),
        Combination((SMALL, tmp_path / "other.safetensors"), tta=True),
    ):
        found = open_engine(network, device="cpu", precision="fp32")
        expected = open_engine(network, device="cpu", precision="fp32", backend="torch")
        assert (found.backend, found.name) == ("openvino", expected.name)
        assert decibels(found.infer(tiles), expected.infer(tiles)) > 100


def test_nan_is_seen(tmp_path: Path, spices: np.ndarray) -> None:
    state = zoo.find("lightweight/x2").build().state_dict()
    last = max(key for key in state if key.endswith("bias"))
    state[last] = torch.full_like(state[last], 3e38)  # finite in the file: what it is added to makes it infinite
    first = min(key for key in state if key.endswith("weight"))
    state[first] *= 1e30
    formats.save(tmp_path / "broken.safetensors", state, {"variant": "lightweight/x2"})
    engine = OpenVINOEngine(graph.Graph(*_untested(tmp_path / "broken.safetensors")), precision="fp32")
    with pytest.raises(NonFiniteOutputError, match="gave NaN or infinity in fp32"):
        engine.infer(spices[None, :32, :32])


def _untested(path: Path) -> tuple[graph.Facts, str, Path]:
    """The graph of a network whose picture nothing can be compared with."""
    from upscale_cli.model import Picture, load_network

    _, variant, module = load_network([path], None)
    graph.library().save_model(graph.trace(Picture(module, variant)), path.with_suffix(".xml"), compress_to_fp16=False)
    facts = graph.open_graph(Combination((SMALL,))).facts
    return facts, "broken", path.with_suffix(".xml")


def test_what_it_cannot_do_is_said() -> None:
    with pytest.raises(UsageError, match=r"There is no engine 'warp'. Choose auto, torch, openvino"):
        open_engine(SMALL, backend="warp")
    with pytest.raises(UsageError, match="Precision 'fp8' is unknown"):
        open_engine(SMALL, device="cpu", precision="fp8")
