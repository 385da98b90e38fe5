"""What waiting for data costs a training: the loader's share of the step, and the patches one core makes a second.

Owns the comparison: the same network takes steps on patches from a folder, from shards with LR in them and without, by
every degradation. `share` is what the steps spend waiting in `next(batches)`; `alone` are the patches that one core
makes of the same data a second while no step runs. Kinds of data take turns.

    python benchmarks/loader.py                                # lightweight/x4: the network that waits soonest
    python benchmarks/loader.py -m edsr/x4 --steps 5 --rounds 1 --no-save

The last line is one JSON document, also written to benchmarks/results/.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import cv2
import torch
from machine import machine

from upscale_cli import zoo
from upscale_cli.train.config import TrainConfig
from upscale_cli.train.data import Sampler, load_data
from upscale_cli.train.data.prepare import PrepareRequest, prepare
from upscale_cli.train.methods import make_method
from upscale_cli.train.ranks import joined
from upscale_cli.train.trainer import Trainer

HERE = Path(__file__).parent
DEGRADATIONS = ("bicubic", "unknown", "realesrgan")
SETTINGS = {"batch": 8, "patch_px": 64, "detail_draws": 1, "validate_every": 10**6, "checkpoint_every": 10**6}
WARM_UP = 2


@dataclass(frozen=True, slots=True)
class Case:
    """Where patches come from."""

    data: str
    degradation: str
    sampler: Sampler


@dataclass(frozen=True, slots=True)
class Row:
    """Medians over rounds."""

    variant: str
    data: str
    degradation: str
    step_ms: float
    """One step, waiting included."""
    share: float
    """Of the step, spent waiting."""
    alone: float
    """Patches a second of one core."""


def cases(variant: str, folder: Path) -> Iterator[Case]:
    scale = zoo.find(variant).scale
    for data, laid_out in (("folder", None), ("shards with LR", scale), ("shards", 0)):
        place = HERE / "photos"
        if laid_out is not None:
            place = folder / f"{scale}-{laid_out}"
            prepare(PrepareRequest(data=(str(HERE / "photos"),), folder=place, scale=laid_out))
        for degradation in DEGRADATIONS if laid_out != scale else ("auto",):
            config = TrainConfig(variant=variant, steps=1, degradation=degradation, **SETTINGS)  # type: ignore[arg-type]
            valid = (str(sorted((HERE / "photos").glob("*.jpg"))[0]),)
            found = load_data((str(place),), valid, config, scale=scale, cache=folder)
            yield Case(data, "bicubic" if degradation == "auto" else degradation, found.sampler)


def steps(trainer: Trainer, sampler: Sampler, count: int) -> tuple[float, float]:
    """Seconds of a step, and the share of them that was waiting."""
    waited, began = 0.0, 0.0
    batches = sampler.batches(0, WARM_UP + count)
    for number in range(WARM_UP + count):
        if number == WARM_UP:
            waited, began = 0.0, time.perf_counter()
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        losses = trainer.train_step(batch.lr, batch.hr)
        sum(float(loss) for loss in losses.values())  # a step is done when its loss is known
    seconds = time.perf_counter() - began
    return seconds / count, waited / seconds


def alone(sampler: Sampler, seconds: float) -> float:
    """Patches a second of one core: by the clock of this thread, which stands while others have the core."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    began, number = time.thread_time(), 0
    while time.thread_time() - began < seconds:
        sampler.batch(number)
        number += 1
    cv2.setNumThreads(before)
    return number * SETTINGS["batch"] / (time.thread_time() - began)


def measure(variant: str, folder: Path, count: int, rounds: int) -> Iterator[Row]:
    every = list(cases(variant, folder))
    config = TrainConfig(variant=variant, steps=10**6, **SETTINGS)  # type: ignore[arg-type]
    with joined("auto") as ranks:
        torch.manual_seed(0)
        row = zoo.find(variant)
        trainer = Trainer(config, make_method(config, row, row.build()), ranks)
        turns = [
            [(*steps(trainer, case.sampler, count), alone(case.sampler, 0.5)) for case in every] for _ in range(rounds)
        ]
    for case, found in zip(every, zip(*turns, strict=True), strict=True):
        step, share, patches = (median(values) for values in zip(*found, strict=True))
        yield Row(variant, case.data, case.degradation, round(step * 1e3, 1), round(share, 4), round(patches, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-m", "--variant", action="append", help="a network of the zoo; repeatable")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for variant in options.variant or ["lightweight/x4"]:
            for row in measure(variant, Path(scratch), options.steps, options.rounds):
                rows.append(row)
                print(row, flush=True)
    document = {
        "benchmark": "loader",
        "date": time.strftime("%Y-%m-%d"),
        "batch": SETTINGS["batch"],
        "patch_px": SETTINGS["patch_px"],
        "steps": options.steps,
        "rounds": options.rounds,
        "machine": machine(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "rows": [asdict(row) for row in rows],
    }
    if not options.no_save:
        (HERE / "results" / "loader.json").write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
