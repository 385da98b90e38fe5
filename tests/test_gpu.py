"""On a CUDA device: the CPU's picture, half precision, and memory that runs out. Skipped where there is none."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from upscale_cli.engines import open_engine
from upscale_cli.metrics.fidelity import psnr
from upscale_cli.pipeline import Upscaler
from upscale_cli.request import NetworkOptions, RunRequest
from upscale_cli.run import run
from upscale_cli.train import loop
from upscale_cli.train.config import TrainConfig
from upscale_cli.zoo import find

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]
ROWS = ("lightweight-x2", "improved-x4", "edsr-x4")


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
    trainer = loop.Trainer(config, find(config.variant).build(), device=torch.device("cuda"))
    hr = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    large = hr.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    losses = [float(trainer.train_step(hr, large)) for _ in range(config.steps)]
    assert losses[-1] < losses[0]
    restored = loop.Trainer(config, find(config.variant).build(), device=torch.device("cuda"))
    restored.restore(trainer.checkpoint())
    assert restored.step == config.steps
