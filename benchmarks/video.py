"""A film from file to file beside each of its stages alone: decoding, the network, encoding, turn by turn in one run.

    python benchmarks/video.py FILM [--model lightweight] [--scale 2] [--frames 48] [--rounds 3] [--device cpu]
        [--temporal 0.5]

Every stage is the code of a real run on the same frames. The whole overlaps them, so the best it can be is its slowest
stage; where they share one processor, the best is their sum. The last line of the output is one JSON document.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from machine import machine

from upscale_cli.calm import Calm
from upscale_cli.engines import open_engine
from upscale_cli.media.frame import Frame
from upscale_cli.media.job import Job, PictureOptions
from upscale_cli.media.video.options import VideoOptions
from upscale_cli.media.video.sink import VideoSink
from upscale_cli.media.video.source import VideoSource
from upscale_cli.pipeline import Upscaler, process

NEAR = 1.15
"""Times its slowest stage is as good as the whole is hoped to be."""


def main() -> None:
    asked = _arguments()
    with TemporaryDirectory() as folder:
        stages = _stages(asked, Path(folder))
        seconds: dict[str, list[float]] = {name: [] for name in stages}
        for _ in range(asked.rounds + 1):
            for name, stage in stages.items():
                began = time.perf_counter()
                stage()
                seconds[name].append(time.perf_counter() - began)
    # The first round warms up.
    rates = {name: asked.frames / median(found[1:]) for name, found in seconds.items()}
    alone = {name: 1 / rate for name, rate in rates.items() if name != "whole"}
    found = {
        "date": date.today().isoformat(),
        "machine": machine(torch.device(asked.device), ("torch", "av", "openvino")),
        "film": asked.film.name,
        "model": asked.model,
        "scale": asked.scale,
        "frames": asked.frames,
        "rounds": asked.rounds,
        "temporal": asked.temporal,
        "frames_per_second": {name: round(rate, 3) for name, rate in rates.items()},
        "limit": _limit(1 / rates["whole"], alone),
        "whole_to_slowest": round(1 / rates["whole"] / max(alone.values()), 3),
        "whole_to_sum": round(1 / rates["whole"] / sum(alone.values()), 3),
    }
    for name, rate in rates.items():
        print(f"{name:8} {rate:8.2f} frames/s")
    print(f"the whole takes {found['whole_to_slowest']} x its slowest stage, {found['whole_to_sum']} x their sum")
    print(f"what limits it: {found['limit']}")
    print(json.dumps(found))


def _limit(whole: float, alone: dict[str, float]) -> str:
    """The stage the others wait for, or what they share; from seconds a frame."""
    slowest = max(alone, key=lambda name: alone[name])
    share = f"{slowest}, {alone[slowest] / sum(alone.values()):.0%} of the work"
    if whole <= NEAR * alone[slowest]:
        return share
    if whole >= sum(alone.values()) / NEAR:
        return f"the processor, which all stages share; most of it goes to {share}"
    return f"{share}, and what the stages share"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("--model", default="lightweight")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--temporal", type=float, default=0.0)
    return parser.parse_args()


def _stages(asked: argparse.Namespace, folder: Path) -> dict[str, Callable[[], None]]:
    """What is timed, by its name."""
    with VideoSource(asked.film, VideoOptions(), max_pixels=10**9) as source:
        info = source.info
        frames = [frame for frame, _ in zip(source.frames(), range(asked.frames), strict=False)]
    asked.frames = len(frames)
    end = float((frames[-1].pts or 0) * info.time_base - info.start * info.time_base) + 1e-6
    options = PictureOptions(video=VideoOptions(end=end, temporal=asked.temporal))
    upscaler = Upscaler([open_engine(asked.model, asked.scale, device=asked.device)])
    job = Job(
        asked.film, folder / "whole.mkv", "MATROSKA", info.height * asked.scale, info.width * asked.scale, "whole"
    )
    enlarged: list[Frame] = []

    def decode() -> None:
        with VideoSource(asked.film, options.video, max_pixels=10**9) as source:
            assert sum(1 for _ in source.frames()) == len(frames)

    def infer() -> None:
        enlarged[:] = [upscaler.enlarge(frame, job.height, job.width) for frame in frames]
        if asked.temporal:  # in the thread of the network
            calm = Calm(asked.temporal)
            for place, frame in enumerate(frames):
                (enlarged[place],) = calm.strips(frame, [enlarged[place]], job.height, job.width)

    def encode() -> None:
        with VideoSink(replace(job, target=folder / "alone.mkv", key="alone"), options, info) as sink:
            for frame in enlarged:
                sink.write(frame)

    def whole() -> None:
        for result in process([job], upscaler, options):
            assert result.error is None, result.error
            assert result.frames == len(frames)

    return {"decode": decode, "infer": infer, "encode": encode, "whole": whole}


if __name__ == "__main__":
    main()
