"""Trainings in processes of their own: killed at any moment, several at once, and one of several that goes away."""

import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from upscale_cli.train.config import TrainConfig
from upscale_cli.train.history import read
from upscale_cli.train.verb import TrainRequest, train

CONFIG = TrainConfig(
    variant="lightweight/x2-tiny",
    steps=150,
    batch=4,
    patch_px=16,
    learning_rate=3e-3,
    warmup_steps=5,
    precision="fp32",
    schedule="plateau",
    patience=1,
    validate_every=40,
    checkpoint_every=7,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, spices: np.ndarray) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    for name, cut in (("data", spices[:200, :200]), ("valid", spices[220:300, 400:500])):
        (folder / name).mkdir()
        Image.fromarray(cut).save(folder / name / "photo.png")
    return folder


def request(folder: Path, name: str, *, resume: bool = False, config: TrainConfig = CONFIG) -> TrainRequest:
    data, valid = ((str(folder / part),) for part in ("data", "valid"))
    return TrainRequest(config=config, data=data, valid=valid, folder=folder / name, resume=resume, device="cpu")


def curve(folder: Path) -> list[tuple[float | None, ...]]:
    return [tuple(row.get(name) for name in ("step", "loss", "learning_rate", "psnr_y")) for row in read(folder)]


def test_a_training_killed_again_and_again_ends_with_the_same_bits(folder: Path) -> None:
    train(request(folder, "whole"))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["upscale_cli.train.verb"])
    draw, killed = random.Random(0), []
    out, stops = folder / "broken", [draw.randrange(1, 150) for _ in range(3)]
    for stop in [*sorted(stops), None]:
        process = context.Process(target=train, args=(request(folder, "broken", resume=bool(killed)),))
        process.start()
        while stop is not None and process.is_alive():
            rows = (out / "history.csv").read_text().count("\n") - 1 if (out / "history.csv").exists() else 0
            if rows * CONFIG.checkpoint_every >= stop:
                time.sleep(draw.random() / 100)
                process.kill()
            time.sleep(0.001)
        process.join()
        if process.exitcode == -signal.SIGKILL:
            killed.append(stop)
    assert len(killed) >= 2, "most were killed before their end"
    assert process.exitcode == 0
    assert curve(out) == curve(folder / "whole")
    whole, broken = (load_file(folder / name / "weights.safetensors") for name in ("whole", "broken"))
    assert whole.keys() == broken.keys()
    assert all(torch.equal(broken[name], value) for name, value in whole.items())
    assert not list(out.glob(".*"))


def start(folder: Path, name: str, steps: int) -> list[subprocess.Popen[str]]:
    """A training by two processes, as torchrun would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    (folder / "two.toml").write_text(
        f'variant = "{CONFIG.variant}"\nsteps = {steps}\nbatch = 4\npatch_px = 16\nlearning_rate = 3e-3\n'
        'warmup_steps = 5\nprecision = "fp32"\naccumulate = 2\nvalidate_every = 10\ncheckpoint_every = 10\n'
    )
    words = ["train", "two.toml", "--data", "data", "--valid", "valid", "-o", name, "-d", "cpu"]
    env = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "upscale_cli", *words],
            cwd=folder,
            env=env | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]


def test_two_processes_train_the_weights_of_one(folder: Path) -> None:
    processes = start(folder, "two", 20)
    config = TrainConfig(
        variant=CONFIG.variant,
        steps=20,
        batch=4,
        patch_px=16,
        learning_rate=3e-3,
        warmup_steps=5,
        precision="fp32",
        validate_every=10,
        checkpoint_every=10,
    )
    train(request(folder, "one", config=config))
    said = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert "best of 20 steps" in said[0][0]
    assert said[1] == ("", ""), "the first alone speaks"
    one, two = (load_file(folder / name / "weights.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-5)
    losses = [[row["loss"] for row in read(folder / name)] for name in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_a_process_that_is_killed_ends_the_others_with_one_line(folder: Path) -> None:
    first, second = start(folder, "lost", 100_000)
    deadline = time.monotonic() + 60
    while not (folder / "lost" / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    second.kill()
    second.communicate()
    _, said = first.communicate(timeout=30)
    assert first.returncode == 1
    errors = [line for line in said.splitlines() if not line.startswith(("step ", "note: "))]
    assert len(errors) == 1
    assert errors[0].startswith("error: Process 0 of 2 ends: another one of this training is gone (")
    assert errors[0].endswith("Start all of them again with --resume.")


def test_a_mistake_is_named_once(folder: Path) -> None:
    processes = start(folder, "two", 20)  # which holds a training already
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2]
    assert "holds a training already" in said[0]
    assert said[1] == ""
