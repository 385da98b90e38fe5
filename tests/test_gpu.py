"""On a CUDA device: the CPU's picture, half precision, graphs, memory that runs out. Skipped where there is none."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.backends import cudnn

from upscale_cli.engines import open_engine
from upscale_cli.engines.cuda import EAGER_RUNS, CudaEngine
from upscale_cli.engines.eager import EagerEngine
from upscale_cli.errors import NonFiniteOutputError, OutOfMemoryError
from upscale_cli.media.frame import Frame
from upscale_cli.metrics.fidelity import psnr
from upscale_cli.model import load_model
from upscale_cli.pipeline import Upscaler
from upscale_cli.request import NetworkOptions, RunRequest
from upscale_cli.run import run
from upscale_cli.train.config import TrainConfig
from upscale_cli.train.methods import make_method
from upscale_cli.train.ranks import Ranks
from upscale_cli.train.trainer import Trainer
from upscale_cli.zoo import find

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]
ROWS = ("lightweight-x2", "improved-x4", "edsr-x4")
DEPTHS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "u8": lambda rgb: rgb,
    "u16": lambda rgb: rgb.astype(np.uint16) * 257,
    "floats": lambda rgb: (rgb / 255).astype(np.float32),
}


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Leave torch half a gigabyte of the device."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 0.5 * 2**30 / total))
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("row", ROWS)
def test_fp32_gives_the_picture_of_the_cpu(row: str, spices: np.ndarray) -> None:
    lr = spices[100:200, 200:330]
    cpu = Upscaler([open_engine(row, device="cpu", precision="fp32")]).enlarge_rgb8(lr)
    cuda = Upscaler([open_engine(row, device="cuda", precision="fp32")]).enlarge_rgb8(lr)
    assert np.abs(cuda.astype(int) - cpu.astype(int)).max() <= 1


@pytest.mark.parametrize("row", ROWS)
def test_auto_is_fp16_and_near_fp32(row: str, spices: np.ndarray) -> None:
    lr = spices[100:200, 200:330]
    half = open_engine(row, device="cuda")
    assert half.precision == "fp16"
    full = Upscaler([open_engine(row, device="cuda", precision="fp32")]).enlarge_rgb8(lr)
    assert psnr(Upscaler([half]).enlarge_rgb8(lr), full) > 50


@pytest.mark.usefixtures("little_memory")
def test_tiles_shrink_until_they_fit(spices: np.ndarray) -> None:
    upscaler = Upscaler([open_engine("edsr-x4", device="cuda", precision="fp32")], tile_px=1024)
    tiled = upscaler.enlarge_rgb8(spices)
    assert upscaler.effort.restarts >= 1
    assert upscaler.effort.tile_px < 640
    small = Upscaler([open_engine("edsr-x4", device="cuda", precision="fp32")], tile_px=128).enlarge_rgb8(spices)
    assert (np.abs(tiled.astype(int) - small.astype(int)) <= 1).mean() >= 0.999


@pytest.mark.parametrize("tile_px", [0, 64])
def test_frames_that_go_together_are_those_that_go_alone(tile_px: int, spices: np.ndarray) -> None:
    frames = [Frame(np.ascontiguousarray(spices[4 * n : 4 * n + 96, 200:328])) for n in range(9)]
    upscaler = Upscaler([open_engine("improved-x4", device="cuda")], tile_px=tile_px)

    def made(most: int) -> list[np.ndarray]:
        upscaler.begin(None)
        found = []
        for index, frame in enumerate(frames):
            strips = upscaler.strips(frame, 384, 512, coming=frames[index + 1 : index + 1 + most])
            found.append(np.concatenate([strip.color for strip in strips]))
        return found

    together, again, alone = made(8), made(8), made(0)
    for first, second, third in zip(together, again, alone, strict=True):
        np.testing.assert_array_equal(first, second)
        assert psnr(first, third) > 55


def cuda_engine(row: str, precision: str) -> CudaEngine:
    return CudaEngine(load_model(row, device="cuda", precision=precision))


def eager(engine: CudaEngine, tiles: np.ndarray) -> np.ndarray:
    """What the network gives without any of the engine, and without TF32."""
    with cudnn.flags(enabled=True, allow_tf32=engine.precision != "fp32"):
        return EagerEngine(engine.model).infer(tiles)


def drain(engine: CudaEngine, tiles: Sequence[np.ndarray]) -> list[np.ndarray]:
    """All of them as the pipeline asks: `in_flight` submitted, one asked for."""
    waiting, found = [], []
    for tile in tiles:
        waiting.append(engine.submit(tile))
        if len(waiting) == engine.in_flight:
            found.append(waiting.pop(0)().copy())
    return found + [asked().copy() for asked in waiting]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("row", ROWS)
def test_graphs_give_the_eager_picture(row: str, precision: str, depth: str, spices: np.ndarray) -> None:
    engine = cuda_engine(row, precision)
    tiles = [DEPTHS[depth](spices[None, 16 * n : 16 * n + 96, 200:328]) for n in range(EAGER_RUNS + 5)]
    for tile, picture in zip(tiles, drain(engine, tiles), strict=True):
        expected = eager(engine, tile)
        if precision == "fp32":
            np.testing.assert_allclose(picture, expected, atol=1e-3)
        else:
            error = float(np.mean((picture - expected) ** 2))
            assert -10 * np.log10(error + 1e-12) > 55
    assert engine.remark == "", "bundled networks can be captured"


def test_the_same_tiles_make_the_same_picture_whatever_ran_before(spices: np.ndarray) -> None:
    tile = spices[None, :128, :128]
    engine = cuda_engine("edsr-x4", "fp16")
    first = engine.infer(tile)
    for picture in drain(engine, [tile] * (EAGER_RUNS + 3)):
        np.testing.assert_array_equal(picture, first)


def test_shapes_and_depths_may_change_with_every_tile(spices: np.ndarray) -> None:
    engine = cuda_engine("improved-x4", "fp32")
    shapes = [(64, 64), (96, 48), (33, 127), (64, 200)]
    tiles = []
    for n in range(5 * len(shapes)):
        height, width = shapes[n % len(shapes)]
        batch = np.stack([spices[top : top + height, 2 * n : 2 * n + width] for top in (n, 150 + n)])
        tiles.append(DEPTHS["u16" if n % 3 else "u8"](batch))
    for tile, picture in zip(tiles, drain(engine, tiles), strict=True):
        np.testing.assert_allclose(picture, eager(engine, tile), atol=1e-3)
    assert engine.remark == ""


def test_two_engines_take_turns_on_one_device(spices: np.ndarray) -> None:
    engines = [cuda_engine("improved-x4", "fp16"), cuda_engine("edsr-x4", "fp16")]
    tiles = [spices[None, 16 * n : 16 * n + 96, :128] for n in range(6)]
    expected = [[engine.infer(tile) for tile in tiles] for engine in engines]
    for index, tile in enumerate(tiles):
        asked = [engine.submit(tile) for engine in engines]
        for each, pictures in zip(asked, expected, strict=True):
            np.testing.assert_allclose(each(), pictures[index], atol=1e-3)


def test_nan_is_seen_eagerly_and_in_a_graph(spices: np.ndarray) -> None:
    model = load_model("lightweight-x2", device="cuda", precision="fp16")
    sound = model.module.forward

    def forward(lr: Tensor) -> Tensor:
        return torch.where(lr.mean() > 0.9, torch.nan, 1.0) * sound(lr)

    model.module.forward = forward
    engine = CudaEngine(model)
    good, bad = spices[None, :64, :96], np.full((1, 64, 96, 3), 255, np.uint8)
    expected = engine.infer(good)
    for _ in range(EAGER_RUNS):
        first, broken, last = engine.submit(good), engine.submit(bad), engine.submit(good)
        np.testing.assert_allclose(first(), expected, atol=1e-3)
        with pytest.raises(NonFiniteOutputError):
            broken()
        np.testing.assert_allclose(last(), expected, atol=1e-3)


@pytest.mark.usefixtures("little_memory")
def test_after_memory_ran_out_smaller_tiles_are_right(spices: np.ndarray) -> None:
    engine = cuda_engine("edsr-x4", "fp32")
    small = spices[None, :64, :64]
    expected = eager(engine, small)
    drain(engine, [small] * (EAGER_RUNS + 1))
    growing = [np.resize(spices, (1, side, side, 3)) for side in range(128, 1024, 64)]
    with pytest.raises(OutOfMemoryError):  # before or while one is captured
        drain(engine, [tile for tile in growing for _ in range(EAGER_RUNS)])
    for picture in drain(engine, [small] * (EAGER_RUNS + 1)):
        np.testing.assert_allclose(picture, expected, atol=1e-3)
    assert engine.remark == ""


@pytest.mark.parametrize("row", ["lightweight-x2", "edsr-x4"])
def test_a_tile_takes_about_the_memory_it_is_said_to(row: str, spices: np.ndarray) -> None:
    engine = cuda_engine(row, "fp16")
    tile = np.resize(spices, (1, 512, 512, 3))
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_reserved()
    drain(engine, [tile] * (EAGER_RUNS + 3))
    # Half of what is free is planned with.
    assert torch.cuda.max_memory_reserved() - before < 2 * engine.tile_bytes(512, 512)


def test_a_lost_device_is_told() -> None:
    code = """
