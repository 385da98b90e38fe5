"""The whole way beside the network alone: seconds of `upscale` on a folder, over those of its tiles in the same engine.

Owns the comparison: a folder of crops of the demo photographs goes through `upscale` as a whole process, JPEG to JPEG,
start-up included; then the very tiles of those pictures go through the engine it picks, in memory, nothing decoded,
joined or encoded. Both take turns. A ratio of 1 would be decoding, joining and encoding that cost nothing.

    python benchmarks/overlap.py                               # edsr-x2 and lightweight-x2, 100 photographs
    python benchmarks/overlap.py -m edsr-x4 --files 10 --rounds 1

The last line is one JSON document, also written to benchmarks/results/. Needs os.wait4, which Windows has not.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from machine import as_installed, machine
from peers import whole_process
from PIL import Image

from upscale_cli.engines import Engine, open_engine
from upscale_cli.stage import Stage

HERE = Path(__file__).parent
SIDES = (320, 480)  # height and width of a photograph here


@dataclass(frozen=True, slots=True)
class Row:
    """One model: medians over rounds."""

    model: str
    backend: str
    precision: str
    files: int
    whole_seconds: float
    """Of the process, start-up included."""
    network_seconds: float
    """Of the same tiles in the engine alone."""
    ratio: float
    cpu_seconds: float
    """Of all threads of the process."""


def photographs(count: int, folder: Path) -> list[Path]:
    """`count` crops of the demo photographs, each from another place."""
    demo = [np.asarray(Image.open(path).convert("RGB")) for path in sorted((HERE / "photos").glob("*.jpg"))]
    paths = []
    for index in range(count):
        photo = demo[index % len(demo)]
        place = [(side - wanted) * index // count for side, wanted in zip(photo.shape, SIDES, strict=False)]
        crop = photo[place[0] : place[0] + SIDES[0], place[1] : place[1] + SIDES[1]]
        paths.append(folder / f"{index:03}.jpg")
        Image.fromarray(crop).save(paths[-1], quality=95, subsampling="4:4:4")
    return paths


def tiles(engine: Engine, paths: list[Path]) -> list[np.ndarray]:
    """What `upscale` cuts of these pictures."""
    stage = Stage(engine, tile_px=0, overlap_px=None, batch=None)
    found = []
    for path in paths:
        picture = np.asarray(Image.open(path))
        grid = stage.plan(*picture.shape[:2])
        found += [np.ascontiguousarray(grid.cut(picture, tile))[None] for tile in grid]
    return found


def network(engine: Engine, batches: list[np.ndarray]) -> float:
    """Seconds of the tiles in the engine, as many under way as it wants."""
    began = time.perf_counter()
    waiting: deque = deque()
    for batch in batches:
        waiting.append(engine.submit(batch))
        if len(waiting) == engine.in_flight:
            waiting.popleft()()
    for asked in waiting:
        asked()
    return time.perf_counter() - began


def measure(model: str, paths: list[Path], folder: Path, *, rounds: int) -> Row:
    cache = folder / "cache"
    os.environ["UPSCALE_CACHE"] = str(cache)
    engine = open_engine(model, device="cpu")
    batches = tiles(engine, paths)
    command = [sys.executable, "-m", "upscale_cli", str(paths[0].parent), "-o", str(folder / "out"), "-m", model]
    command += ["--overwrite", "-s", str(engine.scale)]
    network(engine, batches[:2])  # what happens once is not what a batch is about
    turns = [(whole_process(command, cache), network(engine, batches)) for _ in range(rounds)]
    return Row(
        model=engine.name,
        backend=engine.backend,
        precision=engine.precision,
        files=len(paths),
        whole_seconds=round(median(whole.seconds for whole, _ in turns), 2),
        network_seconds=round(median(alone for _, alone in turns), 2),
        ratio=round(median(whole.seconds / alone for whole, alone in turns), 3),
        cpu_seconds=round(median(whole.cpu_seconds for whole, _ in turns), 2),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-m", "--model", action="append", help="a row of the manifest; repeatable")
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args()
    as_installed()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "in").mkdir()
        paths = photographs(options.files, folder / "in")
        for model in options.model or ["lightweight-x2", "edsr-x2"]:
            rows.append(measure(model, paths, folder, rounds=options.rounds))
            print(rows[-1], flush=True)
    document = {
        "benchmark": "overlap",
        "date": time.strftime("%Y-%m-%d"),
        "picture_px": [SIDES[1], SIDES[0]],
        "rounds": options.rounds,
        "machine": machine(torch.device("cpu"), ("torch", "numpy", "pillow", "opencv-python", "openvino")),
        "rows": [asdict(row) for row in rows],
    }
    if not options.no_save:
        (HERE / "results" / "overlap.json").write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
