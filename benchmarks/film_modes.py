"""What the speed modes of a film cost and gain: seconds, PSNR, flicker, beside the light and the strong network alone.

    python benchmarks/film_modes.py FILM [--frames 17] [--skip 30] [--light lightweight] [--strong improved] [--every 4]

The film is shrunk by 2 (antialiased bicubic) and enlarged by 2, so that the truth is known: the film itself. A
photograph in place of a film stands for 8 frames, is panned over for 6 and stands for 8. PSNR is on the RGB of all
frames. Flicker is how far the change from frame to frame is from the truth's: the mean over frames and pixels of
|(made[t] - made[t-1]) - (truth[t] - truth[t-1])| in levels of luma. `static N` is what --skip-static N does,
`keyframes N` what --keyframe-model STRONG --keyframe-every N does. The last line of the output is one JSON document.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from datetime import date
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from machine import machine
from PIL import Image

from upscale_cli.engines import open_engine
from upscale_cli.keyframes import Keyframes
from upscale_cli.media.frame import Frame
from upscale_cli.media.video.options import VideoOptions
from upscale_cli.media.video.source import VideoSource
from upscale_cli.pipeline import Upscaler

Pictures = list[np.ndarray]
STATIC = (0.0, 2.0, 4.0, 8.0)
SLIDE = (0,) * 8 + tuple(range(7, 43, 7)) + (42,) * 8  # pixels to the right, and half as many down, of each frame


def main() -> None:
    asked = _arguments()
    truth = _truth(asked)
    shrunk = [_resized(each, 0.5) for each in truth]
    light, strong = (Upscaler([open_engine(model, 2, device="cpu")]) for model in (asked.light, asked.strong))
    for upscaler in (light, strong):
        upscaler.enlarge_rgb8(shrunk[0])  # warms up
    rows: dict[str, dict[str, object]] = {}

    def measure(name: str, make: Callable[[], Pictures]) -> None:
        began = time.perf_counter()
        made = make()
        seconds = time.perf_counter() - began
        rows[name] = {"seconds": round(seconds, 2), "psnr": _psnr(made, truth), "flicker": _flicker(made, truth)}
        print(f"{name:20} {seconds:7.2f} s {rows[name]['psnr']:8} dB  flicker {rows[name]['flicker']}", flush=True)

    measure(asked.light, lambda: [light.enlarge_rgb8(each) for each in shrunk])
    measure(asked.strong, lambda: [strong.enlarge_rgb8(each) for each in shrunk])
    for level in STATIC:
        light.begin(level)
        measure(f"static {level:g}", lambda: [light.enlarge_rgb8(each) for each in shrunk])
    for every in asked.every:
        measure(f"keyframes {every}", lambda every=every: list(_keyed(shrunk, light, strong, every)))
    found = {
        "date": date.today().isoformat(),
        "machine": machine(torch.device("cpu"), ("torch", "openvino", "opencv-python")),
        "film": asked.film.name,
        "frames": len(truth),
        "size": truth[0].shape[1::-1],
        "modes": rows,
    }
    print(json.dumps(found))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--skip", type=int, default=30)
    parser.add_argument("--light", default="lightweight")
    parser.add_argument("--strong", default="improved")
    parser.add_argument("--every", type=int, nargs="+", default=[4, 12])
    return parser.parse_args()


def _truth(asked: argparse.Namespace) -> Pictures:
    """Frames cut to even sides."""
    if asked.film.suffix in (".jpg", ".png"):
        with Image.open(asked.film) as image:
            photo = np.asarray(image.convert("RGB"))
        height, width = ((side - SLIDE[-1]) // 2 * 2 for side in photo.shape[:2])
        return [np.ascontiguousarray(photo[right // 2 :, right:][:height, :width]) for right in SLIDE]
    with VideoSource(asked.film, VideoOptions(), max_pixels=10**9) as source:
        frames: Iterator[Frame] = islice(source.frames(), asked.skip, asked.skip + asked.frames)
        return [each.color[: each.height // 2 * 2, : each.width // 2 * 2] for each in frames]


def _resized(picture: np.ndarray, factor: float) -> np.ndarray:
    size = round(picture.shape[1] * factor), round(picture.shape[0] * factor)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def _keyed(shrunk: Pictures, light: Upscaler, strong: Upscaler, every: int) -> Iterator[np.ndarray]:
    light.begin(0.0)
    keyframes = Keyframes(strong, every)
    keyframes.begin(0.0)
    for frame in map(Frame, shrunk):
        size = 2 * frame.height, 2 * frame.width
        strips = keyframes.strips(frame, light.strips(frame, *size), *size)
        yield np.concatenate([strip.color for strip in strips])


def _psnr(made: Pictures, truth: Pictures) -> float:
    errors = [np.square(a.astype(np.float32) - b).mean() for a, b in zip(made, truth, strict=True)]
    return round(float(10 * np.log10(255**2 / np.mean(errors))), 3)


def _flicker(made: Pictures, truth: Pictures) -> float:
    luma = [[cv2.cvtColor(each, cv2.COLOR_RGB2GRAY).astype(np.float32) for each in film] for film in (made, truth)]
    apart = [a - b for a, b in zip(*luma, strict=True)]
    return round(float(np.mean([np.abs(after - before).mean() for before, after in pairwise(apart)])), 4)


if __name__ == "__main__":
    main()