import numpy as np, torch
from upscale_cli.engines import open_engine
from upscale_cli.errors import DeviceLostError
engine = open_engine("lightweight-x2", device="cuda")
tile = np.zeros((1, 64, 64, 3), np.uint8)
engine.infer(tile)
torch.zeros(1, device="cuda")[torch.tensor([9], device="cuda")]  # after which the device takes no more work
try:
    engine.infer(tile)
except DeviceLostError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stdout.startswith("The device cuda works no more: "), done.stderr


def test_two_processes_share_one_card(photos: list[Path], tmp_path: Path) -> None:
    made = {}
    for device in ("cuda:0", "cuda:0,cuda:0"):
        network = NetworkOptions(model="lightweight", device=device, precision="fp32")
        out = tmp_path / device.replace(",", "+")
        report = run(RunRequest(inputs=tuple(map(str, photos)), output=out, network=network))
        assert {file.state for file in report.files} == {"made"}
        made[device] = [file.target.read_bytes() for file in report.files if file.target]
    assert made["cuda:0"] == made["cuda:0,cuda:0"]


def test_a_step_of_training_lowers_the_loss() -> None:
    config = TrainConfig(variant="edsr/x2-tiny", steps=20, batch=2, patch_px=16, warmup_steps=1)
    torch.manual_seed(0)
    variant, ranks = find(config.variant), Ranks(torch.device("cuda"))
    trainer = Trainer(config, make_method(config, variant, variant.build()), ranks)
    hr = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    large = hr.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    losses = [float(trainer.train_step(hr, large)["loss"]) for _ in range(config.steps)]
    assert losses[-1] < losses[0]
    restored = Trainer(config, make_method(config, variant, variant.build()), ranks)
    restored.restore(trainer.checkpoint())
    assert restored.step == config.steps
