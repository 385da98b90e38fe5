"""Seconds and megapixels a second of the shipped models on the demo photographs, beside plain eager PyTorch.

Owns the comparison: `upscale` as it is (the pipeline, automatic tiles and precision) and the loop anyone would write
first (whole picture, N x C x H x W, fp32, Pillow in and out), with the same weights and JPEG quality, turn by turn in
one run: upscale, plain, upscale, plain. Refuses to compare pictures that differ: the PSNR between the two is reported.

    python benchmarks/speed.py                     # every model with weights, three rounds
    python benchmarks/speed.py -m lightweight-x2 --photos 2 --rounds 1

The last line is one JSON document, also written to benchmarks/results/ after every model.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from machine import machine
from PIL import Image
from torch import nn

from upscale_cli.device import pick
from upscale_cli.engines import open_engine
from upscale_cli.manifest import load_manifest
from upscale_cli.metrics.fidelity import psnr
from upscale_cli.pipeline import Job, PictureOptions, Upscaler, process
from upscale_cli.weights.loading import load_module

HERE = Path(__file__).parent
QUALITY = 95
SUBSAMPLING = "4:4:4"  # what upscale writes


@dataclass(frozen=True, slots=True)
class Row:
    """One model: medians over rounds of the seconds for all photographs."""

    model: str
    precision: str
    upscale_seconds: float
    plain_seconds: float
    ratio: float
    """Plain over upscale, the median of the rounds' own ratios: above 1, upscale is faster."""
    input_megapixels_per_second: float
    output_megapixels_per_second: float
    plain_output_megapixels_per_second: float
    psnr_between: float
    """PSNR in dB between the two on the smallest photograph, before encoding."""


@torch.inference_mode()
def plain_picture(module: nn.Module, rgb: np.ndarray, device: torch.device) -> np.ndarray:
    """The loop without this project, its inside: the whole picture in fp32."""
    lr = torch.from_numpy(rgb).permute(2, 0, 1)[None].contiguous().to(device).float() / 255
    return (module(lr)[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def plain(module: nn.Module, photos: list[Path], folder: Path, device: torch.device) -> None:
    """The loop without this project."""
    for path in photos:
        sr = plain_picture(module, read(path), device)
        Image.fromarray(sr).save(folder / path.name, quality=QUALITY, subsampling=SUBSAMPLING)


def whole(upscaler: Upscaler, photos: list[Path], folder: Path) -> None:
    """The same through `upscale`."""
    for result in process(jobs(upscaler, photos, folder), upscaler, PictureOptions(quality=QUALITY)):
        if result.error:
            raise SystemExit(f"{result.source}: {result.error}")


def jobs(upscaler: Upscaler, photos: list[Path], folder: Path) -> list[Job]:
    sizes = [size_of(path) for path in photos]
    scale = upscaler.scale
    return [
        Job(source=path, target=folder / path.name, format="JPEG", height=height * scale, width=width * scale)
        for path, (width, height) in zip(photos, sizes, strict=True)
    ]


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def seconds(work: Callable[[], None], device: torch.device) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def measure(model: str, photos: list[Path], *, rounds: int, device: torch.device) -> Row:
    engine = open_engine(model, device=str(device))
    upscaler = Upscaler([engine])
    module = load_module(model, None)[2].to(device)
    with tempfile.TemporaryDirectory() as scratch:
        ours, theirs = Path(scratch) / "upscale", Path(scratch) / "plain"
        ours.mkdir()
        theirs.mkdir()
        turns = {
            "upscale": lambda: whole(upscaler, photos, ours),
            "plain": lambda: plain(module, photos, theirs, device),
        }
        whole(upscaler, photos[:1], ours)  # what happens once is not what a batch is about
        plain(module, photos[:1], theirs, device)
        taken = [{name: seconds(work, device) for name, work in turns.items()} for _ in range(rounds)]
    smallest = read(photos[0])
    between = psnr(upscaler.enlarge_rgb8(smallest), plain_picture(module, smallest, device))
    upscale_seconds, plain_seconds = (median(turn[name] for turn in taken) for name in turns)
    megapixels = sum(width * height for width, height in map(size_of, photos)) / 1e6
    output = megapixels * engine.scale**2
    return Row(
        model=engine.name,
        precision=engine.precision,
        upscale_seconds=round(upscale_seconds, 3),
        plain_seconds=round(plain_seconds, 3),
        ratio=round(median(turn["plain"] / turn["upscale"] for turn in taken), 2),
        input_megapixels_per_second=round(megapixels / upscale_seconds, 3),
        output_megapixels_per_second=round(output / upscale_seconds, 2),
        plain_output_megapixels_per_second=round(output / plain_seconds, 2),
        psnr_between=round(between, 1),
    )


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def main() -> None:
    shipped = [entry.name for entry in load_manifest().entries if entry.status == "bundled"]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-m", "--model", action="append", help="a row of the manifest; repeatable")
    parser.add_argument("--photos", type=int, default=8, help="how many of the demo photographs, the smallest first")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-d", "--device", default="cpu")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args()
    device = pick(options.device)
    every = sorted((HERE / "photos").glob("*.jpg"), key=lambda path: (np.prod(size_of(path)), path.name))
    photos = every[: options.photos]
    target = None if options.no_save else HERE / "results" / f"speed-{device.type}.json"
    document: dict[str, object] = {
        "benchmark": "speed",
        "date": time.strftime("%Y-%m-%d"),
        "photos": [path.name for path in photos],
        "input_megapixels": round(sum(width * height for width, height in map(size_of, photos)) / 1e6, 3),
        "rounds": options.rounds,
        "machine": machine(device),
    }
    rows: list[Row] = []
    for model in options.model or shipped:
        rows.append(measure(model, photos, rounds=options.rounds, device=device))
        print(rows[-1], flush=True)
        document["rows"] = [asdict(row) for row in rows]
        if target:  # after every model, so that an interrupted run keeps what it has
            target.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
